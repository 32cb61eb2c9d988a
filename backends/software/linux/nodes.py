"""The nodes of the file tree, which come into being when somebody looks.

Nothing here knows of devices.  A `Directory` is asked for one name or for all names; an `Attribute` shows and stores
text; a `CharacterDevice` opens a file.  ``fs/kernfs`` and ``fs/sysfs`` are the models, and their errors are kept:
EACCES for opening an attribute against its mode (sysfs checks this for root too), EIO for a write to an attribute
without a store function.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from pyvfio_backends.software.linux.file import File, SeekableFile

__all__ = [
    "Attribute",
    "AttributeFile",
    "BinaryAttribute",
    "BinaryAttributeFile",
    "CharacterDevice",
    "Directory",
    "DirectoryFile",
    "DirectoryOfDirectories",
    "Node",
    "Opener",
    "StaticDirectory",
    "Symlink",
    "check_mode",
    "constant",
    "fail",
]

MapAt = Callable[[int, int, int, int], "mmap.mmap"]
Show = Callable[[], "str | bytes"]
Store = Callable[[bytes], "int | None"]


def fail(code: int, path: str | None = None) -> OSError:
    """The `OSError` of an errno; ``raise fail(errno.EBUSY)``."""
    return OSError(code, os.strerror(code), path) if path is not None else OSError(code, os.strerror(code))


class Node:
    """Anything with a name: `st_mode` (type and permission bits), `size`, `rdev`, `uid` and `gid` for `stat`.

    `inode` is 0 for a node whose inode number follows from its path.
    """

    __slots__ = ()
    st_mode: int = 0
    rdev: int = 0
    uid: int = 0
    gid: int = 0
    inode: int = 0
    mode_binds_root: bool = False
    """Whether the permission bits count for root, too, as in sysfs."""

    @property
    def size(self) -> int:
        """How many bytes there are, as `stat` tells; a link of sysfs has none."""
        return 0

    def open(self, path: str, flags: int) -> File:
        """Open the node.  Raise OSError."""
        raise fail(errno.ENXIO, path)


class Directory(Node):
    """A directory; subclasses give `lookup` and `names`."""

    __slots__ = ()
    st_mode = stat.S_IFDIR | 0o755

    def lookup(self, name: str) -> Node | None:
        """The node called `name`, or None."""
        raise fail(errno.ENOENT)

    def names(self) -> Iterable[str]:
        """All names, without ``.`` and ``..``."""
        return ()

    def subdirectories(self) -> int:
        """How many of the names are directories; with ``.`` and the parent's entry that is the number of links."""
        return sum(isinstance(self.lookup(name), Directory) for name in self.names())

    def open(self, path: str, flags: int) -> File:
        """A directory opens for reading only (its content comes by `Vfs.listdir`)."""
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise fail(errno.EISDIR, path)
        return DirectoryFile()


class DirectoryFile(File):
    """An open directory: reading it is EISDIR, as with any directory."""

    def read(self, n: int) -> bytes:
        raise fail(errno.EISDIR)

    def pread(self, n: int, offset: int) -> bytes:
        raise fail(errno.EISDIR)


class StaticDirectory(Directory):
    """A directory with a dictionary of nodes, or of functions that make them when looked at."""

    __slots__ = ("entries", "st_mode")

    def __init__(
        self, entries: Mapping[str, Node | Callable[[], Node]] | None = None, *, permissions: int = 0o755
    ) -> None:
        self.entries: dict[str, Node | Callable[[], Node]] = dict(entries or {})
        self.st_mode = stat.S_IFDIR | permissions

    def lookup(self, name: str) -> Node | None:
        entry = self.entries.get(name)
        if entry is None or isinstance(entry, Node):
            return entry
        return entry()

    def names(self) -> Iterable[str]:
        return self.entries


class _Shown(Protocol):
    """Whatever is shown as a directory."""

    def directory(self) -> Directory:
        """The directory."""


class DirectoryOfDirectories(Directory):
    """A directory over a table of objects, as it is at each look; there may be very many."""

    __slots__ = ("_table",)

    def __init__(self, table: Mapping[str, _Shown]) -> None:
        self._table = table

    def lookup(self, name: str) -> Node | None:
        one = self._table.get(name)
        return None if one is None else one.directory()

    def names(self) -> Iterable[str]:
        return list(self._table)

    def subdirectories(self) -> int:
        return len(self._table)


class Symlink(Node):
    """A symbolic link with a relative (or absolute) `target`."""

    __slots__ = ("_target",)
    st_mode = stat.S_IFLNK | 0o777

    def __init__(self, target: str) -> None:
        self._target = target

    @property
    def target(self) -> str:
        """Where it leads."""
        return self._target

    def leap(self) -> tuple[str, Node] | None:
        """The path without links that it leads to and the node there, for a link that knows; None: walk the target."""
        return None


