"""The units of a host bridge that find errors, as far as software can make them find some: their injection registers.

A bit that is written to a unit's register is an error found.  The firmware has said what follows: the bridge is fenced,
or an endpoint frozen (whose, the unit knows), or it is only noted.  Of these only fences are modelled.
Source: ``phb3_init_errors`` and ``phb4_init_errors`` of skiboot (the registers ..._AIB_FENCE_ENABLE), of PHB4 before
POWER10.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

__all__ = ["FENCES", "ErrorUnit"]


class ErrorUnit(Enum):
    """A unit, by the offset of its injection register."""

    OUTBOUND = 0xD10
    INBOUND_A = 0xD90
    INBOUND_B = 0xE10


_PHB4: Final = {
    ErrorUnit.OUTBOUND: 0xDFF7BD05F7DDFFF0,
    ErrorUnit.INBOUND_A: 0x3BFFD703FA7FBF8F,
    ErrorUnit.INBOUND_B: 0xFFFFFEFFFF7FFF57,
}
FENCES: Final[Mapping[str, Mapping[ErrorUnit, int]]] = {
    "PHB3": {
        ErrorUnit.OUTBOUND: 0x9CF3BC00F89C700F,
        ErrorUnit.INBOUND_A: 0x3FFF5452FE019FDE,
        ErrorUnit.INBOUND_B: 0xFCFF80FBFF7FF08C,
    },
    "PHB4": _PHB4,
    "PHB4 (small)": _PHB4,
}
"""The errors that fence a bridge, by its model and unit; of others it is not known here."""
