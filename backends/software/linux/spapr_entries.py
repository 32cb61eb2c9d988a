"""The entries that a container on POWER makes in TCE tables, and the memory behind them."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.ioda.tce import TceAccess
from pyvfio.process import ProcessMemory
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.spapr_tce import SpaprTce
    from pyvfio_backends.software.linux.tce_table import IommuTable

__all__ = ["SpaprEntries"]


class SpaprEntries:
    """Maps and unmaps for container `owner`: version 1 pins pages as they are mapped, version 2 has them registered."""

    def __init__(self, owner: SpaprTce) -> None:
        self._owner = owner
        self._page = owner.core.kernel.page_size

    def build(
        self, table: IommuTable, entry: int, caller: ProcessMemory, address: int, pages: int, access: TceAccess
    ) -> None:
        """Map pages of the IOMMU, from an entry on, to memory of a process, in place of what was there.

        Raise OSError EFAULT (version 1: no memory that may be written, even for devices that only read), EINVAL
        (version 2: not registered, or in pages smaller than the IOMMU's), EPERM (the IOMMU's pages are larger than the
        one that is mapped), ENOMEM (no memory for a table of a lower level).  The pages before the one that failed are
        not mapped to anything then.
        """
        done = 0
        try:
            if self._owner.version2:
                for done in range(pages):
                    self._build_registered(table, entry + done, caller, address + done * table.page_size, access)
            else:
                done = self._build_pinned(table, entry, caller, address, pages, access)
                if done < pages:
                    raise fail(errno.EFAULT)
        except OSError:
            self.clear(table, entry, done)
            raise
        table.kill(entry, pages)

    def _build_pinned(
        self, table: IommuTable, entry: int, caller: ProcessMemory, address: int, pages: int, access: TceAccess
    ) -> int:
        """Pin and map; how many pages could be.

        Version 1 has the default window alone, whose pages of 4 KiB are never larger than the kernel's.
        """
        if not pages:
            return 0
        share = self._page // table.page_size  # entries that one page of the kernel has; each pins it
        memory = self._owner.core.real_memory
        if share == 1:
            try:
                real = memory.pin(caller, address, pages * self._page)
            except OSError:
                pass  # then one by one, up to the bad one
            else:
                for number in range(pages):
                    offset = number * self._page
                    self._replace(table, entry + number, real + offset, address + offset, access)
                return pages
        for number in range(pages):
            at = address + number * table.page_size
            within = at % self._page
            try:
                real = memory.pin(caller, at - within, self._page)
            except OSError:
                return number
            self._replace(table, entry + number, real + within, at, access)
        return pages

    def _build_registered(
        self, table: IommuTable, entry: int, caller: ProcessMemory, address: int, access: TceAccess
    ) -> None:
        region = self._owner.memory.find(caller, address, table.page_size)
        if region is None or table.page_shift > region.page_shift:
            raise fail(errno.EINVAL)
        if table.page_size > self._page and not region.has_page(address, table.page_size):
            raise fail(errno.EPERM)
        self._replace(table, entry, region.real + address - region.address, address, access)
        region.mapped += 1

    def _replace(self, table: IommuTable, entry: int, real: int, address: int, access: TceAccess) -> None:
        before, had = table.exchange(entry, real, access)
        if had:
            self._let_go(table, entry, before)
        table.users[entry] = address

    def _let_go(self, table: IommuTable, entry: int, real: int) -> None:
        """An entry does not show its page any more (``tce_iommu_unuse_page``, ``_v2``)."""
        address = table.users.pop(entry)
        if not self._owner.version2:
            self._owner.core.real_memory.unpin(real)
            return
        caller = self._owner.caller
        region = self._owner.memory.find(caller, address, table.page_size) if caller is not None else None
        if region is not None and region.mapped > 1:
            region.mapped -= 1

    def clear(self, table: IommuTable, entry: int, pages: int) -> None:
        """Unmap so many pages from an entry on, those that are mapped."""
        for number in table.mapped(entry, pages):
            real, had = table.exchange(number, 0, TceAccess.NONE)
            if had:
                self._let_go(table, number, real)
        table.kill(entry, pages)
