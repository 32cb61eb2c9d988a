"""Memory that several mappings show: what one of them writes, all see."""

from __future__ import annotations

import mmap
import os
import weakref

__all__ = ["SharedMemory"]


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
            self._fd = os.memfd_create("pyvfio", os.MFD_CLOEXEC)
            self._closed = weakref.finalize(self, os.close, self._fd)
            os.ftruncate(self._fd, self.length)
        return self._fd

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at an offset."""
        return os.pread(self._descriptor(), count, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write at an offset; what is past the end is lost."""
        os.pwrite(self._descriptor(), data[: max(self.length - offset, 0)], offset)

    def map(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        """A mapping, as `mmap.mmap` takes its arguments.  Raise OSError."""
        return mmap.mmap(self._descriptor(), length, flags=flags, prot=prot, offset=offset)

    def close(self) -> None:
        """Give the descriptor back; what is mapped stays mapped, anything else finds zeros again."""
        if self._closed is not None:
            self._closed()
            self._closed = None
        self._fd = -1
