"""Memory that several mappings show: what one of them writes, all see."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable

from pyvfio.process.descriptor import identity

__all__ = ["SharedMapping", "SharedMemory", "shows_shared_memory"]

_NAME = "pyvfio-shared"


class SharedMapping(mmap.mmap):
    """A mapping that keeps a descriptor open as long as it is there, as a mapping keeps its file open."""

    _kept: weakref.finalize[..., SharedMapping] | None = None
    _ended: Callable[[], None] | None = None

    def keep(self, fd: int, ended: Callable[[], None]) -> None:
        """Keep a duplicate of `fd`; `ended` is called when `close` has given it back (not when the mapping is lost)."""
        kept = os.dup(fd)
        self._kept = weakref.finalize(self, _give_back, kept, identity(kept))
        self._ended = ended

    def close(self) -> None:
        """Unmap.  Raise `BufferError` while something else shows the memory."""
        super().close()
        if self._kept is not None and self._kept.alive:
            self._kept()
            if self._ended is not None:
                self._ended()


def _give_back(fd: int, kept: tuple[int, int] | None) -> None:
    if identity(fd) == kept:  # else whose file it is has closed it, and the number is somebody else's
        os.close(fd)


class SharedMemory:
    """Zeroed memory of `length` bytes.  It takes a descriptor when it is first used, until `close` or its end.

    Mappings outlive it.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self._fd = -1
        self._closed: weakref.finalize[..., SharedMemory] | None = None

    def _descriptor(self) -> int:
        if self._fd < 0:
            self._fd = os.memfd_create(_NAME, os.MFD_CLOEXEC)
            self._closed = weakref.finalize(self, os.close, self._fd)
            os.ftruncate(self._fd, self.length)
        return self._fd

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at an offset."""
        return os.pread(self._descriptor(), count, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write at an offset; what is past the end is lost."""
        os.pwrite(self._descriptor(), data[: max(self.length - offset, 0)], offset)

    def map(self, length: int, flags: int, prot: int, offset: int) -> SharedMapping:
        """A mapping, as `mmap.mmap` takes its arguments.  Raise OSError."""
        mapping = SharedMapping(self._descriptor(), length, flags=flags, prot=prot, offset=offset)
        _MAPPINGS.add(mapping)
        return mapping

    def close(self) -> None:
        """Give the descriptor back; what is mapped stays mapped, anything else finds zeros again."""
        if self._closed is not None:
            self._closed()
            self._closed = None
        self._fd = -1


_MAPPINGS: weakref.WeakSet[SharedMapping] = weakref.WeakSet()


def shows_shared_memory(address: int, length: int) -> bool:
    """Whether a mapping of a `SharedMemory` is within `length` bytes at `address` of this process."""
    if not any(not mapping.closed for mapping in _MAPPINGS):
        return False
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            if f"/memfd:{_NAME} " in line:
                start, end = (int(part, 16) for part in line.split(None, 1)[0].split("-"))
                if start < address + length and end > address:
                    return True
    return False
