"""The ECKD commands that say where to go: extents, domains, seeks, searches, file mask.

====  =========================  ======  ====================================================
code  command                    length  note
====  =========================  ======  ====================================================
07    SEEK                       6       0B SEEK CYLINDER the same; 1B to a head of this cylinder
0F    SPACE COUNT                3       past the next record's count
17    RESTORE                    0       nothing
1F    SET FILE MASK              1       once in a chain, not with an extent
22    READ SECTOR                1       about where the last record was
23    SET SECTOR                 1       checked; records are found without it
29    SEARCH KEY EQUAL           key     49 high, 69 equal or high
31    SEARCH ID EQUAL            5       51 high, 71 equal or high
39    SEARCH HOME ADDRESS EQUAL  4
47    LOCATE RECORD              16      needs an extent or READ IPL
4B    LOCATE RECORD EXTENDED     20-22   the same; not on a 3990-2
63    DEFINE EXTENT              16      again in a chain only to narrow the extent
E7    PREFIX                     44-66   DEFINE EXTENT and LOCATE RECORD EXTENDED in one; on a 3990-6
====  =========================  ======  ====================================================

Searches with bit 0 on (A9, B1, ...) go on to further heads.  A search that is satisfied ends with status modifier.
Searches, SEEK HEAD and SET SECTOR need a seek, a LOCATE RECORD or READ IPL earlier in the chain.  RECALIBRATE (13) is
a command that a 3390 does not have.
Source: "3990/9390 Storage Control Reference" GA32-0274; answers of Hercules (which has no SPACE COUNT and no PREFIX,
finds sector 0 everywhere, and takes any sector number).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.css.scsw import Dstat
from pyvfio_backends.software.hardware.css.controlunit import DONE, Channel, Ending
from pyvfio_backends.software.hardware.devices.eckd_chain import MULTITRACK, Chain, parameters, take
from pyvfio_backends.software.hardware.devices.eckd_domain import (
    EXTENT_SIZE,
    Extent,
    Fault,
    bad_mask,
    file_protected,
    invalid_parameter,
    invalid_sequence,
    no_record_found,
)
from pyvfio_backends.software.hardware.devices.eckd_locate import (
    EXTENDED_SIZE,
    LOCATION_SIZE,
    PREFIX_EXTENT_SIZE,
    PREFIX_HEAD_SIZE,
    Location,
    Operation,
    Orientation,
)

__all__ = ["WRITE_INHIBITED", "Orient"]

WRITE_INHIBITED: Final = (0x80, 0x02)
_MATCH: Final = Ending(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.STATUS_MODIFIER)
_SEEK, _SEEK_CYLINDER, _SEEK_HEAD = 0x07, 0x0B, 0x1B
#: The greatest value of mask bits 3-4 that allows each seek.
_SEEK_LIMITS: Final = {_SEEK: 0x00, _SEEK_CYLINDER: 0x08, _SEEK_HEAD: 0x10}
_EQUAL, _HIGH = 1, 2
_SEARCH_ID_EQUAL, _SEARCH_KEY_EQUAL = 0x31, 0x29
_ID_SIZE, _HOME_SIZE = 5, 4
_NO_SECTOR: Final = 0xFF
_PREFIX_FORMATS: Final = (0, 1)
_EXTENT_VALID, _VERIFY_BASE = 0x80, 0x20
_ANY_RECORD: Final = (Operation.READ_ANY, Operation.WRITE_ANY)


class Orient:
    """The handlers of these commands for one control unit.

    `extended` says whether it knows LOCATE RECORD EXTENDED, `prefix` whether PREFIX and the operations on track data;
    `unit_address` is the device's.
    """

    def __init__(self, chain: Chain, *, extended: bool, prefix: bool, unit_address: int) -> None:
        self._chain = chain
        self._prefixed = prefix
        self._unit_address = unit_address
        self.handlers: dict[int, Callable[[int, Channel], Ending]] = {
            0x0F: self._space_count,
            0x17: self._restore,
            0x1F: self._set_file_mask,
            0x22: self._read_sector,
            0x23: self._set_sector,
            0x47: self._locate_record,
            0x63: self._define_extent,
        }
        for code in (_SEEK, _SEEK_CYLINDER, _SEEK_HEAD):
            self.handlers[code] = self._seek
        for area, search in ((0x09, self._search_key), (0x11, self._search_id)):
            for kind in (_EQUAL, _HIGH, _EQUAL | _HIGH):
                code = kind << 5 | area
                self.handlers[code] = self.handlers[code | MULTITRACK] = search
        self.handlers[0x39] = self.handlers[0x39 | MULTITRACK] = self._search_home
        if extended:
            self.handlers[0x4B] = self._locate_extended
        if prefix:
            self.handlers[0xE7] = self._prefix

    def _seek(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        chain.outside_domain()
        if code == _SEEK_HEAD:
            chain.after_seek()
        if chain.seeks > _SEEK_LIMITS[code]:
            raise file_protected()
        raw = parameters(channel, 6)
        cylinder, head = int.from_bytes(raw[2:4], "big"), int.from_bytes(raw[4:6], "big")
        if raw[:2] != b"\0\0":
            raise invalid_parameter()
        chain.seek(chain.position.cylinder if code == _SEEK_HEAD else cylinder, head)
        return DONE

    def _restore(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        return DONE

    def _space_count(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        self._chain.after_seek()
        take(channel, 3)
        self._chain.position.next_count()
        self._chain.spaced = True
        return DONE

    def _set_file_mask(self, code: int, channel: Channel) -> Ending:
        chain = self._chain
        chain.outside_domain()
        if chain.file_mask is not None or chain.extent is not None:
            raise invalid_sequence()
        mask = parameters(channel, 1)[0]
        if bad_mask(mask):
            raise invalid_parameter()
        chain.file_mask = mask
        return DONE

    def _set_sector(self, code: int, channel: Channel) -> Ending:
        self._chain.outside_domain()
        self._chain.after_seek()
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
        if chain.domain is not None or chain.file_mask is not None or chain.spaced or chain.ipl:
            raise invalid_sequence()
        extent = Extent.from_bytes(raw, chain.volume.device)
        if chain.extent is not None and not extent.narrows(chain.extent):
            raise invalid_sequence()
        if not chain.has(*extent.begin) or not chain.has(*extent.end):
            raise invalid_parameter()
        chain.extent = extent

    def _locate_record(self, code: int, channel: Channel) -> Ending:
        self._locate(parameters(channel, LOCATION_SIZE), channel)
        return DONE

    def _locate_extended(self, code: int, channel: Channel) -> Ending:
        self._locate(parameters(channel, EXTENDED_SIZE), channel)
        return DONE

    def _prefix(self, code: int, channel: Channel) -> Ending:
        head = parameters(channel, PREFIX_HEAD_SIZE)
        form, validity, base = head[0], head[1], head[2]
        # The devices are bases; an alias, which names another base here, is not modelled.
        if form not in _PREFIX_FORMATS or (validity & _VERIFY_BASE and base != self._unit_address):
            raise invalid_parameter()
        extent = parameters(channel, PREFIX_EXTENT_SIZE)
        # Linux gives room for a location also where there is none.
        location = parameters(channel, EXTENDED_SIZE) if form else take(channel, EXTENDED_SIZE)
        if validity & _EXTENT_VALID:
            self._take_extent(extent)
        if form:
            self._locate(location, channel)
        return DONE

    def _locate(self, raw: bytes, channel: Channel) -> None:
        chain = self._chain
        if chain.extent is None or chain.domain is not None:
            raise invalid_sequence()
        location = Location.from_bytes(raw, track_data=self._prefixed)
        if location.writes and chain.volume.readonly:
            raise Fault(*WRITE_INHIBITED)
        cylinder, head = location.seek
        if not chain.has(cylinder, head):
            raise invalid_parameter()
        chain.arrive(cylinder, head)
        location.check_sector(chain.volume.device.sectors)
        if location.length > chain.extent.block_size:
            raise invalid_parameter()
        if location.more:
            location.take_more(parameters(channel, location.more))
        if location.tracks:
            over, last = divmod(head + location.tracks[-1], chain.volume.heads)
            chain.arrive(cylinder + over, last)
        chain.position.seek(cylinder, head)
        self._find(location)
        chain.seeked = True
        chain.location = location

    def _find(self, location: Location) -> None:
        """Orient to the home address or the record.  Raise `Fault` when it is not on the track."""
        position = self._chain.position
        if location.orientation is Orientation.HOME_ADDRESS:
            found = position.track.home_address[1:] == location.search[:_HOME_SIZE]
        elif location.operation in _ANY_RECORD:
            found = len(position.records) > 1 and position.find(position.records[1].id)
        elif location.searches and location.operation is not Operation.WRITE_FULL_TRACK:
            found = position.find(location.search)
        else:
            found = True
        if not found:
            raise no_record_found()
        if location.orientation is Orientation.DATA:
            position.leave_record()

    # -- searches ------------------------------------------------------------------------------------------------

    @staticmethod
    def _compare(code: int, channel: Channel, found: bytes) -> tuple[Ending, bool]:
        """The ending of a search that came to `found`, and whether the program's whole argument is equal to it."""
        wanted = take(channel, min(len(found), channel.left))
        there = found[: len(wanted)]
        kind = (code & ~MULTITRACK) >> 5
        match = bool(wanted) and ((kind & _EQUAL and there == wanted) or (kind & _HIGH and there > wanted))
        return (_MATCH if match else DONE), wanted == found

    def _begin_search(self) -> None:
        self._chain.after_seek()
        self._chain.outside_domain()

    def _search_id(self, code: int, channel: Channel) -> Ending:
        self._begin_search()
        record = self._chain.position.next_count(multitrack=bool(code & MULTITRACK), with_r0=True, marks=False)
        ending, equal = self._compare(code, channel, record.id)
        self._chain.found_id = equal and code & ~MULTITRACK == _SEARCH_ID_EQUAL
        return ending

    def _search_key(self, code: int, channel: Channel) -> Ending:
        self._begin_search()
        multitrack = bool(code & MULTITRACK)
        record = self._chain.position.next_key(multitrack=multitrack)
        ending, equal = self._compare(code, channel, record.key)
        self._chain.found_key = bool(record.key) and equal and code & ~MULTITRACK == _SEARCH_KEY_EQUAL
        return ending

    def _search_home(self, code: int, channel: Channel) -> Ending:
        self._begin_search()
        position = self._chain.position
        if code & MULTITRACK:
            position.next_track(crosses=False)
        elif position.at_home:
            if position.marked:
                raise no_record_found()
            position.marked = True
        position.rewind()
        position.at_home = True
        ending, equal = self._compare(code, channel, position.track.home_address[1:])
        self._chain.found_home = equal
        return ending
