"""A mapping of registers, as far as a program in Python can have one: its items are accesses to the device.

::

    mapping[4:8]                     one load of 4 bytes         mapping[4:8] = bytes(4)     one store
    mapping[0], mapping[3:8]         a load of one byte; of bytes 3, and 4 to 7
    memoryview(mapping), ctypes      TypeError: loads and stores of a processor cannot be seen

What is 1, 2, 4 or 8 bytes long and aligned is one access, anything else the widest aligned ones.
"""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Callable
from typing import Self

from pyvfio.process.descriptor import identity

__all__ = ["RegisterMapping"]

_WIDEST = 8
Load = Callable[[int, int], int]
Store = Callable[[int, int, int], None]


class RegisterMapping:
    """`length` bytes of registers, reached by `load` (offset, size) and `store` (offset, size, value).

    It has those of `mmap.mmap`'s methods that need no memory.
    """

    def __init__(self, length: int, load: Load, store: Store, *, readable: bool = True, writable: bool = True) -> None:
        self._length = length
        self._load = load
        self._store = store
        self._readable = readable
        self._writable = writable
        self._ended: Callable[[], None] | None = None
        self._kept: weakref.finalize[..., RegisterMapping] | None = None
        self.closed = False

    def keep(self, fd: int, ended: Callable[[], None]) -> None:
        """See `SharedMapping.keep`."""
        kept = os.dup(fd)
        self._kept = weakref.finalize(self, _give_back, kept, identity(kept))
        self._ended = ended

    def close(self) -> None:
        """Unmap; a second call does nothing."""
        self.closed = True
        if self._kept is not None and self._kept.alive:
            self._kept()
            if self._ended is not None:
                self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._length

    def size(self) -> int:
        """Its length."""
        return self._length

    def flush(self, offset: int = 0, size: int = 0) -> None:
        """Nothing is waiting."""

    def _place(self, key: int | slice) -> range:
        if self.closed:
            raise ValueError("mmap closed or invalid")
        if isinstance(key, slice):
            first, end, step = key.indices(self._length)
            if step != 1:
                raise ValueError("registers are accessed in ranges without a step")
            return range(first, max(first, end))
        first = key + self._length if key < 0 else key
        if not 0 <= first < self._length:
            raise IndexError("mmap index out of range")
        return range(first, first + 1)

    def __getitem__(self, key: int | slice) -> int | bytes:
        place = self._place(key)
        if not self._readable:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        data = b"".join(self._load(offset, size).to_bytes(size, "little") for offset, size in _pieces(place))
        return data if isinstance(key, slice) else data[0]

    def __setitem__(self, key: int | slice, value: int | bytes | bytearray | memoryview) -> None:
        place = self._place(key)
        if not self._writable:
            raise TypeError("mmap can't modify a readonly memory map.")
        data = bytes([value]) if isinstance(value, int) else bytes(value)
        if len(data) != len(place):
            raise IndexError("mmap slice assignment is wrong size")
        for offset, size in _pieces(place):
            at = offset - place.start
            self._store(offset, size, int.from_bytes(data[at : at + size], "little"))


def _pieces(place: range) -> list[tuple[int, int]]:
    cuts: list[tuple[int, int]] = []
    at = place.start
    while at < place.stop:
        size = _WIDEST
        while at % size or at + size > place.stop:
            size //= 2
        cuts.append((at, size))
        at += size
    return cuts


def _give_back(fd: int, kept: tuple[int, int] | None) -> None:
    if identity(fd) == kept:
        os.close(fd)
