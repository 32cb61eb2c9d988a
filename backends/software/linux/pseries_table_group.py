"""The table group of a guest's host bridge: the default DMA window, and dynamic ones (DDW).

::

    device tree                         hypervisor
    ibm,dma-window                      the default window: 1 GiB from 0 on, pages of 4 KiB
    linux,dma64-ddr-window-info         the one that ibm,create-pe-dma-window made

The kernel owns the default window until a program comes.  That one finds no window; what it makes first, if it fits the
default window, is that (after ibm,reset-pe-dma-window), and everything else is a new one of the hypervisor's.  Taking
the default window from a program only takes its property out of the device tree: the hypervisor keeps it, and a window
that is made then begins at the second place.  Once the hypervisor has refused a window, none is asked for again.
Source: ``arch/powerpc/platforms/pseries/iommu.c`` of Linux 6.12 (spapr_tce_table_group_ops).
"""

from __future__ import annotations

import errno

from pyvfio.abi import papr
from pyvfio.ioda.tce import TceAccess, tce_address
from pyvfio.ioda.window import ENTRY_SIZE
from pyvfio_backends.software.hardware.spapr.dma import DEFAULT_SHIFT, DEFAULT_SIZE
from pyvfio_backends.software.hardware.spapr.hypervisor import Hypervisor
from pyvfio_backends.software.hardware.spapr.phb import LogicalPhb
from pyvfio_backends.software.linux.tce_table import MOST_TABLES, IommuTable
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["HypervisorTable", "PseriesTableGroup"]

_MOST_LEVELS = 1
_TOO_LARGE = 0xFFFFFFFF  # the size of tables with levels, which cannot be
_BOTH = TceAccess.READ | TceAccess.WRITE
_ENTRY_SHIFT = ENTRY_SIZE.bit_length() - 1


class HypervisorTable(IommuTable):
    """Table `liobn` of the hypervisor."""

    def __init__(
        self, hypervisor: Hypervisor, liobn: int, start: int, page_shift: int, entries: int, *, allocated: int = 0
    ) -> None:
        super().__init__(start, page_shift, entries, allocated=allocated)
        self.liobn = liobn
        self._hypervisor = hypervisor

    def exchange(self, entry: int, real: int, access: TceAccess) -> tuple[int, TceAccess]:
        """See `IommuTable.exchange` (``tce_exchange_pseries``): what may only be written may not be read.

        Raise OSError with what the hypervisor answered for an errno, as Linux does.
        """
        address = entry << self.page_shift
        code, before = self._hypervisor.get_tce(self.liobn, address)
        if not code:
            code = self._hypervisor.put_tce(self.liobn, address, real | access if access else 0)
        if code:
            raise fail(-code)
        return tce_address(before, self.page_shift), TceAccess(before & _BOTH)

    def free(self) -> None:
        """See `IommuTable.free`: the hypervisor's memory is its own business."""


