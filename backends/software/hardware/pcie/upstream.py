"""What is above the root complex: whoever translates the addresses of devices, and memory.

Upstream memory requests arrive at an `Iommu` with their `Source`.  A write to `RootComplex.message_range` is a message
signalled interrupt and arrives as one.  The IOMMU may send a request on to a device (peer-to-peer after translation)
with `RootComplex.transfer`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pyvfio_backends.software.hardware.dma import DmaFault, DmaSpace

__all__ = ["Iommu", "NoIommu", "Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """Who a request comes from, as the root complex sees it: segment, routing id, process address space if it has one.

    Behind a PCIe-to-PCI bridge it is the bridge's.  `translated`: its address is one that the IOMMU gave out (ATS).
    """

    segment: int
    rid: int
    pasid: int | None = None
    translated: bool = False


class Iommu(Protocol):
    """Who answers upstream requests.  All methods raise `DmaFault` for what is refused; nothing is moved then."""

    def read(self, source: Source, address: int, count: int) -> bytes:
        """A device reads memory."""

    def write(self, source: Source, address: int, data: bytes) -> None:
        """A device writes memory."""

    def message(self, source: Source, address: int, data: int) -> None:
        """A device sends an interrupt: a write of 32 bits into the message range."""


class NoIommu:
    """No translation: addresses of devices are those of `memory`, and `messages` collects the interrupts."""

    def __init__(self, memory: DmaSpace | None = None) -> None:
        self.memory = memory
        self.messages: list[tuple[Source, int, int]] = []

    def read(self, source: Source, address: int, count: int) -> bytes:
        """See `Iommu.read`."""
        if self.memory is None:
            raise DmaFault(address, count, write=False)
        return self.memory.read(address, count)

    def write(self, source: Source, address: int, data: bytes) -> None:
        """See `Iommu.write`."""
        if self.memory is None:
            raise DmaFault(address, len(data), write=True)
        self.memory.write(address, data)

    def message(self, source: Source, address: int, data: int) -> None:
        """See `Iommu.message`."""
        self.messages.append((source, address, data))
