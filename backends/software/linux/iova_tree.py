"""Ranges of I/O virtual addresses that do not overlap, sorted: what VFIO and iommufd keep their mappings in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from sortedcontainers import SortedDict

__all__ = ["IovaTree", "Range", "Watcher"]


class Range(Protocol):
    """Anything with a first and a last address, both included."""

    iova: int
    last: int


_R = TypeVar("_R", bound=Range)
_C = TypeVar("_C", contravariant=True)


class Watcher(Protocol[_C]):
    """Who follows what comes into a tree and leaves it."""

    def added(self, item: _C) -> None:
        """A range comes.  Raise OSError to refuse it."""

    def removed(self, item: _C) -> None:
        """A range goes."""


class IovaTree(Generic[_R]):
    """A sorted set of ranges.  All searches cost O(log n); `len` is the number of ranges.

    `watchers` are told of each range that comes or goes.
    """

    __slots__ = ("_by_start", "_irange", "watchers")

    def __init__(self) -> None:
        self.watchers: list[Watcher[_R]] = []
        self._by_start: SortedDict[int, _R] = SortedDict()
        self._irange = self._by_start.irange

    def __len__(self) -> int:
        return len(self._by_start)

    def __iter__(self) -> Iterator[_R]:
        return iter(self._by_start.values())

    def add(self, item: _R) -> None:
        """Put a range in that overlaps none.  Raise OSError when a watcher refuses it."""
        for place, watcher in enumerate(self.watchers):
            try:
                watcher.added(item)
            except OSError:
                for other in self.watchers[:place]:
                    other.removed(item)
                raise
        self._by_start[item.iova] = item

    def remove(self, item: _R) -> None:
        """Take a range out."""
        del self._by_start[item.iova]
        for watcher in self.watchers:
            watcher.removed(item)

    def at(self, iova: int) -> _R | None:
        """The range that begins at `iova`."""
        found: _R | None = self._by_start.get(iova)
        return found

    def overlap(self, start: int, last: int) -> _R | None:
        """The last range with an address from `start` to `last`, or None."""
        for key in self._irange(None, last, reverse=True):
            item: _R = self._by_start[key]
            return item if item.last >= start else None
        return None

    def find(self, iova: int) -> _R | None:
        """The range that has the address `iova`."""
        item: _R | None = self._by_start.get(iova)  # most DMA begins where a mapping begins
        return item if item is not None else self.overlap(iova, iova)

    def first(self, start: int, last: int) -> _R | None:
        """The first range with an address from `start` to `last`, or None."""
        item = self.find(start)
        if item is not None:
            return item
        for key in self._irange(start, last):
            following: _R = self._by_start[key]
            return following
        return None

    def between(self, start: int, last: int) -> list[_R]:
        """All ranges with an address from `start` to `last`, in order."""
        exact: _R | None = self._by_start.get(start)
        if exact is not None and exact.last >= last:  # most unmaps are of what was mapped
            return [exact]
        head = self.overlap(start, start) if exact is None else None
        found = [] if head is None else [head]
        found.extend(self._by_start[key] for key in self._irange(start, last))
        return found
