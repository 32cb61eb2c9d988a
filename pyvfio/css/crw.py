"""The channel-report word (CRW): what STCRW stores, 4 bytes.

::

      0 1 2 3 4    8 9 10     16                               31
     +-+-+-+-+----+-+-+------+----------------------------------+
     |0|S|R|C|rsc |A|0| erc  |      reporting-source id         |
     +-+-+-+-+----+-+-+------+----------------------------------+

S solicited, R overflow, C chained to the next CRW, A ancillary report.  Where there are several images or sets, a CRW
about a subchannel is chained to a second one, whose reporting-source id is::

      16              24 26   28     31
     +---------------+--+----+--------+
     |     cssid     |00|ssid|  0000  |
     +---------------+--+----+--------+

Source: z/Architecture Principles of Operation, "Channel-Report Word"; ``arch/s390/include/asm/crw.h``;
``css_process_crw()`` in ``drivers/s390/cio/css.c``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from pyvfio.address import SubchannelId
from pyvfio.css.layout import BytesLike, check_range, exactly

__all__ = ["CRW_REGION_SIZE", "CRW_SIZE", "Crw", "ErrorRecovery", "ReportingSource"]

CRW_SIZE: Final = 4
CRW_REGION_SIZE: Final = 8


class ReportingSource(IntEnum):
    """Reporting-source codes (`Crw.rsc`)."""

    MONITOR = 0x2
    SUBCHANNEL = 0x3
    CHANNEL_PATH = 0x4
    CONFIGURATION = 0x9
    CHANNEL_SUBSYSTEM = 0xB


class ErrorRecovery(IntEnum):
    """Error-recovery codes (`Crw.erc`)."""

    EVENT = 0x00
    AVAILABLE = 0x01
    INITIALIZED = 0x02
    TEMPORARY_ERROR = 0x03
    PARAMETERS_INITIALIZED = 0x04
    TERMINAL = 0x05
    PERMANENT_ERROR = 0x06
    PERMANENT_ERROR_INITIALIZED = 0x07
    PARAMETERS_MODIFIED = 0x08


@dataclass(frozen=True, slots=True)
class Crw:
    """A CRW: `rsc` (4 bits), `erc` (6) and `rsid` (16: subchannel number, CHPID, or set of a chained pair).

    >>> print(Crw(rsc=3, erc=4, rsid=5))
    CRW subchannel 0005: parameters initialized
    """

    rsc: int = 0
    erc: int = 0
    rsid: int = 0
    slct: bool = False
    oflw: bool = False
    chn: bool = False
    anc: bool = False
    res1: bool = False
    res2: bool = False

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 4 big-endian bytes.  Raise `Misuse` on another length."""
        word = int.from_bytes(exactly(data, CRW_SIZE, "CRW"), "big")
        return cls(
            rsc=word >> 24 & 0xF,
            erc=word >> 16 & 0x3F,
            rsid=word & 0xFFFF,
            slct=bool(word & 0x40000000),
            oflw=bool(word & 0x20000000),
            chn=bool(word & 0x10000000),
            anc=bool(word & 0x00800000),
            res1=bool(word & 0x80000000),
            res2=bool(word & 0x00400000),
        )

    def to_bytes(self) -> bytes:
        """The 4 bytes, big-endian.  Raise `Misuse` when a field does not fit."""
        check_range("CRW", rsc=(self.rsc, 4), erc=(self.erc, 6), rsid=(self.rsid, 16))
        word = self.res1 << 31 | self.slct << 30 | self.oflw << 29 | self.chn << 28 | self.rsc << 24
        word |= self.anc << 23 | self.res2 << 22 | self.erc << 16 | self.rsid
        return word.to_bytes(CRW_SIZE, "big")

    @classmethod
    def for_subchannel(cls, schid: SubchannelId, erc: int) -> tuple[Self, Self]:
        """The chained pair about a subchannel: its number, then its image and set."""
        first = cls(rsc=ReportingSource.SUBCHANNEL, erc=erc, rsid=schid.sch_no, chn=True)
        return first, cls(rsc=ReportingSource.SUBCHANNEL, erc=erc, rsid=schid.cssid << 8 | schid.ssid << 4)

    def subchannel(self, chained: Self | None = None) -> SubchannelId | None:
        """The subchannel that it is about, with the word `chained` to it; None when it is about something else."""
        if self.rsc != ReportingSource.SUBCHANNEL:
            return None
        place = chained.rsid if chained is not None else 0
        return SubchannelId(place >> 8, place >> 4 & 3, self.rsid)

    def to_region(self) -> bytes:
        """The 8 bytes of the vfio-ccw CRW region: the CRW and a word of padding (``struct ccw_crw_region``)."""
        return self.to_bytes().ljust(CRW_REGION_SIZE, b"\0")

    def __str__(self) -> str:
        source = ReportingSource(self.rsc).name if self.rsc in list(ReportingSource) else f"source {self.rsc:x}"
        what = ErrorRecovery(self.erc).name if self.erc in list(ErrorRecovery) else f"code {self.erc:02x}"
        marks = "".join(
            f" {word}" for word, on in (("chained", self.chn), ("overflow", self.oflw), ("solicited", self.slct)) if on
        )
        return f"CRW {source.lower().replace('_', ' ')} {self.rsid:04x}: {what.lower().replace('_', ' ')}{marks}"
