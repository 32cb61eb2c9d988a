"""What a device may do with memory: the address space that an IOMMU gives it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["DmaFault", "DmaSpace"]


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
