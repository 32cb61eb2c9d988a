"""Pages of programs in iommufd: what was given to one IOAS_MAP, and the areas of address spaces that show it.

Several areas may share `Pages` (IOAS_COPY, or a cut by a version 1 unmap).  A page is charged once however many areas
and accesses hold it (``drivers/iommu/iommufd/pages.c``).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pyvfio.process import Pin, ProcessMemory, shows_shared_memory
from pyvfio_backends.software.linux.dma_domain import Mapping
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_core import VfioCore

__all__ = ["Area", "Pages"]


class Pages:
    """The memory of `caller` from the page of `address` on; `writable` if the first mapping was.

    `by_process` chooses the account, as IOMMU_OPTION_RLIMIT_MODE does: the process, else the user.
    """

    __slots__ = ("_counts", "_memory", "_page", "_pid", "account", "base", "caller", "origin", "writable")

    def __init__(self, core: VfioCore, caller: ProcessMemory, address: int, writable: bool, by_process: bool) -> None:
        self._memory = core.locked
        self._page = core.kernel.page_size
        self._pid = caller.pid
        self.caller = caller
        self.base = address - address % self._page
        self.origin = self.base
        """What an IOVA that the kernel chooses is aligned like."""
        self.writable = writable
        self.account = ("process", caller.pid) if by_process else ("user", 0)
        self._counts: dict[int, int] = {}

    def require(self, start: int, length: int) -> None:
        """The pages in `length` bytes at address `start` are to be pinned.

        Raise OSError EFAULT for the memory of a device, which has none (``check_vma_flags``).
        """
        if self.caller.pid == os.getpid() and shows_shared_memory(start, length):
            raise fail(errno.EFAULT)

    def require_access(self, first: int, length: int) -> None:
        """A mediated device copies `length` bytes from byte `first` on.  Raise OSError."""

    def pin(self, start: int, length: int) -> Pin | None:
        """Pin the pages there; None when devices cannot have them any more.  Raise OSError EFAULT, EINVAL or ENOMEM."""
        self.require(start, length)
        return Pin(self.caller, start, length, writable=self.writable)

    def hold(self, first: int, last: int) -> None:
        """Charge pages number `first` to `last` where nobody holds them yet.  Raise OSError ENOMEM."""
        if not self._memory.limited and self.account[0] != "process":
            return  # counting takes time, and limits nothing
        numbers = range(first, last + 1)
        fresh = sum(1 for number in numbers if number not in self._counts)
        self._memory.charge(self.account, fresh)
        self._memory.pinned(self._pid, fresh)  # mm->pinned_vm (do_update_pinned)
        for number in numbers:
            self._counts[number] = self._counts.get(number, 0) + 1

    def drop(self, first: int, last: int) -> None:
        """Undo `hold`."""
        freed = 0
        for number in range(first, last + 1):
            count = self._counts.get(number, 0)
            if count == 1:
                del self._counts[number]
                freed += 1
            elif count:
                self._counts[number] = count - 1
        if freed:
            self._memory.release(self.account, freed)
            self._memory.pinned(self._pid, -freed)


class Area(Mapping):
    """A mapping of an address space: `pages` from byte `start` on.

    `prevented` is set while the area is being unmapped and its users have not let go yet.
    """

    __slots__ = ("_page", "pages", "prevented", "start")

    def __init__(
        self, page_size: int, iova: int, last: int, pages: Pages, start: int, *, read: bool, write: bool
    ) -> None:
        super().__init__(iova, last, pages.caller, pages.base + start, read, write)
        self._page = page_size
        self.pages = pages
        self.start = start
        self.prevented = False

    @property
    def page_offset(self) -> int:
        """Offset of the first byte in its page."""
        return self.start % self._page

    def byte(self, iova: int) -> int:
        """Where in `pages` an address is."""
        return self.start + iova - self.iova

    def fill(self) -> None:
        """Pin all pages for an IOMMU.  Raise OSError EFAULT, EINVAL or ENOMEM."""
        first, last = self.start // self._page, self.byte(self.last) // self._page
        start, length = self.pages.base + first * self._page, (last - first + 1) * self._page
        pin = self.pages.pin(start, length)
        try:
            self.pages.hold(first, last)
        except OSError:
            if pin is not None:
                pin.close()
            raise
        self.pin = pin
        self.skip = self.page_offset

    def unfill(self) -> None:
        """No IOMMU has the area any more."""
        if self.pin is not None:
            self.close()
            self.pages.drop(self.start // self._page, self.byte(self.last) // self._page)

    def pin_page(self, number: int, write: bool) -> int:
        """Pin page `number` of `pages` for an access; its virtual address.  Raise OSError EFAULT, EPERM or ENOMEM."""
        address = self.pages.base + number * self._page
        if write and not self.pages.writable:
            raise fail(errno.EPERM)
        held = self.pins.get(number, 0)
        if not held:
            self.pages.require(address, self._page)
            Pin(self.caller, address, self._page, writable=self.pages.writable).close()
            self.pages.hold(number, number)
        self.pins[number] = held + 1
        return address

    def unpin_page(self, number: int) -> None:
        """Undo `pin_page`."""
        held = self.pins.get(number, 0)
        if held > 1:
            self.pins[number] = held - 1
        elif held:
            del self.pins[number]
            self.pages.drop(number, number)
