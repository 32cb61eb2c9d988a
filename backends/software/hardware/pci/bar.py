"""Base address registers: what lies behind each, and how an access finds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pyvfio.abi import pci_regs as regs

__all__ = ["Bar", "Parts", "Registers", "Unmapped"]

if TYPE_CHECKING:
    from pyvfio.process import SharedMemory

_DECODE_BITS = (1, 2, 4, 8)


class Unmapped(Exception):
    """Nothing answers at this place of a BAR."""


class Registers(Protocol):
    """A block of registers.  Values are little-endian numbers of `length` bytes; offsets count from its start."""

    def read(self, offset: int, length: int) -> int:
        """The value at an offset.  Raise `Unmapped`."""

    def write(self, offset: int, length: int, value: int) -> None:
        """Store a value.  Raise `Unmapped`."""

    def takes(self, offset: int, length: int) -> bool:
        """Whether `write` stores there, and does not raise `Unmapped`."""

    def reset(self) -> None:
        """Do what a reset of the function does."""


class Parts:
    """Registers with others among them: `inner` from `start` on, `length` bytes (implements `Registers`)."""

    def __init__(self, outer: Registers, inner: Registers, start: int, length: int) -> None:
        self._outer = outer
        self._inner = inner
        self._start = start
        self._end = start + length

    def _at(self, offset: int, length: int) -> tuple[Registers, int]:
        if self._start <= offset and offset + length <= self._end:
            return self._inner, offset - self._start
        return self._outer, offset

    def read(self, offset: int, length: int) -> int:
        """See `Registers.read`."""
        registers, at = self._at(offset, length)
        return registers.read(at, length)

    def write(self, offset: int, length: int, value: int) -> None:
        """See `Registers.write`."""
        registers, at = self._at(offset, length)
        registers.write(at, length, value)

    def takes(self, offset: int, length: int) -> bool:
        """See `Registers.takes`."""
        registers, at = self._at(offset, length)
        return registers.takes(at, length)

    def reset(self) -> None:
        """See `Registers.reset`."""
        self._outer.reset()
        self._inner.reset()


class Bar:
    """One base address register: `size` in bytes (a power of two), `flags` its low bits, `registers` behind it.

    `flags` are ``PCI_BASE_ADDRESS_SPACE_IO`` or a memory type with or without ``PCI_BASE_ADDRESS_MEM_PREFETCH``.
    `memory` is what a BAR of plain memory shows, which can be mapped, too; None for registers.
    """

    __slots__ = ("flags", "index", "memory", "registers", "size")

    def __init__(
        self, index: int, size: int, flags: int, registers: Registers, memory: SharedMemory | None = None
    ) -> None:
        self.memory = memory
        self.index = index
        self.size = size
        self.flags = flags
        self.registers = registers

    @property
    def is_io(self) -> bool:
        """Whether it is in I/O space."""
        return bool(self.flags & regs.PCI_BASE_ADDRESS_SPACE_IO)

    def read(self, offset: int, length: int) -> int:
        """Load 1, 2, 4 or 8 bytes within the BAR.  Raise `Unmapped`."""
        if length not in _DECODE_BITS or offset < 0 or offset + length > self.size:
            raise Unmapped
        return self.registers.read(offset, length)

    def takes(self, offset: int, length: int) -> bool:
        """Whether `length` bytes at `offset`, both multiples of 8, can be stored by doublewords."""
        places = range(offset, offset + length, 8)
        return offset + length <= self.size and all(self.registers.takes(place, 8) for place in places)

    def write(self, offset: int, length: int, value: int) -> None:
        """Store 1, 2, 4 or 8 bytes within the BAR.  Raise `Unmapped`."""
        if length not in _DECODE_BITS or offset < 0 or offset + length > self.size:
            raise Unmapped
        self.registers.write(offset, length, value)
