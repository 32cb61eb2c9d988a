"""The descriptor table of the software machine: real numbers for open files."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from pyvfio.process import Reservation
from pyvfio.process.descriptor import identity
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["Description", "DescriptorTable"]


_SWEEP_AT = 64
"""Closed files whose duplicates are looked for together; a look costs as much as many reads of an attribute."""


@dataclass(slots=True)
class Description:
    """An open file description: the file, its path, and the descriptor the machine reserved for it.

    `readable` and `writable` are the access mode it was opened with.
    """

    file: File
    path: str
    reservation: Reservation
    readable: bool = True
    writable: bool = True


class DescriptorTable:
    """Maps descriptor numbers to open files.

    A number made with `os.dup` is recognised by its inode.  A number closed with `os.close` behind the machine's back
    is noticed when it is used, reused, or at the next `reap`.
    """

    def __init__(self) -> None:
        self._by_fd: dict[int, Description] = {}
        self._by_identity: dict[tuple[int, int], Description] = {}
        self._closed: list[Description] = []

    def install(self, file: File, path: str, flags: int = os.O_RDWR) -> int:
        """Give a file a real descriptor; `flags` are those of ``open``."""
        reservation = Reservation(path)
        stale = self._by_fd.pop(reservation.fd, None)
        if stale is not None:  # the number was closed with `os.close`, else it could not be ours now
            self._drop_if_last(stale)
        access = None if flags & os.O_PATH else flags & os.O_ACCMODE
        readable, writable = access in (os.O_RDONLY, os.O_RDWR), access in (os.O_WRONLY, os.O_RDWR)
        description = Description(file, path, reservation, readable, writable)
        self._by_identity[reservation.identity] = description
        self._by_fd[reservation.fd] = description
        return reservation.fd

    @property
    def busy(self) -> bool:
        """Whether anything is open, as far as is known."""
        return bool(self._by_fd)

    def get(self, fd: int) -> File:
        """The open file of a number.  Raise OSError EBADF."""
        return self.description(fd).file

    def description(self, fd: int) -> Description:
        """The open file description of a number.  Raise OSError EBADF."""
        description = self._by_fd.get(fd)
        return self._duplicate(fd) if description is None else description

    def path(self, fd: int) -> str:
        """The path by which a number's file was opened, or an empty string."""
        description = self._by_fd.get(fd)
        return "" if description is None else description.path

    def _duplicate(self, fd: int) -> Description:
        key = identity(fd)
        description = None if key is None else self._by_identity.get(key)
        if description is None:
            raise fail(errno.EBADF)
        self._by_fd[fd] = description
        return description

    def close(self, fd: int) -> None:
        """Close a number; the file is released with the last one.  Raise OSError EBADF."""
        description = self._by_fd.get(fd) or self._duplicate(fd)
        del self._by_fd[fd]
        if identity(fd) == description.reservation.identity:
            os.close(fd)
        self._drop_if_last(description)

    def reap(self) -> None:
        """Forget the numbers that were closed or reused without telling the machine."""
        for fd, description in list(self._by_fd.items()):
            if identity(fd) != description.reservation.identity:
                self._by_fd.pop(fd, None)
                self._drop_if_last(description)

    def _drop_if_last(self, description: Description) -> None:
        if type(description.file).release is File.release:
            # Nothing happens when the last number of such a file is closed, so that there is time to look for more.
            self._closed.append(description)
            if len(self._closed) >= _SWEEP_AT:
                self._sweep()
            return
        if any(other is description for other in self._by_fd.values()) or self._find_duplicates(description):
            return
        if self._by_identity.pop(description.reservation.identity, None) is not None:
            description.file.release()

    def _sweep(self) -> None:
        """Forget the closed files without a number; those that `os.dup` made for them are noted."""
        open_now = {identity(int(name)): int(name) for name in os.listdir("/proc/self/fd")}
        for description in self._closed:
            key = description.reservation.identity
            if key in open_now:
                self._by_fd[open_now[key]] = description
            elif self._by_identity.get(key) is description:
                del self._by_identity[key]
        self._closed.clear()

    def _find_duplicates(self, description: Description) -> bool:
        """Whether `os.dup` made numbers of this description that the machine has not seen; they are noted."""
        found = False
        for name in os.listdir("/proc/self/fd"):
            if identity(int(name)) == description.reservation.identity:
                self._by_fd[int(name)] = description
                found = True
        return found

    def holders(self, path: str) -> Iterator[int]:
        """The numbers whose file was opened by this path."""
        self.reap()
        for fd, description in list(self._by_fd.items()):
            if description.path == path:
                yield fd

    def close_all(self) -> None:
        """Close every number, last opened first, and those that `os.dup` made meanwhile."""
        while self._by_fd or self._closed:
            if self._by_fd:
                self.close(next(reversed(self._by_fd)))
            else:
                self._sweep()
