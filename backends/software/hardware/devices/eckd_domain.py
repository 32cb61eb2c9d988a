"""The parameters of DEFINE EXTENT, LOCATE RECORD and PREFIX, and how a 3990 refuses wrong ones.

DEFINE EXTENT, 16 bytes::

      0       1       2           4               8               12             15
     +-------+-------+-----------+---------------+---------------+---------------+
     | mask  |  attr | blocksize |   (ignored)   |  first track  |  last track   |
     +-------+-------+-----------+---------------+---------------+---------------+
     mask bits 0-1: writes (see `Permission`), bits 3-4: seeks (00 all .. 11 none)

LOCATE RECORD, 16 bytes; LOCATE RECORD EXTENDED has four more (imbedded count, extended operation, length of further
parameters, which must be 0)::

      0       1       2       3       4               8                   13      14
     +-------+-------+-------+-------+---------------+-------------------+-------+-----------+
     |  op   |  aux  |   0   | count |  seek track   | search cc hh r    |sector | length f. |
     +-------+-------+-------+-------+---------------+-------------------+-------+-----------+
     op bits 0-1 orientation (00 count, 01 home address, 10 data, 11 index), bits 2-7 operation
     aux bit 0: the length factor is given; bit 7: one READ COUNT more follows the domain

PREFIX is 12 bytes (format 0 or 1; validity bit 0: the extent is given), 32 of DEFINE EXTENT, of which 16 are looked
at, and in format 1 20 of LOCATE RECORD EXTENDED.

A track is cylinder and head, 2 bytes each.
Sources: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.h`` (PFX_eckd_data).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

__all__ = [
    "EXTENDED_SIZE",
    "EXTENT_SIZE",
    "LOCATION_SIZE",
    "PREFIX_EXTENT_SIZE",
    "PREFIX_HEAD_SIZE",
    "Extent",
    "Fault",
    "Location",
    "Orientation",
    "Permission",
    "invalid_command",
    "invalid_parameter",
    "invalid_sequence",
    "too_few_parameters",
]

EXTENT_SIZE: Final = 16
LOCATION_SIZE: Final = 16
EXTENDED_SIZE: Final = 20
PREFIX_HEAD_SIZE: Final = 12
PREFIX_EXTENT_SIZE: Final = 32
_EXTENT = struct.Struct(">BBHIHHHH")
_LOCATION = struct.Struct(">BBBBHH5sBH")
_ECKD: Final = 0xC0
_ORIENT: Final = 0x00
_WRITE_DATA: Final = 0x01
_FORMAT: Final = frozenset((0x03, 0x0B))
_WRITE_OPERATIONS: Final = _FORMAT | {_WRITE_DATA}
_READ_TRACKS: Final = 0x0C
_READ_OPERATIONS: Final = frozenset((0x06, _READ_TRACKS, 0x16))
_READ_ANY: Final = 0x16
_LENGTH_GIVEN: Final = 0x80
_COUNT_SUFFIXED: Final = 0x01


class Fault(Exception):
    """A command ends with unit check and these leading sense bytes.  It never leaves the control unit."""

    def __init__(self, *sense: int) -> None:
        super().__init__(sense)
        self.sense = sense


def _reject(message: int) -> Fault:
    return Fault(0x80, 0, 0, 0, 0, 0, 0, message)


def invalid_command() -> Fault:
    """Command reject, message 1."""
    return _reject(1)


def invalid_sequence() -> Fault:
    """Command reject, message 2."""
    return _reject(2)


def too_few_parameters() -> Fault:
    """Command reject, message 3: the CCW's count is less than required."""
    return _reject(3)


def invalid_parameter() -> Fault:
    """Command reject, message 4."""
    return _reject(4)


class Permission(IntEnum):
    """What bits 0-1 of a file mask or extent mask permit."""

    NOT_HOME_AND_R0 = 0x00
    NONE = 0x40
    NOT_FORMAT = 0x80
    ALL = 0xC0

    @classmethod
    def of(cls, mask: int) -> Permission:
        """The permission of a mask."""
        return cls(mask & 0xC0)

    @property
    def formats(self) -> bool:
        """Whether records may be formatted."""
        return self in (Permission.ALL, Permission.NOT_HOME_AND_R0)


class Orientation(IntEnum):
    """Where LOCATE RECORD leaves the mechanism."""

    COUNT = 0
    HOME_ADDRESS = 1
    DATA = 2
    INDEX = 3


@dataclass(frozen=True, slots=True)
class Extent:
    """The tracks that a chain may touch, from `begin` to `end` (each cylinder and head), and its write mask."""

    mask: int
    begin: tuple[int, int]
    end: tuple[int, int]

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the first 16 parameter bytes.  Raise `Fault` when they are not those of an extent."""
        mask, attributes, _block, _ignored, *tracks = _EXTENT.unpack_from(raw)
        begin, end = (tracks[0], tracks[1]), (tracks[2], tracks[3])
        if begin > end or attributes & _ECKD != _ECKD:
            raise invalid_parameter()
        return cls(mask, begin, end)

    def holds(self, cylinder: int, head: int) -> bool:
        """Whether the track lies in the extent."""
        return self.begin <= (cylinder, head) <= self.end


@dataclass(slots=True)
class Location:
    """A LOCATE RECORD: the track to `seek`, the five bytes to `search`, and how many transfers are `left`.

    `length` is the length factor of a write, None when it is not given.
    """

    operation: int
    orientation: Orientation
    left: int
    seek: tuple[int, int]
    search: bytes
    length: int | None

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read 16 or 20 parameter bytes.  Raise `Fault` when they are not valid."""
        op, auxiliary, zero, count, cylinder, head, search, _sector, length = _LOCATION.unpack_from(raw)
        operation = op & 0x3F
        known = operation == _ORIENT or operation in _READ_OPERATIONS or operation in _WRITE_OPERATIONS
        counted = count > 0 or operation == _ORIENT
        given = bool(auxiliary & _LENGTH_GIVEN)
        extended = raw[LOCATION_SIZE:]
        if not known or zero or not counted or (length and not given) or any(extended[1:]):
            raise invalid_parameter()
        left = count + bool(auxiliary & _COUNT_SUFFIXED and operation in _READ_OPERATIONS)
        return cls(operation, Orientation(op >> 6), left, (cylinder, head), search, length if given else None)

    @property
    def writes(self) -> bool:
        """Whether the operation is a write."""
        return self.operation in _WRITE_OPERATIONS

    @property
    def formats(self) -> bool:
        """Whether it writes counts."""
        return self.operation in _FORMAT

    @property
    def reads(self) -> bool:
        """Whether the operation is a read."""
        return self.operation in _READ_OPERATIONS

    @property
    def reads_anything(self) -> bool:
        """Whether it is the operation that also reads R0 and home addresses, from the index point on."""
        return self.operation == _READ_ANY and self.orientation in (Orientation.HOME_ADDRESS, Orientation.INDEX)

    @property
    def by_count(self) -> bool:
        """Whether the record is looked for by its count."""
        return self.orientation in (Orientation.COUNT, Orientation.DATA)
