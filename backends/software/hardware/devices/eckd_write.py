"""The ECKD commands that write a track.

====  =========================  ======  ====================================================
code  command                    length  comes after
====  =========================  ======  ====================================================
05    WRITE DATA                 DL      a search for the ID or key that was equal; in a domain the last transfer
85    WRITE UPDATE DATA          DL      a domain; A5 the same where it is not WRITE TRACK DATA
0D    WRITE KEY AND DATA         KL+DL   a search for the ID; else as 05
8D    WRITE UPDATE KEY AND DATA  KL+DL   a domain
11    ERASE                      any     a search or a record written, or a domain; what lies behind is gone
15    WRITE R0                   any     the home address; the rest of the track is gone
19    WRITE HOME ADDRESS         5       a seek and a mask that permits all; the rest of the track is gone
1D    WRITE COUNT, KEY, DATA     any     a search or a record written, or a domain; what lies behind is gone
95    WRITE FULL TRACK           any     a domain: R0, records and an end mark, as READ TRACK brings them
9D    WRITE CKD NEXT TRACK       any     a domain, and 1D or 9D: goes to the next head first
A5    WRITE TRACK DATA           any     a domain: the data of this and the next records of the track
====  =========================  ======  ====================================================

`eckd_locate` says which operation's domain each needs.  A program that gives too little data has it filled with zeros.
A record without data is not updated: unit exception.  A record that does not fit behind the others is invalid track
format (sense 00 40), as is an update of one whose length is not that of the domain's length factor, or without one of
the extent's block size.
Source: "3990/9390 Storage Control Reference" GA32-0274; answers of Hercules (which does not check that home addresses
and R0 stand where they belong, and what the cells of a track can hold).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.ckd_track import COUNT_SIZE, EMPTY_R0, END_OF_TRACK, Record, Track
from pyvfio_backends.software.hardware.devices.eckd_chain import END_OF_FILE, LOCATES, MULTITRACK, Chain, take
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    Fault,
    Permission,
    file_protected,
    invalid_parameter,
    invalid_sequence,
    invalid_track_format,
    too_few_parameters,
)
from pyvfio_backends.software.hardware.devices.eckd_locate import Operation
from pyvfio_backends.software.hardware.devices.eckd_orient import WRITE_INHIBITED
from pyvfio_backends.software.hardware.devices.eckd_position import Place

__all__ = ["Write"]

_COUNT = struct.Struct(">HHBBH")
_HOME = struct.Struct(">BHH")
_DATA, _KEY_AND_DATA = 0x05, 0x0D
_NEXT_TRACK, _FULL_TRACK, _TRACK_DATA = 0x9D, 0x95, 0xA5
_AFTER_RECORD: Final = (0x1D, _NEXT_TRACK)
_FORMATTING: Final = (Permission.ALL, Permission.NOT_HOME_AND_R0)


class Write:
    """The handlers of these commands for one control unit; `track_data` says that it knows 95 and the real A5."""

    def __init__(self, chain: Chain, *, track_data: bool) -> None:
        self._chain = chain
        self.handlers: dict[int, Callable[[int, Channel], Ending]] = {
            _DATA: self._write_data,
            _KEY_AND_DATA: self._write_data,
            _DATA | MULTITRACK: self._write_update,
            _KEY_AND_DATA | MULTITRACK: self._write_update,
            0x01: self._never,
            0x11: self._erase,
            0x15: self._write_r0,
            0x19: self._write_home_address,
            0x1D: self._write_record,
            _NEXT_TRACK: self._write_next_track,
            _TRACK_DATA: self._write_track_data,
        }
        if track_data:
            self.handlers[_FULL_TRACK] = self._write_full_track

    def _writable(self) -> None:
        """Raise `Fault` when the volume is read-only."""
        if self._chain.volume.readonly:
            raise Fault(*WRITE_INHIBITED)

    def _permitted(self, *permissions: Permission) -> None:
        """Raise `Fault` when the mask in force is none of these."""
        if self._chain.permission not in permissions:
            raise invalid_sequence()

    def _never(self, code: int, channel: Channel) -> Ending:
        """WRITE SPECIAL COUNT, KEY, DATA: a 3390 has no overflow records, so it never stands in the right place."""
        raise invalid_sequence()

    # -- updates -------------------------------------------------------------------------------------------------

    def _write_data(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        with_key = code == _KEY_AND_DATA
        self._writable()
        domain = chain.domain
        if domain is None and not chain.found_id and (with_key or not chain.found_key):
            raise invalid_sequence()
        if chain.permission is Permission.NONE:
            raise invalid_sequence()
        if domain is not None:
            domain = chain.inside(Operation.WRITE_DATA, Operation.WRITE_TRACK)
            if domain.operation is Operation.WRITE_DATA and not domain.last:
                raise invalid_sequence()
        places = (Place.AFTER_COUNT,) if with_key else (Place.AFTER_COUNT, Place.AFTER_KEY)
        if position.place not in places:
            raise invalid_sequence()
        return self._update(channel, with_key=with_key)

    def _write_update(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        with_key = code & ~MULTITRACK == _KEY_AND_DATA
        self._writable()
        chain.inside(*((Operation.WRITE_DATA,) if with_key else (Operation.WRITE_DATA, Operation.WRITE_ANY)))
        self._permitted(Permission.ALL, Permission.NOT_FORMAT, Permission.NOT_HOME_AND_R0)
        if position.place is not Place.AFTER_COUNT or not position.record.number:
            position.next_count(multitrack=True, crosses=True)
        return self._update(channel, with_key=with_key)

    def _update(self, channel: Channel, *, with_key: bool) -> Ending:
        chain, record = self._chain, self._chain.position.record
        size = len(record.data) + (len(record.key) if with_key else 0)
        if not chain.length(size):
            raise invalid_track_format()
        if not record.data:
            channel.read_from_memory(0)
            return END_OF_FILE
        self._replace(take(channel, size), with_key=with_key)
        return DONE

    def _replace(self, data: bytes, *, with_key: bool = False) -> None:
        """Put new data, or key and data, into the current record and go behind it."""
        position = self._chain.position
        record, index = position.record, position.index
        start = len(record.key) if with_key else 0
        data = data.ljust(start + len(record.data), b"\0")
        new = replace(record, key=data[:start] if with_key else record.key, data=data[start:])
        position.replace_records((*position.records[:index], new, *position.records[index + 1 :]), only=index)
        position.leave_record()

    # -- formatting ----------------------------------------------------------------------------------------------

    def _behind_record(self, *operations: Operation) -> tuple[Record, ...]:
        """The records that stay when one is written here.  Raise `Fault` when none can be."""
        chain, position = self._chain, self._chain.position
        self._writable()
        if chain.domain is None and not (chain.found_id or chain.found_key or chain.written):
            raise invalid_sequence()
        self._permitted(*_FORMATTING)
        if chain.domain is not None:
            chain.inside(*operations)
        if not position.next_index:
            raise invalid_sequence()  # it would take the place of R0
        return position.records[: position.next_index]

    def _write_record(self, code: int, channel: Channel) -> Ending:
        stay = self._behind_record(Operation.FORMAT_WRITE, Operation.WRITE_TRACK)
        self._put(stay, self._record(channel))
        self._chain.written = self._chain.domain is None
        return DONE

    def _write_next_track(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        self._writable()
        chain.inside(Operation.FORMAT_WRITE)
        if chain.previous not in _AFTER_RECORD:
            raise invalid_sequence()
        self._permitted(*_FORMATTING)
        position.next_track(crosses=True)
        position.next_count(with_r0=True)
        self._put(position.records[: position.next_index], self._record(channel))
        return DONE

    def _erase(self, code: int, channel: Channel) -> Ending:
        position = self._chain.position
        stay = self._behind_record(Operation.WRITE_TRACK)
        self._fits((*stay, self._record(channel)))
        position.replace_records(stay)
        position.index, position.place = len(stay), Place.BEFORE
        return DONE

    def _write_r0(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        self._writable()
        domain, position = chain.domain, chain.position
        if domain is None and not chain.found_home and not chain.home_written:
            raise invalid_sequence()
        self._permitted(Permission.ALL)
        if domain is not None and not (chain.inside(Operation.FORMAT_WRITE).at_index):
            raise invalid_sequence()
        if position.next_index:
            raise invalid_sequence()
        record = self._record(channel)
        if record.number:
            raise invalid_parameter()
        self._put((), record)
        chain.written = domain is None
        return DONE

    def _write_home_address(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        self._writable()
        chain.after_seek()
        domain = chain.domain
        if domain is not None and not chain.inside(Operation.FORMAT_WRITE).at_index:
            raise invalid_sequence()
        if chain.permission is not Permission.ALL:
            raise file_protected()
        raw = take(channel, _HOME.size)
        if len(raw) < _HOME.size:
            raise too_few_parameters()
        flag, cylinder, head = _HOME.unpack(raw)
        if (cylinder, head) != (position.cylinder, position.head):
            raise invalid_parameter()
        position.replace_records((Record(cylinder, head, 0, b"", EMPTY_R0),), flag)
        position.rewind()
        chain.home_written = True
        return DONE

    def _record(self, channel: Channel) -> Record:
        """The record that the program gives: count, key, data, all filled up with zeros.  Raise `Fault`."""
        count = take(channel, COUNT_SIZE).ljust(COUNT_SIZE, b"\0")
        cylinder, head, number, key_length, data_length = _COUNT.unpack(count)
        if data_length > self._chain.volume.device.largest_record:
            raise invalid_track_format()
        size = key_length + data_length
        rest = (take(channel, size) if size else b"").ljust(size, b"\0")
        return Record(cylinder, head, number, rest[:key_length], rest[key_length:])

    def _fits(self, records: tuple[Record, ...]) -> None:
        """Raise `Fault` when a track is too short for the records, or the bytes that an image has for it."""
        device = self._chain.volume.device
        cells = sum(device.cells_of(len(one.key), len(one.data)) for one in records[1:])
        if cells > device.cells or Track(0, 0, records).size > device.track_size:
            raise invalid_track_format()

    def _put(self, before: tuple[Record, ...], record: Record) -> None:
        """Write `record` behind those before it; nothing follows.  Raise `Fault` when the track is too short."""
        records = (*before, record)
        self._fits(records)
        position = self._chain.position
        position.replace_records(records)
        position.index, position.place = len(records), Place.BEFORE

    # -- whole tracks --------------------------------------------------------------------------------------------

    def _write_full_track(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        self._writable()
        domain = chain.inside(Operation.WRITE_FULL_TRACK)
        self._permitted(Permission.ALL)
        if chain.previous not in LOCATES:
            here = len(domain.tracks) - domain.left
            position.next_track(crosses=True, step=domain.tracks[here] - domain.tracks[here - 1])
        records: list[Record] = []
        while channel.left:
            count = take(channel, COUNT_SIZE)
            if count == END_OF_TRACK or len(count) < COUNT_SIZE:
                break
            cylinder, head, number, key_length, data_length = _COUNT.unpack(count)
            size = key_length + data_length
            rest = take(channel, size) if size else b""
            if len(rest) < size or bool(number) != bool(records) or data_length > chain.volume.device.largest_record:
                raise invalid_track_format()
            records.append(Record(cylinder, head, number, rest[:key_length], rest[key_length:]))
        if not records:
            raise invalid_track_format()
        self._fits(tuple(records))
        position.replace_records(tuple(records))
        position.rest_of_track()
        return DONE

    def _write_track_data(self, code: int, channel: Channel) -> Ending:
        chain, position = self._chain, self._chain.position
        domain = chain.domain
        if domain is None or domain.operation is not Operation.WRITE_TRACK_DATA:
            return self._write_update(_DATA | MULTITRACK, channel)
        self._writable()
        self._permitted(Permission.ALL, Permission.NOT_FORMAT, Permission.NOT_HOME_AND_R0)
        if chain.previous not in LOCATES:
            position.next_track(crosses=True)
            position.next_count()
        elif not position.record.number:
            position.next_count()
        while True:
            if not chain.length(len(position.record.data)):
                raise invalid_track_format()
            self._replace(take(channel, len(position.record.data)))
            if not channel.left or position.behind:
                break
            position.next_count()
        return DONE
