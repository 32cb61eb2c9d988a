"""The DMA windows of a container on POWER: made, found by address, given to groups and removed."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.tce_table import MOST_TABLES, IommuTable
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.spapr_tce import SpaprTce
    from pyvfio_backends.software.linux.tce_table import TableGroup

__all__ = ["SpaprWindows"]

_DEFAULT_SHIFT, _DEFAULT_LEVELS = 12, 1
_SHIFTS = 64


class SpaprWindows:
    """The windows of container `owner`.

    `default_pending`: the default window, for 32-bit addresses, is there for programs, but its table comes when it is
    first needed.
    """

    def __init__(self, owner: SpaprTce) -> None:
        self._owner = owner
        self.tables: list[IommuTable | None] = [None] * MOST_TABLES
        self.default_pending = False

    def find(self, address: int) -> IommuTable | None:
        """The window that a bus address is in."""
        return next((table for table in self.tables if table is not None and table.has(address)), None)

    def create_default(self) -> None:
        """Make the default window if it is still to come.  Raise OSError ENODEV, or what `create` does."""
        if not self.default_pending:
            return
        group = self._owner.first
        if group is None:
            raise fail(errno.ENODEV)
        self.create(_DEFAULT_SHIFT, group.dma32_size, _DEFAULT_LEVELS)
        self.default_pending = False

    def create(self, page_shift: int, size: int, levels: int) -> int:
        """Make a window in the first free place, for all groups; the bus address that it begins at.

        Raise OSError ENOSPC for one too many, before anything else is looked at; EINVAL for a size of pages, a size or
        levels that cannot be; ENOMEM over the limit of locked memory, or for too large a level.  What was counted as
        locked for a window that could not be made after all stays counted, as in Linux 6.12.
        """
        number = next((number for number, table in enumerate(self.tables) if table is None), None)
        if number is None:
            raise fail(errno.ENOSPC)
        first = self._owner.first
        if first is None:
            raise fail(errno.EFAULT)
        # The kernel shifts by the number as it is: beyond a word, the processor takes what is left of it as no bit.
        if page_shift >= _SHIFTS or not first.page_sizes >> page_shift & 1:
            raise fail(errno.EINVAL)
        allocated = first.table_size(page_shift, size, levels)
        if not allocated:
            raise fail(errno.EINVAL)
        self._owner.charge(allocated // self._owner.core.kernel.page_size)
        table = first.create_table(number, page_shift, size, levels)
        groups = self._owner.table_groups
        try:
            for group in groups:
                group.set_window(number, table)
        except OSError:
            for group in groups:
                group.unset_window(number)
            self._free(table)
            raise
        self.tables[number] = table
        return table.start

    def remove(self, address: int) -> None:
        """Remove the window that has an address, wherever in it that is.  Raise OSError EINVAL when none has it."""
        table = self.find(address)
        if table is None:
            raise fail(errno.EINVAL)
        number = self.tables.index(table)
        self._owner.entries.clear(table, table.offset, table.entries)
        for group in self._owner.table_groups:
            group.unset_window(number)
        self._free(table)
        self.tables[number] = None

    def give_to(self, group: TableGroup) -> None:
        """Give all windows to a group that comes.  Raise OSError; it has none then."""
        try:
            for number, table in enumerate(self.tables):
                if table is not None:
                    group.set_window(number, table)
        except OSError:
            for number in range(MOST_TABLES):
                group.unset_window(number)
            raise

    def take_from(self, group: TableGroup) -> None:
        """Clear all windows, and take them from a group that goes."""
        for number, table in enumerate(self.tables):
            if table is not None:
                self._owner.entries.clear(table, table.offset, table.entries)
                group.unset_window(number)

    def free(self) -> None:
        """Free all tables; no group uses them any more."""
        for table in self.tables:
            if table is not None:
                self._free(table)
        self.tables = [None] * MOST_TABLES

    def _free(self, table: IommuTable) -> None:
        table.free()
        self._owner.charge(-(table.allocated // self._owner.core.kernel.page_size))
