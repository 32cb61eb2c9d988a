"""Tables of TCEs as the kernel keeps them (``struct iommu_table``), and what a platform does with them for a group.

::

    IommuTable                   what containers use
      MemoryTable                bare metal: the kernel writes entries into memory, and the bridge reads them there
      (pseries_table_group)      a guest: the hypervisor has the table, and entries are set by its calls

Source: ``arch/powerpc/include/asm/iommu.h``, ``platforms/powernv/pci-ioda-tce.c`` of Linux 6.12.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import Protocol

from pyvfio.ioda.table import TceTable
from pyvfio.ioda.tce import TceAccess, tce_address
from pyvfio.ioda.window import ENTRY_SIZE, DmaWindow
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.memory import HostMemory

__all__ = ["MOST_TABLES", "IommuTable", "MemoryTable", "TableGroup"]

MOST_TABLES = 2
"""Windows of a group (``IOMMU_TABLE_GROUP_MAX_TABLES``)."""
_BOTH = TceAccess.READ | TceAccess.WRITE


class IommuTable(ABC):
    """The table of a window of `entries` pages that begins at bus address `start`; entries count from bus address 0.

    `allocated` are the bytes that count as its program's locked memory.  `users` has the program's address of each
    entry that is mapped (``it_userspace``), `groups` who uses it.
    """

    def __init__(self, start: int, page_shift: int, entries: int, *, allocated: int = 0) -> None:
        self.page_shift = page_shift
        self.offset = start >> page_shift
        self.entries = entries
        self.allocated = allocated
        self.users: dict[int, int] = {}
        self.groups: list[TableGroup] = []

    @property
    def start(self) -> int:
        """The bus address of its first page."""
        return self.offset << self.page_shift

    @property
    def page_size(self) -> int:
        """Bytes of a page of the IOMMU."""
        return 1 << self.page_shift

    def has(self, address: int) -> bool:
        """Whether a bus address is in the window."""
        return self.offset <= address >> self.page_shift < self.offset + self.entries

    def mapped(self, entry: int, pages: int) -> list[int]:
        """Which of so many entries are mapped."""
        if pages < len(self.users):
            return [one for one in range(entry, entry + pages) if one in self.users]
        return sorted(one for one in self.users if entry <= one < entry + pages)

    @abstractmethod
    def exchange(self, entry: int, real: int, access: TceAccess) -> tuple[int, TceAccess]:
        """Replace an entry (``it_ops->xchg_no_kill``): the real address and the access that were there.

        Raise OSError when it cannot be; nothing is changed then.
        """

    def kill(self, entry: int, pages: int) -> None:
        """Have the bridges of its groups read entries again (``iommu_tce_kill``)."""
        for group in self.groups:
            group.kill(self, entry, pages)

    @abstractmethod
    def free(self) -> None:
        """Nobody uses it any more."""


class MemoryTable(IommuTable):
    """A table in the memory `storage` (``pnv_pci_ioda2_table_alloc_pages``).

    A window with fewer entries than a page of the kernel has room for gets that many (``it_size``).
    """

    def __init__(self, start: int, window: DmaWindow, storage: HostMemory, *, allocated: int = 0) -> None:
        entries = max(window.pages, storage.page_size // ENTRY_SIZE)
        super().__init__(start, window.page_shift, entries, allocated=allocated)
        whole = DmaWindow(entries << self.page_shift, self.page_shift, window.levels, window.host_shift)
        self._storage = storage
        self.tces = TceTable(whole, storage, storage.allocate)

    def exchange(self, entry: int, real: int, access: TceAccess) -> tuple[int, TceAccess]:
        """See `IommuTable.exchange` (``pnv_tce_xchg``): what may be written may be read too.

        Raise OSError ENOMEM when there is no memory for a table of a lower level.
        """
        if access & TceAccess.WRITE:
            access = _BOTH
        try:
            before = self.tces.set(entry - self.offset, real, access)
        except MemoryError as error:
            raise fail(errno.ENOMEM) from error
        return tce_address(before, self.page_shift), TceAccess(before & _BOTH)

    def free(self) -> None:
        """See `IommuTable.free`: give the memory of all levels back."""
        for address in self.tces.tables:
            self._storage.free(address)
        self.tces.tables.clear()


class TableGroup(Protocol):
    """What stands behind an IOMMU group on POWER (``struct iommu_table_group`` and its operations).

    All methods that can fail raise OSError.
    """

    dma32_start: int
    dma32_size: int
    """The window for 32-bit addresses that programs find when they come."""
    page_sizes: int
    """A bit for each size of a page."""
    max_windows: int
    """How many windows programs can make; 0: none."""
    max_levels: int

    @property
    def kind(self) -> object:
        """Groups of one kind can share tables (``ops->create_table``)."""

    def table_size(self, page_shift: int, size: int, levels: int) -> int:
        """Bytes that the tables of a window may take, with the copy of the program's addresses; 0: no such window."""

    def create_table(self, number: int, page_shift: int, size: int, levels: int) -> IommuTable:
        """Make the table of window `number`."""

    def set_window(self, number: int, table: IommuTable) -> None:
        """Have window `number` go through a table."""

    def unset_window(self, number: int) -> None:
        """Have no window `number`."""

    def kill(self, table: IommuTable, entry: int, pages: int) -> None:
        """Have the bridge read entries of a table again."""

    def take_ownership(self) -> None:
        """DMA is a program's from now on: the kernel's own windows go."""

    def release_ownership(self) -> None:
        """DMA is the kernel's again."""
