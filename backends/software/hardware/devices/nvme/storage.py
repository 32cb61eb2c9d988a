"""What a namespace stores: memory, or a file."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Protocol

from pyvfio.errors import Misuse
from pyvfio.nvme.identity import NamespaceIdentity

__all__ = ["FileStorage", "MemoryStorage", "Namespace", "Storage"]

_LEAST_ORDER, _MOST_ORDER = 9, 16
_ZEROES = 1 << 20


class Storage(Protocol):
    """Bytes that stay.  All methods raise `OSError` for what the medium cannot do; places are within `size`."""

    @property
    def size(self) -> int:
        """In bytes."""

    @property
    def read_only(self) -> bool:
        """Whether `write` is not to be called."""

    def read(self, at: int, count: int) -> bytes:
        """Bytes at a place."""

    def write(self, at: int, data: bytes) -> None:
        """Put bytes at a place."""

    def zero(self, at: int, count: int) -> None:
        """Put zeros at a place."""

    def flush(self) -> None:
        """Make sure that what was written outlasts the program."""


class MemoryStorage:
    """`size` bytes of memory, `data`; zeros at first.  Raise `Misuse` when there is not so much."""

    def __init__(self, size: int, *, read_only: bool = False) -> None:
        try:
            self.data = bytearray(size)
        except (MemoryError, OverflowError):
            cause = f"there is no memory for {size} bytes; an image, which is a file, can be larger"
            raise Misuse("open storage", "NVMe namespace", cause=cause) from None
        self.read_only = read_only

    @property
    def size(self) -> int:
        """See `Storage.size`."""
        return len(self.data)

    def read(self, at: int, count: int) -> bytes:
        """See `Storage.read`."""
        return bytes(self.data[at : at + count])

    def write(self, at: int, data: bytes) -> None:
        """See `Storage.write`."""
        self.data[at : at + len(data)] = data

    def zero(self, at: int, count: int) -> None:
        """See `Storage.zero`."""
        self.data[at : at + count] = bytes(count)

    def flush(self) -> None:
        """See `Storage.flush`: nothing to do."""


class FileStorage:
    """A file, as long as it is now; open from the first access on.  `close` it.

    Nothing is buffered here, so whoever writes is told what could not be written.  Raise `Misuse` for a path that
    cannot be opened.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self.read_only = read_only
        self._opened: io.FileIO | None = None
        try:
            with self._open() as file:
                self.size = file.seek(0, io.SEEK_END)
        except OSError as error:
            cause = error.strerror or str(error)
            raise Misuse("open storage", "NVMe namespace", path=str(path), errno=error.errno, cause=cause) from error

    def _open(self) -> io.FileIO:
        return io.FileIO(self._path, "rb" if self.read_only else "r+b")

    @property
    def _file(self) -> io.FileIO:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def read(self, at: int, count: int) -> bytes:
        """See `Storage.read`; what was cut off meanwhile reads as zeros."""
        self._file.seek(at)
        return (self._file.read(count) or b"").ljust(count, b"\0")

    def write(self, at: int, data: bytes) -> None:
        """See `Storage.write`."""
        self._file.seek(at)
        done = 0
        while done < len(data):
            done += self._file.write(data[done:]) or 0

    def zero(self, at: int, count: int) -> None:
        """See `Storage.zero`."""
        for start in range(at, at + count, _ZEROES):
            self.write(start, bytes(min(_ZEROES, at + count - start)))

    def flush(self) -> None:
        """See `Storage.flush`."""
        if self._opened is not None:
            os.fsync(self._opened.fileno())

    def close(self) -> None:
        """Close the file; what was written is in it.  A later access opens it again."""
        file, self._opened = self._opened, None
        if file is not None:
            file.close()


class Namespace:
    """`storage` as logical blocks of 2 to `order` bytes; what is left at its end is not used.

    `uuid` (16 bytes) and `eui64` (8 bytes) identify it; zeros: not given.  Raise `Misuse` for an order from outside
    9 to 16, and storage without a block.
    """

    def __init__(
        self, storage: Storage, *, order: int = _LEAST_ORDER, eui64: bytes = bytes(8), uuid: bytes = bytes(16)
    ) -> None:
        if not _LEAST_ORDER <= order <= _MOST_ORDER:
            cause = f"a block has 2 to a power from {_LEAST_ORDER} to {_MOST_ORDER} bytes, not {order}"
            raise Misuse("build namespace", "NVMe", cause=cause)
        if storage.size >> order == 0:
            raise Misuse("build namespace", "NVMe", cause=f"{storage.size} bytes are less than one block")
        self.storage = storage
        self.order = order
        self.eui64 = eui64
        self.uuid = uuid

    @property
    def blocks(self) -> int:
        """How many logical blocks there are."""
        return self.storage.size >> self.order

    @property
    def identity(self) -> NamespaceIdentity:
        """What Identify answers."""
        return NamespaceIdentity(self.blocks, self.order, self.eui64)
