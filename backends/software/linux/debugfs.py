"""``/sys/kernel/debug``: what subsystems show of their inside (``fs/debugfs``).

Only root gets past its root directory.  A file is no attribute of sysfs: it has no size, root may open it as it likes,
also an empty write reaches it, and it is written only at its position.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.nodes import Attribute, AttributeFile, Directory, Node, fail

__all__ = ["DebugDirectory", "DebugFile"]


class DebugFile(Attribute):
    """A file with a text (``seq_file``), which may be written."""

    __slots__ = ()
    size = 0
    mode_binds_root = False

    def __init__(
        self,
        show: Callable[[], str],
        store: Callable[[bytes], int | None] | None = None,
        mode: int | None = None,
    ) -> None:
        super().__init__(show, store, mode)

    def open(self, path: str, flags: int) -> File:
        return _OpenDebugFile(self)


class _OpenDebugFile(AttributeFile):
    __slots__ = ()

    def write(self, data: bytes) -> int:
        if self._attribute.store is None:
            raise fail(errno.EINVAL)
        taken = self._attribute.store(data)
        return len(data) if taken is None else taken

    def pwrite(self, data: bytes, offset: int) -> int:
        raise fail(errno.ESPIPE)

    def fsync(self) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


class DebugDirectory(Directory):
    """A directory over a dictionary that is asked at each look."""

    __slots__ = ("_table", "st_mode")

    def __init__(self, table: Callable[[], dict[str, Callable[[], Node]]], permissions: int = 0o755) -> None:
        self._table = table
        self.st_mode = stat.S_IFDIR | permissions

    def lookup(self, name: str) -> Node | None:
        make = self._table().get(name)
        return None if make is None else make()

    def names(self) -> list[str]:
        return list(self._table())
