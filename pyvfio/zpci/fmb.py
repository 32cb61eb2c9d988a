"""The function measurement block (FMB): counters that the machine keeps in storage for a function.

::

    byte  0        1                 4                 7
         +--------+-----------------+-------------------+
     0   | format |  indicators     |  samples          |
     8   |              time of the last update         |
         +----------------------------------------------+
    10   |              loads                           |
    18   |              stores                          |
    20   |              store blocks                    |
    28   |              refreshes of translations       |
         +----------------------------------------------+
    30-  |              counters of the format          |
         +----------------------------------------------+

(Offsets in hexadecimal.)  Format 0: bytes read and written by DMA, valid when an indicator says so; 1: bytes and
packets received and sent; 2: work units consumed and allowed; 3: bytes sent.

Source: ``arch/s390/include/asm/pci.h`` (struct zpci_fmb), ``arch/s390/pci/pci_debug.c`` (the counters' names).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.zpci.block import BigBlock, at

__all__ = ["DMA_COUNTERS_VALID", "FMB_ALIGNMENT", "FMB_SIZE", "Fmb"]

FMB_SIZE: Final = 128
FMB_ALIGNMENT: Final = 128

#: The indicator bit (of 24) that says that a format-0 block has DMA counters.
DMA_COUNTERS_VALID: Final = 1 << 23

_COUNTERS: Final = {
    0: ("DMA bytes read", "DMA bytes written"),
    1: ("bytes received", "packets received", "bytes sent", "packets sent"),
    2: ("work units consumed", "work units allowed"),
    3: ("bytes sent",),
}


@dataclass(frozen=True, slots=True)
class Fmb(BigBlock, size=FMB_SIZE):
    """A measurement block; counters are unsigned numbers of 64 bits, `updated` is a TOD-clock value.

    `first` to `fourth` are what the format makes of them: see `counters`.
    """

    fmt: int = at(0, 8)
    indicators: int = at(1, 24)
    samples: int = at(4, 32)
    updated: int = at(8, 64)
    loads: int = at(16, 64)
    stores: int = at(24, 64)
    store_blocks: int = at(32, 64)
    refreshes: int = at(40, 64)
    first: int = at(48, 64)
    second: int = at(56, 64)
    third: int = at(64, 64)
    fourth: int = at(72, 64)

    @property
    def counters(self) -> dict[str, int]:
        """The valid counters by name."""
        found = {
            "loads": self.loads,
            "stores": self.stores,
            "store blocks": self.store_blocks,
            "refreshes": self.refreshes,
        }
        if self.fmt == 0 and not self.indicators & DMA_COUNTERS_VALID:
            return found
        values = (self.first, self.second, self.third, self.fourth)
        return found | dict(zip(_COUNTERS.get(self.fmt, ()), values, strict=False))

    def __str__(self) -> str:
        return f"FMB format {self.fmt}, {self.samples} samples: " + ", ".join(
            f"{value} {name}" for name, value in self.counters.items()
        )
