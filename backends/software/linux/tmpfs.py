"""Directories and files that programs make: ``/etc``, ``/var``, ``/run``, ``/tmp``, and the names of ``/dev``.

The model is ``mm/shmem.c`` (devtmpfs is one, too).  What is written stays until it is removed; the machine has no disk
that would outlive it.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable, Mapping

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.file import File, SeekableFile
from pyvfio_backends.software.linux.nodes import DirectoryFile, Node, StaticDirectory, fail

__all__ = ["OpenRegularFile", "RegularFile", "TemporaryDirectory"]

_ENTRY = 20  # BOGO_DIRENT_SIZE
_CAPACITY = 1 << 26
"""Bytes that a file can have; the file system is full beyond."""


class TemporaryDirectory(StaticDirectory):
    """A directory whose entries can be changed; its size is 20 bytes for each entry, ``.`` and ``..`` included."""

    __slots__ = ("gid", "inode", "uid")

    def __init__(
        self,
        entries: Mapping[str, Node | Callable[[], Node]] | None = None,
        *,
        permissions: int = 0o755,
        uid: int = 0,
        gid: int = 0,
        inode: int = 0,
    ) -> None:
        super().__init__(entries, permissions=permissions)
        self.uid = uid
        self.gid = gid
        self.inode = inode

    @property
    def size(self) -> int:
        """See `Node.size`."""
        return _ENTRY * (len(self.entries) + 2)

    def open(self, path: str, flags: int) -> File:
        super().open(path, flags)
        return _OpenDirectory()


class _OpenDirectory(DirectoryFile):
    def fsync(self) -> None:
        """Names are kept at once."""


class RegularFile(Node):
    """A file's content (`data`), permissions and owner."""

    __slots__ = ("__weakref__", "data", "gid", "inode", "st_mode", "uid")

    def __init__(
        self, data: bytes = b"", *, permissions: int = 0o644, uid: int = 0, gid: int = 0, inode: int = 0
    ) -> None:
        self.data = bytearray(data)
        self.st_mode = stat.S_IFREG | permissions
        self.uid = uid
        self.gid = gid
        self.inode = inode

    @property
    def size(self) -> int:
        """See `Node.size`."""
        return len(self.data)

    def put(self, data: bytes, at: int) -> None:
        """Write at an offset.  Raise ENOSPC beyond what a file can have."""
        if not data:
            return
        if at + len(data) > _CAPACITY:
            raise fail(errno.ENOSPC)
        self.data.extend(bytes(max(0, at - len(self.data))))
        self.data[at : at + len(data)] = data

    def open(self, path: str, flags: int) -> File:
        if flags & os.O_TRUNC:
            self.data.clear()
        return OpenRegularFile(self, bool(flags & os.O_APPEND))


class OpenRegularFile(SeekableFile):
    """An open file with its position; with O_APPEND every write, also ``pwrite``, goes to the end, as Linux does."""

    __slots__ = ("_append", "_node")

    def __init__(self, node: RegularFile, append: bool) -> None:
        super().__init__()
        self._node = node
        self._append = append

    def pread(self, n: int, offset: int) -> bytes:
        return bytes(self._node.data[offset : offset + n])

    def place(self, path: str, offset: int | None) -> tuple[str | int, int]:
        at = self.position if offset is None else offset
        return self._node.inode or path, len(self._node.data) if self._append else at

    def write(self, data: bytes) -> int:
        _, at = self.place("", None)
        self._node.put(data, at)
        self.position = at + len(data)
        return len(data)

    def pwrite(self, data: bytes, offset: int) -> int:
        self._node.put(data, self.place("", offset)[1])
        return len(data)

    def fsync(self) -> None:
        """What was written is kept at once."""

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        raise NotModelled("a mapping of a regular file")
