"""A sparse image: the bytes of a disk, of which only those that were written take room."""

from __future__ import annotations

__all__ = ["Image", "Window"]

_CHUNK = 1 << 16


class Image:
    """`size` bytes, zeros until written."""

    __slots__ = ("_chunks", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._chunks: dict[int, bytearray] = {}

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer at the end."""
        count = max(0, min(count, self.size - offset))
        parts: list[bytes] = []
        while count > 0:
            index, start = divmod(offset, _CHUNK)
            length = min(count, _CHUNK - start)
            chunk = self._chunks.get(index)
            parts.append(bytes(length) if chunk is None else bytes(chunk[start : start + length]))
            offset += length
            count -= length
        return b"".join(parts)

    def write(self, offset: int, data: bytes) -> int:
        """Write what fits before the end, and give its length."""
        taken = max(0, min(len(data), self.size - offset))
        done = 0
        while done < taken:
            index, start = divmod(offset + done, _CHUNK)
            length = min(taken - done, _CHUNK - start)
            chunk = self._chunks.setdefault(index, bytearray(_CHUNK))
            chunk[start : start + length] = data[done : done + length]
            done += length
        return taken


class Window:
    """A part of an image: `size` bytes from `start` (a partition)."""

    __slots__ = ("_image", "size", "start")

    def __init__(self, image: Image, start: int, size: int) -> None:
        self._image = image
        self.start = start
        self.size = size

    def read(self, offset: int, count: int) -> bytes:
        """See `Image.read`."""
        return self._image.read(self.start + offset, max(0, min(count, self.size - offset)))

    def write(self, offset: int, data: bytes) -> int:
        """See `Image.write`."""
        return self._image.write(self.start + offset, data[: max(0, self.size - offset)])
