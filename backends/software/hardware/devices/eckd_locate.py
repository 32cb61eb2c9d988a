"""The parameters of LOCATE RECORD, LOCATE RECORD EXTENDED and PREFIX.

LOCATE RECORD, 16 bytes; LOCATE RECORD EXTENDED has four more, and as many again as the last two say::

      0       1       2       3       4               8                   13      14          16  17   18          20
     +-------+-------+-------+-------+---------------+-------------------+-------+-----------+---+----+-----------+--
     |  op   |  aux  |   0   | count |  seek track   | search cc hh r    |sector | length f. | 0 | ext| more bytes|
     +-------+-------+-------+-------+---------------+-------------------+-------+-----------+---+----+-----------+--
     op bits 0-1 orientation (00 count, 01 home address, 10 data, 11 index), bits 2-7 operation; 3F: it is in `ext`
     aux bit 0: the length factor is given; bit 7: the last of the transfers is a READ COUNT

PREFIX is 12 bytes (format 0 or 1; validity bit 0: the extent is given; bit 2: byte 2 is the base's address), 32 of
DEFINE EXTENT, of which 16 are looked at, and in format 1 LOCATE RECORD EXTENDED.

The operations, with the orientations that they can have:

====  ==================  ==============  ==============  =======================================================
op    operation           LOCATE RECORD   ... EXTENDED    the domain's transfers
====  ==================  ==============  ==============  =======================================================
00    orient              count home data                 none (count 0)
01    write data          count data      count data      WRITE DATA (the last), WRITE UPDATE DATA, ... KEY AND DATA
03    format write        count home idx  count home idx  WRITE R0, WRITE CKD, WRITE CKD NEXT TRACK
06    read data           count home data the same        any read but those of tracks
09    write any                           count           WRITE UPDATE DATA
0A    read any                            count           READ DATA, READ COUNT, READ CKD
0B    write track         count           count           WRITE DATA, WRITE CKD, ERASE
0C    read tracks         count home      count home      READ TRACK; READ TRACK DATA from the record on
0E    read track set                      count home      READ TRACK for each bit of the one or two further bytes
11    write full track                    count           WRITE FULL TRACK for each bit of the two further bytes
16    read                all             all             any read but those of tracks
23    write track data                    count           WRITE TRACK DATA
====  ==================  ==============  ==============  =======================================================

09, 0A, 0E, 11 and 23 are given as 3F with the number in `ext`.  11 and 23, and READ TRACK DATA, are for control units
with these features only.
Sources: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.c`` (locate_record_ext).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from pyvfio_backends.software.hardware.devices.eckd_domain import invalid_parameter

__all__ = [
    "EXTENDED_SIZE",
    "LOCATION_SIZE",
    "PREFIX_EXTENT_SIZE",
    "PREFIX_HEAD_SIZE",
    "Location",
    "Operation",
    "Orientation",
]

LOCATION_SIZE: Final = 16
EXTENDED_SIZE: Final = 20
PREFIX_HEAD_SIZE: Final = 12
PREFIX_EXTENT_SIZE: Final = 32
_LOCATION = struct.Struct(">BBBBHH5sBH")
_LENGTH_GIVEN: Final = 0x80
_COUNT_SUFFIXED: Final = 0x01
_RESERVED_AUXILIARY: Final = 0x7E
_EXTENDED: Final = 0x3F
_NO_SECTOR: Final = 0xFF
_FIRST_TRACK: Final = 0x80


class Orientation(IntEnum):
    """Where LOCATE RECORD leaves the mechanism."""

    COUNT = 0
    HOME_ADDRESS = 1
    DATA = 2
    INDEX = 3


class Operation(IntEnum):
    """What a domain is for."""

    ORIENT = 0x00
    WRITE_DATA = 0x01
    FORMAT_WRITE = 0x03
    READ_DATA = 0x06
    WRITE_ANY = 0x09
    READ_ANY = 0x0A
    WRITE_TRACK = 0x0B
    READ_TRACKS = 0x0C
    READ_TRACK_SET = 0x0E
    WRITE_FULL_TRACK = 0x11
    READ = 0x16
    WRITE_TRACK_DATA = 0x23


_C, _H, _D, _I = Orientation
_PLAIN: Final = {
    Operation.ORIENT: (_C, _H, _D),
    Operation.WRITE_DATA: (_C, _D),
    Operation.FORMAT_WRITE: (_C, _H, _I),
    Operation.READ_DATA: (_C, _H, _D),
    Operation.WRITE_TRACK: (_C,),
    Operation.READ_TRACKS: (_C, _H),
    Operation.READ: (_C, _H, _D, _I),
}
_ANY: Final = {
    Operation.WRITE_ANY: (_C,),
    Operation.READ_ANY: (_C,),
    Operation.READ_TRACK_SET: (_C, _H),
}
_TRACK_DATA: Final = {
    Operation.WRITE_FULL_TRACK: (_C,),
    Operation.WRITE_TRACK_DATA: (_C,),
}
_WRITES: Final = frozenset(
    (
        Operation.WRITE_DATA,
        Operation.FORMAT_WRITE,
        Operation.WRITE_ANY,
        Operation.WRITE_TRACK,
        Operation.WRITE_FULL_TRACK,
        Operation.WRITE_TRACK_DATA,
    )
)
_SUFFIXED: Final = (Operation.WRITE_DATA, Operation.READ)
_SUFFIXED_EXTENDED: Final = (*_SUFFIXED, Operation.WRITE_ANY, Operation.READ_ANY)
_SETS: Final = (Operation.READ_TRACK_SET, Operation.WRITE_FULL_TRACK)
#: How many further parameter bytes an operation has.
_MORE: Final = {
    Operation.WRITE_ANY: (1,),
    Operation.READ_ANY: (1,),
    Operation.READ_TRACK_SET: (1, 2),
    Operation.WRITE_FULL_TRACK: (1, 2),
}


@dataclass(slots=True)
class Location:
    """A domain: the track to `seek`, the five bytes to `search`, and how many transfers are `left`.

    `length` is the length factor, 0 when it is not given; `suffixed` says that the last transfer is a READ COUNT,
    `tracks` are the offsets of the tracks of a set.
    """

    operation: Operation
    orientation: Orientation
    left: int
    seek: tuple[int, int]
    search: bytes
    sector: int
    length: int
    suffixed: bool
    more: int = 0
    tracks: tuple[int, ...] = ()

    @classmethod
    def from_bytes(cls, raw: bytes, *, track_data: bool = False) -> Self:
        """Read 16 or 20 parameter bytes.  Raise `Fault` when they cannot be of any volume."""
        op, auxiliary, zero, count, cylinder, head, search, sector, length = _LOCATION.unpack_from(raw)
        extended = len(raw) > LOCATION_SIZE
        number = op & 0x3F
        allowed = dict(_PLAIN)
        if extended:
            del allowed[Operation.ORIENT]
            if number == _EXTENDED:
                number = raw[17]
                allowed = _ANY | (_TRACK_DATA if track_data else {})
            elif raw[17]:
                raise invalid_parameter()
        operation = next((one for one in allowed if one == number), None)
        orientation = Orientation(op >> 6)
        if operation is None or orientation not in allowed[operation]:
            raise invalid_parameter()
        suffixed = bool(auxiliary & _COUNT_SUFFIXED)
        given = bool(auxiliary & _LENGTH_GIVEN)
        more = int.from_bytes(raw[18:20], "big") if extended else 0
        wrong = (
            auxiliary & _RESERVED_AUXILIARY
            or (suffixed and operation not in (_SUFFIXED_EXTENDED if extended else _SUFFIXED))
            or zero
            or (count != 0) != (operation is not Operation.ORIENT)
            or (suffixed and count < 2)
            or given != (length != 0)
            or more not in _MORE.get(operation, (0,))
        )
        if wrong:
            raise invalid_parameter()
        return cls(operation, orientation, count, (cylinder, head), search, sector, length, suffixed, more)

    def take_more(self, raw: bytes) -> None:
        """Take the further parameter bytes.  Raise `Fault`."""
        if self.operation in _SETS:
            bits = int.from_bytes(raw, "big")
            width = 8 * len(raw)
            self.tracks = tuple(number for number in range(width) if bits >> width - 1 - number & 1)
            wrong = not raw[0] & _FIRST_TRACK or len(self.tracks) != self.left
        else:
            wrong = raw != b"\x01"
        if wrong:
            raise invalid_parameter()

    def check_sector(self, sectors: int) -> None:
        """Raise `Fault` when the device has no such sector."""
        if self.sector >= sectors and self.sector != _NO_SECTOR:
            raise invalid_parameter()

    @property
    def writes(self) -> bool:
        """Whether the operation is a write."""
        return self.operation in _WRITES

    @property
    def searches(self) -> bool:
        """Whether a record is looked for by its count."""
        return self.orientation in (Orientation.COUNT, Orientation.DATA)

    @property
    def at_index(self) -> bool:
        """Whether it leaves the mechanism before R0."""
        return self.orientation in (Orientation.HOME_ADDRESS, Orientation.INDEX)

    @property
    def last(self) -> bool:
        """Whether the next transfer is the last one, or the last before the suffixed READ COUNT."""
        return self.left == 1 + self.suffixed