class PseriesTableGroup:
    """The group of bridge `phb`; see `TableGroup`."""

    kind = "spapr_tce_table_group_ops"
    dma32_start = 0
    dma32_size = DEFAULT_SIZE
    max_levels = _MOST_LEVELS

    def __init__(self, hypervisor: Hypervisor, phb: LogicalPhb) -> None:
        self._hypervisor = hypervisor
        self._buid = phb.buid
        self._default_liobn = phb.dma.tables[0].liobn
        _, left = hypervisor.query_windows(phb.buid)
        self.max_windows = MOST_TABLES if left.windows else 1
        self.page_sizes = sum(1 << shift for bit, shift in enumerate(papr.PAGE_SHIFTS) if left.page_sizes >> bit & 1)
        self.tables: list[IommuTable | None] = [None] * MOST_TABLES
        self.default_told = True
        """Whether the device tree tells of the default window."""
        self.dynamic: int | None = None
        """The LIOBN of the dynamic window, if there is one."""
        self.refused = False
        """Whether the hypervisor has once refused a window."""
        self.tables[0] = self._default(DEFAULT_SIZE)

    def _default(self, size: int, *, allocated: int = 0) -> HypervisorTable:
        entries = size >> DEFAULT_SHIFT
        return HypervisorTable(self._hypervisor, self._default_liobn, 0, DEFAULT_SHIFT, entries, allocated=allocated)

    # the kernel's own DMA

    def take_ownership(self) -> None:
        """See `TableGroup.take_ownership`: what is no dynamic window goes from the device tree alone."""
        if self.tables[0] is not None:
            self.default_told = False
            self.tables[0] = None

    def release_ownership(self) -> None:
        """See `TableGroup.release_ownership` (``pseries_setup_default_iommu_config``)."""
        if self.tables[0] is None:
            self._restore()
            self.tables[0] = self._default(DEFAULT_SIZE)

    def _restore(self) -> None:
        self._hypervisor.reset_windows(self._buid)
        self.default_told = True

    # windows

    def table_size(self, page_shift: int, size: int, levels: int) -> int:
        """See `TableGroup.table_size`."""
        return _TOO_LARGE if levels > _MOST_LEVELS else size >> page_shift - _ENTRY_SHIFT

    def create_table(self, number: int, page_shift: int, size: int, levels: int) -> IommuTable:
        """See `TableGroup.create_table`.

        Raise OSError EINVAL for a size that is no power of two, or larger than there can be, and for levels; EPERM for
        a window 0 while there is a dynamic one; ENODEV when the hypervisor refuses it, and from then on.
        """
        if not size or size & (size - 1) or levels > _MOST_LEVELS:
            raise fail(errno.EINVAL)
        if self.refused:
            raise fail(errno.ENODEV)
        allocated = self.table_size(page_shift, size, levels)
        fits = size <= DEFAULT_SIZE and page_shift == DEFAULT_SHIFT
        if number == 0 and (not fits or not self.default_told):
            if self.dynamic is not None:
                raise fail(errno.EPERM)
            if fits:
                self._restore()
                return self._keep(number, self._default(size, allocated=allocated))
        return self._keep(number, self._create(page_shift, size.bit_length() - 1, allocated))

    def _keep(self, number: int, table: HypervisorTable) -> IommuTable:
        self.tables[number] = table
        return table

    def _create(self, page_shift: int, window_shift: int, allocated: int) -> HypervisorTable:
        """A dynamic window."""
        _, left = self._hypervisor.query_windows(self._buid)
        pages = 1 << max(window_shift - page_shift, 0)
        if pages > left.largest_block:
            raise fail(errno.EINVAL)
        _, made = self._hypervisor.create_window(self._buid, page_shift, window_shift)
        if made is None:
            self.refused = True
            raise fail(errno.ENODEV)
        self.dynamic = made.liobn
        return HypervisorTable(self._hypervisor, made.liobn, made.start, page_shift, pages, allocated=allocated)

    def set_window(self, number: int, table: IommuTable) -> None:
        """See `TableGroup.set_window`.  Raise OSError EPERM for a table that is another group's."""
        if self.tables[number] is not table:
            raise fail(errno.EPERM)
        table.groups.append(self)

    def unset_window(self, number: int) -> None:
        """See `TableGroup.unset_window`: a default window stays the hypervisor's."""
        table = self.tables[number]
        if table is None:
            return
        if number == 0 and table.entries << table.page_shift <= DEFAULT_SIZE and table.page_shift == DEFAULT_SHIFT:
            told, self.default_told = self.default_told, False
        else:
            told = self.dynamic is not None
            if self.dynamic is not None:
                self._hypervisor.remove_window(self.dynamic)
                self.dynamic = None
        if not told:
            self.refused = True
            return
        if self in table.groups:
            table.groups.remove(self)
        self.tables[number] = None

    def kill(self, table: IommuTable, entry: int, pages: int) -> None:
        """See `TableGroup.kill`: the hypervisor sees to that."""
