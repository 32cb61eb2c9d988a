"""Bit vectors of adapter interruptions in the kernel's memory (``struct airq_iv``, ``drivers/s390/cio/airq.c``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pyvfio_backends.software.memory import HostMemory

__all__ = ["AirqVector"]

_WORD: Final = 8


class AirqVector:
    """A vector with room for `bits`; `end` is how many are looked at.

    With `allocate`, bits are given out and `end` follows them; without, all are in use.
    """

    def __init__(self, memory: HostMemory, bits: int, *, allocate: bool = False) -> None:
        self._memory = memory
        self._taken: set[int] = set()
        self.bits = bits
        self.end = 0 if allocate else bits
        self._size = -(-bits // (8 * _WORD)) * _WORD
        self.address = memory.allocate(self._size)
        self._block = None if memory.shared else memory.block(self.address)

    def release(self) -> None:
        """Give the memory back."""
        self._memory.free(self.address)

    def allocate(self, count: int = 1) -> int:
        """The first of `count` free bits that follow each other, -1 when there are none."""
        taken = self._taken
        for first in range(self.bits - count + 1):
            if first not in taken and taken.isdisjoint(range(first, first + count)):
                taken.update(range(first, first + count))
                self.end = max(self.end, first + count)
                return first
        return -1

    def free(self, first: int, count: int = 1) -> None:
        """Give bits back."""
        self._taken.difference_update(range(first, first + count))
        self.end = max(self._taken, default=-1) + 1

    def scan(self, start: int) -> int:
        """Find the next bit that is set, from `start` on, and clear it; -1 when there is none (``airq_iv_scan``)."""
        block = self._block
        raw = self._memory.read(self.address, self._size) if block is None else block
        found = int.from_bytes(raw, "big")
        if not found:  # most often
            return -1
        width = 8 * len(raw)
        bit = width - (found & (1 << width - start) - 1).bit_length()
        if bit >= self.end:
            return -1
        keep = 0xFF ^ 0x80 >> bit % 8
        if block is None:
            self._memory.update_byte(self.address + bit // 8, keep, 0)
        else:
            block[bit // 8] &= keep
        return bit
