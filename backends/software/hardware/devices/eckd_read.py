"""The ECKD commands that read a track.

====  =========================  ======  ====================================================
code  command                    length  note
====  =========================  ======  ====================================================
02    READ IPL                   24      data of R1 of the first track; one further transfer may follow as in a domain
06    READ DATA                  any
0E    READ KEY AND DATA          any
12    READ COUNT                 8
16    READ R0                    any     count, key and data
1A    READ HOME ADDRESS          5       flag, cylinder, head
1E    READ COUNT, KEY, DATA      any
5E    READ MULTIPLE CKD          any     the rest of the track, after another one the next track; not in a domain
A6    READ TRACK DATA            any     the data of the rest of the track; else as 86
DE    READ TRACK                 any     the rest of the track and an end mark; needs a domain
====  =========================  ======  ====================================================

All but 02, 5E, A6 and DE have a form with bit 0 on that goes on to further heads (in a domain also cylinders).  Reads
need a seek, a LOCATE RECORD or READ IPL earlier in the chain.  Reading a record without data (an end of file) ends
with unit exception.
Source: "3990/9390 Storage Control Reference" GA32-0274; answers of Hercules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.ckd_track import END_OF_TRACK, Record
from pyvfio_backends.software.hardware.devices.eckd_chain import LOCATES, MULTITRACK, Chain
from pyvfio_backends.software.hardware.devices.eckd_domain import Extent, invalid_sequence
from pyvfio_backends.software.hardware.devices.eckd_locate import Location, Operation, Orientation
from pyvfio_backends.software.hardware.devices.eckd_position import Place

__all__ = ["Read"]

_DATA, _KEY_AND_DATA, _COUNT, _COUNT_KEY_DATA, _R0, _HOME = 0x06, 0x0E, 0x12, 0x1E, 0x16, 0x1A
_TRACK, _TRACK_DATA = 0xDE, 0xA6
_ANY: Final = frozenset((Operation.READ_DATA, Operation.READ_ANY, Operation.READ))
_KEYS: Final = frozenset((Operation.READ_DATA, Operation.READ))
_SUFFIXABLE: Final = (Operation.WRITE_DATA, Operation.WRITE_ANY)


class Read:
    """The handlers of these commands for one control unit."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self.handlers: dict[int, Callable[[int, Channel], Ending]] = {
            0x02: self._read_ipl,
            0x5E: self._read_multiple,
            _TRACK_DATA: self._read_track_data,
            _TRACK: self._read_track,
        }
        for code, handler in (
            (_DATA, self._read_data),
            (_KEY_AND_DATA, self._read_data),
            (_COUNT, self._read_count),
            (_COUNT_KEY_DATA, self._read_record),
            (_R0, self._read_r0),
            (_HOME, self._read_home_address),
        ):
            self.handlers[code] = self.handlers[code | MULTITRACK] = handler

    def _begin(self, allowed: frozenset[Operation]) -> bool:
        """Check that a read is possible here; say whether it crosses cylinders.  Raise `Fault`."""
        self._chain.after_seek()
        domain = self._chain.domain
        if domain is not None and domain.operation not in allowed:
            raise invalid_sequence()
        return domain is not None

    def _next(self, code: int, crosses: bool) -> Record:
        """The record after the next count.  Raise `Fault`."""
        multitrack = bool(code & MULTITRACK)
        return self._chain.position.next_count(
            multitrack=multitrack, crosses=crosses, tireless=multitrack and not crosses
        )

    def _read_data(self, code: int, channel: Channel) -> Ending:
        with_key = code & ~MULTITRACK == _KEY_AND_DATA
        crosses = self._begin(_KEYS if with_key else _ANY)
        multitrack = bool(code & MULTITRACK)
        record = self._chain.position.data_record(
            multitrack=multitrack, with_key=with_key, crosses=crosses, tireless=multitrack and not crosses
        )
        channel.write_to_memory(record.key + record.data if with_key else record.data)
        return self._chain.transferred(record)

    def _read_record(self, code: int, channel: Channel) -> Ending:
        record = self._next(code, self._begin(_ANY))
        self._chain.position.leave_record()
        channel.write_to_memory(record.to_bytes())
        return self._chain.transferred(record)

    def _read_count(self, code: int, channel: Channel) -> Ending:
        domain = self._chain.domain
        if domain is not None and domain.operation in _SUFFIXABLE and domain.suffixed and domain.left == 1:
            crosses = True
        else:
            crosses = self._begin(_ANY)
        channel.write_to_memory(self._next(code, crosses).count)
        return DONE

    def _read_multiple(self, code: int, channel: Channel) -> Ending:
        self._chain.after_seek()
        self._chain.outside_domain()
        position = self._chain.position
        if position.at_end:
            position.next_track(crosses=False)
        records = position.rest_of_track()
        channel.write_to_memory(b"".join(record.to_bytes() for record in records if record.number))
        return DONE

    # -- tracks --------------------------------------------------------------------------------------------------

    def _go_on(self, code: int, domain: Location) -> None:
        """Go to the track of this transfer: the next one, or of a set the next in it.  Raise `Fault`."""
        chain = self._chain
        if chain.previous in LOCATES:
            return
        if chain.previous != code:
            raise invalid_sequence()
        step = 1
        if domain.tracks:
            here = len(domain.tracks) - domain.left
            step = domain.tracks[here] - domain.tracks[here - 1]
        chain.position.next_track(crosses=True, step=step)

    def _read_track(self, code: int, channel: Channel) -> Ending:
        domain = self._chain.inside(Operation.READ_TRACKS, Operation.READ_TRACK_SET)
        self._go_on(code, domain)
        parts = [record.to_bytes() for record in self._chain.position.rest_of_track()]
        channel.write_to_memory(b"".join(parts) + END_OF_TRACK)
        return DONE

    def _read_track_data(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        domain = chain.domain
        if domain is None or domain.operation is not Operation.READ_TRACKS:
            return self._read_data(_DATA | MULTITRACK, channel)
        self._go_on(code, domain)
        position = chain.position
        start = position.index if position.place is Place.AFTER_COUNT else position.next_index
        data = b"".join(record.data for record in position.records[start:] if record.number)
        position.rest_of_track()
        channel.write_to_memory(data[: domain.length] if domain.last and domain.length else data)
        return DONE

    # -- home address, R0, IPL -----------------------------------------------------------------------------------

    def _at_index(self, code: int, allowed: tuple[Orientation, ...]) -> None:
        """Go to the index point, as R0 and home address need it.  Raise `Fault`."""
        chain = self._chain
        chain.after_seek()
        domain, position = chain.domain, chain.position
        if domain is not None:
            free = domain.operation is Operation.READ_DATA
            if not free and not (domain.operation is Operation.READ and domain.orientation in allowed):
                raise invalid_sequence()
        elif code & MULTITRACK:
            position.next_track(crosses=False)
        position.rewind()

    def _read_r0(self, code: int, channel: Channel) -> Ending:
        self._at_index(code, (Orientation.HOME_ADDRESS, Orientation.INDEX))
        position = self._chain.position
        record = position.next_count(with_r0=True)
        position.leave_record()
        channel.write_to_memory(record.to_bytes())
        return self._chain.transferred(record)

    def _read_home_address(self, code: int, channel: Channel) -> Ending:
        self._at_index(code, (Orientation.INDEX,))
        channel.write_to_memory(self._chain.position.track.home_address)
        return DONE

    def _read_ipl(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        if chain.extent is not None or chain.file_mask is not None:
            raise invalid_sequence()
        chain.outside_domain()
        volume = chain.volume
        chain.seek(0, 0)
        chain.extent = Extent.whole(volume.device, volume.cylinders + volume.alternates)
        chain.ipl = True
        record = chain.position.data_record(multitrack=False)
        chain.location = Location(Operation.READ_DATA, Orientation.DATA, 2, (0, 0), record.id, 0xFF, 0, False)
        channel.write_to_memory(record.data)
        return chain.transferred(record)
