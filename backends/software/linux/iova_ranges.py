"""Which I/O virtual addresses may be mapped and which are taken, as ranges (start, last), both included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sortedcontainers import SortedDict

__all__ = ["ADDRESS_LAST", "Occupancy", "Ranges", "exclude", "intersect"]

Ranges = list[tuple[int, int]]
ADDRESS_LAST = (1 << 64) - 1


def intersect(ranges: Ranges, start: int, last: int) -> Ranges:
    """The parts of `ranges` from `start` to `last`."""
    return [(max(a, start), min(b, last)) for a, b in ranges if a <= last and b >= start]


def exclude(ranges: Ranges, reserved: Iterable[tuple[int, int]]) -> Ranges:
    """What is left of `ranges` (sorted) without the `reserved` parts (in any order)."""
    for start, last in reserved:
        left: Ranges = []
        for a, b in ranges:
            if a < start:
                left.append((a, min(b, start - 1)))
            if b > last:
                left.append((max(a, last + 1), b))
        ranges = left
    return ranges


class Occupancy:
    """Taken addresses, with neighbours joined, so that the free ones are found quickly among many small mappings."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: SortedDict[int, int] = SortedDict()

    def add(self, start: int, last: int) -> None:
        """Take a range that is free."""
        for before in self._last.irange(None, start, reverse=True):
            if self._last[before] == start - 1:
                start = before
            break
        following = self._last.pop(last + 1, None)
        self._last[start] = last if following is None else following

    def remove(self, start: int, last: int) -> None:
        """Free a range that is taken as a whole."""
        for before in self._last.irange(None, start, reverse=True):
            end = self._last.pop(before)
            if before < start:
                self._last[before] = start - 1
            if end > last:
                self._last[last + 1] = end
            return

    def holes(self, start: int, last: int) -> Iterator[tuple[int, int]]:
        """The free ranges from `start` to `last`, in order; nothing may change meanwhile."""
        for before in self._last.irange(None, start, reverse=True):
            start = max(start, self._last[before] + 1)
            break
        for taken in self._last.irange(start, last):
            if taken > start:
                yield start, taken - 1
            start = self._last[taken] + 1
        if start <= last:
            yield start, last
