"""The registers of `edu`, QEMU's PCI device to learn on.

1234:11e8.  BAR 0 is 1 MiB of memory.  Registers are little-endian; those below 0x80 are accessed by 4 bytes, the others
by 4 or 8 (4 bytes that are written make the upper half zero)::

    00 ID       ro  010000ed: version 1.0
    04 LIVE     rw  reads as the complement of what was written
    08 FACTOR   rw  a number; its factorial, modulo 2**32, when STATUS says that it is no longer being computed
    20 STATUS   rw  | interrupt when computed 0x80 (rw) | computing 0x01 (ro) |
    24 IRQ      ro  why it interrupts: bits that were raised and not acknowledged
    60 RAISE    wo  bits to set in IRQ, with an interrupt
    64 ACK      wo  bits to clear in IRQ; the interrupt pin is released when none is left
    80 SOURCE   rw  where DMA reads        | one of the two is an address on the bus, cut to 28 bits,
    88 TARGET   rw  where DMA writes       | the other one is within the buffer: 40000 to 40fff
    90 COUNT    rw  bytes
    98 COMMAND  rw  | interrupt 0x4 | out of the buffer 0x2 | run 0x1 |; reads without "run" when it is done

While "run" is set SOURCE to COMMAND cannot be written, nor FACTOR while it is computing.  There is one MSI vector;
while MSI is off the interrupt pin is used.  Source: QEMU's ``docs/specs/edu.rst`` and ``hw/misc/edu.c``.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final

__all__ = [
    "ACK",
    "BAR",
    "BAR_SIZE",
    "BUFFER",
    "BUFFER_SIZE",
    "COMMAND",
    "COUNT",
    "DEVICE_ID",
    "DMA_MASK",
    "FACTOR",
    "ID",
    "IDENTIFICATION",
    "IRQ",
    "LIVE",
    "RAISE",
    "SOURCE",
    "STATUS",
    "TARGET",
    "VENDOR_ID",
    "EduDma",
    "EduInterrupt",
    "EduStatus",
]

VENDOR_ID: Final = 0x1234
DEVICE_ID: Final = 0x11E8
BAR: Final = 0
BAR_SIZE: Final = 1 << 20
ID: Final = 0x00
LIVE: Final = 0x04
FACTOR: Final = 0x08
STATUS: Final = 0x20
IRQ: Final = 0x24
RAISE: Final = 0x60
ACK: Final = 0x64
SOURCE: Final = 0x80
TARGET: Final = 0x88
COUNT: Final = 0x90
COMMAND: Final = 0x98
IDENTIFICATION: Final = 0x010000ED
BUFFER: Final = 0x40000
BUFFER_SIZE: Final = 1 << 12
DMA_MASK: Final = (1 << 28) - 1
"""The addresses that the device reaches; QEMU's property ``dma_mask`` changes it."""


class EduStatus(IntFlag):
    """Bits of STATUS."""

    COMPUTING = 0x01
    INTERRUPT = 0x80


class EduDma(IntFlag):
    """Bits of COMMAND; without `FROM_BUFFER` a transfer is into the buffer."""

    RUN = 0x1
    FROM_BUFFER = 0x2
    INTERRUPT = 0x4


class EduInterrupt(IntFlag):
    """Bits of IRQ that the device raises itself; RAISE may set any other one."""

    FACTORIAL = 0x001
    DMA = 0x100
