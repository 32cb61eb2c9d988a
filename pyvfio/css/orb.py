"""The operation-request block (ORB) of a command-mode start, first three words.

::

    word  0        4 5 6 7 8          16             24 25 26        31
         +---------------------------------------------------------------+
     0   |                   interruption parameter                      |
         +------+-+-+-+-+-+-+-+-+-+-+-+-+---------------+-+-----------+--+
     1   | key  |S|C|M|Y|F|P|I|A|U|B|H|T|      lpm      |L|D|  zeros  |X |
         +------+-+-+-+-+-+-+-+-+-+-+-+-+---------------+-+-+---------+--+
     2   |                  channel-program address                      |
         +---------------------------------------------------------------+

S suspend (`spnd`), C streaming mode (`strm`), M modification (`mod`), Y synchronize (`sync`), F CCW format (`fmt`),
P prefetch (`pfch`), I initial-status interruption (`isic`), A address-limit check (`alcc`), U suppress suspended
interruption (`ssic`), B transport mode (`tm`), H format-2 IDAWs (`c64`), T 2 KiB IDAWs (`i2k`), L incorrect length
(`ils`), D MIDAWs allowed (`mida`), X extension (`orbx`: five more words follow, which vfio-ccw does not take).

Source: z/Architecture Principles of Operation, "Operation-Request Block"; ``drivers/s390/cio/orb.h``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Self

from pyvfio.css.layout import BytesLike, check_range, exactly

__all__ = ["ORB_SIZE", "Orb"]

ORB_SIZE: Final = 12
_WORDS = struct.Struct(">III")


@dataclass(frozen=True, slots=True)
class Orb:
    """A command-mode ORB; numbers are unsigned, one-bit fields are booleans, `fmt` is 0 or 1.

    >>> print(Orb.from_bytes(bytes.fromhex("0000000000c0ff0000011000")))
    ORB cpa=0x11000 format-1 CCWs, format-1 IDAWs, key=0 lpm=ff prefetch intparm=00000000
    """

    intparm: int = 0
    key: int = 0
    spnd: bool = False
    strm: bool = False
    mod: bool = False
    sync: bool = False
    fmt: int = 1
    pfch: bool = False
    isic: bool = False
    alcc: bool = False
    ssic: bool = False
    tm: bool = False
    c64: bool = False
    i2k: bool = False
    lpm: int = 0xFF
    ils: bool = False
    mida: bool = False
    zero: int = 0
    orbx: bool = False
    cpa: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 12 big-endian bytes.  Raise `Misuse` on another length."""
        intparm, word, cpa = _WORDS.unpack(exactly(data, ORB_SIZE, "ORB"))
        return cls(
            intparm=intparm,
            key=word >> 28,
            spnd=bool(word & 0x08000000),
            strm=bool(word & 0x04000000),
            mod=bool(word & 0x02000000),
            sync=bool(word & 0x01000000),
            fmt=word >> 23 & 1,
            pfch=bool(word & 0x00400000),
            isic=bool(word & 0x00200000),
            alcc=bool(word & 0x00100000),
            ssic=bool(word & 0x00080000),
            tm=bool(word & 0x00040000),
            c64=bool(word & 0x00020000),
            i2k=bool(word & 0x00010000),
            lpm=word >> 8 & 0xFF,
            ils=bool(word & 0x80),
            mida=bool(word & 0x40),
            zero=word >> 1 & 0x1F,
            orbx=bool(word & 0x01),
            cpa=cpa,
        )

    def to_bytes(self) -> bytes:
        """The 12 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range(
            "ORB",
            intparm=(self.intparm, 32),
            key=(self.key, 4),
            fmt=(self.fmt, 1),
            lpm=(self.lpm, 8),
            zero=(self.zero, 5),
            cpa=(self.cpa, 32),
        )
        word = (
            self.key << 28
            | self.spnd << 27
            | self.strm << 26
            | self.mod << 25
            | self.sync << 24
            | self.fmt << 23
            | self.pfch << 22
            | self.isic << 21
            | self.alcc << 20
            | self.ssic << 19
            | self.tm << 18
            | self.c64 << 17
            | self.i2k << 16
            | self.lpm << 8
            | self.ils << 7
            | self.mida << 6
            | self.zero << 1
            | self.orbx
        )
        return _WORDS.pack(self.intparm, word, self.cpa)

    @property
    def idaw_size(self) -> int:
        """Bytes of one indirect-data-address word: 8 with `c64` (format 2), else 4 (format 1)."""
        return 8 if self.c64 else 4

    @property
    def idaw_block(self) -> int:
        """Bytes of storage that one IDAW designates: 2 KiB, or 4 KiB with `c64` and not `i2k`."""
        return 4 * 1024 if self.c64 and not self.i2k else 2 * 1024

    @property
    def problem(self) -> str:
        """Why SSCH would recognise an operand exception for this ORB; empty when it would not."""
        if self.zero:
            return "a bit that must be zero is one"
        if self.cpa & 7:
            return f"the channel-program address {self.cpa:#x} is not on a doubleword boundary"
        if self.cpa >> (31 if self.fmt else 24):
            return f"the channel-program address {self.cpa:#x} is too large for format {self.fmt}"
        return ""

    def __str__(self) -> str:
        idaws = f"format-2 IDAWs of {self.idaw_block // 1024} KiB" if self.c64 else "format-1 IDAWs"
        words = {
            "prefetch": self.pfch,
            "suspend": self.spnd,
            "no-suspended-interrupt": self.ssic,
            "initial-status": self.isic,
            "address-limit": self.alcc,
            "modification": self.mod,
            "synchronize": self.sync,
            "incorrect-length-suppression": self.ils,
            "MIDAWs": self.mida,
            "extended": self.orbx,
            "TRANSPORT-MODE": self.tm,
        }
        flags = "".join(f" {word}" for word, on in words.items() if on)
        return (
            f"ORB cpa={self.cpa:#x} format-{self.fmt} CCWs, {idaws}, key={self.key:x} lpm={self.lpm:02x}"
            f"{flags} intparm={self.intparm:08x}"
        )
