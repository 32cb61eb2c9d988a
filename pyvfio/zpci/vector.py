"""Adapter-interruption bit vectors (AIBV) and summary bits (AISB) in storage.

A function that interrupts sets the bit of its vector number in its AIBV, then its bit in the AISB, then makes an
adapter interruption pending for its subclass.  Bits are numbered from the left: bit 0 is 0x80 of the first byte.
Whoever looks clears the summary bit before the vectors, so that no interruption is lost.

Source: ``arch/s390/pci/pci_irq.c`` (the order of looking), ``arch/s390/include/asm/airq.h`` (the numbering).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final, Protocol, runtime_checkable

__all__ = ["INTERLOCK", "BitMemory", "clear_bits", "set_bit", "test_bit"]

INTERLOCK: Final = threading.Lock()
"""Held during an update of storage that several may update at the same time."""


@runtime_checkable
class BitMemory(Protocol):
    """Storage with interlocked updates of a byte: nobody sees or loses a bit in between."""

    def read(self, address: int, count: int) -> bytes:
        """Return `count` bytes.  Raise `StorageError`."""
        ...

    def update_byte(self, address: int, keep: int, give: int) -> int:
        """Replace the byte by ``byte & keep | give``; return what it was.  Raise `StorageError`."""
        ...


def _place(address: int, bit: int) -> tuple[int, int]:
    return address + bit // 8, 0x80 >> bit % 8


def set_bit(memory: BitMemory, address: int, bit: int) -> bool:
    """Set a bit of the vector at `address`; whether it was set already.  Raise `StorageError`."""
    mask = 0x80 >> bit % 8
    return bool(memory.update_byte(address + bit // 8, 0xFF, mask) & mask)


def test_bit(memory: BitMemory, address: int, bit: int) -> bool:
    """Whether a bit is set.  Raise `StorageError`."""
    place, mask = _place(address, bit)
    return bool(memory.read(place, 1)[0] & mask)


def clear_bits(memory: BitMemory, address: int, first: int, count: int) -> Iterator[int]:
    """Clear each set bit of `count` bits from bit `first` on, and yield its number counted from `first`.

    Raise `StorageError`.
    """
    for number in range(count):
        place, mask = _place(address, first + number)
        if memory.read(place, 1)[0] & mask and memory.update_byte(place, 0xFF ^ mask, 0) & mask:
            yield number
