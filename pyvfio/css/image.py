"""Storage made of parts: what a program consists of, for looking at it before there is a device."""

from __future__ import annotations

from collections.abc import Iterable

from pyvfio.css.instructions import StorageError
from pyvfio.css.layout import BytesLike

__all__ = ["Image"]


class Image:
    """Storage (the protocol `pyvfio.css.Storage`) with `parts` of (address, bytes); nothing lies between them.

    Parts may touch.  Where they overlap, the later one counts.

    >>> image = Image([(0x1000, b"ab"), (0x1002, b"cd")])
    >>> image.read(0x1001, 2)
    b'bc'
    """

    def __init__(self, parts: Iterable[tuple[int, BytesLike]] = ()) -> None:
        self._parts: list[tuple[int, bytearray]] = []
        for address, data in parts:
            self.put(address, data)

    def put(self, address: int, data: BytesLike) -> None:
        """Add a part."""
        if data:
            self._parts.append((address, bytearray(data)))

    def room(self, address: int, count: int) -> None:
        """Add `count` bytes of zeros, except where there is something already."""
        if count > 0:
            self._parts.insert(0, (address, bytearray(count)))

    def read(self, address: int, count: int) -> bytes:
        """Return `count` bytes.  Raise `StorageError` unless all are there."""
        found, there = bytearray(count), bytearray(count)
        for base, data in self._parts:
            start, end = max(address, base), min(address + count, base + len(data))
            if start < end:
                found[start - address : end - address] = data[start - base : end - base]
                there[start - address : end - address] = b"\1" * (end - start)
        if 0 in there:
            raise StorageError(address + there.index(0), count - there.index(0), "read")
        return bytes(found)

    def write(self, address: int, data: bytes) -> None:
        """Store `data`.  Raise `StorageError` unless there is room for all of it."""
        self.read(address, len(data))
        for base, part in self._parts:
            start, end = max(address, base), min(address + len(data), base + len(part))
            if start < end:
                part[start - base : end - base] = data[start - address : end - address]
