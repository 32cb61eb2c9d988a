"""Interrupt remapping of Intel's IOMMU (VT-d): from the message that a device writes to a vector of a processor.

::

    address       | 0xFEE (12) | handle 14 to 0 (15)      | 1 | SHV | handle 15 | 0 (2) |    to be remapped
                  | 0xFEE (12) | processor (8) | 0 (7)    | 0 | ...                     |    compatible: as it is
    data          | 0 (16) | subhandle (16)     |      or | 0 (24) | vector (8) |
    entry         handle, plus the subhandle when SHV is set --> who may send it, processor, vector

A message is known by these numbers and by its requester alone.  What cannot be delivered is refused and recorded.
Source: Intel Virtualization Technology for Directed I/O, Architecture Specification (5.1, 7.1.4).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from pyvfio_backends.software.hardware.pcie.upstream import Source

__all__ = ["InterruptFault", "InterruptUnit", "RemappingEntry", "compatible_message", "remapped_message"]

_BASE, _FORMAT, _SUBHANDLE_VALID = 0xFEE00000, 1 << 4, 1 << 3
_HANDLE_SHIFT, _HANDLE_MASK, _HANDLE_TOP = 5, 0x7FFF, 1 << 2
_PROCESSOR_SHIFT, _PROCESSOR_MASK, _VECTOR_MASK, _SUBHANDLE_MASK = 12, 0xFF, 0xFF, 0xFFFF
_MOST_FAULTS = 64


class InterruptFault(IntEnum):
    """Why a message was refused (fault reasons of the VT-d specification)."""

    BEYOND_TABLE = 0x21
    NOT_PRESENT = 0x22
    BLOCKED_COMPATIBLE = 0x25
    WRONG_SOURCE = 0x26


class RemappingEntry(NamedTuple):
    """An entry of the table: segment and routing id of who may send it, and what becomes of it."""

    segment: int
    rid: int
    processor: int
    vector: int


def remapped_message(handle: int, subhandle: int = 0) -> tuple[int, int]:
    """Address and data of the message with a handle."""
    top = _HANDLE_TOP if handle >> 15 else 0
    return _BASE | (handle & _HANDLE_MASK) << _HANDLE_SHIFT | _FORMAT | _SUBHANDLE_VALID | top, subhandle


def compatible_message(processor: int, vector: int) -> tuple[int, int]:
    """Address and data of a message that names processor and vector itself."""
    return _BASE | (processor & _PROCESSOR_MASK) << _PROCESSOR_SHIFT, vector & _VECTOR_MASK


class InterruptUnit:
    """Delivers messages by `deliver` (processor, vector): with `remaps` by its table, else as they are.

    `entries` is the table, `size` how many it can have; `faults` has the last refused messages, oldest first: whose,
    address, data, why.
    """

    size = 1 << 16

    def __init__(self, deliver: Callable[[int, int], None], *, remaps: bool = True) -> None:
        self._deliver = deliver
        self.remaps = remaps
        self.entries: dict[int, RemappingEntry] = {}
        self.on_fault: Callable[[Source, int, InterruptFault], None] | None = None
        """Told of each fault: whose, the index of the entry (0 of a compatible message), why."""
        self.faults: deque[tuple[Source, int, int, InterruptFault]] = deque(maxlen=_MOST_FAULTS)

    def message(self, source: Source, address: int, data: int) -> None:
        """Take a message, as `Iommu.message` does."""
        if not address & _FORMAT:
            if self.remaps:
                self._refuse(source, address, data, InterruptFault.BLOCKED_COMPATIBLE, 0)
            else:
                self._deliver(address >> _PROCESSOR_SHIFT & _PROCESSOR_MASK, data & _VECTOR_MASK)
            return
        handle = address >> _HANDLE_SHIFT & _HANDLE_MASK | (1 << 15 if address & _HANDLE_TOP else 0)
        if address & _SUBHANDLE_VALID:
            handle += data & _SUBHANDLE_MASK
        entry = self.entries.get(handle)
        if entry is None or not self.remaps:
            fault = InterruptFault.NOT_PRESENT if handle < self.size else InterruptFault.BEYOND_TABLE
            self._refuse(source, address, data, fault, handle)
        elif (entry.segment, entry.rid) != (source.segment, source.rid):
            self._refuse(source, address, data, InterruptFault.WRONG_SOURCE, handle)
        else:
            self._deliver(entry.processor, entry.vector)

    def _refuse(self, source: Source, address: int, data: int, fault: InterruptFault, index: int) -> None:
        self.faults.append((source, address, data, fault))
        if self.on_fault is not None:
            self.on_fault(source, index, fault)
