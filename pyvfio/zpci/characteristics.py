"""STORE LOGICAL-PROCESSOR CHARACTERISTICS: what the logical processor says of itself, and of PCI.

::

    byte  0     10        20          40         50   54          60          80
         +-----+---------+-----------+----------+----+-----------+-----------+
         | head|  zeros  |   lpif    |  zeros   | mio|   zeros   |   lpic    |
         +-----+---------+-----------+----------+----+-----------+-----------+

(Offsets in hexadecimal.)  `lpif` and `lpic` are bits of installed facilities and characteristics.  Only the answer
about PCI has the word `mio`: whether the bits in `mio_wb` are valid, and for which BARs stores by addresses may be
collected (write-back).

An emulated machine refuses the request for its length.  Source: ``arch/s390/include/asm/clp.h``, ``pci_clp.h`` (struct
clp_rsp_slpc, clp_rsp_slpc_pci).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.zpci.block import BigBlock, at, raw_at
from pyvfio.zpci.clp import ClpCode, ClpCommand

__all__ = ["CharacteristicsRequest", "CharacteristicsResponse"]

_BITS: Final = 32  # bytes of facilities, and of characteristics


@dataclass(frozen=True, slots=True)
class CharacteristicsRequest(BigBlock, size=16):
    """The request: a header and nothing else."""

    length: int = at(0, 16, default=16)
    command: int = at(2, 16, default=ClpCommand.STORE_LOGICAL_PROCESSOR_CHARACTERISTICS)


@dataclass(frozen=True, slots=True)
class CharacteristicsResponse(BigBlock, size=128):
    """The answer; of the base processor without `mio_valid` and `mio_wb` (6 bits)."""

    length: int = at(0, 16, default=128)
    code: int = at(2, 16, default=ClpCode.OK)
    fmt: int = at(4, 4)
    lpif: bytes = raw_at(32, _BITS)
    mio_valid: int = at(80, 1)
    mio_wb: int = at(80, 6, bit=2)
    lpic: bytes = raw_at(96, _BITS)
