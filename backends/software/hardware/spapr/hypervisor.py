"""The hypervisor of a guest on POWER: what the guest's kernel calls for its PCI devices.

======================  ======================================================================
`put_tce`, `get_tce`    set and read an entry of a table (H_PUT_TCE, H_GET_TCE)
`query_windows`         how many more DMA windows there can be (ibm,query-pe-dma-window)
`create_window`         make one (ibm,create-pe-dma-window)
`remove_window`         take one away (ibm,remove-pe-dma-window)
`reset_windows`         have the default window alone (ibm,reset-pe-dma-window)
`take_messages`         give a function interrupts for its messages (ibm,change-msi)
======================  ======================================================================

Bridges are named by their bus unit id, tables by their LIOBN.  Each call answers with a code, 0 for success.
Source: ``hw/ppc/spapr_iommu.c``, ``spapr_rtas_ddw.c``, ``spapr_pci.c`` of QEMU 10.0; the POWER lab's recording of its
pseries guest has the answers that are numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pyvfio.abi import papr
from pyvfio_backends.software.hardware.pcie.host_bridges import HostBridges
from pyvfio_backends.software.hardware.spapr.dma import MOST_WINDOWS, LogicalTable
from pyvfio_backends.software.hardware.spapr.phb import MESSAGES, LogicalPhb

__all__ = ["Hypervisor", "LogicalBridges", "WindowsLeft"]

_LARGEST_BLOCK: Final = 0x2000000000
_ENTRIES_END: Final = 1 << 32
"""A table has fewer entries: QEMU keeps their number in 32 bits, though it says that there can be more."""
_SHIFTS: Final = (12, 16, 24, 21)
_FIRST_MESSAGE, _END_OF_MESSAGES = 0x1300, 0x2000


class LogicalBridges(HostBridges[LogicalPhb]):
    """The host bridges of a guest, by segment."""


@dataclass(frozen=True)
class WindowsLeft:
    """What is left for a bridge: how many windows, the most pages of one, and a bit for each size of a page."""

    windows: int
    largest_block: int
    page_sizes: int


class Hypervisor:
    """The hypervisor of a guest with the bridges `phbs`."""

    def __init__(self, phbs: Iterable[LogicalPhb]) -> None:
        self._phbs = {phb.buid: phb for phb in phbs}
        self._taken: set[int] = set()

    # tables

    def table(self, liobn: int) -> LogicalTable | None:
        """The table with a number, if it is in use."""
        every = (table for phb in self._phbs.values() for table in phb.dma.active)
        return next((table for table in every if table.liobn == liobn), None)

    def _place(self, liobn: int, address: int) -> tuple[LogicalTable, int] | None:
        table = self.table(liobn)
        page = table.entry(address) if table is not None else None
        return (table, page) if table is not None and page is not None else None

    def put_tce(self, liobn: int, address: int, tce: int) -> int:
        """Have the page of a bus address be what a TCE says.  H_PARAMETER: no such table, or outside of its window."""
        place = self._place(liobn, address)
        if place is None:
            return papr.H_PARAMETER
        table, page = place
        if tce:
            table.entries[page] = tce
        else:
            table.entries.pop(page, None)
        return papr.H_SUCCESS

    def get_tce(self, liobn: int, address: int) -> tuple[int, int]:
        """The code, and the TCE of a bus address.  Errors as `put_tce`."""
        place = self._place(liobn, address)
        if place is None:
            return papr.H_PARAMETER, 0
        table, page = place
        return papr.H_SUCCESS, table.entries.get(page, 0)

    # windows

    def query_windows(self, buid: int) -> tuple[int, WindowsLeft]:
        """The code, and what is left."""
        phb = self._phbs.get(buid)
        if phb is None:
            return papr.RTAS_INVALID_PARAMETER, WindowsLeft(0, 0, 0)
        sizes = sum(1 << papr.PAGE_SHIFTS.index(shift) for shift in _SHIFTS)
        return papr.RTAS_SUCCESS, WindowsLeft(MOST_WINDOWS - len(phb.dma.active), _LARGEST_BLOCK, sizes)

    def create_window(self, buid: int, page_shift: int, window_shift: int) -> tuple[int, LogicalTable | None]:
        """The code, and the new table.  RTAS_HARDWARE_ERROR: there are as many as can be, or it has too many pages."""
        phb = self._phbs.get(buid)
        if phb is None or page_shift not in _SHIFTS or window_shift < page_shift:
            return papr.RTAS_INVALID_PARAMETER, None
        fits = 1 << window_shift - page_shift < _ENTRIES_END
        table = phb.dma.create(page_shift, window_shift) if fits else None
        return (papr.RTAS_SUCCESS if table is not None else papr.RTAS_HARDWARE_ERROR), table

    def remove_window(self, liobn: int) -> int:
        """Take a window away, with what is mapped in it."""
        table = self.table(liobn)
        if table is None:
            return papr.RTAS_INVALID_PARAMETER
        table.disable()
        return papr.RTAS_SUCCESS

    def reset_windows(self, buid: int) -> int:
        """Have the default window alone."""
        phb = self._phbs.get(buid)
        if phb is None:
            return papr.RTAS_INVALID_PARAMETER
        phb.dma.reset()
        return papr.RTAS_SUCCESS

    # messages

    def take_messages(self, count: int) -> int | None:
        """The first of `count` interrupts in a row, at a multiple of that; None: there are not as many."""
        start = -(-_FIRST_MESSAGE // count) * count
        for first in range(start, _END_OF_MESSAGES - count + 1, count):
            wanted = set(range(first, first + count))
            if not wanted & self._taken:
                self._taken |= wanted
                return first
        return None

    def give_messages(self, first: int, count: int) -> None:
        """Give interrupts back."""
        self._taken -= set(range(first, first + count))

    @staticmethod
    def message(interrupt: int) -> tuple[int, int]:
        """Address and data of the message that raises an interrupt."""
        return MESSAGES.start, interrupt
