"""A window of DMA addresses: how many pages, of what size, in how many levels of tables, and what the tables take.

::

    DMA address    | 60 59 | ...  level n  |  ...  |  level 1  |  level 0  |  byte in page |
                      |       as many bits in each level            page_shift bits
                      `-- 0: the default window (32 bits)   1: the second, from 0x0800_0000_0000_0000

A level is a table of 8-byte entries of `level_size` bytes, at least a page of the host.  An entry of level 1 and above
names a table of the level below.  Source: ``platforms/powernv/pci-ioda-tce.c`` and ``pci-ioda.c`` of Linux 6.12
(pnv_pci_ioda2_table_alloc_pages, pnv_pci_ioda2_get_table_size).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyvfio.errors import Misuse

__all__ = ["ENTRY_SIZE", "MOST_LEVELS", "SECOND_WINDOW", "DmaWindow", "window_start"]

ENTRY_SIZE: Final = 8
MOST_LEVELS: Final = 5
SECOND_WINDOW: Final = 1 << 59
"""Where the second window of an endpoint begins."""
_ENTRY_SHIFT = 3
_MOST_BITS = 55


def window_start(number: int) -> int:
    """Where window 0 or 1 of an endpoint begins."""
    return SECOND_WINDOW if number else 0


def _log2(value: int) -> int:
    return value.bit_length() - 1


@dataclass(frozen=True, slots=True)
class DmaWindow:
    """`size` bytes of DMA addresses in pages of ``1 << page_shift`` bytes, with tables of `levels` levels.

    `host_shift` is the host's page size, the least that a table takes.  Raise `Misuse` for what Linux answers with
    EINVAL: a size that is no power of two or smaller than a page, no or too many levels, or more than 55 bits of
    addresses in all.
    """

    size: int
    page_shift: int
    levels: int = 1
    host_shift: int = 12

    def __post_init__(self) -> None:
        cause = ""
        if self.page_shift < 0 or self.host_shift < 0:
            cause = "a page has a byte at least"
        elif not 1 <= self.levels <= MOST_LEVELS:
            cause = f"there are 1 to {MOST_LEVELS} levels"
        elif self.size < 1 or self.size & self.size - 1:
            cause = "its size is no power of two"
        elif self.size >> self.page_shift == 0:
            cause = "it is smaller than a page"
        elif (self.level_shift - _ENTRY_SHIFT) * self.levels + self.page_shift >= _MOST_BITS:
            cause = f"its tables would cover {_MOST_BITS} bits of addresses or more"
        if cause:
            raise Misuse("make a DMA window", f"of {self.size:#x} bytes, {self.levels} levels", cause=cause)

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return 1 << self.page_shift

    @property
    def pages(self) -> int:
        """How many pages, so how many entries of level 0."""
        return self.size >> self.page_shift

    @property
    def level_shift(self) -> int:
        """Bits of the size of one table: enough for its share of the entries, and at least a page of the host."""
        share = -(-(_log2(self.size) - self.page_shift) // self.levels)
        return max(share + _ENTRY_SHIFT, self.host_shift)

    @property
    def level_size(self) -> int:
        """Bytes of one table."""
        return 1 << self.level_shift

    @property
    def level_entries(self) -> int:
        """Entries of one table."""
        return 1 << self.level_shift - _ENTRY_SHIFT

    def indices(self, page: int) -> tuple[int, ...]:
        """Where the entry of a page is: an index into a table of each level, from the top."""
        bits = self.level_shift - _ENTRY_SHIFT
        return tuple(page >> bits * level & self.level_entries - 1 for level in reversed(range(self.levels)))

    @property
    def table_bytes(self) -> int:
        """What Linux counts as locked memory for the tables of a window of a program: twice the most they can take.

        One is the hardware's, one keeps the program's addresses.
        """
        left = max(1 << 12, ENTRY_SIZE * self.pages)
        total = 0
        for _ in range(self.levels):
            total += -(-left // self.level_size) * self.level_size
            left = max((left // self.level_size) << _ENTRY_SHIFT, self.level_size)
        return 2 * total
