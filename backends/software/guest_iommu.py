"""The translation tables that a guest's Linux keeps for a PCI function of the host (``drivers/iommu/s390-iommu.c``).

Each mapping of the function's address space becomes entries of tables in the guest's storage, and a refresh; the
hypervisor below follows them with mappings of its own.
"""

from __future__ import annotations

import errno
from typing import Final, Protocol

from pyvfio.zpci.fib import Fib
from pyvfio.zpci.instructions import FunctionOperation, ZpciInstructions
from pyvfio.zpci.table import FRAME, Designation, Iota, page_entry, region_entry, segment_entry
from pyvfio_backends.software.linux.dma_domain import Mapping
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["GuestIommu", "KernelStorage"]

_ENTRY: Final = 8
_TABLE: Final = 2048 * _ENTRY
_PAGES: Final = 256
_INVALID: Final = 0x20
_SEGMENT_SHIFT, _REGION_SHIFT, _INDEX = 20, 31, 0x7FF


class KernelStorage(Protocol):
    """Storage of the guest's kernel, and where the memory of its programs is in the guest."""

    page_size: int

    def allocate(self, size: int) -> int: ...
    def free(self, address: int) -> None: ...
    def read(self, address: int, count: int) -> bytes: ...
    def write(self, address: int, data: bytes) -> None: ...
    def pinned_runs(self, virtual: int, length: int) -> list[tuple[int, int]]: ...


class GuestIommu:
    """The address space from `first` to `last` of the function with handle `fh` among those of `cpu` (a `Watcher`).

    Raise OSError EIO when the machine refuses it, ENOMEM when there is no storage for a table.
    """

    def __init__(self, cpu: ZpciInstructions, storage: KernelStorage, fh: int, first: int, last: int) -> None:
        self._cpu = cpu
        self._storage = storage
        self._fh = fh
        self._blocks: list[int] = []
        self._tables: dict[tuple[int, int], int] = {}
        self._root = self._table(_TABLE, _INVALID)
        fib = Fib(pba=first, pal=last, iota=Iota(self._root).to_word())
        if cpu.mpcifc(fh, 0, FunctionOperation.REGISTER_TRANSLATION, fib).cc:
            self._free()
            raise fail(errno.EIO)

    def _table(self, size: int, invalid: int) -> int:
        """A table without a valid entry, on a boundary of its size."""
        try:
            block = self._storage.allocate(2 * size if size > self._storage.page_size else size)
        except MemoryError:
            raise fail(errno.ENOMEM) from None
        self._blocks.append(block)
        at = -(-block // size) * size
        self._storage.write(at, invalid.to_bytes(_ENTRY, "big") * (size // _ENTRY))
        return at

    def _put(self, at: int, entry: int) -> None:
        self._storage.write(at, entry.to_bytes(_ENTRY, "big"))

    def _place(self, iova: int) -> int:
        """Where the page-table entry of an address is; the tables on the way are made."""
        region, segment = iova >> _REGION_SHIFT & _INDEX, iova >> _SEGMENT_SHIFT
        segments = self._tables.get((0, region))
        if segments is None:
            segments = self._tables[0, region] = self._table(_TABLE, _INVALID)
            self._put(self._root + region * _ENTRY, region_entry(segments, Designation.REGION_THIRD))
        pages = self._tables.get((1, segment))
        if pages is None:
            pages = self._tables[1, segment] = self._table(_PAGES * _ENTRY, page_entry(0, valid=False))
            self._put(segments + (segment & _INDEX) * _ENTRY, segment_entry(pages))
        return pages + (iova // FRAME % _PAGES) * _ENTRY

    def added(self, item: Mapping) -> None:
        """Map.  Raise OSError ENOMEM (nothing is mapped then), EIO when the machine refuses."""
        if item.pin is None:
            return
        iova = item.iova
        try:
            for start, length in self._storage.pinned_runs(item.pin.address + item.skip, item.size):
                for offset in range(0, length, FRAME):
                    self._put(self._place(iova), page_entry(start + offset, protected=not item.write))
                    iova += FRAME
        except OSError:
            self._invalidate(item.iova, iova - item.iova)
            raise
        answer = self._cpu.rpcit(self._fh, item.iova, item.size)
        if answer.cc:
            self.removed(item)
            raise fail(errno.ENOMEM if answer.cc == 1 else errno.EIO)

    def removed(self, item: Mapping) -> None:
        """Unmap."""
        self._invalidate(item.iova, item.size)
        self._cpu.rpcit(self._fh, item.iova, item.size)

    def _invalidate(self, iova: int, length: int) -> None:
        for offset in range(0, length, FRAME):
            self._put(self._place(iova + offset), page_entry(0, valid=False))

    def close(self) -> None:
        """Take the address space away, and free the tables."""
        self._cpu.mpcifc(self._fh, 0, FunctionOperation.DEREGISTER_TRANSLATION, Fib())
        self._free()

    def _free(self) -> None:
        for block in self._blocks:
            self._storage.free(block)
        self._blocks.clear()
        self._tables.clear()
