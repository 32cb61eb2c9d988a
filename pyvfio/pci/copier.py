"""The registers of the copier, a PCI Express function of the software machine that works descriptors off in memory.

1af4:10f1 (the range virtio leaves to experiments), class 0x088000.  BAR 1 is the MSI-X table with four vectors.  The
registers are in BAR 0 (memory, 4096 bytes), little-endian, accessed by aligned 4 bytes; a 64-bit one by 8, too.  Its
upper half is for who gives the copier away (`pyvfio.pci.copier_control`)::

    00 MAGIC    ro 32  43 4f 50 59 ("COPY")
    04 LIMIT    ro 32  bytes of an operation, at most
    08 RING     rw 64  address, a multiple of 64
    10 COUNTER  rw 64  address, a multiple of 8, or 0
    18 STATUS   ro 32  0 halted, 1 running, 2 failed
    1c ENTRIES  rw 32  descriptors of the ring, 2 to 4096
    20 HEAD     ro 32  the descriptor that is done next
    24 TAIL     rw 32  the doorbell: one past the last descriptor to do
    28 CONTROL  rw 32  bit 0: run
    2c DONE     ro 32  descriptors done since it runs

RING, COUNTER and ENTRIES cannot be written while it runs.  Writing "run" sets HEAD, TAIL and DONE to 0 and starts it;
it fails at once if RING, COUNTER or ENTRIES cannot be, and later if a descriptor cannot be read or a tail is not within
the ring.  A failed copier does nothing until "run" is cleared.  After each descriptor DONE is written to COUNTER, as 8
bytes, if COUNTER is not 0.  A descriptor has 64 bytes::

    00 OPERATION 8 | 01 flags 8: interrupt 0x1 | 02 vector 16 | 04 count 32 | 08 source 64 | 10 target 64
    18 record 64: address, a multiple of 16, or 0 for none | 20 pattern 64 | 28 to 3f zeros

and its record 16::

    00 status 8, never 0 | 01 to 03 zeros | 04 bytes 32 | 08 result 64

=========  ==================================================================================================
NOTHING    the record says DONE
COPY       `count` bytes from source to target; they may overlap
FILL       `count` bytes of target with the 8 bytes of the pattern, over and over
COMPARE    source with target: the record says DIFFERENT, and `bytes` is where the first difference is
CHECK      `result` is the CRC-32 of the source
=========  ==================================================================================================

An operation that fails moves nothing, and the copier goes on: BAD_DESCRIPTOR (no such operation, flag or vector, too
many bytes, a record where none may be, something in the zeros), FAULT (`result` is the address).  Nobody answers what a
PCI Express function writes, so a target that is not there is no fault.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = [
    "BAR",
    "CLASS_CODE",
    "CONTROL",
    "COUNTER",
    "COUNT_LIMIT",
    "DESCRIPTOR_SIZE",
    "DEVICE_ID",
    "DONE",
    "ENTRIES",
    "ENTRY_LIMIT",
    "HEAD",
    "INTERRUPT",
    "LIMIT",
    "MAGIC",
    "MAGIC_VALUE",
    "RECORD_SIZE",
    "RING",
    "RUN",
    "STATUS",
    "TAIL",
    "VECTORS",
    "VENDOR_ID",
    "CopierStatus",
    "Descriptor",
    "Operation",
    "Outcome",
    "Record",
]

VENDOR_ID: Final = 0x1AF4
DEVICE_ID: Final = 0x10F1
CLASS_CODE: Final = 0x088000
BAR: Final = 0
VECTORS: Final = 4
MAGIC: Final = 0x00
LIMIT: Final = 0x04
RING: Final = 0x08
COUNTER: Final = 0x10
STATUS: Final = 0x18
ENTRIES: Final = 0x1C
HEAD: Final = 0x20
TAIL: Final = 0x24
CONTROL: Final = 0x28
DONE: Final = 0x2C
MAGIC_VALUE: Final = 0x59504F43
RUN: Final = 1
INTERRUPT: Final = 1
ENTRY_LIMIT: Final = 1 << 12
COUNT_LIMIT: Final = 1 << 20
_DESCRIPTOR: Final = struct.Struct("<BBHIQQQQ24s")
_RECORD: Final = struct.Struct("<B3xIQ")
DESCRIPTOR_SIZE: Final = _DESCRIPTOR.size
RECORD_SIZE: Final = _RECORD.size


class CopierStatus(IntEnum):
    """Values of STATUS."""

    HALTED = 0
    RUNNING = 1
    FAILED = 2


class Operation(IntEnum):
    """What a descriptor asks for."""

    NOTHING = 0
    COPY = 1
    FILL = 2
    COMPARE = 3
    CHECK = 4


class Outcome(IntEnum):
    """What a record says."""

    DONE = 1
    DIFFERENT = 2
    BAD_DESCRIPTOR = 3
    FAULT = 4


@dataclass(slots=True)
class Descriptor:
    """A descriptor; `reserved` are its last 24 bytes."""

    operation: int
    count: int = 0
    source: int = 0
    target: int = 0
    record: int = 0
    pattern: int = 0
    flags: int = 0
    vector: int = 0
    reserved: bytes = bytes(24)

    def pack(self) -> bytes:
        """The 64 bytes."""
        return _DESCRIPTOR.pack(
            self.operation,
            self.flags,
            self.vector,
            self.count,
            self.source,
            self.target,
            self.record,
            self.pattern,
            self.reserved,
        )

    @classmethod
    def parse(cls, data: bytes) -> Descriptor:
        """From 64 bytes, whatever they are."""
        operation, flags, vector, count, source, target, record, pattern, reserved = _DESCRIPTOR.unpack(data)
        return cls(operation, count, source, target, record, pattern, flags, vector, reserved)


@dataclass(frozen=True, slots=True)
class Record:
    """What became of a descriptor."""

    status: Outcome
    count: int = 0
    result: int = 0

    def pack(self) -> bytes:
        """The 16 bytes."""
        return _RECORD.pack(self.status, self.count, self.result)

    @classmethod
    def parse(cls, data: bytes) -> Record | None:
        """From 16 bytes; None while there is no status."""
        status, count, result = _RECORD.unpack(data)
        return cls(Outcome(status), count, result) if status else None
