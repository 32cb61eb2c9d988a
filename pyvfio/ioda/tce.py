"""Translation control entries (TCE), and the entries that name their tables (TVE).

A TCE has 8 bytes, big-endian::

    bit   0                                         52           62   63
         +------------------------------------------+------------+---+---+
         |  real address of the page                |            | W | R |      neither W nor R: not mapped
         +------------------------------------------+------------+---+---+

In tables above the last level it is the address of the next table, and either bit says that it is there.  A TVE, one
for each window of an endpoint::

    bit   0                                         48       51       56  59        63
         +------------------------------------------+--------+--------+---+---------+
         |  real address of the table, >> 12        | levels |  size  | 0 |  page   |    levels - 1, log2(size) - 11,
         +------------------------------------------+--------+--------+---+---------+    log2(page) - 11
         |  first >> 24 (24)  |  end >> 24 (24)     |first hi, 1, end hi|1|    0    |    addresses are real ones
         +----------------------------------------------------------------+---------+

A size of 0 (and no bit 56) means that there is no window.  Sources: ``arch/powerpc/include/asm/tce.h``; ``phb4-regs.h``
and ``hw/phb4.c`` of skiboot (phb4_map_pe_dma_window, phb4_map_pe_dma_window_real).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Final

from pyvfio.ioda.window import ENTRY_SIZE

__all__ = ["BypassEntry", "TableEntry", "TceAccess", "tce", "tce_address", "tve_from_int"]


class TceAccess(IntFlag):
    """What a TCE permits a device to do; `WRITE` alone is not used by Linux, which adds `READ`."""

    NONE = 0
    READ = 1
    WRITE = 2


_ADDRESS_MASK: Final = ~0xFFF & (1 << 64) - 1
_TABLE_SHIFT, _TVE_TABLE_SHIFT = 12, 16
_LEVELS_SHIFT, _LEVELS_MASK = 13, 0x7
_SIZE_SHIFT, _SIZE_MASK, _SIZE_BIAS = 8, 0x1F, 11
_PAGE_MASK, _PAGE_BIAS = 0x1F, 11
_BYPASS, _BYPASS_VALID = 1 << 7, 1 << 12
_UNIT_SHIFT, _UNIT_BITS = 24, 24
_LOW, _HIGH = (1 << _UNIT_BITS) - 1, 0x3


def tce(address: int, access: TceAccess) -> int:
    """A TCE for the page, or the next table, at a real address."""
    return address & _ADDRESS_MASK | access


def tce_address(entry: int, page_shift: int = _TABLE_SHIFT) -> int:
    """The real address in a TCE, of a page of this size."""
    return entry >> page_shift << page_shift


@dataclass(frozen=True, slots=True)
class TableEntry:
    """A TVE with tables: the first at real address `table`, `table_size` bytes each, for pages ``1 << page_shift``."""

    table: int
    levels: int
    table_size: int
    page_shift: int

    @property
    def level_bits(self) -> int:
        """Bits of an index into one table."""
        return (self.table_size // ENTRY_SIZE).bit_length() - 1

    @property
    def address_bits(self) -> int:
        """Bits of the addresses that the tables cover."""
        return self.level_bits * self.levels + self.page_shift

    def __int__(self) -> int:
        size = self.table_size.bit_length() - 1 - _SIZE_BIAS
        return (
            self.table >> _TABLE_SHIFT << _TVE_TABLE_SHIFT
            | self.levels - 1 << _LEVELS_SHIFT
            | size << _SIZE_SHIFT
            | self.page_shift - _PAGE_BIAS
        )


@dataclass(frozen=True, slots=True)
class BypassEntry:
    """A TVE without tables: DMA addresses `first` up to `end` (without bit 59; multiples of 16 MiB) are real ones."""

    first: int
    end: int

    def __int__(self) -> int:
        first, end = self.first >> _UNIT_SHIFT, self.end >> _UNIT_SHIFT
        return (
            (first & _LOW) << 40
            | (end & _LOW) << 16
            | (first >> _UNIT_BITS & _HIGH) << 10
            | (end >> _UNIT_BITS & _HIGH) << 8
            | _BYPASS_VALID
            | _BYPASS
        )


def tve_from_int(value: int) -> TableEntry | BypassEntry | None:
    """What a TVE says; None: there is no window."""
    if value & _BYPASS:
        first = value >> 40 & _LOW | (value >> 10 & _HIGH) << _UNIT_BITS
        end = value >> 16 & _LOW | (value >> 8 & _HIGH) << _UNIT_BITS
        return BypassEntry(first << _UNIT_SHIFT, end << _UNIT_SHIFT)
    size = value >> _SIZE_SHIFT & _SIZE_MASK
    if not size:
        return None
    return TableEntry(
        value >> _TVE_TABLE_SHIFT << _TABLE_SHIFT,
        (value >> _LEVELS_SHIFT & _LEVELS_MASK) + 1,
        1 << size + _SIZE_BIAS,
        (value & _PAGE_MASK) + _PAGE_BIAS,
    )
