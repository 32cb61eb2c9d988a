"""Memory that programs registered for TCE tables before they map it (``arch/powerpc/mm/book3s64/iommu_api.c``).

It is pinned, writable, and counted as locked when it is registered; mapping it then costs nothing.  A region belongs to
the process, not to a container: several containers of a process use it together.

Pages of an IOMMU that are larger than the kernel's map regions that are made of huge pages (``MAP_HUGETLB``,
``memfd_create``) and begin and end with such a page.  Transparent huge pages are not told from others.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from pyvfio.process import ProcessMemory
from pyvfio.process.vma import Vma, covering
from pyvfio_backends.software.linux.dma_domain import LockedMemory
from pyvfio_backends.software.linux.real_memory import RealMemory
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["Region", "RegisteredMemory"]

_CHUNK_BYTES = 16 << 20
_POINTER = 8  # a chunk has as many pages as pointers fit into the largest block of the page allocator


@dataclass(eq=False, slots=True)
class Region:
    """`pages` pages from the program's `address` on, at real address `real`; `used` and `mapped` count its users."""

    address: int
    pages: int
    size: int
    real: int
    used: int = 1
    mapped: int = 1
    """One more than there are entries of tables that show it."""
    page_shift: int = 0
    """Bits of the largest page of an IOMMU that maps it (``mem->pageshift``)."""
    vmas: tuple[Vma, ...] = ()
    """The program's mappings that it was part of, if any has huge pages."""

    def has_page(self, address: int, size: int) -> bool:
        """Whether the page at an address is as large as that (``tce_page_is_contained``)."""
        return size <= max((vma.page_size for vma in self.vmas if vma.start <= address < vma.end), default=0)


class RegisteredMemory:
    """The regions of all processes."""

    def __init__(self, memory: RealMemory, locked: LockedMemory) -> None:
        self._memory = memory
        self._locked = locked
        self._page = memory.storage.page_size
        self._regions: dict[int, list[Region]] = {}

    def get(self, caller: ProcessMemory, address: int, pages: int) -> Region | None:
        """Use exactly this region once more (``mm_iommu_get``)."""
        for region in self._regions.get(caller.pid, []):
            if (region.address, region.pages) == (address, pages):
                region.used += 1
                return region
        return None

    def new(self, caller: ProcessMemory, address: int, pages: int) -> Region | int:
        """Register a region (``mm_iommu_new``).

        Raise OSError ENOMEM over the limit, or for no pages at all; EFAULT; EINVAL when it overlaps another one.  If
        only pages behind the first cannot be had, nothing is registered, and the answer is how many could: Linux 6.12
        takes this number for the result.
        """
        account = ("process", caller.pid)
        self._locked.charge(account, pages)
        try:
            if not pages:
                raise fail(errno.ENOMEM)
            try:
                real = self._memory.pin(caller, address, pages * self._page)
            except OSError:
                good = self._count(caller, address, pages) % min(_CHUNK_BYTES // _POINTER, pages)
                if not good:
                    raise
                self._locked.release(account, pages)
                return good
            end = address + pages * self._page
            others = self._regions.setdefault(caller.pid, [])
            if any(other.address < end and address < other.address + other.size for other in others):
                self._memory.unpin(real, pages)
                raise fail(errno.EINVAL)
        except OSError:
            self._locked.release(account, pages)
            raise
        region = Region(address, pages, pages * self._page, real)
        self._measure(caller, region)
        others.append(region)
        return region

    def _measure(self, caller: ProcessMemory, region: Region) -> None:
        """Find the largest page of an IOMMU that maps a region (``mm_iommu_do_alloc``).

        Behind a huge page, Linux 6.12 takes others for as large.
        """
        bits = region.address | region.size
        region.page_shift, shift = (bits & -bits).bit_length() - 1, self._page.bit_length() - 1
        if region.page_shift <= shift:
            return
        vmas = covering(region.address, region.size, caller.pid)
        for vma in vmas:
            if vma.page_size > self._page:
                shift = vma.page_size.bit_length() - 1
                region.vmas = tuple(vmas)
            region.page_shift = min(region.page_shift, shift)

    def _count(self, caller: ProcessMemory, address: int, pages: int) -> int:
        """How many pages can be had before the first that cannot."""
        for number in range(pages):
            try:
                self._memory.unpin(self._memory.pin(caller, address + number * self._page, self._page))
            except OSError:
                return number
        return pages

    def put(self, caller: ProcessMemory, region: Region) -> None:
        """Use a region no more (``mm_iommu_put``); it goes with its last user.  Raise OSError EBUSY while mapped."""
        region.used -= 1
        if region.used:
            return
        if region.mapped != 1:
            region.used += 1
            raise fail(errno.EBUSY)
        self._regions[caller.pid].remove(region)
        self._memory.unpin(region.real, region.pages)
        self._locked.release(("process", caller.pid), region.pages)

    def find(self, caller: ProcessMemory, address: int, size: int) -> Region | None:
        """The region that has all of these bytes (``mm_iommu_lookup``)."""
        for region in self._regions.get(caller.pid, []):
            if region.address <= address and address + size <= region.address + region.size:
                return region
        return None
