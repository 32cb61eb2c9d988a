"""The subchannel-status word (SCSW) of a command-mode subchannel.

::

    word  0    4 5 6   8 9 10      14  16 17    20             27        31
         +----+-+-+---+-+-+-+-+-+-+-+-+-+-----+--------------+-----------+
     0   |key |S|L|cc |F|P|I|A|U|Z|E|N|0|fctl |     actl     |   stctl   |
         +----+-+-+---+-+-+-+-+-+-+-+-+-+-----+--------------+-----------+
     1   |                    CCW address (cpa)                          |
         +---------------+---------------+-------------------------------+
     2   |     dstat     |     cstat     |        residual count         |
         +---------------+---------------+-------------------------------+

S suspend control (`sctl`), L extended-status-word format (`eswf`), F CCW format (`fmt`), P prefetch (`pfch`),
I `isic`, A `alcc`, U `ssi`, Z zero condition code (`zcc`), E extended control (`ectl`), N path not operational
(`pno`).  Source: z/Architecture Principles of Operation, "Subchannel-Status Word";
``arch/s390/include/asm/scsw.h``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntFlag
from typing import Final, Generic, Self, TypeVar

from pyvfio.css.layout import BytesLike, check_range, exactly

__all__ = ["ACTL", "CSTAT", "DSTAT", "FCTL", "SCSW_SIZE", "STCTL", "Actl", "Cstat", "Dstat", "Fctl", "Scsw", "Stctl"]

SCSW_SIZE: Final = 12
_WORDS = struct.Struct(">IIBBH")


class Fctl(IntFlag):
    """Function control: which function was accepted and is not yet reported."""

    CLEAR = 0x1
    HALT = 0x2
    START = 0x4


class Actl(IntFlag):
    """Activity control: how far the function is."""

    SUSPENDED = 0x01
    DEVICE_ACTIVE = 0x02
    SUBCHANNEL_ACTIVE = 0x04
    CLEAR_PENDING = 0x08
    HALT_PENDING = 0x10
    START_PENDING = 0x20
    RESUME_PENDING = 0x40


class Stctl(IntFlag):
    """Status control: what kind of status is pending."""

    PENDING = 0x01
    SECONDARY = 0x02
    PRIMARY = 0x04
    INTERMEDIATE = 0x08
    ALERT = 0x10


class Dstat(IntFlag):
    """Device status, from the control unit."""

    UNIT_EXCEPTION = 0x01
    UNIT_CHECK = 0x02
    DEVICE_END = 0x04
    CHANNEL_END = 0x08
    BUSY = 0x10
    CONTROL_UNIT_END = 0x20
    STATUS_MODIFIER = 0x40
    ATTENTION = 0x80


class Cstat(IntFlag):
    """Subchannel status, from the channel."""

    CHAINING_CHECK = 0x01
    INTERFACE_CONTROL_CHECK = 0x02
    CHANNEL_CONTROL_CHECK = 0x04
    CHANNEL_DATA_CHECK = 0x08
    PROTECTION_CHECK = 0x10
    PROGRAM_CHECK = 0x20
    INCORRECT_LENGTH = 0x40
    PCI = 0x80


_F = TypeVar("_F", bound=IntFlag)


class _Known(dict[int, _F], Generic[_F]):
    """Numbers as flags, each made once: making one takes longer than all else that is done with a status word."""

    __slots__ = ("_kind",)

    def __init__(self, kind: type[_F]) -> None:
        super().__init__()
        self._kind = kind

    def __missing__(self, number: int) -> _F:
        flags = self[number] = self._kind(number)
        return flags


FCTL: Final = _Known(Fctl)
ACTL: Final = _Known(Actl)
STCTL: Final = _Known(Stctl)
DSTAT: Final = _Known(Dstat)
CSTAT: Final = _Known(Cstat)


def _words(flags: IntFlag) -> str:
    """Spell set flags: ``channel end, device end``; ``-`` for none."""
    names = [str(flag.name).lower().replace("_", " ") for flag in reversed(type(flags)) if flag & flags]
    return ", ".join(names) or "-"


_NO_FCTL: Final = Fctl(0)
_NO_ACTL: Final = Actl(0)
_NO_STCTL: Final = Stctl(0)
_NO_DSTAT: Final = Dstat(0)
_NO_CSTAT: Final = Cstat(0)
_UNSOLICITED: Final = Stctl.PENDING | Stctl.ALERT
_UNUSUAL: Final = ~int(Dstat.CHANNEL_END | Dstat.DEVICE_END)


@dataclass(frozen=True, slots=True)
class Scsw:
    """A command-mode SCSW; numbers are unsigned, one-bit fields are booleans.

    >>> print(Scsw.from_bytes(bytes.fromhex("00c04007000110080c000034")))
    SCSW start; primary+secondary status pending; channel end, device end; subchannel status -; cpa=0x11008 residual=52
    """

    key: int = 0
    sctl: bool = False
    eswf: bool = False
    cc: int = 0
    fmt: int = 0
    pfch: bool = False
    isic: bool = False
    alcc: bool = False
    ssi: bool = False
    zcc: bool = False
    ectl: bool = False
    pno: bool = False
    res: bool = False
    fctl: Fctl = _NO_FCTL
    actl: Actl = _NO_ACTL
    stctl: Stctl = _NO_STCTL
    cpa: int = 0
    dstat: Dstat = _NO_DSTAT
    cstat: Cstat = _NO_CSTAT
    count: int = 0

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 12 big-endian bytes.  Raise `Misuse` on another length."""
        word, cpa, dstat, cstat, count = _WORDS.unpack(exactly(data, SCSW_SIZE, "SCSW"))
        return cls(
            key=word >> 28,
            sctl=bool(word & 0x08000000),
            eswf=bool(word & 0x04000000),
            cc=word >> 24 & 3,
            fmt=word >> 23 & 1,
            pfch=bool(word & 0x00400000),
            isic=bool(word & 0x00200000),
            alcc=bool(word & 0x00100000),
            ssi=bool(word & 0x00080000),
            zcc=bool(word & 0x00040000),
            ectl=bool(word & 0x00020000),
            pno=bool(word & 0x00010000),
            res=bool(word & 0x8000),
            fctl=FCTL[word >> 12 & 7],
            actl=ACTL[word >> 5 & 0x7F],
            stctl=STCTL[word & 0x1F],
            cpa=cpa,
            dstat=DSTAT[dstat],
            cstat=CSTAT[cstat],
            count=count,
        )

    @staticmethod
    def function_of(data: BytesLike) -> Fctl:
        """The function control of a status word in bytes, without a look at the rest."""
        return FCTL[data[2] >> 4 & 7]

    def to_bytes(self) -> bytes:
        """The 12 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range(
            "SCSW", key=(self.key, 4), cc=(self.cc, 2), fmt=(self.fmt, 1), cpa=(self.cpa, 32), count=(self.count, 16)
        )
        word = (
            self.key << 28
            | self.sctl << 27
            | self.eswf << 26
            | self.cc << 24
            | self.fmt << 23
            | self.pfch << 22
            | self.isic << 21
            | self.alcc << 20
            | self.ssi << 19
            | self.zcc << 18
            | self.ectl << 17
            | self.pno << 16
            | self.res << 15
            | int(self.fctl) << 12
            | int(self.actl) << 5
            | int(self.stctl)
        )
        return _WORDS.pack(word, self.cpa, self.dstat, self.cstat, self.count)

    @property
    def is_solicited(self) -> bool:
        """Whether the status answers a function (``scsw_cmd_is_solicited`` of the kernel's scsw.h)."""
        return self.cc != 0 or self.stctl != _UNSOLICITED

    @property
    def ok(self) -> bool:
        """Whether a start function ended without anything unusual."""
        return self.cc == 0 and self.cstat == 0 and bool(self.dstat) and not int(self.dstat) & _UNUSUAL

    def __str__(self) -> str:
        parts = [_words(self.fctl).replace(", ", "+") if self.fctl else "idle"]
        if self.actl:
            parts.append(_words(self.actl))
        if self.stctl & Stctl.PENDING:
            kinds = _words(self.stctl & ~Stctl.PENDING).replace(", ", "+")
            parts.append("status pending" if kinds == "-" else f"{kinds} status pending")
        if self.cc:
            parts.append(f"deferred cc {self.cc}")
        parts += [_words(self.dstat), f"subchannel status {_words(self.cstat)}"]
        return f"SCSW {'; '.join(parts)}; cpa={self.cpa:#x} residual={self.count}"
