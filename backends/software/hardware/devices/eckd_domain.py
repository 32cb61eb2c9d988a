"""The parameters of DEFINE EXTENT and LOCATE RECORD, and how a 3990 refuses wrong ones.

DEFINE EXTENT, 16 bytes::

      0       1       2           4               8               12             15
     +-------+-------+-----------+---------------+---------------+---------------+
     | mask  |  attr | blocksize |   (ignored)   |  first track  |  last track   |
     +-------+-------+-----------+---------------+---------------+---------------+
     mask bits 0-1: 01 inhibits all writes

LOCATE RECORD, 16 bytes::

      0       1       2       3       4               8                   13      14
     +-------+-------+-------+-------+---------------+-------------------+-------+-----------+
     |  op   |  aux  |   0   | count |  seek track   | search cc hh r    |sector | length f. |
     +-------+-------+-------+-------+---------------+-------------------+-------+-----------+
     op bits 0-1 orientation (00 count, 01 home address, 10 data, 11 index), bits 2-7 operation
     aux bit 0: the length factor is given

A track is cylinder and head, 2 bytes each.  Source: "3990/9390 Storage Control Reference" GA32-0274.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

__all__ = ["Extent", "Fault", "Location", "invalid_command", "invalid_parameter", "invalid_sequence"]

_EXTENT = struct.Struct(">BBHIHHHH")
_LOCATION = struct.Struct(">BBBBHH5sBH")
_WRITE_MASK: Final = 0xC0
_INHIBIT_WRITES: Final = 0x40
_ECKD: Final = 0xC0
_ORIENT: Final = 0x00
_WRITE_OPERATIONS: Final = frozenset((0x01, 0x03, 0x0B))
_READ_OPERATIONS: Final = frozenset((0x06, 0x0C, 0x16))
_LENGTH_GIVEN: Final = 0x80


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


def invalid_parameter() -> Fault:
    """Command reject, message 4."""
    return _reject(4)


@dataclass(frozen=True, slots=True)
class Extent:
    """The tracks that a chain may touch, from `begin` to `end` (each cylinder and head), and its write mask."""

    mask: int
    begin: tuple[int, int]
    end: tuple[int, int]

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the 16 parameter bytes.  Raise `Fault` when they are not those of an extent."""
        mask, attributes, _block, _ignored, *tracks = _EXTENT.unpack(raw)
        begin, end = (tracks[0], tracks[1]), (tracks[2], tracks[3])
        if begin > end or attributes & _ECKD != _ECKD:
            raise invalid_parameter()
        return cls(mask, begin, end)

    @property
    def writes_inhibited(self) -> bool:
        """Whether the mask inhibits all writes."""
        return self.mask & _WRITE_MASK == _INHIBIT_WRITES

    def holds(self, cylinder: int, head: int) -> bool:
        """Whether the track lies in the extent."""
        return self.begin <= (cylinder, head) <= self.end


@dataclass(slots=True)
class Location:
    """A LOCATE RECORD: the track to `seek`, the five bytes to `search`, and how many reads are `left`."""

    operation: int
    orientation: int
    left: int
    seek: tuple[int, int]
    search: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read the 16 parameter bytes.  Raise `Fault` when they are not valid."""
        op, auxiliary, zero, count, cylinder, head, search, _sector, length = _LOCATION.unpack(raw)
        operation, orientation = op & 0x3F, op >> 6
        known = operation == _ORIENT or operation in _READ_OPERATIONS or operation in _WRITE_OPERATIONS
        counted = count > 0 or operation == _ORIENT
        length_stated = bool(auxiliary & _LENGTH_GIVEN) or not length
        if not known or zero or not counted or not length_stated:
            raise invalid_parameter()
        return cls(operation, orientation, count, (cylinder, head), search)

    @property
    def writes(self) -> bool:
        """Whether the operation is a write."""
        return self.operation in _WRITE_OPERATIONS

    @property
    def by_count(self) -> bool:
        """Whether the record is looked for by its count (orientation count or data)."""
        return self.orientation in (0, 2)
