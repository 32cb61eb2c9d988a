"""Entries of submission and completion queues, and opcodes.  Source: NVM Express 1.4, 4.2, 4.6, chapters 5 and 6.

::

    command, 64 bytes       0: | id 31:16 | SGL 15:14 | fused 9:8 | opcode 7:0 |     4: namespace
                           16: metadata pointer (8)   24: PRP1 (8)   32: PRP2 (8)    40 to 63: dwords 10 to 15
    completion, 16 bytes    0: result   4: reserved   8: | submission queue 31:16 | its head 15:0 |
                           12: | status 31:17 | phase 16 | id 15:0 |
    range, 16 bytes         0: attributes (4)   4: blocks (4)   8: the first block (8)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from pyvfio.nvme.status import DO_NOT_RETRY, STATUS_MASK, Status

__all__ = [
    "ALL_NAMESPACES",
    "COMMAND_SIZE",
    "COMPLETION_SIZE",
    "DEALLOCATE",
    "RANGE_SIZE",
    "AdminOpcode",
    "Command",
    "Completion",
    "IoOpcode",
    "QueueFlags",
    "pack_ranges",
    "parse_ranges",
]

_COMMAND: Final = struct.Struct("<II8xQQQ6I")
_COMPLETION: Final = struct.Struct("<IIHHHH")
_RANGE: Final = struct.Struct("<4xIQ")
COMMAND_SIZE: Final = _COMMAND.size
COMPLETION_SIZE: Final = _COMPLETION.size
RANGE_SIZE: Final = _RANGE.size
ALL_NAMESPACES: Final = 0xFFFFFFFF


DEALLOCATE: Final = 1 << 2
"""Dataset management, dword 11: the content of the ranges is not needed any more (6.7)."""


class AdminOpcode(IntEnum):
    """Commands of the admin queue (chapter 5)."""

    DELETE_SQ = 0x00
    CREATE_SQ = 0x01
    GET_LOG_PAGE = 0x02
    DELETE_CQ = 0x04
    CREATE_CQ = 0x05
    IDENTIFY = 0x06
    ABORT = 0x08
    SET_FEATURES = 0x09
    GET_FEATURES = 0x0A
    ASYNC_EVENT = 0x0C


class IoOpcode(IntEnum):
    """Commands of I/O queues: the NVM command set (chapter 6)."""

    FLUSH = 0x00
    WRITE = 0x01
    READ = 0x02
    COMPARE = 0x05
    WRITE_ZEROES = 0x08
    DATASET_MANAGEMENT = 0x09


class QueueFlags(IntEnum):
    """Bits of dword 11 that create queues (5.3, 5.4)."""

    CONTIGUOUS = 1 << 0
    INTERRUPTS = 1 << 1


@dataclass(slots=True)
class Command:
    """A submission queue entry."""

    opcode: int
    id: int = 0
    nsid: int = 0
    prp1: int = 0
    prp2: int = 0
    cdw10: int = 0
    cdw11: int = 0
    cdw12: int = 0
    cdw13: int = 0
    cdw14: int = 0
    cdw15: int = 0
    fused: int = 0
    sgl: int = 0
    metadata: int = 0

    def pack(self) -> bytes:
        """The 64 bytes."""
        first = self.opcode | self.fused << 8 | self.sgl << 14 | self.id << 16
        dwords = (self.cdw10, self.cdw11, self.cdw12, self.cdw13, self.cdw14, self.cdw15)
        return _COMMAND.pack(first, self.nsid, self.metadata, self.prp1, self.prp2, *dwords)

    @classmethod
    def parse(cls, data: bytes) -> Command:
        """From 64 bytes, whatever they are."""
        first, nsid, metadata, prp1, prp2, *dwords = _COMMAND.unpack(data)
        command = cls(first & 0xFF, first >> 16, nsid, prp1, prp2, fused=first >> 8 & 3, sgl=first >> 14 & 3)
        command.metadata = metadata
        command.cdw10, command.cdw11, command.cdw12, command.cdw13, command.cdw14, command.cdw15 = dwords
        return command

    @property
    def lba(self) -> int:
        """Of an I/O command: the first logical block (6.9)."""
        return self.cdw11 << 32 | self.cdw10

    @property
    def blocks(self) -> int:
        """Of an I/O command: how many logical blocks."""
        return (self.cdw12 & 0xFFFF) + 1


@dataclass(slots=True)
class Completion:
    """A completion queue entry.  `status` is the 15 bits: type and code, "more", "do not retry"."""

    id: int
    status: int = 0
    result: int = 0
    queue: int = 0
    head: int = 0
    phase: int = 0

    def pack(self) -> bytes:
        """The 16 bytes."""
        return _COMPLETION.pack(self.result, 0, self.head, self.queue, self.id, self.status << 1 | self.phase)

    @classmethod
    def parse(cls, data: bytes) -> Completion:
        """From 16 bytes."""
        result, _, head, queue, number, last = _COMPLETION.unpack(data)
        return cls(number, last >> 1, result, queue, head, last & 1)

    @property
    def code(self) -> int:
        """Type and code of the status, as `Status` has them; other values exist."""
        return self.status & STATUS_MASK

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.code == Status.SUCCESS

    @property
    def final(self) -> bool:
        """Whether the same command would fail again."""
        return bool(self.status & DO_NOT_RETRY)


def pack_ranges(ranges: list[tuple[int, int]]) -> bytes:
    """The data of dataset management (6.7): first block and number of blocks of each range; no attributes."""
    return b"".join(_RANGE.pack(blocks, lba) for lba, blocks in ranges)


def parse_ranges(data: bytes) -> list[tuple[int, int]]:
    """The first block and the number of blocks of each range."""
    return [(lba, blocks) for blocks, lba in _RANGE.iter_unpack(data)]
