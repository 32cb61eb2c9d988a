"""Interrupt messages: the writes of four bytes by which a function raises one of the host bridge's interrupts.

::

    address   0xFFFF0000                      | interrupt >> 5 << 9 (up to bit 15)     32-bit messages
              1 << 60                         | interrupt >> 5 << 9                    64-bit messages
    data      interrupt & 31

So a function with up to 32 messages has one address, and the numbers of its messages are in the data.  A bridge takes
a message only if the interrupt belongs to the endpoint of its sender.  Source: ``hw/phb4.c`` of skiboot
(phb4_get_msi_32, phb4_get_msi_64).
"""

from __future__ import annotations

from typing import Final

__all__ = ["MESSAGE_SIZE", "interrupt_of", "is_message", "message_32", "message_64"]

MESSAGE_SIZE: Final = 4
_BASE_32, _SIZE_32 = 0xFFFF0000, 0x10000
_BASE_64 = 1 << 60
_TOP_SHIFT = 60
_ADDRESS_SHIFT, _DATA_MASK = 4, 0x1F
_INTERRUPT_BITS = 16


def message_32(interrupt: int) -> tuple[int, int]:
    """Address and data of the message with a 32-bit address."""
    return _BASE_32 | (interrupt & ~_DATA_MASK) << _ADDRESS_SHIFT & _SIZE_32 - 1, interrupt & _DATA_MASK


def message_64(interrupt: int) -> tuple[int, int]:
    """Address and data of the message with a 64-bit address."""
    return _BASE_64 | (interrupt & ~_DATA_MASK) << _ADDRESS_SHIFT, interrupt & _DATA_MASK


def is_message(address: int) -> bool:
    """Whether a DMA address is where messages go."""
    return address >> _TOP_SHIFT == 1 or _BASE_32 <= address < _BASE_32 + _SIZE_32


def interrupt_of(address: int, data: int) -> int | None:
    """The interrupt of a message; None if address and data are of none."""
    offset = address - (_BASE_64 if address >> _TOP_SHIFT else _BASE_32)
    if offset & (_DATA_MASK << _ADDRESS_SHIFT | (1 << _ADDRESS_SHIFT) - 1) or data & ~_DATA_MASK:
        return None
    number = offset >> _ADDRESS_SHIFT | data
    return number if number >> _INTERRUPT_BITS == 0 else None
