"""The interruption-response block (IRB): what TSCH stores, 96 bytes.

::

    offset
       0  +--------------------------------------------------+
          |  subchannel-status word (SCSW), 3 words          |
      12  +--------------------------------------------------+
          |  extended-status word (ESW), 5 words:            |
          |    word 0, byte 1: last-path-used mask (lpum)    |
          |    word 1: extended-report word (ERW)            |
      32  +--------------------------------------------------+
          |  extended-control word (ECW), 8 words: sense     |
      64  +--------------------------------------------------+
          |  extended-measurement word (EMW), 8 words        |
      96  +--------------------------------------------------+

The ESW has four formats (`pyvfio.css.esw`).  The ECW has meaning when the SCSW says so (`ectl`): sense bytes when the
ERW says concurrent sense, else what the model stores about a channel check.
Source: z/Architecture Principles of Operation, "Interruption-Response Block"; ``arch/s390/include/asm/cio.h``
(struct irb, struct erw).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from pyvfio.css.esw import ESW_SIZE, Esw
from pyvfio.css.layout import BytesLike, exactly
from pyvfio.css.scsw import SCSW_SIZE, Scsw

__all__ = ["ECW_SIZE", "EMW_SIZE", "ESW_SIZE", "IRB_SIZE", "Irb", "erw_concurrent_sense"]

ECW_SIZE: Final = 32
EMW_SIZE: Final = 32
IRB_SIZE: Final = SCSW_SIZE + ESW_SIZE + ECW_SIZE + EMW_SIZE
_ERW_CONS: Final = 0x01000000
_NO_SENSE: Final = bytes(ECW_SIZE)


def erw_concurrent_sense(count: int) -> int:
    """The extended-report word that says: the ECW holds `count` (at most 32) sense bytes."""
    return _ERW_CONS | count << 16


@dataclass(frozen=True, slots=True)
class Irb:
    """An IRB: `scsw`, and the raw bytes of `esw` (20), `ecw` (32) and `emw` (32)."""

    scsw: Scsw = field(default_factory=Scsw)
    esw: bytes = bytes(ESW_SIZE)
    ecw: bytes = _NO_SENSE
    emw: bytes = bytes(EMW_SIZE)

    @classmethod
    def from_bytes(cls, data: BytesLike) -> Self:
        """Read 96 bytes.  Raise `Misuse` on another length."""
        raw = exactly(data, IRB_SIZE, "IRB")
        return cls(Scsw.from_bytes(raw[:12]), raw[12:32], raw[32:64], raw[64:])

    def to_bytes(self) -> bytes:
        """The 96 bytes.  Raise `Misuse` when a part has a wrong length."""
        esw = exactly(self.esw, ESW_SIZE, "ESW")
        return self.scsw.to_bytes() + esw + exactly(self.ecw, ECW_SIZE, "ECW") + exactly(self.emw, EMW_SIZE, "EMW")

    @property
    def lpum(self) -> int:
        """The last-path-used mask of the ESW (8 bits, the leftmost is path 0)."""
        return self.esw[1]

    @property
    def erw(self) -> int:
        """The extended-report word (32 bits)."""
        return int.from_bytes(self.esw[4:8], "big")

    @property
    def status(self) -> Esw:
        """The extended-status word in the format that the SCSW says (the time connected is taken as not measured)."""
        return Esw.from_bytes(self.esw, Esw.format_for(self.scsw))

    @property
    def sense(self) -> bytes:
        """The concurrent-sense bytes of the ECW; empty when the IRB carries none.

        A count of zero, which no channel gives, stands for all 32 bytes: QEMU (before 8.0) has the count elsewhere.
        """
        if not self.scsw.ectl or not self.erw & _ERW_CONS:
            return b""
        return self.ecw[: min(self.erw >> 16 & 0x3F, ECW_SIZE) or ECW_SIZE]

    def __str__(self) -> str:
        sense = self.sense
        tail = f"; sense {sense.rstrip(bytes(1)).hex() or '00'}" if sense else ""
        logout = f"; {self.status}" if self.scsw.eswf else ""
        return f"IRB {self.scsw}; lpum={self.lpum:02x}{logout}{tail}"
