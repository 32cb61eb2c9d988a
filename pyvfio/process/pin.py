"""Pinned pages: memory that a device may use although the program changes its address space meanwhile.

A kernel pins pages when a DMA mapping is made.  A process cannot pin, but it can do nearly as well:

* Shared anonymous memory (what `mmap.mmap(-1, n)` and `AnonymousMemory` give) is mapped a second time with
  ``mremap(address, 0, length)``, so the pages stay although the program unmaps them, and copies are plain copies.
* Any other memory is reached by ``process_vm_readv`` at every access; when the program has unmapped it, the access
  ends as EFAULT.

The second mapping is only made where the memory cannot be truncated under it (``PROCMAP_QUERY``, Linux 6.11, tells).
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os

from pyvfio.process.memory import ProcessMemory, populate
from pyvfio.process.vma import query

__all__ = ["Pin"]

_ALIAS_FROM = 16 * mmap.PAGESIZE
"""Smaller ranges are not worth a second mapping."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_MREMAP = _LIBC.mremap
_MREMAP.restype = ctypes.c_void_p
_MREMAP.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
_MUNMAP = _LIBC.munmap
_MUNMAP.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_MREMAP_MAYMOVE = 1
_MAP_FAILED = ctypes.c_void_p(-1).value

_SHMEM_DEVICE = (0, 1)
_ANONYMOUS_NAME = b"/dev/zero (deleted)"
_NAME_ROOM = 64


def _is_shared_anonymous(address: int, length: int) -> bool:
    vma = query(address, room=_NAME_ROOM)
    if vma is None:
        return False  # an older kernel, or a longer name than ours
    return vma.end >= address + length and vma.device == _SHMEM_DEVICE and vma.name == _ANONYMOUS_NAME


class Pin:
    """A range of a process's memory, held for a device.

    `writable` asks for pages the device may write.  Raise OSError EFAULT when a page is not there or not permitted.
    With ``check=False`` nothing is asked now (a kernel pins pages for a mediated device only when they are used).
    """

    __slots__ = ("_alias", "_view", "address", "length", "memory")

    def __init__(
        self, memory: ProcessMemory, address: int, length: int, *, writable: bool = True, check: bool = True
    ) -> None:
        self.memory = memory
        self.address = address
        self.length = length
        self._alias = 0
        self._view: memoryview | None = None
        own = memory.pid == os.getpid()
        if check:
            if own:
                populate(address, length, write=writable)
            else:
                for at in range(address, address + length, mmap.PAGESIZE):
                    memory.read(at, 1)
        if check and own and length >= _ALIAS_FROM and _is_shared_anonymous(address, length):
            alias = _MREMAP(address, 0, length, _MREMAP_MAYMOVE)
            if alias is not None and alias != _MAP_FAILED:
                self._alias = alias
                self._view = memoryview((ctypes.c_char * length).from_address(alias)).cast("B")

    @property
    def aliased(self) -> bool:
        """Whether the pages are held by a second mapping."""
        return self._view is not None

    def read(self, offset: int, count: int) -> bytes:
        """Copy out `count` bytes.  Raise OSError EFAULT."""
        self._check(offset, count)
        if self._view is not None:
            return bytes(self._view[offset : offset + count])
        return self.memory.read(self.address + offset, count)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copy in.  Raise OSError EFAULT."""
        self._check(offset, len(data))
        if self._view is not None:
            self._view[offset : offset + len(data)] = data
        else:
            self.memory.write(self.address + offset, data)

    def copy_from(self, offset: int, source: Pin, source_offset: int, count: int) -> None:
        """Copy `count` bytes from another range, without a buffer between where that is possible."""
        self._check(offset, count)
        source._check(source_offset, count)
        if self._view is not None and source._view is not None:
            self._view[offset : offset + count] = source._view[source_offset : source_offset + count]
        elif self._view is None and source._view is None and self.memory.pid == source.memory.pid == os.getpid():
            self.memory.copy_within(self.address + offset, source.address + source_offset, count)
        else:
            self.write(offset, source.read(source_offset, count))

    def close(self) -> None:
        """Let the pages go; a second call does nothing."""
        view, self._view = self._view, None
        if view is not None:
            view.release()
        alias, self._alias = self._alias, 0
        if alias:
            _MUNMAP(alias, self.length)

    def _check(self, offset: int, count: int) -> None:
        if offset < 0 or count < 0 or offset + count > self.length:
            raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))
