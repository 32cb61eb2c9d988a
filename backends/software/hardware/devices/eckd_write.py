"""The ECKD commands that write a track.

====  =========================  ======  ====================================================
code  command                    length  comes after
====  =========================  ======  ====================================================
05    WRITE DATA                 DL      a search that found the record; 85 the same
0D    WRITE KEY AND DATA         KL+DL   a search by ID; 8D the same
11    ERASE                      any     as 1D: what lies behind on the track is gone
15    WRITE R0                   any     the home address; the rest of the track is gone
19    WRITE HOME ADDRESS         5       a mask that permits all; the rest of the track is gone
1D    WRITE COUNT, KEY, DATA     any     a search or another record; what lies behind is gone
9D    WRITE CKD NEXT TRACK       any     in a domain: goes to the next head first
====  =========================  ======  ====================================================

In the domain of LOCATE RECORD, updates need the operation write data (01), formatting the operations 03 or 0B, and
further WRITE DATA go to the records that follow.  A program that gives too little data has it filled with zeros.
A record that does not fit behind the others is invalid track format (sense 00 40), as is a record to be written
whose length differs from the domain's length factor.
Source: "3990/9390 Storage Control Reference" GA32-0274; the answers of the golden file dasd-3390.jsonl.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pyvfio_backends.software.hardware.css.controlunit import Channel, Ending
from pyvfio_backends.software.hardware.devices.ckd_track import COUNT_SIZE, EMPTY_R0, Record
from pyvfio_backends.software.hardware.devices.eckd_chain import Chain, Prior, take
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    Fault,
    Permission,
    invalid_parameter,
    invalid_sequence,
    too_few_parameters,
)
from pyvfio_backends.software.hardware.devices.eckd_orient import WRITE_INHIBITED
from pyvfio_backends.software.hardware.devices.eckd_position import Place

__all__ = ["Write", "invalid_track_format"]

_COUNT = struct.Struct(">HHBBH")
_HOME = struct.Struct(">BHH")
_MULTITRACK: Final = 0x80
_DATA, _KEY_AND_DATA = 0x05, 0x0D
_NEXT_TRACK: Final = 0x9D


def invalid_track_format() -> Fault:
    """What is to be written does not fit the track, or what is on it cannot be read."""
    return Fault(0x00, 0x40)


class Write:
    """The handlers of these commands for one control unit."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.handlers: dict[int, Callable[[int, Channel], Ending]] = {
            0x11: self._erase,
            0x15: self._write_r0,
            0x19: self._write_home_address,
            0x1D: self._write_record,
            _NEXT_TRACK: self._write_record,
        }
        for code in (_DATA, _KEY_AND_DATA):
            self.handlers[code] = self.handlers[code | _MULTITRACK] = self._update

    def _begin(self, *allowed: Permission, formats: bool = True) -> None:
        """Check that writing is possible and permitted, and count the transfer.  Raise `Fault`."""
        chain = self._chain
        if chain.volume.readonly:
            raise Fault(*WRITE_INHIBITED)
        if chain.permission not in allowed or (chain.location is not None and chain.location.formats != formats):
            raise invalid_sequence()
        chain.transfer(writes=True)

    # -- updates -------------------------------------------------------------------------------------------------

    def _update(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        with_key = code & ~_MULTITRACK == _KEY_AND_DATA
        self._begin(Permission.ALL, Permission.NOT_FORMAT, Permission.NOT_HOME_AND_R0, formats=False)
        found = (Prior.ID,) if with_key else (Prior.ID, Prior.KEY)
        if chain.location is not None:
            if position.place is Place.BEFORE:
                position.next_count(True, crosses=True)
        elif chain.prior not in found or position.place is Place.BEFORE:
            raise invalid_sequence()
        record = position.record
        size = len(record.data) + (len(record.key) if with_key else 0)
        if chain.location is not None and chain.location.length not in (None, size):
            raise invalid_track_format()
        data = take(channel, size).ljust(size, b"\0")
        start = len(record.key) if with_key else 0
        new = replace(record, key=data[:start] if with_key else record.key, data=data[start:])
        index = position.index
        position.replace_records((*position.records[:index], new, *position.records[index + 1 :]), only=index)
        position.leave_record()
        chain.after = Prior.DATA
        return chain.transferred(channel, new)

    # -- formatting ----------------------------------------------------------------------------------------------

    def _behind(self) -> tuple[Record, ...]:
        """The records that stay when one is written here.  Raise `Fault` when none can be."""
        chain, position = self._chain, self._chain.position
        if chain.prior is Prior.NOTHING or chain.prior is Prior.HOME:
            raise invalid_sequence()
        return position.records[: position.next_index]

    def _write_record(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        self._begin(Permission.ALL, Permission.NOT_HOME_AND_R0)
        if code == _NEXT_TRACK:
            if chain.location is None:
                raise invalid_sequence()
            position.next_track(crosses=True)
            position.next_count(False, with_r0=True)
            chain.prior = Prior.ID
        stay = self._behind()
        self._put(stay, self._record(channel))
        return chain.transferred(channel)

    def _erase(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        self._begin(Permission.ALL, Permission.NOT_HOME_AND_R0)
        stay = self._behind()
        channel.ignore_data()
        position.replace_records(stay)
        position.index, position.place = len(stay), Place.BEFORE
        chain.after = Prior.DATA
        return chain.transferred(channel)

    def _write_r0(self, code: int, channel: Channel) -> Ending:
        self._begin(Permission.ALL)
        if self._chain.prior is not Prior.HOME:
            raise invalid_sequence()
        record = self._record(channel)
        if record.number:
            raise invalid_parameter()
        self._put((), record)
        return self._chain.transferred(channel)

    def _write_home_address(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        self._begin(Permission.ALL)
        raw = take(channel, _HOME.size)
        if len(raw) < _HOME.size:
            raise too_few_parameters()
        flag, cylinder, head = _HOME.unpack(raw)
        if (cylinder, head) != (position.cylinder, position.head):
            raise invalid_parameter()
        position.replace_records((Record(cylinder, head, 0, b"", EMPTY_R0),), flag)
        position.seek(cylinder, head)
        chain.after = Prior.HOME
        return chain.transferred(channel)

    def _record(self, channel: Channel) -> Record:
        """The record that the program gives: count, key, data.  Raise `Fault` when there is no whole count."""
        count = take(channel, COUNT_SIZE)
        if len(count) < COUNT_SIZE:
            raise too_few_parameters()
        cylinder, head, number, key_length, data_length = _COUNT.unpack(count)
        if data_length > self._chain.volume.device.largest_record:
            raise invalid_track_format()
        rest = take(channel, key_length + data_length).ljust(key_length + data_length, b"\0")
        return Record(cylinder, head, number, rest[:key_length], rest[key_length:])

    def _put(self, before: tuple[Record, ...], record: Record) -> None:
        """Write `record` behind those before it; nothing follows.  Raise `Fault` when the track is too short."""
        chain, device = self._chain, self._chain.volume.device
        records = (*before, record)
        if sum(device.cells_of(len(one.key), len(one.data)) for one in records[1:]) > device.cells:
            raise invalid_track_format()
        chain.position.replace_records(records)
        chain.position.index, chain.position.place = len(records), Place.BEFORE
        chain.after = Prior.DATA
