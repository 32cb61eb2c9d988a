"""DMA windows of a guest's host bridge: tables of TCEs that the hypervisor keeps, by logical I/O bus number (LIOBN).

::

    address --> window that has it --> TCE of the page --> permitted? --> memory

Source: ``hw/ppc/spapr_iommu.c``, ``spapr_pci.c`` of QEMU 10.0.  What is not mapped, or not for this direction, is
refused and moves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.ioda.tce import TceAccess, tce_address
from pyvfio.ioda.window import SECOND_WINDOW
from pyvfio_backends.software.hardware.dma import DmaFault, DmaSpace
from pyvfio_backends.software.hardware.pcie.upstream import Source

__all__ = ["DEFAULT_SHIFT", "DEFAULT_SIZE", "MOST_WINDOWS", "DmaWindows", "LogicalTable"]

MOST_WINDOWS: Final = 2
DEFAULT_SIZE: Final = 1 << 30
"""Bytes of the default window, which begins at 0."""
DEFAULT_SHIFT: Final = 12
_LIOBN: Final = 0x80000000
_BRIDGE_SHIFT: Final = 8


class LogicalTable:
    """The table `liobn`: `pages` pages of 1 << `page_shift` bytes from bus address `start`; no pages: it is not in use.

    `entries` has the TCEs that are not 0, by their number from the start.
    """

    def __init__(self, liobn: int) -> None:
        self.liobn = liobn
        self.start = self.page_shift = self.pages = 0
        self.entries: dict[int, int] = {}

    def enable(self, start: int, page_shift: int, pages: int) -> None:
        """Have a window; nothing is mapped."""
        self.start, self.page_shift, self.pages = start, page_shift, pages
        self.entries.clear()

    def disable(self) -> None:
        """Have none."""
        self.enable(0, 0, 0)

    def entry(self, address: int) -> int | None:
        """The number of the entry of a bus address; None: it is not in the window."""
        page = (address - self.start) >> self.page_shift
        return page if 0 <= page < self.pages else None


class DmaWindows:
    """The windows of bridge `number` (an `Iommu`), with the machine's `memory` by the guest's real addresses.

    `deliver` takes the messages: who sent it, and the number of the interrupt.
    """

    def __init__(self, number: int, memory: DmaSpace) -> None:
        self.memory = memory
        self.tables = [LogicalTable(_LIOBN | number << _BRIDGE_SHIFT | window) for window in range(MOST_WINDOWS)]
        self.deliver: Callable[[Source, int], None] | None = None
        self.reset()

    @property
    def active(self) -> list[LogicalTable]:
        """The tables that are in use."""
        return [table for table in self.tables if table.pages]

    def reset(self) -> None:
        """Have the default window alone, with nothing mapped (``spapr_phb_dma_reset``)."""
        for table in self.tables:
            table.disable()
        self.tables[0].enable(0, DEFAULT_SHIFT, DEFAULT_SIZE >> DEFAULT_SHIFT)

    def create(self, page_shift: int, window_shift: int) -> LogicalTable | None:
        """Have one more window: from 0 on if there is none, else from the second window's start.  None: too many."""
        start = SECOND_WINDOW if self.active else 0
        free = next((table for table in self.tables if not table.pages), None)
        if free is not None:
            free.enable(start, page_shift, 1 << window_shift - page_shift)
        return free

    # requests of devices

    def read(self, source: Source, address: int, count: int) -> bytes:
        """See `Iommu.read`."""
        runs = self._runs(address, count, TceAccess.READ)
        try:
            return b"".join(self.memory.read(*run) for run in runs)
        except DmaFault as fault:
            raise DmaFault(address, count, write=False) from fault

    def write(self, source: Source, address: int, data: bytes) -> None:
        """See `Iommu.write`."""
        runs = self._runs(address, len(data), TceAccess.WRITE)
        done = 0
        try:
            for real, length in runs:
                self.memory.write(real, data[done : done + length])
                done += length
        except DmaFault as fault:
            raise DmaFault(address, len(data), write=True) from fault

    def message(self, source: Source, address: int, data: int) -> None:
        """See `Iommu.message`: the data is the number of the interrupt (``spapr_msi_write``)."""
        if self.deliver is not None:
            self.deliver(source, data)

    def _runs(self, address: int, count: int, access: TceAccess) -> list[tuple[int, int]]:
        """Real addresses and lengths of a range of bus addresses, or none of it."""
        runs: list[tuple[int, int]] = []
        at, end = address, address + count
        while at < end:
            table = next((one for one in self.active if one.entry(at) is not None), None)
            page = table.entry(at) if table is not None else None
            tce = table.entries.get(page, 0) if table is not None and page is not None else 0
            if table is None or not tce & access:
                raise DmaFault(address, count, write=access is TceAccess.WRITE)
            within = at & (1 << table.page_shift) - 1
            length = min((1 << table.page_shift) - within, end - at)
            runs.append((tce_address(tce, table.page_shift) + within, length))
            at += length
        return runs