class Attribute(Node):
    """A sysfs attribute: `show` gives its text, `store` takes what was written and may return the bytes taken.

    The mode follows from the two functions unless `mode` says otherwise.
    """

    __slots__ = ("show", "st_mode", "store")
    mode_binds_root = True
    page: int = 1 << 12  # kernels give one page to a show function; replaced by the machine's page size

    def __init__(self, show: Show | None = None, store: Store | None = None, mode: int | None = None) -> None:
        self.show = show
        self.store = store
        if mode is None:
            mode = (0o444 if show is not None else 0) | (0o200 if store is not None else 0)
        self.st_mode = stat.S_IFREG | mode

    @property
    def size(self) -> int:
        """See `Node.size`: what a file of sysfs says, however long its text is."""
        return self.page

    def open(self, path: str, flags: int) -> File:
        return AttributeFile(self)


def constant(text: str) -> Attribute:
    """A file that always shows the same."""
    return Attribute(lambda: text)


def check_mode(st_mode: int, path: str, flags: int) -> None:
    """Raise EACCES when the mode forbids an access that `flags` asks for, for root too."""
    # An access mode of 3 asks for neither, and gets it (build_open_flags).
    access = flags & os.O_ACCMODE
    if access in (os.O_RDONLY, os.O_RDWR) and not st_mode & 0o444:
        raise fail(errno.EACCES, path)
    if access in (os.O_WRONLY, os.O_RDWR) and not st_mode & 0o222:
        raise fail(errno.EACCES, path)


class AttributeFile(SeekableFile):
    """An open attribute.  The text is made when offset 0 is read and kept for the rest (``seq_file``)."""

    __slots__ = ("_attribute", "_text")
    pwrite_when_read_only = errno.ESPIPE  # seq_open() takes FMODE_PWRITE away

    def __init__(self, attribute: Attribute) -> None:
        super().__init__()
        self._attribute = attribute
        self._text: bytes | None = None

    def pread(self, n: int, offset: int) -> bytes:
        if offset < 0:
            raise fail(errno.EINVAL)
        if self._text is None or offset == 0:
            if self._attribute.show is None:
                raise fail(errno.EIO)
            text = self._attribute.show()
            self._text = text.encode() if isinstance(text, str) else text
        return self._text[offset : offset + n]

    def write(self, data: bytes) -> int:
        return self.pwrite(data, self.position)

    def pwrite(self, data: bytes, offset: int) -> int:
        if not data:
            return 0  # sysfs does not call the store function
        if self._attribute.store is None:
            raise fail(errno.EIO)
        data = data[: self._attribute.page]  # the rest is the caller's to write again (kernfs_fop_write_iter)
        taken = self._attribute.store(data)
        return len(data) if taken is None else taken

    def fsync(self) -> None:
        """Nothing is kept back (``kernfs_file_fops``)."""


class BinaryAttribute(Node):
    """A binary attribute such as ``config``: random access with a fixed `size` (0: without a limit)."""

    __slots__ = ("map_at", "read_at", "size", "st_mode", "write_at")
    size: int
    mode_binds_root = True

    def __init__(
        self,
        size: int,
        read_at: Callable[[int, int], bytes] | None = None,
        write_at: Callable[[int, bytes], int] | None = None,
        mode: int | None = None,
        map_at: MapAt | None = None,
    ) -> None:
        self.size = size
        self.map_at = map_at
        self.read_at = read_at
        self.write_at = write_at
        if mode is None:
            mode = (0o444 if read_at is not None else 0) | (0o200 if write_at is not None else 0)
        self.st_mode = stat.S_IFREG | mode

    def open(self, path: str, flags: int) -> File:
        return BinaryAttributeFile(self)


class BinaryAttributeFile(SeekableFile):
    """An open binary attribute."""

    __slots__ = ("_attribute",)
    pwrite_when_read_only = errno.ESPIPE  # kernfs opens these as a seq_file, too

    def __init__(self, attribute: BinaryAttribute) -> None:
        super().__init__()
        self._attribute = attribute

    def pread(self, n: int, offset: int) -> bytes:
        attribute = self._attribute
        if offset < 0:
            raise fail(errno.EINVAL)
        if attribute.size:
            n = min(n, max(0, attribute.size - offset))
        if attribute.read_at is None:
            raise fail(errno.EIO)
        return attribute.read_at(offset, n) if n else b""

    def pwrite(self, data: bytes, offset: int) -> int:
        attribute = self._attribute
        if attribute.size:
            if offset >= attribute.size:
                raise fail(errno.EFBIG)
            data = data[: attribute.size - offset]
        if attribute.write_at is None:
            raise fail(errno.EIO)
        return attribute.write_at(offset, data) if data else 0

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        if self._attribute.map_at is None:
            raise fail(errno.ENODEV)
        return self._attribute.map_at(length, flags, prot, offset)

    def fsync(self) -> None:
        """Nothing is kept back (``kernfs_file_fops``)."""


class Opener(Protocol):
    """What makes a file when a character device is opened."""

    def __call__(self, path: str, flags: int) -> File: ...


class CharacterDevice(Node):
    """A device node: `major` and `minor`, and the function that opens it."""

    __slots__ = ("opener", "rdev", "st_mode")

    def __init__(self, major: int, minor: int, opener: Opener, mode: int = 0o600) -> None:
        self.rdev = os.makedev(major, minor)
        self.opener = opener
        self.st_mode = stat.S_IFCHR | mode

    def open(self, path: str, flags: int) -> File:
        return self.opener(path, flags)
