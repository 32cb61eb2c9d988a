"""Inbound: what a host bridge makes of the memory requests of functions, by the endpoint of their routing id.

::

    address  ---- message? ----> interrupt, if it is one of the endpoint's ---> `deliver`
        |
        +-- 60 to 63 not zero: error
        |                                                   +-- no window, or beyond it: error
        `-- endpoint, bit 59 (P7IOC: address >> 28) --> TVE +-- real addresses ------------> memory
                                                            `-- tables of TCEs in memory --> memory, if all pages permit

Tables are read from memory as they are needed, and what was read is kept until `forget`: a driver that changes an
entry has to say so, or the bridge goes on with the old one.  Nothing is moved unless the tables permit all of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.ioda.message import MESSAGE_SIZE, interrupt_of, is_message
from pyvfio.ioda.pest import Cause, PestEntry, Transfer
from pyvfio.ioda.tce import BypassEntry, TableEntry, TceAccess, tce_address
from pyvfio.ioda.window import ENTRY_SIZE
from pyvfio_backends.software.hardware.dma import DmaFault, DmaSpace
from pyvfio_backends.software.hardware.ioda.model import PhbModel
from pyvfio_backends.software.hardware.pcie.upstream import Source

__all__ = ["Inbound"]

_WINDOW_SHIFT, _TOP_SHIFT = 59, 60
_OFFSET_MASK: Final = (1 << _WINDOW_SHIFT) - 1
_MOST_KEPT = 1 << 16
_LOW_BITS = 12
Entry = TableEntry | BypassEntry


class _Refused(Exception):
    """A request is not to be done, and why; `data` is that of a message."""

    def __init__(self, cause: Cause, address: int, transfer: Transfer | None = None, data: int = 0) -> None:
        super().__init__(str(cause))
        self.cause, self.address, self.transfer, self.data = cause, address, transfer, data


class Inbound:
    """The inbound half of a bridge of `model` (an `Iommu`), with the machine's `memory` by real addresses.

    `entries` has the TVE of each DMA window, `owners` whose message interrupt each is.  `endpoint` tells the endpoint
    of a routing id.  `failed` takes each error, with its endpoint, before the request is refused; `deliver` the
    interrupts: who sent it, and which.
    """

    def __init__(
        self,
        model: PhbModel,
        memory: DmaSpace,
        endpoint: Callable[[int], int],
        failed: Callable[[int, PestEntry], None],
    ) -> None:
        self.model = model
        self.memory = memory
        self.entries: list[Entry | None] = [None] * model.dma_windows
        self.slices = [model.reserved] * model.dma_windows if model.slice_shift is not None else []
        """Where windows are chosen by address: whose each is."""
        self.owners = [0] * model.messages
        self.deliver: Callable[[Source, int], None] | None = None
        self._endpoint = endpoint
        self._failed = failed
        self._kept: dict[tuple[int, int], int] = {}

    def reset(self) -> None:
        """No windows, all messages endpoint 0's."""
        self.entries[:] = [None] * len(self.entries)
        self.slices[:] = [self.model.reserved] * len(self.slices)
        self.owners[:] = [0] * len(self.owners)
        self.forget()

    def forget(self, window: int | None = None, first: int = 0, count: int | None = None) -> None:
        """Forget what was read of tables: all, that of a window, or of `count` pages of it from page `first`."""
        if window is None:
            self._kept.clear()
        elif count is None:
            for key in [key for key in self._kept if key[0] == window]:
                del self._kept[key]
        elif count < len(self._kept):
            for page in range(first, first + count):
                self._kept.pop((window, page), None)
        else:  # a window can have 2**43 pages
            for key in [key for key in self._kept if key[0] == window and first <= key[1] < first + count]:
                del self._kept[key]

    # requests

    def read(self, source: Source, address: int, count: int) -> bytes:
        """See `Iommu.read`."""
        endpoint = self._endpoint(source.rid)
        try:
            if is_message(address):
                raise _Refused(Cause.WINDOW, address)
            return b"".join(self.memory.read(*run) for run in self._runs(endpoint, address, count, TceAccess.READ))
        except _Refused as refused:
            self._fail(endpoint, source, refused, Transfer.DMA_READ)
            raise DmaFault(address, count, write=False) from None
        except DmaFault as fault:
            self._fail(endpoint, source, _Refused(Cause.UNSUPPORTED_REQUEST, address), Transfer.DMA_READ)
            raise DmaFault(address, count, write=False) from fault

    def write(self, source: Source, address: int, data: bytes) -> None:
        """See `Iommu.write`; a message is one too."""
        endpoint = self._endpoint(source.rid)
        try:
            if is_message(address):
                self._message(endpoint, source, address, data)
                return
            done = 0
            for real, length in self._runs(endpoint, address, len(data), TceAccess.WRITE):
                self.memory.write(real, data[done : done + length])
                done += length
        except _Refused as refused:
            self._fail(endpoint, source, refused, refused.transfer or Transfer.DMA_WRITE)
            raise DmaFault(address, len(data), write=True) from None
        except DmaFault as fault:
            self._fail(endpoint, source, _Refused(Cause.UNSUPPORTED_REQUEST, address), Transfer.DMA_WRITE)
            raise DmaFault(address, len(data), write=True) from fault

    def message(self, source: Source, address: int, data: int) -> None:
        """See `Iommu.message`."""
        self.write(source, address, data.to_bytes(MESSAGE_SIZE, "little"))

    def _message(self, endpoint: int, source: Source, address: int, data: bytes) -> None:
        value = int.from_bytes(data, "little")
        number = interrupt_of(address, value) if len(data) == MESSAGE_SIZE else None
        if number is None or number >= len(self.owners) or self.owners[number] != endpoint:
            raise _Refused(Cause.WINDOW, address, Transfer.MESSAGE, value)
        if self.deliver is not None:
            self.deliver(source, number)

    def _fail(self, endpoint: int, source: Source, refused: _Refused, transfer: Transfer) -> None:
        self._failed(endpoint, PestEntry(transfer, refused.cause, source.rid, refused.address, refused.data))

    # translation

    def _window(self, endpoint: int, address: int) -> tuple[int, int]:
        """The window of an address, and the offset into it."""
        shift = self.model.slice_shift
        if shift is not None:
            window = address >> shift
            if window >= len(self.entries) or self.slices[window] != endpoint:
                raise _Refused(Cause.WINDOW, address)
            return window, address & (1 << shift) - 1
        if address >> _TOP_SHIFT:
            raise _Refused(Cause.WINDOW, address)
        return 2 * endpoint + (address >> _WINDOW_SHIFT), address & _OFFSET_MASK

    def _runs(self, endpoint: int, address: int, count: int, access: TceAccess) -> list[tuple[int, int]]:
        """Real addresses and lengths of a range of DMA addresses, or none of it."""
        window, offset = self._window(endpoint, address)
        if count and self._window(endpoint, address + count - 1)[0] != window:
            raise _Refused(Cause.WINDOW, address)
        entry = self.entries[window]
        end = offset + count
        if isinstance(entry, BypassEntry):
            if not entry.first <= offset <= end <= entry.end:
                raise _Refused(Cause.WINDOW, address)
            return [(offset, count)]
        if entry is None or end > 1 << entry.address_bits:
            raise _Refused(Cause.WINDOW, address)
        runs: list[tuple[int, int]] = []
        shift = entry.page_shift
        size = 1 << shift
        while offset < end:
            tce = self._kept.get((window, offset >> shift))
            if tce is None:
                tce = self._walk(entry, window, offset >> shift, address)
            if not tce & access:
                raise _Refused(Cause.ACCESS_FAULT, address)
            within = offset & size - 1
            length = min(size - within, end - offset)
            real = tce_address(tce, shift) + within
            if runs and runs[-1][0] + runs[-1][1] == real:
                runs[-1] = runs[-1][0], runs[-1][1] + length
            else:
                runs.append((real, length))
            offset += length
        return runs

    def _walk(self, entry: TableEntry, window: int, page: int, address: int) -> int:
        """Read the TCE of a page from memory."""
        bits = entry.level_bits
        table = entry.table
        tce = 0
        for level in reversed(range(entry.levels)):
            index = page >> bits * level & (1 << bits) - 1
            try:
                tce = int.from_bytes(self.memory.read(table + index * ENTRY_SIZE, ENTRY_SIZE), "big")
            except DmaFault:
                raise _Refused(Cause.PAGE_FAULT, address) from None
            if not tce & (TceAccess.READ | TceAccess.WRITE):
                raise _Refused(Cause.PAGE_FAULT, address)
            table = tce_address(tce, _LOW_BITS)
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[window, page] = tce
        return tce
