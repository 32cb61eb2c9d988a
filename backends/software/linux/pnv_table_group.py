"""The table group of an endpoint on bare-metal POWER: the kernel's own DMA windows, and those of programs.

Source: ``arch/powerpc/platforms/powernv/pci-ioda.c`` of Linux 6.12 (pnv_pci_ioda2_ops, _setup_default_config).

While the kernel has the endpoint, window 0 has tables for 32-bit addresses and window 1 is real memory; a program gets
it without windows.  A refusal of the firmware becomes an errno by its number, as there: ``OPAL_PARAMETER`` is EPERM.
"""

from __future__ import annotations

import errno

from pyvfio.abi import opal as api
from pyvfio.abi.opal import OpalTceKill
from pyvfio.errors import Misuse
from pyvfio.ioda.window import MOST_LEVELS, SECOND_WINDOW, DmaWindow, window_start
from pyvfio_backends.software.hardware.ioda.opal import Opal
from pyvfio_backends.software.linux.tce_table import MOST_TABLES, IommuTable, MemoryTable
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.memory import HostMemory

__all__ = ["PnvTableGroup"]

_DEFAULT_LEVELS = 2
_ENTRY_SHIFT = 3
_MOST_LEVEL_SHIFT = 24  # the largest block of the page allocator: order 12 of 4 KiB, order 8 of 64 KiB


def _log2(value: int) -> int:
    return value.bit_length() - 1


class PnvTableGroup:
    """The group of `endpoint` of bridge `phb_id`; see `TableGroup`.

    `dma32_size` is where the bridge's 32-bit window begins on the bus, `memory_size` the machine's memory, of which
    `storage` is the kernel's part.
    """

    kind = "pnv_pci_ioda2_ops"
    dma32_start = 0
    max_windows = MOST_TABLES
    max_levels = MOST_LEVELS

    def __init__(
        self, opal: Opal, phb_id: int, endpoint: int, storage: HostMemory, *, dma32_size: int, memory_size: int
    ) -> None:
        self._opal = opal
        self._phb_id = phb_id
        self._endpoint = endpoint
        self._storage = storage
        self._memory_size = memory_size
        self._host_shift = _log2(storage.page_size)
        self.dma32_size = dma32_size
        self.page_sizes = opal.phbs[phb_id].model.page_sizes
        self.tables: list[IommuTable | None] = [None] * MOST_TABLES
        self._own: MemoryTable | None = None
        self._set_up()

    # the kernel's own DMA

    def _set_up(self) -> None:
        """Window 0 as large as memory, in as many levels as the page allocator needs; window 1 for all memory."""
        shift = self._host_shift
        size = min(1 << _MOST_LEVEL_SHIFT + _ENTRY_SHIFT + shift, 1 << _log2(self._memory_size))
        levels = max(-(-(_log2(size) - shift) // (_MOST_LEVEL_SHIFT - _ENTRY_SHIFT)), _DEFAULT_LEVELS)
        self._own = self._table(0, shift, size, levels, allocated=0)
        self.set_window(0, self._own)
        self._bypass(1 << (self._memory_size - 1).bit_length())

    def _bypass(self, size: int) -> None:
        self._opal.pci_map_pe_dma_window_real(self._phb_id, self._endpoint, self._window(1), SECOND_WINDOW, size)

    def take_ownership(self) -> None:
        """See `TableGroup.take_ownership`."""
        own, self._own = self._own, None
        if own is None:
            return
        self._bypass(0)
        self.unset_window(0)
        own.free()

    def release_ownership(self) -> None:
        """See `TableGroup.release_ownership`."""
        if self.tables[0] is None:
            self._set_up()

    # windows

    def _window(self, number: int) -> int:
        return 2 * self._endpoint + number

    def table_size(self, page_shift: int, size: int, levels: int) -> int:
        """See `TableGroup.table_size`; 0 too for tables that would cover more addresses than a window can have."""
        try:
            return self._dma_window(page_shift, size, levels).table_bytes
        except Misuse:
            return 0

    def _dma_window(self, page_shift: int, size: int, levels: int) -> DmaWindow:
        """The window; one that is a little smaller than a page is one page.  Raise `Misuse`.

        For such a one Linux 6.12 computes with a number of bits below zero, which its rounding makes one of zero when
        there are more levels than bits are missing, or one level and at most the three bits of an entry's size.
        """
        missing = page_shift - _log2(size)
        if 0 < missing < levels or (levels == 1 and 0 < missing <= _ENTRY_SHIFT):
            size <<= missing
        return DmaWindow(size, page_shift, levels, self._host_shift)

    def create_table(self, number: int, page_shift: int, size: int, levels: int) -> IommuTable:
        """See `TableGroup.create_table`.  Raise OSError EINVAL for no such window, ENOMEM for too large a level."""
        return self._table(number, page_shift, size, levels, allocated=self.table_size(page_shift, size, levels))

    def _table(self, number: int, page_shift: int, size: int, levels: int, *, allocated: int) -> MemoryTable:
        try:
            window = self._dma_window(page_shift, size, levels)
            if window.level_shift > _MOST_LEVEL_SHIFT:
                raise fail(errno.ENOMEM)
            return MemoryTable(window_start(number), window, self._storage, allocated=allocated)
        except Misuse as error:
            raise fail(errno.EINVAL) from error
        except MemoryError as error:
            raise fail(errno.ENOMEM) from error

    def set_window(self, number: int, table: IommuTable) -> None:
        """See `TableGroup.set_window`."""
        if not isinstance(table, MemoryTable):
            raise fail(errno.EINVAL)
        entry = table.tces.entry
        code = self._opal.pci_map_pe_dma_window(
            *(self._phb_id, self._endpoint, self._window(number)),
            *(entry.levels, entry.table, entry.table_size, table.page_size),
        )
        if code:
            raise fail(-code)
        self.tables[number] = table
        table.groups.append(self)
        self._kill_all()

    def unset_window(self, number: int) -> None:
        """See `TableGroup.unset_window`."""
        code = self._opal.pci_map_pe_dma_window(self._phb_id, self._endpoint, self._window(number), 0, 0, 0, 0)
        if code == api.OPAL_SUCCESS:
            self._kill_all()
        table, self.tables[number] = self.tables[number], None
        if table is not None:
            table.groups.remove(self)

    def _kill_all(self) -> None:
        self._opal.pci_tce_kill(self._phb_id, OpalTceKill.PE, self._endpoint, 0, 0, 0)

    def kill(self, table: IommuTable, entry: int, pages: int) -> None:
        """See `TableGroup.kill`."""
        self._opal.pci_tce_kill(
            self._phb_id, OpalTceKill.PAGES, self._endpoint, table.page_size, entry << table.page_shift, pages
        )
