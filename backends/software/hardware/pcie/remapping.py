"""A unit of Intel's IOMMU (VT-d): it translates the DMA of the devices below a root complex, each by its routing id.

::

    Source (segment, routing id) --> context --> DmaSpace of the domain       mapped: memory
        |                              \\-> none, or not mapped there          `faults`, unsupported request
        \\-- message range ------------> `messages`

Source: Intel Virtualization Technology for Directed I/O, Architecture Specification (chapters 3, 7 and 11).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from pyvfio_backends.software.hardware.dma import DmaFault, DmaSpace
from pyvfio_backends.software.hardware.pcie.upstream import Source

__all__ = ["FaultReason", "RemappingFault", "RemappingUnit"]

_MOST_FAULTS = 64


class FaultReason(IntEnum):
    """Why a request was refused, as fault recording registers tell it (VT-d specification, 7.2.3)."""

    NO_CONTEXT = 0x02
    NO_WRITE = 0x05
    NO_READ = 0x06


@dataclass(frozen=True, slots=True)
class RemappingFault:
    """A refused request: whose it was, where it went, and why."""

    source: Source
    address: int
    write: bool
    reason: FaultReason


class RemappingUnit:
    """A unit for all devices of the machine (an `Iommu`).

    `contexts` has the address space of each (segment, routing id) that has one: requests of others are refused.
    `faults` has the last refused requests, oldest first.  `messages` is told of interrupts: source, address, data.
    """

    def __init__(self) -> None:
        self.contexts: dict[tuple[int, int], DmaSpace] = {}
        self.faults: deque[RemappingFault] = deque(maxlen=_MOST_FAULTS)
        self.messages: Callable[[Source, int, int], None] | None = None

    def read(self, source: Source, address: int, count: int) -> bytes:
        """See `Iommu.read`."""
        space = self._space(source, address, count, write=False)
        try:
            return space.read(address, count)
        except DmaFault as fault:
            self._refuse(source, fault.iova, FaultReason.NO_READ, write=False)
            raise

    def write(self, source: Source, address: int, data: bytes) -> None:
        """See `Iommu.write`."""
        space = self._space(source, address, len(data), write=True)
        try:
            space.write(address, data)
        except DmaFault as fault:
            self._refuse(source, fault.iova, FaultReason.NO_WRITE, write=True)
            raise

    def message(self, source: Source, address: int, data: int) -> None:
        """See `Iommu.message`: interrupts are not translated."""
        if self.messages is not None:
            self.messages(source, address, data)

    def _space(self, source: Source, address: int, count: int, *, write: bool) -> DmaSpace:
        space = self.contexts.get((source.segment, source.rid))
        if space is None:
            self._refuse(source, address, FaultReason.NO_CONTEXT, write=write)
            raise DmaFault(address, count, write=write)
        return space

    def _refuse(self, source: Source, address: int, reason: FaultReason, *, write: bool) -> None:
        self.faults.append(RemappingFault(source, address, write, reason))
