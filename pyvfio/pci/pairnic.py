"""The registers of the pair NIC, a PCI Express function of the software machine: a cable connects it with another one.

1af4:10f2 (the range virtio leaves to experiments), class 0x020000.  BAR 1 is the MSI-X table with three vectors.  The
registers are in BAR 0 (memory, 4096 bytes), little-endian, accessed by aligned 4 bytes; a 64-bit one by 8, too::

    00 MAGIC    ro 32  50 41 49 52 ("PAIR")
    04 CONTROL  rw 32  bit 0: run
    08 ADDRESS  ro 64  MAC address, its first byte lowest
    10 STATUS   ro 32  | failed 0x4 | running 0x2 | link 0x1 |
    14 CAUSE    rw 32  | link changed 0x4 | received 0x2 | sent 0x1 |; a 1 that is written clears the bit
    18 LOST     ro 32  frames that came while there was no buffer, and those that did not fit
    20 TX_RING  rw 64  address, a multiple of 16            30 RX_RING     the same of the receive ring
    28 TX_SIZE  rw 32  descriptors of the ring, 2 to 4096   38 RX_SIZE
    2c TX_HEAD  ro 32  the descriptor that is next          3c RX_HEAD
    40 TX_TAIL  rw 32  the doorbell: one past the last      44 RX_TAIL

Rings and sizes cannot be written while it runs.  Writing "run" sets heads and tails to 0; it fails at once if a ring
cannot be, and later if a descriptor cannot be read or a tail is not within its ring.  A failed one does nothing until
"run" is cleared.  There is a link while both ends run.  A descriptor has 16 bytes::

    00 buffer 64 | 08 length 16 | 0a flags 16: error 0x2, done 0x1 | 0c zeros 32

The device sends `length` bytes, from 14 to 9018, and sets DONE, with ERROR if nothing was sent (a wrong length, a
buffer out of reach, no link).  It fills receive buffers of `length` bytes in order, and sets DONE and the length of the
frame.  A frame that is longer than the buffer takes it up: ERROR, and the length that it has.  Frames that come while
there is no buffer wait, at most 64 of them; those that come then are lost, as are those that wait when it is stopped.
In D3hot it keeps what it was set up to: frames that come wait, the first of them raises a power management event (PME),
and they go into buffers once it is in D0 again.

Vector 0 tells what was sent, 1 what was received, 2 that the link changed: each when its bit in CAUSE was 0 before.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

__all__ = [
    "ADDRESS",
    "BAR",
    "CAUSE",
    "CLASS_CODE",
    "CONTROL",
    "DESCRIPTOR_SIZE",
    "DEVICE_ID",
    "ENTRY_LIMIT",
    "LONGEST_FRAME",
    "LOST",
    "MAGIC",
    "MAGIC_VALUE",
    "RUN",
    "RX_HEAD",
    "RX_RING",
    "RX_SIZE",
    "RX_TAIL",
    "SHORTEST_FRAME",
    "STATUS",
    "TX_HEAD",
    "TX_RING",
    "TX_SIZE",
    "TX_TAIL",
    "VECTORS",
    "VENDOR_ID",
    "WAITING_LIMIT",
    "FrameDescriptor",
    "FrameFlags",
    "NicCause",
    "NicStatus",
]

VENDOR_ID: Final = 0x1AF4
DEVICE_ID: Final = 0x10F2
CLASS_CODE: Final = 0x020000
BAR: Final = 0
VECTORS: Final = 3
MAGIC: Final = 0x00
CONTROL: Final = 0x04
ADDRESS: Final = 0x08
STATUS: Final = 0x10
CAUSE: Final = 0x14
LOST: Final = 0x18
TX_RING: Final = 0x20
TX_SIZE: Final = 0x28
TX_HEAD: Final = 0x2C
RX_RING: Final = 0x30
RX_SIZE: Final = 0x38
RX_HEAD: Final = 0x3C
TX_TAIL: Final = 0x40
RX_TAIL: Final = 0x44
MAGIC_VALUE: Final = 0x52494150
RUN: Final = 1
ENTRY_LIMIT: Final = 1 << 12
SHORTEST_FRAME: Final = 14
LONGEST_FRAME: Final = 9018
WAITING_LIMIT: Final = 64
_DESCRIPTOR: Final = struct.Struct("<QHHI")
DESCRIPTOR_SIZE: Final = _DESCRIPTOR.size


class NicStatus(IntFlag):
    """Bits of STATUS."""

    LINK = 0x1
    RUNNING = 0x2
    FAILED = 0x4


class NicCause(IntFlag):
    """Bits of CAUSE; the number of the bit is that of the vector."""

    SENT = 0x1
    RECEIVED = 0x2
    LINK_CHANGED = 0x4


class FrameFlags(IntFlag):
    """Flags of a descriptor that the device has done with."""

    DONE = 0x1
    ERROR = 0x2


@dataclass(slots=True)
class FrameDescriptor:
    """A descriptor of either ring."""

    buffer: int
    length: int
    flags: int = 0

    def pack(self) -> bytes:
        """The 16 bytes."""
        return _DESCRIPTOR.pack(self.buffer, self.length, self.flags, 0)

    @classmethod
    def parse(cls, data: bytes) -> FrameDescriptor:
        """From 16 bytes, whatever they are."""
        buffer, length, flags, _ = _DESCRIPTOR.unpack(data)
        return cls(buffer, length, flags)
