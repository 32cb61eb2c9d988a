"""The parameters of DEFINE EXTENT, and how a 3990 refuses wrong ones.

DEFINE EXTENT, 16 bytes (a longer one has more, which is not looked at)::

      0       1       2           4           6   7       8               12             15
     +-------+-------+-----------+-----------+---+-------+---------------+---------------+
     | mask  |  attr | blocksize |     0     | 0 | more  |  first track  |  last track   |
     +-------+-------+-----------+-----------+---+-------+---------------+---------------+
     mask bits 0-1: writes (see `Permission`), bit 2: 0, bits 3-4: seeks (00 all .. 11 none), bits 5-6: authorization
     attr bits 0-1: 11 (extended count key data), bit 2: CKD conversion (lengths are not checked)
     blocksize 0: the longest R0 and its count

A track is cylinder and head, 2 bytes each.
Sources: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.h`` (DE_eckd_data);
answers of Hercules.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from pyvfio_backends.software.hardware.devices.ckd_models import Device

__all__ = [
    "EXTENT_SIZE",
    "Extent",
    "Fault",
    "Permission",
    "bad_mask",
    "end_of_cylinder",
    "file_protected",
    "invalid_command",
    "invalid_parameter",
    "invalid_sequence",
    "invalid_track_format",
    "no_record_found",
    "not_authorized",
    "too_few_parameters",
]

EXTENT_SIZE: Final = 16
_EXTENT = struct.Struct(">BBH3sxHHHH")
_ECKD: Final = 0xC0
_CONVERSION: Final = 0x20
_RESERVED_MASK: Final = 0x20


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


def not_authorized() -> Fault:
    """Command reject, message 5: a diagnostic command without authorization in the file mask."""
    return _reject(5)


def invalid_track_format() -> Fault:
    """What is to be written does not fit the track or the length that was announced, or the track is damaged."""
    return Fault(0x00, 0x40)


def no_record_found() -> Fault:
    """The index was passed twice."""
    return Fault(0x00, 0x08)


def end_of_cylinder() -> Fault:
    """A multitrack command ran past the last head."""
    return Fault(0x00, 0x20)


def file_protected() -> Fault:
    """A seek, a head switch or a write that the file mask or the extent does not allow."""
    return Fault(0x00, 0x04)


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


def bad_mask(mask: int) -> bool:
    """Whether a file mask has a bit that must be 0."""
    return bool(mask & _RESERVED_MASK)


@dataclass(frozen=True, slots=True)
class Extent:
    """The tracks that a chain may touch, from `begin` to `end` (each cylinder and head), and its attributes."""

    mask: int
    attributes: int
    block_size: int
    begin: tuple[int, int]
    end: tuple[int, int]

    @classmethod
    def from_bytes(cls, raw: bytes, device: Device) -> Self:
        """Read the first 16 parameter bytes.  Raise `Fault` when they are not those of an extent."""
        mask, attributes, block_size, zeros, *tracks = _EXTENT.unpack_from(raw)
        begin, end = (tracks[0], tracks[1]), (tracks[2], tracks[3])
        largest = device.largest_block
        bad = attributes & _ECKD != _ECKD or bad_mask(mask) or block_size > largest or any(zeros) or begin > end
        if bad:
            raise invalid_parameter()
        return cls(mask, attributes, block_size or largest, begin, end)

    @classmethod
    def whole(cls, device: Device, cylinders: int) -> Self:
        """All of a volume, as READ IPL defines it."""
        return cls(0, _ECKD, device.largest_block, (0, 0), (cylinders - 1, device.heads - 1))

    @property
    def conversion(self) -> bool:
        """Whether record lengths are not compared with what was announced."""
        return bool(self.attributes & _CONVERSION)

    def holds(self, cylinder: int, head: int) -> bool:
        """Whether the track lies in the extent."""
        return self.begin <= (cylinder, head) <= self.end

    def narrows(self, other: Extent) -> bool:
        """Whether this one may follow `other` in a chain: it says the same but for fewer tracks."""
        same = (self.mask, self.attributes, self.block_size) == (other.mask, other.attributes, other.block_size)
        return same and other.holds(*self.begin) and other.holds(*self.end)
