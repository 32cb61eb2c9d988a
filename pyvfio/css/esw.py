"""The extended-status word (ESW) of an IRB, 20 bytes, in its formats 0 to 3, with the extended-report word (ERW).

::

    word  0 1        8               16 17        22    24  26 27 28 29  31
         +-+--------+---------------+--+---------+-----+---+--+--+--+-----+
     0   |0|  esf   |     lpum      |R |   fvf   |sacc |tc |D |E |A | seqc|   format 0: the subchannel logout
         +-+--------+---------------+--+---------+-----+---+--+--+--+-----+
         |  zeros   |     lpum      |                dcti                 |   format 2: dcti; formats 1 and 3: zeros
         +----------+---------------+-------------------------------------+
     1   |                   extended-report word (ERW)                   |
         +----------------------------------------------------------------+
    2-3  |           failing-storage address (format 0, else zeros)       |
         +----------------------------------------------------------------+
     4   |           secondary-CCW address   (format 0, else zeros)       |
         +----------------------------------------------------------------+

    ERW   0    3 4 5 6 7 8 9 10       16                               31
         +----+-+-+-+-+-+-+-+---------+---------------------------------+
         |000 |A|P|T|F|S|C|R|  scnt   |            reserved             |
         +----+-+-+-+-+-+-+-+---------+---------------------------------+

ERW: A authorization check, P path verification required, T channel-path timeout, F failing-storage address valid,
S concurrent sense, C secondary-CCW address valid, R failing-storage address has 64 bits, `scnt` sense bytes.

Which format it is, the SCSW says: format 0 with its L bit (`eswf`); otherwise with primary status pending format 2 when
the device-connect time was measured and format 1 when it was not; otherwise format 3.

Source: z/Architecture Principles of Operation, "Extended-Status Word"; ``arch/s390/include/asm/cio.h`` (struct esw0 to
esw3, struct sublog, struct erw).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Final, Self

from pyvfio.css.layout import BytesLike, check_range, exactly
from pyvfio.css.scsw import Scsw, Stctl

__all__ = ["ESW_SIZE", "Erw", "Esw", "LogoutFlag"]

ESW_SIZE: Final = 20
_WORDS = struct.Struct(">IIQI")


class LogoutFlag(IntFlag):
    """Extended-status flags (`Esw.esf`): which storage access went wrong."""

    KEY_CHECK = 0x40
    MEASUREMENT_PROGRAM_CHECK = 0x20
    MEASUREMENT_DATA_CHECK = 0x10
    MEASUREMENT_PROTECTION_CHECK = 0x08
    CCW_CHECK = 0x04
    IDAW_CHECK = 0x02


_NO_FLAGS: Final = LogoutFlag(0)


@dataclass(frozen=True, slots=True)
class Erw:
    """An extended-report word; `res0` and `res16` are reserved bits, kept for a round trip.

    >>> print(Erw.from_word(0x01200000))
    ERW concurrent sense 32
    """

    auth: bool = False
    pvrf: bool = False
    cpt: bool = False
    fsavf: bool = False
    cons: bool = False
    scavf: bool = False
    fsaf: bool = False
    scnt: int = 0
    res0: int = 0
    res16: int = 0

    @classmethod
    def from_word(cls, word: int) -> Self:
        """Read a word of 32 bits."""
        return cls(
            auth=bool(word & 0x10000000),
            pvrf=bool(word & 0x08000000),
            cpt=bool(word & 0x04000000),
            fsavf=bool(word & 0x02000000),
            cons=bool(word & 0x01000000),
            scavf=bool(word & 0x00800000),
            fsaf=bool(word & 0x00400000),
            scnt=word >> 16 & 0x3F,
            res0=word >> 29 & 7,
            res16=word & 0xFFFF,
        )

    def to_word(self) -> int:
        """The 32 bits.  Raise `Misuse` when a field does not fit."""
        check_range("ERW", scnt=(self.scnt, 6), res0=(self.res0, 3), res16=(self.res16, 16))
        word = self.res0 << 29 | self.auth << 28 | self.pvrf << 27 | self.cpt << 26 | self.fsavf << 25
        return word | self.cons << 24 | self.scavf << 23 | self.fsaf << 22 | self.scnt << 16 | self.res16

    def __str__(self) -> str:
        words = {
            "authorization check": self.auth,
            "path verification required": self.pvrf,
            "channel-path timeout": self.cpt,
            "failing-storage address valid": self.fsavf,
            f"concurrent sense {self.scnt}": self.cons,
            "secondary CCW address valid": self.scavf,
        }
        return f"ERW {', '.join(word for word, on in words.items() if on) or '-'}"


@dataclass(frozen=True, slots=True)
class Esw:
    """An ESW of the format `fmt`; what its format does not have is zero.

    `esf` (7 bits), `lpum` (8: last-path-used mask), `arep`, `fvf` (5), `sacc`, `termc` (2 each), `devsc`, `serr`,
    `ioerr`, `seqc` (3) are the subchannel logout of format 0, with `lpum` in every format; `dcti` (16) is the
    device-connect-time interval in units of 128 microseconds; `fsa` (64) is the failing-storage address, of 32 bits in
    its left half unless the ERW says otherwise, `sca` (32) the secondary-CCW address.
    """

    fmt: int = 1
    lpum: int = 0
    erw: Erw = field(default_factory=Erw)
    esf: LogoutFlag = _NO_FLAGS
    arep: bool = False
    fvf: int = 0
    sacc: int = 0
    termc: int = 0
    devsc: bool = False
    serr: bool = False
    ioerr: bool = False
    seqc: int = 0
    dcti: int = 0
    fsa: int = 0
    sca: int = 0
    res0: int = 0

    @staticmethod
    def format_for(scsw: Scsw, *, measured: bool = False) -> int:
        """The format that belongs to a status; `measured`: the device-connect time is being measured."""
        if scsw.eswf:
            return 0
        if scsw.stctl & Stctl.PRIMARY:
            return 2 if measured else 1
        return 3

    @classmethod
    def from_bytes(cls, data: BytesLike, fmt: int = 1) -> Self:
        """Read 20 big-endian bytes of the format.  Raise `Misuse` on another length."""
        word, erw, fsa, sca = _WORDS.unpack(exactly(data, ESW_SIZE, "ESW"))
        rest = {"fsa": fsa, "sca": sca, "res0": word >> 31}
        esf, lpum, tail = LogoutFlag(word >> 24 & 0x7F), word >> 16 & 0xFF, word & 0xFFFF
        if fmt:
            return cls(fmt, lpum, Erw.from_word(erw), esf, dcti=tail, **rest)
        return cls(
            fmt,
            lpum,
            Erw.from_word(erw),
            esf,
            arep=bool(tail & 0x8000),
            fvf=tail >> 10 & 0x1F,
            sacc=tail >> 8 & 3,
            termc=tail >> 6 & 3,
            devsc=bool(tail & 0x20),
            serr=bool(tail & 0x10),
            ioerr=bool(tail & 0x08),
            seqc=tail & 7,
            **rest,
        )

    def to_bytes(self) -> bytes:
        """The 20 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range(
            "ESW",
            fmt=(self.fmt, 2),
            esf=(self.esf, 7),
            lpum=(self.lpum, 8),
            fvf=(self.fvf, 5),
            sacc=(self.sacc, 2),
            termc=(self.termc, 2),
            seqc=(self.seqc, 3),
            dcti=(self.dcti, 16),
            fsa=(self.fsa, 64),
            sca=(self.sca, 32),
            res0=(self.res0, 1),
        )
        tail = self.dcti
        if not self.fmt:
            tail = self.arep << 15 | self.fvf << 10 | self.sacc << 8 | self.termc << 6 | self.devsc << 5
            tail |= self.serr << 4 | self.ioerr << 3 | self.seqc
        word = self.res0 << 31 | self.esf << 24 | self.lpum << 16 | tail
        return _WORDS.pack(word, self.erw.to_word(), self.fsa, self.sca)

    @property
    def failing_address(self) -> int | None:
        """The failing-storage address, None when it is not valid."""
        if self.fmt or not self.erw.fsavf:
            return None
        return self.fsa if self.erw.fsaf else self.fsa >> 32

    def __str__(self) -> str:
        parts = [f"ESW format {self.fmt} lpum={self.lpum:02x}"]
        if self.fmt == 0:
            parts += [str(flag.name).lower().replace("_", " ") for flag in LogoutFlag if self.esf & flag]
            parts.append(f"fvf={self.fvf:02x} sacc={self.sacc} termc={self.termc} seqc={self.seqc}")
            parts += [
                word
                for word, on in (
                    ("ancillary report", self.arep),
                    ("device-status check", self.devsc),
                    ("secondary error", self.serr),
                    ("I/O-error alert", self.ioerr),
                )
                if on
            ]
            if self.failing_address is not None:
                parts.append(f"failing storage {self.failing_address:#x}")
            if self.erw.scavf:
                parts.append(f"secondary CCW {self.sca:#x}")
        elif self.fmt == 2:
            parts.append(f"connected {self.dcti * 128} us")
        return f"{', '.join(parts)}; {self.erw}"
