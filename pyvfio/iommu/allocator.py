"""Giving out IOVAs inside the ranges that the kernel says can be mapped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sortedcontainers import SortedDict, SortedSet

from pyvfio.errors import Misuse, NotAvailable

__all__ = ["IovaAllocator"]

_MAXIMUM = 1 << 64


class IovaAllocator:
    """Gives out addresses of `ranges` (pairs of first and last address, inclusive) in multiples of `granule` bytes.

    The smallest free piece that fits is taken, the lowest of equals; freed addresses are given out again.  Address 0
    is only had by `reserve`, so that it can stand for "none".  Nothing is asked of the kernel.
    """

    def __init__(self, ranges: Iterable[tuple[int, int]], granule: int) -> None:
        if granule <= 0 or granule & (granule - 1):
            raise Misuse("make IOVA allocator", cause=f"the granule {granule:#x} is no power of two")
        self.granule = granule
        self.ranges = [(start, last) for start, last in ranges]
        self._free: SortedDict[int, int] = SortedDict()  # start -> end (exclusive)
        self._sizes: SortedSet[tuple[int, int]] = SortedSet()  # (size, start) of the same pieces
        self._used: SortedDict[int, int] = SortedDict()
        for start, end in _joined(self.ranges):
            low, high = -(-start // granule) * granule, end // granule * granule
            if low < high:
                self._put(low, high)

    @property
    def free_bytes(self) -> int:
        """How much is left."""
        return sum(size for size, _ in self._sizes)

    def used(self) -> Iterator[tuple[int, int]]:
        """What was given out or reserved: (address, length), by address."""
        return ((start, end - start) for start, end in self._used.items())

    def allocate(self, length: int, *, alignment: int | None = None, below: int | None = None) -> int:
        """Give out at least `length` bytes (rounded up to the granule), aligned, ending at or before `below`.

        Raise `Misuse` for a wrong length or alignment, `NotAvailable` when no free piece fits.
        """
        step = self.granule if alignment is None else max(alignment, self.granule)
        if (
            length <= 0
            or step & (step - 1)
            or (alignment is not None and (alignment <= 0 or alignment & alignment - 1))
        ):
            wanted = step if alignment is None else alignment
            raise Misuse("allocate IOVA", cause=f"length {length} or alignment {wanted:#x} makes no sense")
        size = self._round(length)
        for piece, start in self._sizes.irange((size, 0)):
            at = -(-max(start, self.granule) // step) * step
            if at + size <= start + piece and (below is None or at + size <= below):
                self._take(start, start + piece, at, at + size)
                self._used[at] = at + size
                return int(at)
        limit = "" if below is None else f" below {below:#x}"
        largest = self._sizes[-1][0] if self._sizes else 0
        raise NotAvailable(
            "allocate IOVA",
            cause=f"no free piece has {size:#x} bytes{limit}; the largest has {largest:#x}, in {self._words()}",
            next_step="free a mapping, or map less",
        )

    def reserve(self, iova: int, length: int) -> None:
        """Take a given address out.  Raise `Misuse` when any of it is outside the ranges, taken or not aligned."""
        if iova % self.granule or length <= 0:
            raise Misuse("reserve IOVA", f"{iova:#x}", cause=f"it is no multiple of {self.granule:#x}, or empty")
        end = iova + self._round(length)
        index = self._free.bisect_right(iova) - 1
        if index >= 0:
            start, stop = self._free.peekitem(index)
            if end <= stop:
                self._take(start, stop, iova, end)
                self._used[iova] = end
                return
        taken = self._used.bisect_left(end) - 1
        if taken >= 0 and self._used.peekitem(taken)[1] > iova:
            raise Misuse("reserve IOVA", f"{iova:#x}", cause=f"{self._used.peekitem(taken)[0]:#x} is in use")
        raise Misuse("reserve IOVA", f"{iova:#x}", cause=f"it is not inside {self._words()}")

    def free(self, iova: int) -> None:
        """Take back what `allocate` or `reserve` gave at `iova`.  Raise `Misuse` when nothing was."""
        end = self._used.pop(iova, None)
        if end is None:
            raise Misuse("free IOVA", f"{iova:#x}", cause="it was not given out")
        start = iova
        before = self._free.bisect_left(start) - 1
        if before >= 0:
            left, stop = self._free.peekitem(before)
            if stop == start:
                self._remove(left, stop)
                start = left
        following = self._free.get(end)
        if following is not None:
            self._remove(end, following)
            end = following
        self._put(start, end)

    def _round(self, length: int) -> int:
        return -(-length // self.granule) * self.granule

    def _take(self, start: int, stop: int, first: int, end: int) -> None:
        self._remove(start, stop)
        if start < first:
            self._put(start, first)
        if end < stop:
            self._put(end, stop)

    def _put(self, start: int, end: int) -> None:
        self._free[start] = end
        self._sizes.add((end - start, start))

    def _remove(self, start: int, end: int) -> None:
        del self._free[start]
        self._sizes.discard((end - start, start))

    def _words(self) -> str:
        return ", ".join(f"{start:#x}-{last:#x}" for start, last in self.ranges) or "no range at all"


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges (inclusive) as pieces (end exclusive) by address, those that touch or overlap as one."""
    pieces: list[tuple[int, int]] = []
    for start, last in sorted(ranges):
        end = min(last + 1, _MAXIMUM)
        if pieces and start <= pieces[-1][1]:
            start, end = pieces[-1][0], max(end, pieces.pop()[1])
        pieces.append((start, end))
    return pieces
