"""Commands and parameters of count-key-data disks, as a driver sends them.

::

    DEFINE EXTENT   mask | attributes | block size (2) | 0 (3) | ext | first track | last track      16 bytes
    LOCATE RECORD   op | aux | 0 | count | seek track | search track, record | sector | length (2)   16 bytes
    ... EXTENDED    the same, then 0 | extended operation | 0 (2)                                    20 bytes

A track address is 4 bytes: the low 16 bits of the cylinder, its next 12, and 4 of the head.  All are big-endian.
Sources: "3990/9390 Storage Control Reference" GA32-0274; ``drivers/s390/block/dasd_eckd.h``, ``dasd_eckd.c``
(define_extent, locate_record).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

__all__ = [
    "EckdCommand",
    "ExtendedOperation",
    "LocateOperation",
    "Mask",
    "Place",
    "define_extent",
    "locate_extended",
    "locate_record",
    "track_address",
]

Place = tuple[int, int]
"""Cylinder and head."""

_EXTENT = struct.Struct(">BBH3xB4s4s")
_LOCATION = struct.Struct(">BBxB4s4sBBH")
_ECKD_MODE: Final = 0xC0
_REGULAR_FORMAT: Final = 0x40
_LENGTH_GIVEN: Final = 0x80
_ANY_SECTOR: Final = 0xFF


class EckdCommand(IntEnum):
    """The commands that the driver sends."""

    ERASE = 0x11
    READ_COUNT = 0x12
    UNCONDITIONAL_RESERVE = 0x14
    WRITE_COUNT_KEY_DATA = 0x1D
    PERFORM_SUBSYSTEM_FUNCTION = 0x27
    SENSE_PATH_GROUP_ID = 0x34
    READ_SUBSYSTEM_DATA = 0x3E
    LOCATE_RECORD = 0x47
    LOCATE_RECORD_EXTENDED = 0x4B
    DEFINE_EXTENT = 0x63
    READ_DEVICE_CHARACTERISTICS = 0x64
    WRITE_DATA_MT = 0x85
    READ_DATA_MT = 0x86
    WRITE_KEY_AND_DATA_MT = 0x8D
    READ_KEY_AND_DATA_MT = 0x8E
    RELEASE = 0x94
    WRITE_COUNT_KEY_DATA_MT = 0x9D
    WRITE_TRACK_DATA = 0xA5
    READ_TRACK_DATA = 0xA6
    SET_PATH_GROUP_ID = 0xAF
    RESERVE = 0xB4
    READ_TRACK = 0xDE
    READ_CONFIGURATION_DATA = 0xFA


class Mask(IntEnum):
    """What a program may write in its extent (bits 0-1 of the mask)."""

    FORMAT = 0x00  # all but home addresses and R0
    READ = 0x40
    UPDATE = 0x80  # data of records that are there


class LocateOperation(IntEnum):
    """What follows a LOCATE RECORD (orientation count)."""

    WRITE_DATA = 0x01
    FORMAT_WRITE = 0x03
    READ_DATA = 0x06
    WRITE_TRACK = 0x0B
    READ_TRACKS = 0x0C
    EXTENDED = 0x3F


class ExtendedOperation(IntEnum):
    """What follows a LOCATE RECORD EXTENDED whose operation is `LocateOperation.EXTENDED`."""

    NONE = 0x00
    WRITE_TRACK_DATA = 0x23


def track_address(place: Place) -> bytes:
    """The 4 bytes of a track address."""
    cylinder, head = place
    return struct.pack(">HH", cylinder & 0xFFFF, cylinder >> 16 << 4 | head)


def define_extent(mask: Mask, first: Place, last: Place, *, regular: bool = False) -> bytes:
    """The parameters of DEFINE EXTENT; `regular` says that all tracks of it hold equal records without keys."""
    extended = _REGULAR_FORMAT if regular else 0
    return _EXTENT.pack(mask, _ECKD_MODE, 0, extended, track_address(first), track_address(last))


def locate_record(operation: LocateOperation, place: Place, record: int, count: int, length: int = 0) -> bytes:
    """The parameters of LOCATE RECORD for `count` transfers (1 to 255) from `record` on; `length` 0: not given."""
    address = track_address(place)
    given = _LENGTH_GIVEN if length else 0
    return _LOCATION.pack(operation, given, count, address, address, record, _ANY_SECTOR, length)


def locate_extended(
    operation: LocateOperation, extended: ExtendedOperation, place: Place, count: int, length: int
) -> bytes:
    """The parameters of LOCATE RECORD EXTENDED for `count` tracks from record 1 on; `length` is of bytes, not 0."""
    return locate_record(operation, place, 1, count, length) + bytes([0, extended, 0, 0])
