"""What a device may do with memory: the address space that an IOMMU gives it, and the function that it acts through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pyvfio_backends.software.hardware.pci.config import ConfigSpace

__all__ = ["DmaFault", "DmaSpace", "Initiator", "PinInitiator", "WakingInitiator"]


class DmaFault(Exception):
    """A device used an address that is not mapped, or not for this direction; `iova` and `write` say which."""

    def __init__(self, iova: int, count: int, *, write: bool) -> None:
        super().__init__(f"DMA {'write' if write else 'read'} of {count} bytes at {iova:#x} is not mapped")
        self.iova = iova
        self.count = count
        self.write = write


class DmaSpace(Protocol):
    """An IO address space as a device sees it.  All methods raise `DmaFault`; nothing is moved then."""

    def read(self, iova: int, count: int) -> bytes:
        """The device reads memory."""

    def write(self, iova: int, data: bytes) -> None:
        """The device writes memory."""

    def copy(self, target: int, source: int, count: int) -> None:
        """The device copies within memory."""


class Initiator(Protocol):
    """The function that a device acts through, whatever it is plugged into: zPCI or PCI Express."""

    @property
    def config(self) -> ConfigSpace:
        """Its configuration space."""

    def dma_read(self, iova: int, count: int) -> bytes:
        """Read memory.  Raise `DmaFault`."""

    def dma_write(self, iova: int, data: bytes) -> None:
        """Write memory.  Raise `DmaFault`, where the machine tells the device at all."""

    def dma_copy(self, target: int, source: int, count: int) -> None:
        """Copy within memory.  Raise `DmaFault`."""

    def signal(self, vector: int) -> None:
        """Raise an interrupt by a message."""


class WakingInitiator(Initiator, Protocol):
    """A function that may sleep, and can ask to be woken."""

    on_power: list[Callable[[], None]]
    """Called when its power state has changed."""

    @property
    def asleep(self) -> bool:
        """Whether it can neither reach memory nor interrupt."""

    def raise_event(self) -> bool:
        """Ask for attention by a power management event; whether that is possible."""


class PinInitiator(Initiator, Protocol):
    """A function that has an interrupt pin beside its messages, as those of PCI and PCI Express do."""

    @property
    def messages_on(self) -> bool:
        """Whether MSI or MSI-X is on: the pin is not to be used then."""

    def set_intx(self, asserted: bool) -> None:
        """Assert or release the pin."""
