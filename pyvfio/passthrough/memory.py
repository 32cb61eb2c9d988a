"""A guest's storage: memory of this process which a device sees at the guest's own addresses.

Channel programs of a guest name guest addresses, and vfio-ccw takes these for IOVAs.  So each area of guest storage is
mapped at its guest address, and no address of a program has to be changed on the way to the kernel::

    guest address = IOVA          this process                    host
    0x00000000 ... 0x7fffffff --> area.address ...   -- pinned --> absolute addresses (the kernel's translation)

Source: ``Documentation/arch/s390/vfio-ccw.rst``; a virtual machine monitor maps its guest's memory in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from pyvfio.css.instructions import Storage, StorageError
from pyvfio.errors import Misuse
from pyvfio.process import AnonymousMemory

__all__ = ["GuestMemory", "GuestStorage", "MemoryArea"]


@dataclass(frozen=True, slots=True)
class MemoryArea:
    """`length` bytes of storage: at `start` in the guest, at `address` in this process for as long as there is a guest.

    All three are multiples of the page size.
    """

    start: int
    address: int
    length: int


class GuestStorage(Storage, Protocol):
    """Guest storage with a stable place in this process."""

    def areas(self) -> Sequence[MemoryArea]:
        """The areas that a device may see, by guest address; they do not overlap."""
        ...


class GuestMemory:
    """Zeroed guest storage of `size` bytes (rounded up to pages by the caller) from guest address `start` on.

    More areas come with `add` and `adopt`, and go with `remove`.  A context manager; close the guest's channel
    subsystem first, since its devices see the memory.
    """

    def __init__(self, size: int = 0, *, start: int = 0) -> None:
        self._pieces: list[tuple[MemoryArea, memoryview, AnonymousMemory | None]] = []
        if size:
            self.add(start, size)

    def add(self, start: int, size: int) -> MemoryArea:
        """Add an area.  Raise `Misuse` when it overlaps another or is empty."""
        self._check(start, size)
        memory = AnonymousMemory(size)
        return self._insert(MemoryArea(start, memory.address, size), memory.view[:size], memory)

    def adopt(self, start: int, view: memoryview, address: int) -> MemoryArea:
        """Add memory of the caller as an area: `view` are its bytes, which lie at `address` of this process.

        It stays the caller's to free, after `remove` or `close`.  Raise as `add`.
        """
        self._check(start, len(view))
        return self._insert(MemoryArea(start, address, len(view)), view, None)

    def _check(self, start: int, size: int) -> None:
        if size <= 0 or start < 0:
            raise Misuse("add guest memory", f"{start:#x}", cause=f"its size is {size}")
        if any(area.start < start + size and start < area.start + area.length for area in self.areas()):
            raise Misuse("add guest memory", f"{start:#x}", cause="there is memory already")

    def _insert(self, area: MemoryArea, view: memoryview, memory: AnonymousMemory | None) -> MemoryArea:
        self._pieces.append((area, view, memory))
        self._pieces.sort(key=lambda piece: piece[0].start)
        return area

    def remove(self, start: int) -> None:
        """Take an area away and free it; tell the channel subsystem first (`memory_removed`).  Raise `Misuse`."""
        for piece in self._pieces:
            if piece[0].start == start:
                self._pieces.remove(piece)
                _free(piece[1], piece[2])
                return
        raise Misuse("remove guest memory", f"{start:#x}", cause="no area begins there")

    def areas(self) -> Sequence[MemoryArea]:
        """See `GuestStorage.areas`."""
        return [area for area, _, _ in self._pieces]

    def read(self, address: int, count: int) -> bytes:
        """See `pyvfio.css.Storage.read`."""
        return b"".join(bytes(part) for part in self._parts(address, count, "read"))

    def write(self, address: int, data: bytes) -> None:
        """See `pyvfio.css.Storage.write`."""
        done = 0
        for part in list(self._parts(address, len(data), "write")):
            part[:] = data[done : done + len(part)]
            done += len(part)

    def _parts(self, address: int, count: int, access: str) -> Iterator[memoryview]:
        at, left = address, count
        for area, view, _ in self._pieces:
            if left and area.start <= at < area.start + area.length:
                step = min(left, area.start + area.length - at)
                yield view[at - area.start : at - area.start + step]
                at, left = at + step, left - step
        if left:
            raise StorageError(address, count, access)

    def close(self) -> None:
        """Free the memory; a second call does nothing."""
        while self._pieces:
            _, view, memory = self._pieces.pop()
            _free(view, memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _free(view: memoryview, memory: AnonymousMemory | None) -> None:
    if memory is not None:
        view.release()
        memory.close()
