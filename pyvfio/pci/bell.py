"""The registers of the bell, the small PCI function that the software machine has for tests and demonstrations.

Vendor 0x1af4, device 0x10f0 (the range virtio leaves to experiments), class 0xff0000.  BAR 1 is the MSI-X table with
four vectors.  The registers are in BAR 0 (memory, 4096 bytes); they are little-endian, and each is accessed whole and
aligned, the 64-bit ones also by halves::

    00   SOURCE    rw 64   IOVA to read from
    08   TARGET    rw 64   IOVA to write to
    10   COUNT     rw 32   bytes, at most 16 MiB (CHECK: of the source)
    14   COMMAND   wo 32   the doorbell: 1 COPY, 2 FILL, 3 CHECK, 4 INTERRUPT; reads as the last command
    18   STATUS    rw 32   bits as below; a 1 that is written clears the bit
    1c   VECTOR    rw 32   the MSI-X vector signalled when a command ends, 0 to 3; ffffffff: none
    20   PATTERN   rw 32   FILL: its low byte; after CHECK: the CRC-32 of the bytes read
    24   SERIAL    ro 32   commands done since reset
    28   FAULT     ro 64   the IOVA at which the last DMA failed
    3c   MAGIC     ro 32   4c 4c 45 42 ("BELL" as a big-endian word)

    STATUS   | reserved ... | master off 4 | bad vector 3 | bad command 2 | error 1 | done 0 |

When a command ends, DONE is set, with ERROR when it failed (an address that is not mapped, a count that is too large,
a command that does not exist, the function not being bus master), and VECTOR is signalled in either case.  Nothing is
written to the target of a COPY or a FILL that fails.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "BAR",
    "COMMAND",
    "COUNT",
    "COUNT_LIMIT",
    "DEVICE_ID",
    "FAULT",
    "MAGIC",
    "MAGIC_VALUE",
    "NO_VECTOR",
    "PATTERN",
    "SERIAL",
    "SOURCE",
    "STATUS",
    "TARGET",
    "VECTOR",
    "VECTORS",
    "VENDOR_ID",
    "BellCommand",
    "BellStatus",
]

VENDOR_ID: Final = 0x1AF4
DEVICE_ID: Final = 0x10F0
BAR: Final = 0
SOURCE: Final = 0x00
TARGET: Final = 0x08
COUNT: Final = 0x10
COMMAND: Final = 0x14
STATUS: Final = 0x18
VECTOR: Final = 0x1C
PATTERN: Final = 0x20
SERIAL: Final = 0x24
FAULT: Final = 0x28
MAGIC: Final = 0x3C
MAGIC_VALUE: Final = 0x42454C4C
NO_VECTOR: Final = 0xFFFFFFFF
VECTORS: Final = 4
COUNT_LIMIT: Final = 16 << 20


class BellCommand(IntEnum):
    """What the doorbell can be told."""

    COPY = 1
    FILL = 2
    CHECK = 3
    INTERRUPT = 4


class BellStatus(IntFlag):
    """Bits of STATUS."""

    DONE = 1 << 0
    ERROR = 1 << 1
    BAD_COMMAND = 1 << 2
    BAD_VECTOR = 1 << 3
    MASTER_OFF = 1 << 4
