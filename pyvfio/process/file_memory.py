"""Memory that is a file: ``memfd_create``, tmpfs, huge pages."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import weakref
from typing import Self

from pyvfio.process.descriptor import identity

__all__ = ["FileMemory", "MemoryFile"]

_LIBC = ctypes.CDLL(None, use_errno=True)
_MMAP = _LIBC.mmap
_MMAP.restype = ctypes.c_void_p
_MMAP.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int),
    ctypes.c_longlong,
]
_MUNMAP = _LIBC.munmap
_MUNMAP.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value
_LAST = (1 << 63) - 1


class MemoryFile:
    """The file behind descriptor `fd` of process `pid` (None: this one), held open until `close` or the object's end.

    It is opened anew for writing and reading where that is allowed, so that who holds it need not be allowed to write.
    Raise OSError EBADF.
    """

    def __init__(self, fd: int, pid: int | None = None) -> None:
        if pid in (None, os.getpid()) and identity(fd) is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._fd = self._open(f"/proc/{os.getpid() if pid is None else pid}/fd/{fd}", fd, pid)
        self._closed = weakref.finalize(self, os.close, self._fd)

    @classmethod
    def anonymous(cls, length: int, name: str = "pyvfio") -> Self:
        """A new one of `length` zeroed bytes, without a path (``memfd_create``).  Raise OSError."""
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, length)
            return cls(fd)
        finally:
            os.close(fd)

    def fileno(self) -> int:
        """The descriptor, -1 after `close`."""
        return self._fd if self._closed.alive else -1

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes at an offset.  Raise OSError."""
        return os.pread(self.fileno(), count, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write at an offset.  Raise OSError."""
        os.pwrite(self.fileno(), data, offset)

    @staticmethod
    def _open(path: str, fd: int, pid: int | None) -> int:
        for flags in (os.O_RDWR, os.O_RDONLY):
            try:
                return os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
            except OSError as error:
                refusal = error
        if pid in (None, os.getpid()):
            return os.dup(fd)  # a socket, an eventfd: there is nothing that could be opened
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from refusal

    @property
    def is_memory(self) -> bool:
        """Whether it is memory: a file that the kernel would tell the seals of (``memfd_file_seals_ptr``)."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_GET_SEALS)
        except OSError:
            return False
        return True

    @property
    def size(self) -> int:
        """Its length in bytes, now."""
        return os.fstat(self._fd).st_size

    @property
    def page(self) -> int:
        """The bytes of its pages: huge ones are what its blocks are."""
        return max(mmap.PAGESIZE, os.fstat(self._fd).st_blksize)

    @property
    def huge(self) -> bool:
        """Whether its pages are huge ones."""
        return self.page > mmap.PAGESIZE

    def map(self, offset: int, length: int, *, writable: bool = True) -> FileMemory:
        """Map bytes of it into this process.  Raise OSError: EACCES or EPERM where it may not be written, others."""
        return FileMemory(self._fd, self.page, offset, length, writable=writable)

    def close(self) -> None:
        """Let the file go; what is mapped stays.  A second call does nothing."""
        self._closed()


class FileMemory:
    """`length` bytes from `offset` of a file, at `address` of this process until `close` or the object's end.

    The memory is the file's.  What is past its end is EFAULT for who reads it by a `ProcessMemory`, and a crash
    (SIGBUS) for who reads it otherwise.  `page` are the bytes of the file's pages.  Raise OSError.
    """

    def __init__(self, fd: int, page: int, offset: int, length: int, *, writable: bool = True) -> None:
        if offset < 0 or length <= 0 or offset + length > _LAST:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        first = offset - offset % page
        room = -(-(offset - first + length) // page) * page  # huge pages are mapped and unmapped as a whole
        rights = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        address = _MMAP(None, room, rights, mmap.MAP_SHARED, fd, first)
        if address is None or address == _FAILED:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        self.address: int = address + offset - first
        self.length = length
        self._closed = weakref.finalize(self, _MUNMAP, address, room)

    def close(self) -> None:
        """Unmap it; a second call does nothing."""
        self._closed()
