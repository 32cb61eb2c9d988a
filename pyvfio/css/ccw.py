"""Channel command words (CCW), formats 0 and 1.

Format 0 (24-bit data address; a TIC is any code whose right half is 8)::

      0        8                        32        40        48               63
     +--------+------------------------+---------+---------+------------------+
     |  cmd   |     data address       |  flags  | ignored |      count       |
     +--------+------------------------+---------+---------+------------------+

Format 1 (31-bit data address; bit 32 is zero; a TIC is code 08, with flags and count zero)::

      0        8         16               32                                 63
     +--------+---------+----------------+-+---------------------------------+
     |  cmd   |  flags  |     count      |0|          data address           |
     +--------+---------+----------------+-+---------------------------------+

Source: z/Architecture Principles of Operation, "Channel-Command Word"; ``arch/s390/include/asm/cio.h`` (struct
ccw0, struct ccw1, CCW_FLAG_*).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, Self

from pyvfio.css.commands import Command, Direction, Language, command_name, direction
from pyvfio.css.layout import BytesLike, check_range, exactly
from pyvfio.errors import Misuse

__all__ = ["CCW_SIZE", "NO_FLAGS", "Ccw", "CcwFlag", "Command", "command_name"]

CCW_SIZE: Final = 8
_FORMAT_1 = struct.Struct(">BBHI")
_FORMAT_0 = struct.Struct(">IBxH")


class CcwFlag(IntFlag):
    """The flag byte of a CCW."""

    CD = 0x80  # chain data: the next CCW continues this command's data area
    CC = 0x40  # chain command: the next CCW is the next command
    SLI = 0x20  # suppress length indication
    SKIP = 0x10  # do not store what a read or sense brings
    PCI = 0x08  # program-controlled interruption
    IDA = 0x04  # the address is that of a list of IDAWs
    SUSPEND = 0x02  # suspend the program before this command
    MIDA = 0x01  # the address is that of a list of MIDAWs


NO_FLAGS: Final = CcwFlag(0)
_FLAGS: Final = [CcwFlag(flags) for flags in range(256)]
_put: Final = object.__setattr__


@dataclass(frozen=True, slots=True)
class Ccw:
    """One channel command word; `cda` is the data address, `fmt` (0 or 1) the format it is laid out in.

    >>> print(Ccw(0xE4, CcwFlag.SLI, 7, 0x20000))
    SENSE ID  e4 SLI count=7 @0x20000
    >>> Ccw(0xE4, CcwFlag.SLI, 64, 0x20000).to_bytes().hex()
    'e420004000020000'
    """

    cmd: int
    flags: CcwFlag = NO_FLAGS
    count: int = 0
    cda: int = 0
    fmt: int = 1

    def __post_init__(self) -> None:
        check_range(
            "CCW",
            cmd=(self.cmd, 8),
            flags=(self.flags, 8),
            count=(self.count, 16),
            cda=(self.cda, 32 if self.fmt else 24),
            fmt=(self.fmt, 1),
        )

    @classmethod
    def from_bytes(cls, data: BytesLike, fmt: int = 1) -> Self:
        """Read 8 bytes laid out in format `fmt`.  Raise `Misuse` on another length or format."""
        raw = exactly(data, CCW_SIZE, "CCW")
        if fmt == 1:
            cmd, flags, count, cda = _FORMAT_1.unpack(raw)
        elif fmt == 0:
            word, flags, count = _FORMAT_0.unpack(raw)
            cmd, cda = word >> 24, word & 0xFFFFFF
        else:
            raise Misuse("read CCW", cause=f"the format is 0 or 1, not {fmt}")
        ccw = object.__new__(cls)  # all fields fit, so they are not checked
        _put(ccw, "cmd", cmd)
        _put(ccw, "flags", _FLAGS[flags])
        _put(ccw, "count", count)
        _put(ccw, "cda", cda)
        _put(ccw, "fmt", fmt)
        return ccw

    def to_bytes(self) -> bytes:
        """The 8 bytes in the CCW's own format (byte 5 of format 0, which is ignored, is zero)."""
        if self.fmt:
            return _FORMAT_1.pack(self.cmd, self.flags, self.count, self.cda)
        return _FORMAT_0.pack(self.cmd << 24 | self.cda, self.flags, self.count)

    @property
    def is_tic(self) -> bool:
        """Whether this is a transfer in channel in its format."""
        return self.cmd == Command.TIC if self.fmt else self.cmd & 0x0F == Command.TIC

    @property
    def chained(self) -> bool:
        """Whether another CCW follows (data or command chaining)."""
        return bool(self.flags & (CcwFlag.CD | CcwFlag.CC))

    @property
    def direction(self) -> Direction:
        """Which way its data go, by the command code alone."""
        return direction(self.cmd)

    def __str__(self) -> str:
        return self.text()

    def text(self, language: Language = Language.DASD) -> str:
        """The CCW in words, with the command's name in a control unit's language."""
        if self.is_tic:
            flags = f" flags={self.flags:02x}" if self.fmt and self.flags else ""
            return f"TIC  {self.cmd:02x} -> {self.cda:#x}{flags}"
        parts = [f"{command_name(self.cmd, language)}  {self.cmd:02x}"]
        parts += [str(flag.name) for flag in CcwFlag if self.flags & flag]
        return " ".join(parts) + f" count={self.count} @{self.cda:#x}"
