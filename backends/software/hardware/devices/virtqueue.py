"""Split virtqueues, as a device serves them: chains of buffers that a driver made available, and their return.

All numbers are little-endian (version 1).  What a driver does wrong raises `QueueError`; the device is broken then, as
the specification says, until it is reset.

Source: Virtual I/O Device specification 1.1, 2.6 "Split Virtqueues".
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["Chain", "QueueError", "SplitQueue"]

_DESCRIPTOR: Final = struct.Struct("<QIHH")
_USED: Final = struct.Struct("<II")
_NEXT, _WRITE, _INDIRECT = 1, 2, 4
_NO_INTERRUPT: Final = 1
_RING_HEAD: Final = 4
_WRAP: Final = 0xFFFF


class QueueError(Exception):
    """The driver broke a rule of the queue."""


class _Memory(Protocol):
    def dma_read(self, iova: int, count: int) -> bytes: ...
    def dma_write(self, iova: int, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class Chain:
    """One request: `head` is its descriptor, `given` the (address, length) that the device reads, `taken` writes."""

    head: int
    given: tuple[tuple[int, int], ...]
    taken: tuple[tuple[int, int], ...]

    @property
    def room(self) -> int:
        """How many bytes the device may write."""
        return sum(length for _, length in self.taken)

    def fill(self, memory: _Memory, data: bytes) -> int:
        """Write `data` into the device's buffers; how many bytes went in.  Raise `DmaFault`."""
        done = 0
        for address, length in self.taken:
            part = data[done : done + length]
            if part:
                memory.dma_write(address, part)
            done += len(part)
        return done


class SplitQueue:
    """The device's side of one queue of `size` descriptors, at the three addresses that the driver gave.

    All memory is reached through `memory`; its `DmaFault` goes through.
    """

    def __init__(self, memory: _Memory, size: int, descriptors: int, driver: int, device: int) -> None:
        if not 0 < size <= 1 << 15 or size & size - 1:
            raise QueueError(f"a queue of {size} descriptors")
        self._memory = memory
        self._size = size
        self._descriptors = descriptors
        self._driver = driver
        self._device = device
        self._seen = 0
        self._used = 0

    def _word(self, address: int) -> int:
        return int.from_bytes(self._memory.dma_read(address, 2), "little")

    def serve(self, work: Callable[[Chain], int], *, event_index: bool) -> bool:
        """Give each new chain to `work`, which returns the bytes it wrote; whether the driver wants an interrupt.

        Raise `QueueError` or `DmaFault`.
        """
        available = self._word(self._driver + 2)
        if available - self._seen & _WRAP > self._size:
            raise QueueError(f"{available - self._seen & _WRAP} chains in a queue of {self._size}")
        before = self._used
        while self._seen != available:
            head = self._word(self._driver + _RING_HEAD + 2 * (self._seen % self._size))
            self._seen = self._seen + 1 & _WRAP
            written = work(self._chain(head))
            place = self._device + _RING_HEAD + _USED.size * (self._used % self._size)
            self._memory.dma_write(place, _USED.pack(head, written))
            self._used = self._used + 1 & _WRAP
            self._memory.dma_write(self._device + 2, self._used.to_bytes(2, "little"))
        if self._used == before:
            return False
        if event_index:
            wanted = self._word(self._driver + _RING_HEAD + 2 * self._size)
            return self._used - wanted - 1 & _WRAP < self._used - before & _WRAP
        return not self._word(self._driver) & _NO_INTERRUPT

    def _chain(self, head: int) -> Chain:
        given: list[tuple[int, int]] = []
        taken: list[tuple[int, int]] = []
        table, count, index, left = self._descriptors, self._size, head, self._size
        while True:
            if index >= count:
                raise QueueError(f"descriptor {index} of {count}")
            if not left:
                raise QueueError("a chain that does not end")
            left -= 1
            address, length, flags, following = _DESCRIPTOR.unpack(
                self._memory.dma_read(table + index * _DESCRIPTOR.size, _DESCRIPTOR.size)
            )
            if flags & _INDIRECT:
                if table != self._descriptors or flags & _NEXT or not length or length % _DESCRIPTOR.size:
                    raise QueueError("an indirect table where there may be none, or of a wrong length")
                table, count, index, left = address, length // _DESCRIPTOR.size, 0, length // _DESCRIPTOR.size
                continue
            if flags & _WRITE:
                taken.append((address, length))
            elif taken:
                raise QueueError("a buffer to read after one to write")
            else:
                given.append((address, length))
            if not flags & _NEXT:
                return Chain(head, tuple(given), tuple(taken))
            index = following
