"""The ECKD commands that read a track.

====  =========================  ======  ====================================================
code  command                    length  note
====  =========================  ======  ====================================================
02    READ IPL                   any     data of R1 of the first track
06    READ DATA                  any
0E    READ KEY AND DATA          any
12    READ COUNT                 8
16    READ R0                    any     count, key and data
1A    READ HOME ADDRESS          5       flag, cylinder, head
1E    READ COUNT, KEY, DATA      any
5E    READ MULTIPLE CKD          any     the rest of the track
DE    READ TRACK                 any     the rest of the track and an end mark; needs a domain
====  =========================  ======  ====================================================

All but 02, 5E and DE have a form with bit 0 on that goes on to further heads, and do so in a domain in any case.
Reading the data of a record that has none (an end of file) ends with unit exception.
Source: "3990/9390 Storage Control Reference" GA32-0274.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.ckd_track import END_OF_TRACK
from pyvfio_backends.software.hardware.devices.eckd_chain import Chain, Prior
from pyvfio_backends.software.hardware.devices.eckd_domain import invalid_sequence

__all__ = ["Read"]

_MULTITRACK: Final = 0x80
_DATA, _KEY_AND_DATA, _COUNT, _COUNT_KEY_DATA, _R0, _HOME = 0x06, 0x0E, 0x12, 0x1E, 0x16, 0x1A


class Read:
    """The handlers of these commands for one control unit."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.handlers: dict[int, Callable[[int, Channel], Ending]] = {
            0x02: self._read_ipl,
            0x5E: self._read_multiple,
            0xDE: self._read_track,
        }
        for code, handler in (
            (_DATA, self._read_data),
            (_KEY_AND_DATA, self._read_data),
            (_COUNT, self._read_count),
            (_COUNT_KEY_DATA, self._read_record),
            (_R0, self._read_r0),
            (_HOME, self._read_home_address),
        ):
            self.handlers[code] = self.handlers[code | _MULTITRACK] = handler

    def _begin(self, code: int) -> tuple[bool, bool]:
        """Count the transfer; say whether it is multitrack and whether it crosses cylinders.  Raise `Fault`."""
        self._chain.transfer(writes=False)
        inside = self._chain.location is not None
        return inside or bool(code & _MULTITRACK), inside

    def _read_data(self, code: int, channel: Channel) -> Ending:
        multitrack, crosses = self._begin(code)
        with_key = code & ~_MULTITRACK == _KEY_AND_DATA
        record = self._chain.position.data_record(multitrack, with_key=with_key, crosses=crosses)
        channel.write_to_memory(record.key + record.data if with_key else record.data)
        self._chain.after = Prior.DATA
        return self._chain.transferred(channel, record)

    def _read_record(self, code: int, channel: Channel) -> Ending:
        multitrack, crosses = self._begin(code)
        record = self._chain.position.next_count(multitrack, crosses=crosses)
        self._chain.position.leave_record()
        channel.write_to_memory(record.to_bytes())
        self._chain.after = Prior.DATA
        return self._chain.transferred(channel, record)

    def _read_count(self, code: int, channel: Channel) -> Ending:
        multitrack, crosses = self._begin(code)
        channel.write_to_memory(self._chain.position.next_count(multitrack, crosses=crosses).count)
        return self._chain.transferred(channel)

    def _read_multiple(self, code: int, channel: Channel) -> Ending:
        self._begin(code)
        records = self._chain.position.rest_of_track()
        channel.write_to_memory(b"".join(record.to_bytes() for record in records))
        return self._chain.transferred(channel)

    def _read_track(self, code: int, channel: Channel) -> Ending:
        if self._chain.location is None:
            raise invalid_sequence()
        self._begin(code)
        position = self._chain.position
        if position.index >= len(position.records):
            position.next_track(crosses=True)
        parts = [record.to_bytes() for record in position.rest_of_track()]
        channel.write_to_memory(b"".join(parts) + END_OF_TRACK)
        return self._chain.transferred(channel)

    def _at_index(self, code: int) -> None:
        """Go to the index point, as R0 and home address need it.  Raise `Fault`."""
        chain = self._chain
        if chain.location is not None and not chain.location.reads_anything:
            raise invalid_sequence()
        chain.transfer(writes=False)
        position = chain.position
        if code & _MULTITRACK and position.index >= len(position.records):
            position.next_track()
        position.seek(position.cylinder, position.head)

    def _read_r0(self, code: int, channel: Channel) -> Ending:
        self._at_index(code)
        record = self._chain.position.next_count(False, with_r0=True)
        self._chain.position.leave_record()
        channel.write_to_memory(record.to_bytes())
        self._chain.after = Prior.DATA
        return self._chain.transferred(channel)

    def _read_home_address(self, code: int, channel: Channel) -> Ending:
        self._at_index(code)
        channel.write_to_memory(self._chain.position.track.home_address)
        self._chain.after = Prior.HOME
        return self._chain.transferred(channel)

    def _read_ipl(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        self._chain.seek(0, 0)
        channel.write_to_memory(self._chain.position.data_record(False).data)
        return DONE
