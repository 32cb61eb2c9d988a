"""The registers of an NVMe controller: what is in BAR 0.  Source: NVM Express 1.4, chapter 3.1.

::

    0000 CAP    ro 64  | page size: most 55:52 | least 51:48 | command sets 44:37 | subsystem reset 36 |
                       | doorbell stride 35:32 | timeout 31:24 (500 ms) | arbitration 18:17 | contiguous 16 |
                       | entries of a queue, at most 15:0, less 1 |
    0008 VS     ro 32  | major 31:16 | minor 15:8 | tertiary 7:0 |
    000c INTMS  rw 32  a 1 masks a vector (pin and MSI)     0010 INTMC  a 1 unmasks it; both read as the mask
    0014 CC     rw 32  | completion entry 23:20 | submission entry 19:16 (powers of two) | shutdown 15:14 |
                       | arbitration 13:11 | page size 10:7 (12 and up) | command set 6:4 | enable 0 |
    001c CSTS   ro 32  | paused 5 | subsystem reset 4 | shutdown 3:2 | fatal 1 | ready 0 |
    0024 AQA    rw 32  entries of the admin queues, less 1: | completion 27:16 | submission 11:0 |
    0028 ASQ    rw 64  address of the admin submission queue, whole pages
    0030 ACQ    rw 64  address of the admin completion queue
    1000        wo 32  doorbells: of each queue, from the admin queue on, submission tail and completion head, in steps
                       of 4 << stride

64-bit registers may be accessed by halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "ACQ",
    "ADMIN_ENTRIES",
    "AQA",
    "ASQ",
    "BAR",
    "CAP",
    "CC",
    "CLASS_CODE",
    "COMPLETION_ENTRY",
    "CSTS",
    "DOORBELLS",
    "INTMC",
    "INTMS",
    "PAGE_SHIFT",
    "SUBMISSION_ENTRY",
    "VERSION_1_4",
    "VS",
    "Capabilities",
    "Configuration",
    "ControllerStatus",
    "Shutdown",
    "ShutdownStatus",
    "doorbell",
]

CLASS_CODE: Final = 0x010802
BAR: Final = 0
CAP: Final = 0x00
VS: Final = 0x08
INTMS: Final = 0x0C
INTMC: Final = 0x10
CC: Final = 0x14
CSTS: Final = 0x1C
AQA: Final = 0x24
ASQ: Final = 0x28
ACQ: Final = 0x30
DOORBELLS: Final = 1 << 12
VERSION_1_4: Final = 0x00010400
PAGE_SHIFT: Final = 12
"""Page sizes are given as a power of two less this."""
SUBMISSION_ENTRY: Final = 6
"""A submission queue entry has 2 to this bytes: 64."""
COMPLETION_ENTRY: Final = 4
"""A completion queue entry has 2 to this bytes: 16."""
ADMIN_ENTRIES: Final = 1 << 12
"""How many entries an admin queue has at most (3.1.8)."""


def doorbell(queue: int, *, completion: bool, stride: int = 0) -> int:
    """The offset of a doorbell in BAR 0 (3.1); `stride` as in CAP."""
    return DOORBELLS + (2 * queue + completion) * (4 << stride)


class ControllerStatus(IntFlag):
    """Bits of CSTS (3.1.6), but for the shutdown status."""

    READY = 1 << 0
    FATAL = 1 << 1
    SUBSYSTEM_RESET = 1 << 4
    PAUSED = 1 << 5


class Shutdown(IntEnum):
    """What CC asks for (3.1.5)."""

    NONE = 0
    NORMAL = 1
    ABRUPT = 2


class ShutdownStatus(IntEnum):
    """What CSTS answers, in bits 3:2 (3.1.6)."""

    NONE = 0
    UNDER_WAY = 1
    COMPLETE = 2


@dataclass(frozen=True, slots=True)
class Capabilities:
    """CAP (3.1.1), decoded.  `entries` of a queue at most, `timeout` in units of 500 ms, pages as powers of two."""

    entries: int = 2048
    contiguous: bool = True
    arbitration: int = 0
    timeout: int = 15
    stride: int = 0
    subsystem_reset: bool = False
    command_sets: int = 1
    least_page: int = 12
    most_page: int = 16

    @property
    def value(self) -> int:
        """The register."""
        return (
            self.entries - 1
            | self.contiguous << 16
            | self.arbitration << 17
            | self.timeout << 24
            | self.stride << 32
            | self.subsystem_reset << 36
            | self.command_sets << 37
            | self.least_page - PAGE_SHIFT << 48
            | self.most_page - PAGE_SHIFT << 52
        )

    @classmethod
    def parse(cls, value: int) -> Capabilities:
        """From the register."""
        return cls(
            (value & 0xFFFF) + 1,
            bool(value >> 16 & 1),
            value >> 17 & 3,
            value >> 24 & 0xFF,
            value >> 32 & 0xF,
            bool(value >> 36 & 1),
            value >> 37 & 0xFF,
            (value >> 48 & 0xF) + PAGE_SHIFT,
            (value >> 52 & 0xF) + PAGE_SHIFT,
        )


@dataclass(frozen=True, slots=True)
class Configuration:
    """CC (3.1.5), decoded.  `page`, `submission_entry` and `completion_entry` are powers of two, in bytes."""

    enable: bool = False
    command_set: int = 0
    page: int = PAGE_SHIFT
    arbitration: int = 0
    shutdown: int = 0
    submission_entry: int = 0
    completion_entry: int = 0

    @property
    def value(self) -> int:
        """The register."""
        return (
            int(self.enable)
            | self.command_set << 4
            | self.page - PAGE_SHIFT << 7
            | self.arbitration << 11
            | self.shutdown << 14
            | self.submission_entry << 16
            | self.completion_entry << 20
        )

    @classmethod
    def parse(cls, value: int) -> Configuration:
        """From the register."""
        return cls(
            bool(value & 1),
            value >> 4 & 7,
            (value >> 7 & 0xF) + PAGE_SHIFT,
            value >> 11 & 7,
            value >> 14 & 3,
            value >> 16 & 0xF,
            value >> 20 & 0xF,
        )
