"""The virtual file system: a tree of nodes that come into being when somebody looks.

Nothing here knows of devices.  A `Directory` is asked for one name or for all names; an `Attribute` shows and stores
text; a `CharacterDevice` opens a file.  ``fs/kernfs`` and ``fs/sysfs`` are the models, and their errors are kept:
EACCES for opening an attribute against its mode (sysfs checks this for root too), EISDIR, ENOTDIR, ELOOP, EIO for a
write to an attribute without a store function.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from pyvfio_backends.software.linux.file import File, PathFile

__all__ = [
    "Attribute",
    "AttributeFile",
    "BinaryAttribute",
    "BinaryAttributeFile",
    "CharacterDevice",
    "Directory",
    "DirectoryFile",
    "Node",
    "Opener",
    "StaticDirectory",
    "Symlink",
    "TemporaryDirectory",
    "Vfs",
    "fail",
]

_MAX_LINKS = 40
_NAME_MAX, _PATH_MAX = 255, 1 << 12
_DIRECTORY_ENTRY = 20  # BOGO_DIRENT_SIZE of tmpfs
Show = Callable[[], "str | bytes"]
Store = Callable[[bytes], "int | None"]


def fail(code: int, path: str | None = None) -> OSError:
    """The `OSError` of an errno; ``raise fail(errno.EBUSY)``."""
    return OSError(code, os.strerror(code), path) if path is not None else OSError(code, os.strerror(code))


class Node:
    """Anything with a name: `st_mode` (type and permission bits), `size` and `rdev` for `stat`."""

    __slots__ = ()
    st_mode: int = 0
    size: int = 0
    rdev: int = 0

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


class TemporaryDirectory(StaticDirectory):
    """A directory of ``/dev``, whose file system counts 20 bytes for each entry, ``.`` and ``..`` included."""

    __slots__ = ()

    @property
    def size(self) -> int:  # type: ignore[override]
        return _DIRECTORY_ENTRY * (len(self.entries) + 2)


class Symlink(Node):
    """A symbolic link with a relative (or absolute) `target`."""

    __slots__ = ("target",)
    st_mode = stat.S_IFLNK | 0o777

    def __init__(self, target: str) -> None:
        self.target = target

    @property
    def size(self) -> int:  # type: ignore[override]
        return 0  # sysfs links have size 0


class Attribute(Node):
    """A sysfs attribute: `show` gives its text, `store` takes what was written and may return the bytes taken.

    The mode follows from the two functions unless `mode` says otherwise.
    """

    __slots__ = ("show", "st_mode", "store")
    page: int = 1 << 12  # kernels give one page to a show function; replaced by the machine's page size

    def __init__(self, show: Show | None = None, store: Store | None = None, mode: int | None = None) -> None:
        self.show = show
        self.store = store
        if mode is None:
            mode = (0o444 if show is not None else 0) | (0o200 if store is not None else 0)
        self.st_mode = stat.S_IFREG | mode

    @property
    def size(self) -> int:  # type: ignore[override]
        return self.page

    def open(self, path: str, flags: int) -> File:
        _check_mode(self.st_mode, path, flags)
        return AttributeFile(self, path)


def _check_mode(st_mode: int, path: str, flags: int) -> None:
    # An access mode of 3 asks for neither, and gets it (build_open_flags).
    access = flags & os.O_ACCMODE
    if access in (os.O_RDONLY, os.O_RDWR) and not st_mode & 0o444:
        raise fail(errno.EACCES, path)
    if access in (os.O_WRONLY, os.O_RDWR) and not st_mode & 0o222:
        raise fail(errno.EACCES, path)


class AttributeFile(File):
    """An open attribute.  The text is made when offset 0 is read and kept for the rest (``seq_file``)."""

    __slots__ = ("_attribute", "_path", "_text", "position")
    pwrite_when_read_only = errno.ESPIPE  # seq_open() takes FMODE_PWRITE away

    def __init__(self, attribute: Attribute, path: str) -> None:
        self._attribute = attribute
        self._path = path
        self._text: bytes | None = None
        self.position = 0

    def read(self, n: int) -> bytes:
        data = self.pread(n, self.position)
        self.position += len(data)
        return data

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


class BinaryAttribute(Node):
    """A binary attribute such as ``config``: random access with a fixed `size` (0: without a limit)."""

    __slots__ = ("read_at", "size", "st_mode", "write_at")

    def __init__(
        self,
        size: int,
        read_at: Callable[[int, int], bytes] | None = None,
        write_at: Callable[[int, bytes], int] | None = None,
        mode: int | None = None,
    ) -> None:
        self.size = size
        self.read_at = read_at
        self.write_at = write_at
        if mode is None:
            mode = (0o444 if read_at is not None else 0) | (0o200 if write_at is not None else 0)
        self.st_mode = stat.S_IFREG | mode

    def open(self, path: str, flags: int) -> File:
        _check_mode(self.st_mode, path, flags)
        return BinaryAttributeFile(self)


class BinaryAttributeFile(File):
    """An open binary attribute."""

    __slots__ = ("_attribute", "position")
    pwrite_when_read_only = errno.ESPIPE  # kernfs opens these as a seq_file, too

    def __init__(self, attribute: BinaryAttribute) -> None:
        self._attribute = attribute
        self.position = 0

    def read(self, n: int) -> bytes:
        data = self.pread(n, self.position)
        self.position += len(data)
        return data

    def write(self, data: bytes) -> int:
        taken = self.pwrite(data, self.position)
        self.position += taken
        return taken

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


class Vfs:
    """Path resolution over a root directory."""

    def __init__(self, root: Directory) -> None:
        self.root = root

    def resolve(self, path: str, *, follow: bool = True) -> tuple[Node, str]:
        """The node at an absolute path, and its path without links.

        Raise OSError ENOENT, ENOTDIR, ELOOP or ENAMETOOLONG.
        """
        if len(os.fsencode(path)) >= _PATH_MAX:
            raise fail(errno.ENAMETOOLONG, path)
        if not path.startswith("/"):
            raise fail(errno.ENOENT, path)  # the machine has no current directory
        if "\0" in path:
            raise ValueError("embedded null byte")
        trail: list[tuple[str, Node]] = []
        parts = [part for part in reversed(path.split("/")) if part and part != "."]
        wants_directory = path.endswith("/") and bool(parts)
        links = 0
        node: Node = self.root
        while parts:
            name = parts.pop()
            if not isinstance(node, Directory):
                raise fail(errno.ENOTDIR, path)
            if name == "..":
                if trail:
                    trail.pop()
                node = trail[-1][1] if trail else self.root
                continue
            found = node.lookup(name)
            if found is None:
                # sysfs has no limit: it only looks for the name.
                too_long = len(os.fsencode(name)) > _NAME_MAX and not (trail and trail[0][0] == "sys")
                raise fail(errno.ENAMETOOLONG if too_long else errno.ENOENT, path)
            if isinstance(found, Symlink) and (follow or parts or wants_directory):
                links += 1
                if links > _MAX_LINKS:
                    raise fail(errno.ELOOP, path)
                if found.target.startswith("/"):
                    trail.clear()
                    node = self.root
                parts.extend(part for part in reversed(found.target.split("/")) if part and part != ".")
                continue
            trail.append((name, found))
            node = found
        if wants_directory and not isinstance(node, Directory):
            raise fail(errno.ENOTDIR, path)
        return node, "/" + "/".join(name for name, _ in trail)

    def open(self, path: str, flags: int) -> tuple[File, str]:
        """Open the file at a path; the second part is its path without links.  Raise OSError as ``open(2)``.

        New files are refused with EACCES, which is what sysfs, having no way to make any, answers.
        """
        if flags & os.O_PATH:
            node, canonical = self.resolve(path, follow=not flags & os.O_NOFOLLOW)
            if flags & os.O_DIRECTORY and not isinstance(node, Directory):
                raise fail(errno.ENOTDIR, path)
            return PathFile(), canonical
        if flags & os.O_CREAT and path.endswith("/"):
            self.resolve(os.path.dirname(path.rstrip("/")) or "/")
            raise fail(errno.EISDIR, path)
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        follow = not flags & os.O_NOFOLLOW and not exclusive
        try:
            node, canonical = self.resolve(path, follow=follow)
        except FileNotFoundError:
            if flags & os.O_CREAT and path and isinstance(self.resolve(os.path.dirname(path))[0], Directory):
                raise fail(errno.EACCES, path) from None
            raise
        if exclusive:
            raise fail(errno.EEXIST, path)
        if flags & os.O_DIRECTORY and not isinstance(node, Directory):
            raise fail(errno.ENOTDIR, path)
        if isinstance(node, Symlink):
            raise fail(errno.ELOOP, path)
        if flags & os.O_CREAT and isinstance(node, Directory):
            raise fail(errno.EISDIR, path)
        return node.open(path, flags), canonical

    def listdir(self, path: str) -> list[str]:
        """All names in the directory at `path`."""
        node, _ = self.resolve(path)
        if not isinstance(node, Directory):
            raise fail(errno.ENOTDIR, path)
        return list(node.names())

    def readlink(self, path: str) -> str:
        """The target of the link at `path`; EINVAL for anything else."""
        node, _ = self.resolve(path, follow=False)
        if not isinstance(node, Symlink):
            raise fail(errno.EINVAL, path)
        return node.target

    def stat(self, path: str, *, follow: bool) -> os.stat_result:
        """The `os.stat_result` of a node; times are zero, the owner is root."""
        node, canonical = self.resolve(path, follow=follow)
        inode = zlib.crc32(canonical.encode()) or 1
        links = 2 + node.subdirectories() if isinstance(node, Directory) else 1
        return os.stat_result(
            (node.st_mode, inode, 1, links, 0, 0, node.size, 0, 0, 0),
            {"st_rdev": node.rdev, "st_atime": 0.0, "st_mtime": 0.0, "st_ctime": 0.0},
        )
