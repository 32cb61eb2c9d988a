"""Memory by its real addresses, as a host bridge reaches it: the kernel's own, and pages of programs while pinned.

::

    0 ...                 blocks of the kernel (`HostMemory`)
    `_PINNED_FIRST` ...   pinned pages, each run where nothing was before it; real addresses are never used twice
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass

from pyvfio.css.instructions import StorageError
from pyvfio.process import Pin, ProcessMemory
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.memory import HostMemory

__all__ = ["RealMemory"]

_PINNED_FIRST = 1 << 40
_ALIGNMENT = 1 << 30
"""Runs are congruent to the program's addresses modulo this, the largest page of any IOMMU."""


@dataclass(slots=True)
class _Run:
    """Pages that were pinned together; `held` of them still are."""

    first: int
    pin: Pin
    held: int


class RealMemory:
    """A `DmaSpace` over the kernel's `storage` and the pages that `pin` was asked for."""

    def __init__(self, storage: HostMemory) -> None:
        self.storage = storage
        self._starts: list[int] = []
        self._runs: dict[int, _Run] = {}
        self._next = _PINNED_FIRST

    def pin(self, caller: ProcessMemory, address: int, length: int, *, writable: bool = True) -> int:
        """Pin whole pages of a program; their real address.  Raise OSError EFAULT."""
        pin = Pin(caller, address, length, writable=writable)
        first = self._next + (address - self._next) % _ALIGNMENT
        self._next = first + length + self.storage.page_size  # a gap, so that no access goes on into the next run
        insort(self._starts, first)
        self._runs[first] = _Run(first, pin, length // self.storage.page_size)
        return first

    def unpin(self, address: int, pages: int = 1) -> None:
        """Let pages go, from a real address on; the memory of a run goes with its last one."""
        run = self._run(address)
        if run is None:
            return
        run.held -= pages
        if run.held <= 0:
            run.pin.close()
            self._starts.remove(run.first)
            del self._runs[run.first]

    def close(self) -> None:
        """The machine is no more: let all pages go, also those of programs that never did."""
        for run in self._runs.values():
            run.pin.close()
        self._runs.clear()
        self._starts.clear()

    def _run(self, address: int) -> _Run | None:
        index = bisect_right(self._starts, address) - 1
        return self._runs[self._starts[index]] if index >= 0 else None

    def _place(self, address: int, count: int, *, write: bool) -> tuple[Pin, int]:
        run = self._run(address)
        if run is None or address + count > run.first + run.pin.length:
            raise DmaFault(address, count, write=write)
        return run.pin, address - run.first

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        try:
            if iova < _PINNED_FIRST:
                return self.storage.read(iova, count)
            pin, offset = self._place(iova, count, write=False)
            return pin.read(offset, count)
        except (OSError, StorageError) as error:
            raise DmaFault(iova, count, write=False) from error

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        try:
            if iova < _PINNED_FIRST:
                self.storage.write(iova, data)
                return
            pin, offset = self._place(iova, len(data), write=True)
            pin.write(offset, data)
        except (OSError, StorageError) as error:
            raise DmaFault(iova, len(data), write=True) from error

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""
        self.write(target, self.read(source, count))
