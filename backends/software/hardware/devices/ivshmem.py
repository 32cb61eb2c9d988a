"""Inter-VM shared memory without peers: a function whose BAR 2 is plain memory.

BAR 0 has four registers of 4 bytes::

    00 interrupt mask    04 interrupt status (reading clears it)    08 own position (0)    0c doorbell (nobody hears it)

Source: QEMU's ``docs/specs/ivshmem-spec``, device ``ivshmem-plain``.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio.process import SharedMemory
from pyvfio_backends.software.hardware.devices.pci_kinds import BarShape, PciKind
from pyvfio_backends.software.hardware.pci.bar import Unmapped
from pyvfio_backends.software.hardware.pci.config import Identity

__all__ = ["IvshmemRegisters", "SharedBar", "ivshmem"]

MEMORY_BAR: Final = 2
_MASK, _STATUS, _POSITION, _DOORBELL = 0, 4, 8, 12
_DWORD: Final = 0xFFFFFFFF


def ivshmem(order: int) -> PciKind:
    """The kind with a memory of 2 to the `order` bytes."""
    return PciKind(
        "shared memory",
        Identity(0x1AF4, 0x1110, 0x1AF4, 0x1100, 0x050000, 1),
        (BarShape(0, 8, regs.PCI_BASE_ADDRESS_SPACE_MEMORY), BarShape(MEMORY_BAR, order)),
        express=False,
    )


class IvshmemRegisters:
    """BAR 0 (implements `Registers`)."""

    def __init__(self) -> None:
        self._mask = 0

    def reset(self) -> None:
        """See `Registers.reset`."""
        self._mask = 0

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        if not self.takes(offset, length):
            raise Unmapped
        return self._mask if offset == _MASK else 0  # nobody ever interrupts

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        if not self.takes(offset, length):
            raise Unmapped
        if offset == _MASK:
            self._mask = value & _DWORD

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return length == 4 and offset % 4 == 0


class SharedBar:
    """BAR 2: memory that loads, stores and programs with a mapping see alike.  A reset leaves it as it is."""

    def __init__(self, length: int) -> None:
        self.memory = SharedMemory(length)

    def reset(self) -> None:
        """See `Registers.reset`."""

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        return int.from_bytes(self.memory.read(offset, length), "little")

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        return True

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        self.memory.write(offset, value.to_bytes(length, "little"))
