"""Small numbers, given out lowest first (``lib/idr.c``, `ida`)."""

from __future__ import annotations

import heapq

__all__ = ["Ida"]


class Ida:
    """Gives out the lowest number from `first` on that nobody has."""

    def __init__(self, first: int = 0) -> None:
        self._next = first
        self._returned: list[int] = []

    def take(self) -> int:
        """A number that nobody has."""
        if self._returned:
            return heapq.heappop(self._returned)
        self._next += 1
        return self._next - 1

    def take_block(self, count: int) -> int:
        """The first of `count` numbers in a row that nobody has."""
        found: list[int] = []
        for number in [*sorted(self._returned), *range(self._next, self._next + count)]:
            found = [*found, number] if found and found[-1] + 1 == number else [number]
            if len(found) == count:
                break
        self._returned = [number for number in self._returned if number not in found]
        heapq.heapify(self._returned)
        self._next = max(self._next, found[-1] + 1)
        return found[0]

    def free(self, number: int) -> None:
        """Give a number back that `take` gave."""
        heapq.heappush(self._returned, number)
