"""Dirty pages: which memory a device may have written, as the kernel reports it in bitmaps.

Three places report: a type 1 IOMMU (`AddressSpace.dirty_log`), an IOMMU that can, by iommufd (the same), and a device
that logs its own writes (`Device.log_dma`).  All fill bitmaps of 64-bit words in the byte order of the host, bit 0 of
word 0 standing for the first page, so one `DirtyBitmap` is for all of them.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple, Self

from pyvfio.errors import Misuse

__all__ = ["DirtyBitmap", "DirtyRange"]

_BITS = 64
_ALL = (1 << _BITS) - 1


class DirtyRange(NamedTuple):
    """`length` dirty bytes from `iova` on."""

    iova: int
    length: int

    def __str__(self) -> str:
        return f"{self.iova:#x}-{self.iova + self.length - 1:#x}"


class DirtyBitmap:
    """A bit for each of the pages of `page_size` bytes from `iova` on, `length` bytes in all.

    It is empty at first; the kernel fills `buffer`, and adds to what is there.  Raise `Misuse` for a page size that is
    no power of two, and for a range that is not made of such pages.
    """

    def __init__(self, iova: int, length: int, page_size: int) -> None:
        if page_size <= 0 or page_size & (page_size - 1):
            raise Misuse("make dirty bitmap", f"{iova:#x}", cause=f"the page size {page_size:#x} is no power of two")
        if iova < 0 or length <= 0 or (iova | length) & (page_size - 1):
            cause = f"{length:#x} bytes from there are not pages of {page_size:#x}"
            raise Misuse("make dirty bitmap", f"{iova:#x}", cause=cause)
        self.iova = iova
        self.length = length
        self.page_size = page_size
        self._words = array("Q", bytes(-(-length // page_size // _BITS) * 8))

    @property
    def pages(self) -> int:
        """How many pages it has bits for."""
        return self.length // self.page_size

    @property
    def buffer(self) -> array[int]:
        """The words, for the kernel to fill; their address is ``buffer.buffer_info()[0]`` for as long as this lives."""
        return self._words

    @property
    def size(self) -> int:
        """The bytes of `buffer`, a multiple of 8."""
        return len(self._words) * 8

    @property
    def count(self) -> int:
        """How many pages are dirty."""
        return sum(word.bit_count() for word in self._words if word)

    @property
    def bytes_dirty(self) -> int:
        """How many bytes the dirty pages have."""
        return self.count * self.page_size

    def __bool__(self) -> bool:
        return any(self._words)

    def __contains__(self, iova: int) -> bool:
        if not self.iova <= iova < self.iova + self.length:
            return False
        word, bit = divmod((iova - self.iova) // self.page_size, _BITS)
        return bool(self._words[word] >> bit & 1)

    def __iter__(self) -> Iterator[int]:
        """The addresses of the dirty pages."""
        for found in self.ranges():
            yield from range(found.iova, found.iova + found.length, self.page_size)

    def ranges(self) -> Iterator[DirtyRange]:
        """What is dirty, by address, neighbouring pages as one range."""
        began = -1
        for index, word in enumerate(self._words):
            if word == (0 if began < 0 else _ALL):
                continue
            bit = 0
            while bit < _BITS:
                # the next bit that differs from the ones before
                rest = (word if began < 0 else ~word & _ALL) >> bit
                if not rest:
                    break
                bit += (rest & -rest).bit_length() - 1
                at = index * _BITS + bit
                if began < 0:
                    began = at
                else:
                    yield self._range(began, at)
                    began = -1
        if began >= 0:
            yield self._range(began, self.pages)

    def _range(self, first: int, end: int) -> DirtyRange:
        return DirtyRange(self.iova + first * self.page_size, (end - first) * self.page_size)

    def __ior__(self, other: DirtyBitmap) -> Self:
        """Add what is dirty in a bitmap of the same range and pages.  Raise `Misuse` for another."""
        mine, its = ((one.iova, one.length, one.page_size) for one in (self, other))
        if mine != its:
            raise Misuse("join dirty bitmaps", f"{self.iova:#x}", cause="they are of different ranges or page sizes")
        for index, word in enumerate(other._words):
            if word:
                self._words[index] |= word
        return self

    def to_bytes(self) -> bytes:
        """The bits as little-endian bytes, whatever the host's byte order: page n is bit n % 8 of byte n // 8."""
        words = array("Q", self._words)
        if sys.byteorder == "big":
            words.byteswap()
        return words.tobytes()[: -(-self.pages // 8)]

    def __repr__(self) -> str:
        return f"<DirtyBitmap {self.iova:#x} {self.count} of {self.pages} pages of {self.page_size:#x}>"
