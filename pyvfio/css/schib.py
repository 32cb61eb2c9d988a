"""The subchannel-information block (SCHIB): what STSCH stores and MSCH takes, 52 bytes.

::

    offset
       0  +---------------------------------------------------------------+
          |                   interruption parameter                      |
       4  +-+-+-----+-----+-+---+---+-+-+-+-------------------------------+
          |Q|W| isc |00000|E|lm |mme|D|T|V|         device number         |
       8  +-+-+-----+-----+-+---+---+-+-+-+---------------+---------------+
          |      lpm      |     pnom      |     lpum      |      pim      |
      12  +---------------+---------------+---------------+---------------+
          |      measurement-block index  |      pom      |      pam      |
      16  +---------------+---------------+---------------+---------------+
          |                        CHPIDs 0 to 7                          |
      24  +---------------+-----+-----------------------------------+-+-+-+
          |   reserved    | st  |             reserved              |F|X|S|
      28  +---------------+-----+-----------------------------------+-+-+-+
          |             subchannel-status word, 3 words                   |
      40  +---------------------------------------------------------------+
          |         measurement-block address, 2 words                    |
      48  +---------------------------------------------------------------+
          |                  model-dependent area                         |
          +---------------------------------------------------------------+

Bits 5 to 7 of word 1 are zero.  Q QDIO (`qf`), W `w`, E enabled (`ena`), `lm` limit mode, `mme` measurement mode,
D multipath mode (`mp`), T timing facility (`tf`), V device number valid (`dnv`), `st` subchannel type, F `mbfc`,
X `xmwme`, S concurrent sense (`csense`).  Source: z/Architecture Principles of Operation,
"Subchannel-Information Block"; ``drivers/s390/cio/cio.h`` (struct pmcw, struct schib).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Self

from pyvfio.css.layout import BytesLike, check_range, exactly
from pyvfio.css.scsw import Scsw

__all__ = ["PMCW_SIZE", "SCHIB_SIZE", "Pmcw", "Schib", "SubchannelType"]

PMCW_SIZE: Final = 28
SCHIB_SIZE: Final = 52
_PMCW = struct.Struct(">IHHBBBBHBB8sI")
_NO_LIMIT_MODE: Final = 3
_EXTENDED_BLOCK: Final = 64


class SubchannelType(IntEnum):
    """Subchannel types (`Pmcw.st`)."""

    IO = 0
    CHSC = 1
    MESSAGE = 2
    ADM = 3


@dataclass(frozen=True, slots=True)
class Pmcw:
    """The path-management-control word: path masks have path 0 as their leftmost bit, `chpid` is 8 bytes.

    `res5`, `res_hi` and `res_lo` are the reserved bits, kept so that any block survives a round trip.
    """

    intparm: int = 0
    qf: bool = False
    w: bool = False
    isc: int = 0
    res5: int = 0
    ena: bool = False
    lm: int = 0
    mme: int = 0
    mp: bool = False
    tf: bool = False
    dnv: bool = False
    devno: int = 0
    lpm: int = 0
    pnom: int = 0
    lpum: int = 0
    pim: int = 0
    mbi: int = 0
    pom: int = 0
    pam: int = 0
    chpid: bytes = bytes(8)
    res_hi: int = 0
    st: int = 0
    res_lo: int = 0
    mbfc: bool = False
    xmwme: bool = False
    csense: bool = False

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 28 big-endian bytes.  Raise `Misuse` on another length."""
        raw = exactly(data, PMCW_SIZE, "PMCW")
        intparm, flags, devno, lpm, pnom, lpum, pim, mbi, pom, pam, chpid, tail = _PMCW.unpack(raw)
        return cls(
            intparm=intparm,
            qf=bool(flags & 0x8000),
            w=bool(flags & 0x4000),
            isc=flags >> 11 & 7,
            res5=flags >> 8 & 7,
            ena=bool(flags & 0x80),
            lm=flags >> 5 & 3,
            mme=flags >> 3 & 3,
            mp=bool(flags & 0x04),
            tf=bool(flags & 0x02),
            dnv=bool(flags & 0x01),
            devno=devno,
            lpm=lpm,
            pnom=pnom,
            lpum=lpum,
            pim=pim,
            mbi=mbi,
            pom=pom,
            pam=pam,
            chpid=chpid,
            res_hi=tail >> 24,
            st=tail >> 21 & 7,
            res_lo=tail >> 3 & 0x3FFFF,
            mbfc=bool(tail & 4),
            xmwme=bool(tail & 2),
            csense=bool(tail & 1),
        )

    def to_bytes(self) -> bytes:
        """The 28 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range(
            "PMCW",
            intparm=(self.intparm, 32),
            isc=(self.isc, 3),
            res5=(self.res5, 3),
            lm=(self.lm, 2),
            mme=(self.mme, 2),
            devno=(self.devno, 16),
            lpm=(self.lpm, 8),
            pnom=(self.pnom, 8),
            lpum=(self.lpum, 8),
            pim=(self.pim, 8),
            mbi=(self.mbi, 16),
            pom=(self.pom, 8),
            pam=(self.pam, 8),
            res_hi=(self.res_hi, 8),
            st=(self.st, 3),
            res_lo=(self.res_lo, 18),
        )
        flags = self.qf << 15 | self.w << 14 | self.isc << 11 | self.res5 << 8 | self.ena << 7 | self.lm << 5
        flags |= self.mme << 3 | self.mp << 2 | self.tf << 1 | self.dnv
        tail = self.res_hi << 24 | self.st << 21 | self.res_lo << 3 | self.mbfc << 2 | self.xmwme << 1 | self.csense
        return _PMCW.pack(
            self.intparm,
            flags,
            self.devno,
            self.lpm,
            self.pnom,
            self.lpum,
            self.pim,
            self.mbi,
            self.pom,
            self.pam,
            exactly(self.chpid, 8, "CHPIDs"),
            tail,
        )

    def __str__(self) -> str:
        device = f"device {self.devno:04x}" if self.dnv else "no device"
        state = "enabled" if self.ena else "disabled"
        return (
            f"PMCW type {self.st} {device} {state}{' QDIO' if self.qf else ''} isc={self.isc} "
            f"pim/pam/pom={self.pim:02x}/{self.pam:02x}/{self.pom:02x} lpm={self.lpm:02x} lpum={self.lpum:02x} "
            f"pnom={self.pnom:02x} chpids={self.chpid.hex(' ')}"
        )


@dataclass(frozen=True, slots=True)
class Schib:
    """A SCHIB: `pmcw`, `scsw`, the measurement-block address `mba` (64 bits) and `mda` (4 raw bytes)."""

    pmcw: Pmcw = field(default_factory=Pmcw)
    scsw: Scsw = field(default_factory=Scsw)
    mba: int = 0
    mda: bytes = bytes(4)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 52 big-endian bytes.  Raise `Misuse` on another length."""
        raw = exactly(data, SCHIB_SIZE, "SCHIB")
        return cls(Pmcw.from_bytes(raw[:28]), Scsw.from_bytes(raw[28:40]), int.from_bytes(raw[40:48], "big"), raw[48:])

    def to_bytes(self) -> bytes:
        """The 52 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range("SCHIB", mba=(self.mba, 64))
        return self.pmcw.to_bytes() + self.scsw.to_bytes() + self.mba.to_bytes(8, "big") + exactly(self.mda, 4, "MDA")

    @property
    def problem(self) -> str:
        """Why MSCH would recognise an operand exception for this block; empty when it would not."""
        pmcw = self.pmcw
        if pmcw.res5 or pmcw.res_hi or pmcw.res_lo or pmcw.lm == _NO_LIMIT_MODE:
            return "the SCHIB has a bit on that must be zero"
        if pmcw.mbfc and self.mba % _EXTENDED_BLOCK:
            return f"the measurement block at {self.mba:#x} is not on a boundary of {_EXTENDED_BLOCK} bytes"
        return ""

    def __str__(self) -> str:
        return f"SCHIB {self.pmcw}; {self.scsw}"
