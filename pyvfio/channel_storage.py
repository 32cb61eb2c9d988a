"""What a channel device sees of this process's memory, as the storage of channel programs.

Source: z/Architecture Principles of Operation, "Channel-Program Execution"; ``vfio_dma_rw()`` in the kernel's
``drivers/vfio/vfio_main.c``, which reaches the same bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.css.instructions import StorageError
from pyvfio.errors import Misuse
from pyvfio.process import ProcessMemory

if TYPE_CHECKING:
    from pyvfio.iommu import AddressSpace

__all__ = ["MappedStorage"]


class MappedStorage:
    """Storage (the protocol `pyvfio.css.Storage`) by the addresses that are mapped in `space`."""

    def __init__(self, space: AddressSpace) -> None:
        self._space = space
        self._memory = ProcessMemory()

    def _places(self, address: int, count: int, access: str) -> list[tuple[int, int]]:
        """Where the bytes are in this process: (address, bytes); mappings may touch."""
        found: list[tuple[int, int]] = []
        while count > 0:
            try:
                mapping = self._space.holding(address, 1)
            except Misuse as error:
                raise StorageError(address, count, access) from error
            step = min(count, mapping.iova + mapping.length - address)
            found.append((mapping.address + address - mapping.iova, step))
            address += step
            count -= step
        return found

    def read(self, address: int, count: int) -> bytes:
        """Return `count` bytes.  Raise `StorageError` unless all of them are mapped to memory that is there."""
        try:
            return b"".join(self._memory.read(at, step) for at, step in self._places(address, count, "read"))
        except OSError as error:
            raise StorageError(address, count, "read") from error

    def write(self, address: int, data: bytes) -> None:
        """Store `data`.  Raise `StorageError` unless all of it can be stored."""
        try:
            for at, step in self._places(address, len(data), "write"):
                self._memory.write(at, data[:step])
                data = data[step:]
        except OSError as error:
            raise StorageError(address, len(data), "write") from error
