"""Modified indirect data addressing: a list of MIDAWs, each with an address, a count and flags.

::

      0                                        40        48               63
     +----------------------------------------+---------+------------------+
     |               reserved, zero           |  flags  |      count       |
     +----------------------------------------+---------+------------------+
     |                            data address                             |
     +---------------------------------------------------------------------+
      64                                                                 127

A list lies on a quadword boundary and within one page of 4 KiB, so it has at most 256 words; no data area of a word
goes over the boundary of such a page, unless it is skipped.  The last word has the flag LAST, and the counts together
are the CCW's.  The channel looks at MIDAWs only if the ORB has its D bit (`mida`) on.

Source: z/Architecture Principles of Operation, "CCW Indirect Data Addressing", modified.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, Self

from pyvfio.css.layout import BytesLike, check_range, exactly

__all__ = ["MIDAW_PAGE", "MIDAW_SIZE", "Midaw", "MidawFlag", "midal_over"]

MIDAW_SIZE: Final = 16
MIDAW_PAGE: Final = 4 * 1024
_MIDAW = struct.Struct(">QQ")
_FLAG_BITS: Final = 0xE0


class MidawFlag(IntFlag):
    """The flag byte of a MIDAW."""

    LAST = 0x80  # the list ends with this word
    SKIP = 0x40  # do not store what comes
    DTI = 0x20  # data-transfer interruption: not installed, so it must be zero


_NO_FLAGS: Final = MidawFlag(0)


@dataclass(frozen=True, slots=True)
class Midaw:
    """One MIDAW; `reserved` are its first 40 bits, kept so that any word survives a round trip.

    >>> print(Midaw(0x20F00, 0x100, MidawFlag.LAST))
    MIDAW LAST count=256 @0x20f00
    """

    address: int
    count: int
    flags: MidawFlag = _NO_FLAGS
    reserved: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 16 big-endian bytes.  Raise `Misuse` on another length."""
        head, address = _MIDAW.unpack(exactly(data, MIDAW_SIZE, "MIDAW"))
        return cls(address, head & 0xFFFF, MidawFlag(head >> 16 & 0xFF), head >> 24)

    def to_bytes(self) -> bytes:
        """The 16 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range(
            "MIDAW",
            address=(self.address, 64),
            count=(self.count, 16),
            flags=(self.flags, 8),
            reserved=(self.reserved, 40),
        )
        return _MIDAW.pack(self.reserved << 24 | self.flags << 16 | self.count, self.address)

    @property
    def problem(self) -> str:
        """Why the channel recognises a program check for this word alone; empty when it does not."""
        if self.reserved or self.flags & ~_FLAG_BITS:
            return "a reserved bit is one"
        if self.flags & MidawFlag.DTI:
            return "its data-transfer-interruption flag is on, which no known machine takes"
        if not self.count:
            return "its count is zero"
        if not self.flags & MidawFlag.SKIP and self.address % MIDAW_PAGE + self.count > MIDAW_PAGE:
            return "its data go over the boundary of a page"
        return ""

    def __str__(self) -> str:
        names = "".join(f" {flag.name}" for flag in MidawFlag if self.flags & flag)
        reserved = f" reserved={self.reserved:#x}" if self.reserved else ""
        return f"MIDAW{names} count={self.count} @{self.address:#x}{reserved}"


def midal_over(address: int, count: int) -> list[Midaw]:
    """The list for `count` (at least 1) consecutive bytes at `address`; its last word has LAST."""
    words: list[Midaw] = []
    while count:
        step = min(count, MIDAW_PAGE - address % MIDAW_PAGE)
        count -= step
        words.append(Midaw(address, step, _NO_FLAGS if count else MidawFlag.LAST))
        address += step
    return words
