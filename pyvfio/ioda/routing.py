"""Which routing ids an entry of the routing id table means: all that are equal in the bits that are compared.

::

    bit   15        8 7      3 2        0
         +-----------+--------+----------+
         |    bus    | device | function |     compared: none or the top 3 to 8 bits of the bus, device, function
         +-----------+--------+----------+

So an endpoint is a function, a device, a bus, or 2, 4, 8, 16 or 32 buses that begin at a multiple of their number.
Source: ``opal_pci_set_pe`` as Linux uses it (``platforms/powernv/pci-ioda.c``, pnv_ioda_configure_pe).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyvfio.abi.opal import OpalBusCompare

__all__ = ["ROUTING_IDS", "RidMatch"]

ROUTING_IDS: Final = 1 << 16
_BUS_SHIFT, _BUS_BITS = 8, 8
_DEVICE_MASK, _FUNCTION_MASK = 0xF8, 0x07
_SPANS: Final = {
    1: OpalBusCompare.ALL,
    2: OpalBusCompare.BITS_7,
    4: OpalBusCompare.BITS_6,
    8: OpalBusCompare.BITS_5,
    16: OpalBusCompare.BITS_4,
    32: OpalBusCompare.BITS_3,
}


@dataclass(frozen=True, slots=True)
class RidMatch:
    """The routing ids equal to `rid` where `bus`, `device` and `function` say that bits are compared."""

    rid: int
    bus: OpalBusCompare = OpalBusCompare.ALL
    device: bool = True
    function: bool = True

    @classmethod
    def of_buses(cls, first: int, count: int = 1) -> RidMatch:
        """All functions on `count` buses from `first` on.

        A count that is no power of two up to 32 means the first bus alone, which is what Linux asks for then.
        """
        return cls(first << _BUS_SHIFT, _SPANS.get(count, OpalBusCompare.ALL), device=False, function=False)

    @property
    def mask(self) -> int:
        """The bits that are compared."""
        bits = self.bus + 1 if self.bus else 0
        mask = (1 << bits) - 1 << 2 * _BUS_BITS - bits
        return mask | (_DEVICE_MASK if self.device else 0) | (_FUNCTION_MASK if self.function else 0)

    def __contains__(self, rid: int) -> bool:
        return not (rid ^ self.rid) & self.mask

    def __iter__(self) -> Iterator[int]:
        """The routing ids, ascending."""
        free = ~self.mask & ROUTING_IDS - 1
        fixed, part = self.rid & self.mask, 0
        while True:
            yield fixed | part
            part = part - free & free  # the next number that has bits in `free` only
            if not part:
                return
