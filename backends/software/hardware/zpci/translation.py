"""The address space that a program gives a function: DMA through translation tables in storage.

What a walk has found is kept until the program refreshes it, as the machine's translation look-aside buffer does: a
function may go on using an address whose table entry the program has changed already.  Invalid entries are not kept.

A machine that a hypervisor makes has no such buffer but tables of its own, which it fills when the program refreshes
(`RefreshedSpace`): then what became valid has to be refreshed, too, and there is room for so many translations only.

Sources: ``arch/s390/pci/pci_dma.c`` and ``drivers/iommu/s390-iommu.c`` (``tlb_refresh``; what follows status 16);
``hw/s390x/s390-pci-inst.c`` of QEMU (``rpcit_service_call``).
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.instructions import Storage, StorageError
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.function import InsufficientMappings, OnFault
from pyvfio.zpci.run import runs
from pyvfio.zpci.table import FRAME, Iota, TranslationFault, walk
from pyvfio_backends.software.hardware.dma import DmaFault

__all__ = ["NoSpace", "RefreshedSpace", "RefusedDma", "TranslatedSpace"]

_MOST_KEPT: Final = 64 * 1024


class RefusedDma(DmaFault):
    """A DMA access that ends in an error event with `code`."""

    def __init__(self, code: ErrorCode, iova: int, count: int, *, write: bool) -> None:
        super().__init__(iova, count, write=write)
        self.code = code


class NoSpace:
    """What a function without an address space has: every access is an error event (implements `DmaSpace`)."""

    def __init__(self, on_fault: OnFault) -> None:
        self._on_fault = on_fault

    def _refuse(self, iova: int, count: int, *, write: bool) -> RefusedDma:
        fault = RefusedDma(ErrorCode.INVALID_ADDRESS_SPACE, iova, count, write=write)
        self._on_fault(fault.code, iova, write)
        return fault

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        raise self._refuse(iova, count, write=False)

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        raise self._refuse(iova, len(data), write=True)

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""
        raise self._refuse(source, count, write=False)


class TranslatedSpace:
    """DMA addresses from `pba` to `pal` (inclusive) by the tables of `iota` (implements `DmaSpace`).

    `on_fault` is told of each access that is refused, before the device is.
    """

    def __init__(self, storage: Storage, iota: Iota, pba: int, pal: int, on_fault: OnFault) -> None:
        self._on_fault = on_fault
        self.iota = iota
        self.pba = pba
        self.pal = pal
        self._storage = storage
        self._kept: dict[int, tuple[int, bool]] = {}

    @property
    def kept(self) -> int:
        """How many pages are kept."""
        return len(self._kept)

    def translate(self, iova: int, count: int = 1, *, write: bool = False) -> int:
        """The absolute address of a byte.  Raise `RefusedDma` (for an access of `count` bytes)."""
        if not self.pba <= iova <= self.pal:
            raise RefusedDma(ErrorCode.OUT_OF_RANGE, iova, count, write=write)
        page = iova & -FRAME
        found = self._kept.get(page)
        if found is None:
            try:
                found = self._find(page)
            except TranslationFault as fault:
                raise RefusedDma(fault.code, iova, count, write=write) from None
        address, protected = found
        if write and protected:
            raise RefusedDma(ErrorCode.TABLE_PROTECTED, iova, count, write=True)
        return address + iova - page

    def _find(self, page: int) -> tuple[int, bool]:
        """What the tables say of a page that is not kept.  Raise `TranslationFault`."""
        leaf = walk(self._storage, self.iota, page)
        if leaf.address is None:
            raise TranslationFault(ErrorCode.INVALID_TABLE_ENTRY, page)
        if len(self._kept) >= _MOST_KEPT:
            self._kept.clear()
        found = self._kept[page] = (leaf.address + (page - leaf.iova), leaf.protected)
        return found

    def refresh(self, start: int, length: int) -> None:
        """Forget what was kept of `length` bytes from `start` on."""
        end = start + length
        if length // FRAME > len(self._kept):
            for page in [page for page in self._kept if start < page + FRAME and page < end]:
                del self._kept[page]
        else:
            for page in range(start & -FRAME, end, FRAME):
                self._kept.pop(page, None)

    def _pieces(self, iova: int, count: int, *, write: bool) -> list[tuple[int, int]]:
        """The absolute (address, bytes) of an access; all of it is translated before anything is moved."""
        pieces, done = [], 0
        while done < count:
            at = iova + done
            room = min(count - done, FRAME - at % FRAME)
            pieces.append((self.translate(at, count, write=write), room))
            done += room
        return pieces

    def _fetch(self, pieces: list[tuple[int, int]], iova: int, count: int, *, write: bool) -> bytes:
        """What lies there now.  Raise `RefusedDma` where there is no storage."""
        found = []
        for address, size in pieces:
            try:
                found.append(self._storage.read(address, size))
            except StorageError:
                at = iova + sum(map(len, found))
                raise RefusedDma(ErrorCode.ADDRESS_PROTECTED, at, count, write=write) from None
        return b"".join(found)

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        try:
            return self._fetch(self._pieces(iova, count, write=False), iova, count, write=False)
        except RefusedDma as fault:
            raise self._told(fault) from None

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        try:
            pieces, done = self._pieces(iova, len(data), write=True), 0
            self._fetch(pieces, iova, len(data), write=True)
            for address, size in pieces:
                self._storage.write(address, data[done : done + size])
                done += size
        except RefusedDma as fault:
            raise self._told(fault) from None

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""
        self.write(target, self.read(source, count))

    def close(self) -> None:
        """Forget everything that was kept."""
        self._kept.clear()

    def _told(self, fault: RefusedDma) -> RefusedDma:
        self._on_fault(fault.code, fault.iova, fault.write)
        return fault


class RefreshedSpace(TranslatedSpace):
    """The same with at most `most` translations of pages, which are taken in when the program refreshes them."""

    def __init__(self, storage: Storage, iota: Iota, pba: int, pal: int, on_fault: OnFault, most: int) -> None:
        super().__init__(storage, iota, pba, pal, on_fault)
        self._most = most

    def _find(self, page: int) -> tuple[int, bool]:
        raise TranslationFault(ErrorCode.INVALID_TABLE_ENTRY, page)

    def refresh(self, start: int, length: int) -> None:
        """Make the translations of a range what the tables say: forget what is not so, then take in what is new.

        Raise `TranslationFault` for tables that are wrong, `InsufficientMappings` when not all had room.
        """
        first, end = max(start & -FRAME, self.pba), min(start + length + FRAME - 1 & -FRAME, self.pal + 1)
        for page in [page for page in self._kept if first <= page < end]:
            if self._kept[page] != self._said(page):
                del self._kept[page]
        for run in runs(self._storage, self.iota, first, max(first, end)):
            for done in range(0, run.length, FRAME):
                page = run.iova + done
                if page not in self._kept and len(self._kept) >= self._most:
                    raise InsufficientMappings
                self._kept[page] = (run.address + done, run.protected)

    def _said(self, page: int) -> tuple[int, bool] | None:
        try:
            leaf = walk(self._storage, self.iota, page)
        except TranslationFault:
            return None
        return None if leaf.address is None else (leaf.address + (page - leaf.iova), leaf.protected)
