"""Memory for DMA: pages of this process together with the address at which a device sees them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from pyvfio.errors import Misuse, NotAvailable
from pyvfio.iommu.hugepages import huge_memory

if TYPE_CHECKING:
    from pyvfio.iommu.address_space import AddressSpace, Mapping

__all__ = ["DmaBuffer"]


class DmaBuffer:
    """Zeroed memory, mapped into `space`.  Made by `AddressSpace.buffer`; a context manager.

    `iova` is the device's address, `address` the process's, `length` in bytes; `view` are the bytes.  `page_size` is
    that of the memory's pages and `no_huge` why these are not huge, if that was asked for.  Closing order: the mapping
    first, then the memory, so that no device ever sees a freed page.
    """

    def __init__(
        self,
        space: AddressSpace,
        length: int,
        *,
        iova: int | None = None,
        below: int | None = None,
        alignment: int | None = None,
        read: bool = True,
        write: bool = True,
        huge: bool | int = False,
    ) -> None:
        if length <= 0:
            raise Misuse("make DMA buffer", cause=f"its length is {length}")
        granule = space.granule
        self.space = space
        # Memory begins at a page of this process; a machine with larger pages gets room to align.
        room = granule if granule > os.sysconf("SC_PAGE_SIZE") else 0
        self._memory, self.no_huge = huge_memory(-(-length // granule) * granule, huge, room)
        self.page_size = max(self._memory.page_size, granule)
        self.length = -(-length // self.page_size) * self.page_size
        self.address = -(-self._memory.address // granule) * granule
        self._view: memoryview | None = None
        try:
            mapping = self._map(iova, below, alignment, read=read, write=write)
        except BaseException:
            self._memory.close()
            raise
        start = self.address - self._memory.address
        self._view = self._memory.view[start : start + self.length]
        self.iova = mapping.iova
        self._mapping = mapping

    def _map(self, iova: int | None, below: int | None, alignment: int | None, *, read: bool, write: bool) -> Mapping:
        """The IOMMU can use large pages, too, where the IOVA is aligned as the memory is."""
        place, space = (self.address, self.length), self.space
        if iova is None and self.page_size > max(space.granule, alignment or 0):
            try:
                return space.map(*place, read=read, write=write, below=below, alignment=self.page_size)
            except NotAvailable:
                pass  # no such place is free; another will do
        return space.map(*place, iova, read=read, write=write, below=below, alignment=alignment)

    @property
    def view(self) -> memoryview:
        """The bytes, writable.  Raise `ValueError` after `close`."""
        if self._view is None:
            raise ValueError("the buffer was closed")
        return self._view

    def close(self) -> None:
        """Unmap, then free the memory; a second call does nothing.

        Raise `BufferError` while a slice of `view` is alive (it is unmapped then; close again when the slice is gone).
        """
        if self._view is not None:
            if self.space.mapping_at(self.iova) is self._mapping:
                self.space.unmap(self.iova, self.length)
            self._view.release()
            self._view = None
        self._memory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.close()
        except BufferError:
            if exc[0] is None:
                raise  # else the slice is in the frames of that error, which says more; the memory goes with it

    def __repr__(self) -> str:
        return f"<DmaBuffer iova={self.iova:#x} length={self.length:#x}>"
