"""An address space that notes what devices have written: page tables with dirty bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.dma_domain import DmaDomain

__all__ = ["DirtySpace"]


class DirtySpace:
    """A `hardware.dma.DmaSpace` over another one; while `tracking`, `pages` are the numbers of the written pages."""

    def __init__(self, space: DmaDomain, page_size: int) -> None:
        self._space = space
        self._page = page_size
        self.tracking = False
        self.pages: set[int] = set()

    def track(self, on: bool) -> None:
        """Begin anew, or end."""
        if on:
            self.pages.clear()
        self.tracking = on

    def take(self, first: int, last: int, *, clear: bool) -> Iterator[int]:
        """The numbers of the written pages with addresses from `first` to `last`; with `clear` they are clean then."""
        found = [page for page in self.pages if first // self._page <= page <= last // self._page]
        if clear:
            self.pages.difference_update(found)
        yield from sorted(found)

    def check(self, iova: int, count: int, *, write: bool) -> None:
        """See `DmaDomain.check`."""
        self._space.check(iova, count, write=write)

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        return self._space.read(iova, count)

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        self._space.write(iova, data)
        self._note(iova, len(data))

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""
        self._space.copy(target, source, count)
        self._note(target, count)

    def _note(self, iova: int, count: int) -> None:
        if self.tracking and count:
            self.pages.update(range(iova // self._page, (iova + count - 1) // self._page + 1))
