"""The ECKD commands that say where to go: extents, domains, seeks, searches, file mask.

====  =========================  ======  ====================================================
code  command                    length  note
====  =========================  ======  ====================================================
07    SEEK                       6       0B to a cylinder and head, 1B to a head of this cylinder
0F    SPACE COUNT                3       past the next record's count
13    RECALIBRATE                0       to the first track
17    RESTORE                    0       nothing
1F    SET FILE MASK              1       once in a chain, not with an extent
22    READ SECTOR                1       about where the last record was
23    SET SECTOR                 1       checked; records are found without it
29    SEARCH KEY EQUAL           key     49 high, 69 equal or high
31    SEARCH ID EQUAL            5       51 high, 71 equal or high
39    SEARCH HOME ADDRESS EQUAL  4
47    LOCATE RECORD              16      4B LOCATE RECORD EXTENDED, 20; need an extent
63    DEFINE EXTENT              16      once in a chain
E7    PREFIX                     44, 64  DEFINE EXTENT and LOCATE RECORD EXTENDED in one
====  =========================  ======  ====================================================

Searches with bit 0 on (A9, B1, ...) go on to further heads.  A search that is satisfied ends with status modifier.
Source: "3990/9390 Storage Control Reference" GA32-0274.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.eckd_chain import Chain, Prior, file_protected, parameters, take
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    EXTENDED_SIZE,
    EXTENT_SIZE,
    LOCATION_SIZE,
    PREFIX_EXTENT_SIZE,
    PREFIX_HEAD_SIZE,
    Extent,
    Fault,
    Location,
    Orientation,
    Permission,
    invalid_command,
    invalid_parameter,
    invalid_sequence,
)
from pyvfio_backends.software.hardware.devices.eckd_position import no_record_found

__all__ = ["WRITE_INHIBITED", "Orient"]

WRITE_INHIBITED: Final = (0x80, 0x02)
_MATCH: Final = Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.STATUS_MODIFIER)
_MULTITRACK: Final = 0x80
_SEEK, _SEEK_CYLINDER, _SEEK_HEAD = 0x07, 0x0B, 0x1B
#: The greatest value of mask bits 3-4 that allows each seek.
_SEEK_LIMITS: Final = {_SEEK: 0x00, _SEEK_CYLINDER: 0x08, _SEEK_HEAD: 0x10}
_EQUAL, _HIGH, _EQUAL_OR_HIGH = 1, 2, 3
_NO_SECTOR: Final = 0xFF
_FILE_MASK_BITS: Final = 0xFD
_PREFIX_FORMATS: Final = (0, 1)
_EXTENT_VALID: Final = 0x80


class Orient:
    """The handlers of these commands for one control unit; `prefix` says whether it knows PREFIX."""

    def __init__(self, chain: Chain, *, prefix: bool) -> None:
        self._chain = chain
        self.handlers: dict[int, Callable[[int, Channel], Ending]] = {
            0x0F: self._space_count,
            0x13: self._recalibrate,
            0x17: self._restore,
            0x1F: self._set_file_mask,
            0x22: self._read_sector,
            0x23: self._set_sector,
            0x47: self._locate_record,
            0x4B: self._locate_extended,
            0x63: self._define_extent,
        }
        for code in (_SEEK, _SEEK_CYLINDER, _SEEK_HEAD):
            self.handlers[code] = self._seek
        for code in (0x29, 0x49, 0x69, 0x31, 0x51, 0x71, 0x39):
            self.handlers[code] = self.handlers[code | _MULTITRACK] = self._search
        if prefix:
            self.handlers[0xE7] = self._prefix

    def _seek(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        chain.outside_domain()
        if chain.seeks > _SEEK_LIMITS[code]:
            raise file_protected()
        raw = parameters(channel, 6)
        cylinder, head = int.from_bytes(raw[2:4], "big"), int.from_bytes(raw[4:6], "big")
        if raw[:2] != b"\0\0":
            raise invalid_parameter()
        chain.seek(chain.position.cylinder if code == _SEEK_HEAD else cylinder, head)
        return DONE

    def _recalibrate(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        if self._chain.seeks:
            raise file_protected()
        self._chain.seek(0, 0)
        return DONE

    def _restore(self, code: int, channel: Channel) -> Ending:
        return DONE

    def _space_count(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        take(channel, 3)
        self._chain.position.next_count(False)
        return DONE

    def _set_file_mask(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        if chain.file_mask is not None or chain.extent is not None:
            raise invalid_sequence()
        mask = parameters(channel, 1)[0]
        if mask & ~_FILE_MASK_BITS:
            raise invalid_parameter()
        chain.file_mask = mask
        return DONE

    def _set_sector(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        sector = parameters(channel, 1)[0]
        if sector >= self._chain.volume.device.sectors and sector != _NO_SECTOR:
            raise invalid_parameter()
        return DONE

    def _read_sector(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        position, device = self._chain.position, self._chain.volume.device
        passed = position.records[1 : position.index]
        cells = sum(device.cells_of(len(record.key), len(record.data)) for record in passed)
        channel.write_to_memory(bytes([min(cells * device.sectors // device.cells, device.sectors - 1)]))
        return DONE

    # -- extents and domains -------------------------------------------------------------------------------------

    def _define_extent(self, code: int, channel: Channel) -> Ending:
        self._take_extent(parameters(channel, EXTENT_SIZE))
        return DONE

    def _take_extent(self, raw: bytes) -> None:
        chain = self._chain
        extent = Extent.from_bytes(raw)
        if chain.extent is not None or chain.location is not None or chain.file_mask is not None:
            raise invalid_sequence()
        if not chain.has(*extent.begin) or not chain.has(*extent.end):
            raise invalid_parameter()
        chain.extent = extent

    def _locate_record(self, code: int, channel: Channel) -> Ending:
        self._locate(parameters(channel, LOCATION_SIZE))
        return DONE

    def _locate_extended(self, code: int, channel: Channel) -> Ending:
        self._locate(parameters(channel, EXTENDED_SIZE))
        return DONE

    def _prefix(self, code: int, channel: Channel) -> Ending:
        head = parameters(channel, PREFIX_HEAD_SIZE)
        form, validity = head[0], head[1]
        if form not in _PREFIX_FORMATS:
            raise invalid_parameter()
        extent = parameters(channel, PREFIX_EXTENT_SIZE)
        location = parameters(channel, EXTENDED_SIZE) if form else b""
        if validity & _EXTENT_VALID:
            self._take_extent(extent)
        if form:
            self._locate(location)
        return DONE

    def _locate(self, raw: bytes) -> None:
        chain = self._chain
        if chain.extent is None or (chain.location is not None and chain.location.left):
            raise invalid_sequence()
        location = Location.from_bytes(raw)
        if location.writes:
            permission = chain.permission
            if permission is Permission.NONE or (location.formats and not permission.formats):
                raise invalid_parameter()
            if chain.volume.readonly:
                raise Fault(*WRITE_INHIBITED)
        if not chain.extent.holds(*location.seek):
            raise file_protected()
        position = chain.position
        position.seek(*location.seek)
        chain.after = Prior.HOME
        if location.by_count:
            if not position.find(location.search):
                raise no_record_found()
            chain.after = Prior.ID
            if location.orientation is Orientation.DATA:
                position.leave_record()
                chain.after = Prior.DATA
        chain.location = location

    # -- searches ------------------------------------------------------------------------------------------------

    def _search(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        chain.outside_domain()
        multitrack, kind, area = bool(code & _MULTITRACK), (code & ~_MULTITRACK) >> 5, code & 0x1F
        if area == 0x11:
            found, prior = chain.position.next_count(multitrack, with_r0=True).id, Prior.ID
        elif area == 0x09:
            found, prior = chain.position.next_key(multitrack).key, Prior.KEY
        elif area == 0x19:
            found, prior = chain.position.next_home(multitrack), Prior.HOME
        else:
            raise invalid_command()
        wanted = channel.read_from_memory(len(found))
        there = found[: len(wanted)]
        if not wanted or not ((kind & _EQUAL and there == wanted) or (kind & _HIGH and there > wanted)):
            return DONE
        chain.after = prior
        chain.position.oriented()
        return _MATCH
