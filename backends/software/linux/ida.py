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

    def free(self, number: int) -> None:
        """Give a number back that `take` gave."""
        heapq.heappush(self._returned, number)
