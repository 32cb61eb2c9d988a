"""An open file description: what a descriptor of the machine stands for."""

from __future__ import annotations

import errno
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.uaccess import Argument

__all__ = ["File", "PathFile", "SeekableFile"]


def _refuse(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class File:
    """One open file; state lives here and not in the number, so duplicates share it.

    Subclasses override what their node can do.  The defaults are the kernel's answers for a file without the
    operation: EINVAL for read, write and fsync, ENOTTY for ioctl, ENODEV for mmap.
    """

    __slots__ = ()
    pwrite_when_read_only = errno.EBADF
    """What ``pwrite`` answers on a descriptor that was opened for reading only."""
    lasting = False
    """Whether the machine keeps what is written, for other programs; then `place` tells where it goes."""

    def read(self, n: int) -> bytes:
        """Read at the position."""
        raise _refuse(errno.EINVAL)

    def write(self, data: bytes) -> int:
        """Write at the position."""
        raise _refuse(errno.EINVAL)

    def pread(self, n: int, offset: int) -> bytes:
        """Read at an offset."""
        raise _refuse(errno.EINVAL)

    def pwrite(self, data: bytes, offset: int) -> int:
        """Write at an offset."""
        raise _refuse(errno.EINVAL)

    def ioctl(self, request: int, argument: Argument) -> int:
        """Answer a request; the result is not negative, errors are raised."""
        raise _refuse(errno.ENOTTY)

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        """Map the file."""
        raise _refuse(errno.ENODEV)

    def fsync(self) -> None:
        """Flush what was written."""
        raise _refuse(errno.EINVAL)

    def place(self, path: str, offset: int | None) -> tuple[str | int, int]:
        """Where a write at `offset` (None: at the position) to this file, opened at `path`, goes: the path or the
        inode number of a plain file, and the offset.
        """
        return path, 0 if offset is None else offset

    def release(self) -> None:
        """The last descriptor was closed."""


class SeekableFile(File):
    """A file with content, which is kept: `read` and `write` do at the position what `pread` and `pwrite` do."""

    __slots__ = ("position",)
    lasting = True

    def __init__(self) -> None:
        self.position = 0

    def read(self, n: int) -> bytes:
        """See `File.read`."""
        data = self.pread(n, self.position)
        self.position += len(data)
        return data

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        taken = self.pwrite(data, self.position)
        self.position += taken
        return taken

    def place(self, path: str, offset: int | None) -> tuple[str | int, int]:
        """See `File.place`."""
        return path, self.position if offset is None else offset


class PathFile(File):
    """What ``O_PATH`` opens: a place in the tree, on which nothing can be done (EBADF)."""

    __slots__ = ()

    def ioctl(self, request: int, argument: Argument) -> int:
        """See `File.ioctl`."""
        raise _refuse(errno.EBADF)

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        """See `File.mmap`."""
        raise _refuse(errno.EBADF)

    def fsync(self) -> None:
        """See `File.fsync`."""
        raise _refuse(errno.EBADF)
