"""The virtual file system: what may be done at a path (``fs/namei.c`` and ``fs/open.c`` of the kernel).

The errors are the kernel's, and so is their order: those of the walk (`namei`) come first, then those of the names
(EEXIST, EISDIR), then what the file system refuses: sysfs makes no files (EACCES) and changes no names (EPERM),
``/proc`` has no other names (ENOENT).

The nodes (`nodes`, `tmpfs`) can be imported from here, too.
"""

from __future__ import annotations

import errno
import os
import stat
import weakref
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.file import File, PathFile
from pyvfio_backends.software.linux.host_state import MountEntry
from pyvfio_backends.software.linux.namei import Place, Tree
from pyvfio_backends.software.linux.nodes import (
    Attribute,
    AttributeFile,
    BinaryAttribute,
    BinaryAttributeFile,
    CharacterDevice,
    Directory,
    DirectoryFile,
    Node,
    Opener,
    StaticDirectory,
    Symlink,
    check_mode,
    constant,
    fail,
)
from pyvfio_backends.software.linux.tmpfs import RegularFile, TemporaryDirectory

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
    "RegularFile",
    "StaticDirectory",
    "Symlink",
    "TemporaryDirectory",
    "Vfs",
    "constant",
    "fail",
]


@dataclass(slots=True)
class _Change:
    """What chmod and chown made of a node that is built anew at each look."""

    permissions: int
    uid: int
    gid: int


class Vfs(Tree):
    """The files below `root`, on the file systems of `mounts`, and what the system calls do with them."""

    def __init__(self, root: Directory, mounts: Sequence[MountEntry] = ()) -> None:
        super().__init__(root, mounts)
        self._changes: dict[str, _Change] = {}
        self._inodes = 1
        self._made: weakref.WeakValueDictionary[int, RegularFile] = weakref.WeakValueDictionary()

    def open(self, path: str, flags: int, mode: int = 0o666) -> tuple[File, str]:
        """Open the file at a path; the second part is its path without links.  Raise OSError as ``open(2)``.

        A new file gets the permissions `mode`, from which the caller took its umask away.
        """
        if flags & os.O_PATH:
            node, canonical = self.resolve(path, follow=not flags & os.O_NOFOLLOW)
            if flags & os.O_DIRECTORY and not isinstance(node, Directory):
                raise fail(errno.ENOTDIR, path)
            return PathFile(), canonical
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise NotModelled("files without a name (O_TMPFILE)", path)
        if flags & os.O_CREAT and flags & os.O_DIRECTORY:
            raise fail(errno.EINVAL, path)
        if flags & os.O_CREAT and path.endswith("/"):
            self.place(path)
            raise fail(errno.EISDIR, path)
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        follow = not flags & os.O_NOFOLLOW and not exclusive
        try:
            node, canonical = self.resolve(path, follow=follow)
        except FileNotFoundError:
            if not flags & os.O_CREAT or not path:
                raise
            node, canonical = self._create(path, mode)
            exclusive = 0
        if exclusive:
            raise fail(errno.EEXIST, path)
        if flags & os.O_DIRECTORY and not isinstance(node, Directory):
            raise fail(errno.ENOTDIR, path)
        if isinstance(node, Symlink):
            raise fail(errno.ELOOP, path)
        if flags & (os.O_CREAT | os.O_TRUNC) and isinstance(node, Directory):
            raise fail(errno.EISDIR, path)
        if node.mode_binds_root:
            change = self._changes.get(canonical)
            check_mode(node.st_mode if change is None else change.permissions, path, flags)
        return node.open(path, flags), canonical

    def _create(self, path: str, mode: int) -> tuple[Node, str]:
        place = self.place(path)
        if place.node is not None:
            raise fail(errno.ENOENT, path)  # a link that leads nowhere
        if not isinstance(place.directory, TemporaryDirectory):
            raise fail(self._no_new_name(place, errno.EACCES), path)
        node = RegularFile(permissions=mode & 0o7777, gid=_inherited_group(place.directory), inode=self._new_inode())
        place.directory.entries[place.name] = node
        self._made[node.inode] = node
        return node, place.path

    def changed_by_open(self, path: str, flags: int) -> bool:
        """Whether opening at `path` would make a plain file, or empty one."""
        try:
            node, _ = self.resolve(path)
        except OSError as error:
            return error.errno == errno.ENOENT and bool(flags & os.O_CREAT)
        return isinstance(node, RegularFile) and bool(flags & os.O_TRUNC)

    def regular_file(self, inode: int) -> RegularFile | None:
        """The plain file that a program made with this inode number, while it has a name or is open."""
        return self._made.get(inode)

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
        """The `os.stat_result` of a node; times are zero."""
        node, canonical = self.resolve(path, follow=follow)
        inode = node.inode or zlib.crc32(canonical.encode()) or 1
        links = 2 + node.subdirectories() if isinstance(node, Directory) else 1
        mount = self.mount_of(canonical)
        mode, uid, gid = node.st_mode, node.uid, node.gid
        if self._changes:
            change = self._changes.get(canonical)
            if change is not None:
                mode, uid, gid = stat.S_IFMT(mode) | change.permissions, change.uid, change.gid
        return os.stat_result(
            (mode, inode, os.makedev(mount.major, mount.minor), links, uid, gid, node.size, 0, 0, 0),
            {"st_rdev": node.rdev, "st_atime": 0.0, "st_mtime": 0.0, "st_ctime": 0.0},
        )

    # names

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """Make a directory with the permissions `mode`, from which the caller took its umask away."""
        place = self.place(path)
        if place.special or place.node is not None:
            raise fail(errno.EEXIST, path)
        if not isinstance(place.directory, TemporaryDirectory):
            raise fail(self._no_new_name(place, errno.EPERM), path)
        permissions = mode & 0o1777 | place.directory.st_mode & stat.S_ISGID
        place.directory.entries[place.name] = TemporaryDirectory(
            permissions=permissions, gid=_inherited_group(place.directory), inode=self._new_inode()
        )

    def make_directories(self, path: str) -> None:
        """Make a directory and those above it, for the machine itself; nothing happens where they are."""
        if path.strip("/"):
            self.make_directories(os.path.dirname(path.rstrip("/")))
            if self.place(path).node is None:
                self.mkdir(path, 0o755)

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        place = self.place(path)
        if place.special:
            raise fail({"": errno.EBUSY, ".": errno.EINVAL, "..": errno.ENOTEMPTY}[place.name], path)
        node = self._there(place, path)
        if not isinstance(node, Directory):
            raise fail(errno.ENOTDIR, path)
        entries = self._changeable(place, path)
        if self.is_mount_point(place.path):
            raise fail(errno.EBUSY, path)
        if not isinstance(node, TemporaryDirectory):
            raise fail(errno.EBUSY, path)
        if node.entries:
            raise fail(errno.ENOTEMPTY, path)
        del entries[place.name]
        self.forget(place.path)

    def unlink(self, path: str) -> None:
        """Remove a name that is no directory; who has the file open keeps it."""
        place = self.place(path)
        if place.special:
            raise fail(errno.EISDIR, path)
        node = self._there(place, path)
        if isinstance(node, Directory):
            raise fail(errno.EISDIR, path)
        if place.slash:
            raise fail(errno.ENOTDIR, path)
        del self._changeable(place, path)[place.name]
        self.forget(place.path)

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, which replaces what had it (``do_renameat2``)."""
        old, new = self.unbounded(source), self.unbounded(target)
        if self.mount_of(old.folder) is not self.mount_of(new.folder):
            raise fail(errno.EXDEV, source)
        if old.special or new.special:
            raise fail(errno.EBUSY, source)
        node = self._there(self.bounded(old, source), source)
        self.bounded(new, source)
        if new.node is None and self.mount_of(new.folder).fs_type == "proc":
            raise fail(errno.ENOENT, source)
        is_directory = isinstance(node, Directory)
        if not is_directory and (old.slash or new.slash):
            raise fail(errno.ENOTDIR, source)
        if f"{new.folder}/".startswith(f"{old.path}/"):
            raise fail(errno.EINVAL, source)
        if f"{old.folder}/".startswith(f"{new.path}/"):
            raise fail(errno.ENOTEMPTY, source)
        if old.path == new.path:
            return
        if new.node is not None and isinstance(new.node, Directory) is not is_directory:
            raise fail(errno.ENOTDIR if is_directory else errno.EISDIR, source)
        before, after = self._changeable(old, source), self._changeable(new, source)
        if self.is_mount_point(old.path) or self.is_mount_point(new.path):
            raise fail(errno.EBUSY, source)
        if isinstance(new.node, TemporaryDirectory) and new.node.entries:
            raise fail(errno.ENOTEMPTY, source)
        self.forget(new.path)
        after[new.name] = before.pop(old.name)

    def _there(self, place: Place, path: str) -> Node:
        if place.node is None:
            raise fail(errno.ENOENT, path)
        return place.node

    def _changeable(self, place: Place, path: str) -> dict[str, Node | Callable[[], Node]]:
        """The entries of a place's directory.  Raise EPERM where the file system changes none."""
        if not isinstance(place.directory, TemporaryDirectory):
            raise fail(errno.EPERM, path)
        return place.directory.entries

    def _no_new_name(self, place: Place, otherwise: int) -> int:
        return errno.ENOENT if self.mount_of(place.folder).fs_type == "proc" else otherwise

    def _new_inode(self) -> int:
        self._inodes += 1
        return self._inodes

    # permissions and owners

    def chmod(self, path: str, mode: int) -> None:
        """Set the permission bits, also of sysfs files and device nodes (``kernfs_iop_setattr``)."""
        node, canonical = self.resolve(path)
        if self.mount_of(canonical).fs_type == "proc":
            raise fail(errno.EPERM, path)
        if isinstance(node, RegularFile | TemporaryDirectory):
            node.st_mode = stat.S_IFMT(node.st_mode) | mode & 0o7777
        else:
            self._change(node, canonical).permissions = mode & 0o7777

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Set owner and group; -1 leaves one as it is.  A program file loses its set-user and set-group bits."""
        node, canonical = self.resolve(path)
        target = node if isinstance(node, RegularFile | TemporaryDirectory) else self._change(node, canonical)
        if uid != -1:
            target.uid = uid
        if gid != -1:
            target.gid = gid
        if isinstance(node, RegularFile):
            node.st_mode &= ~stat.S_ISUID
            if node.st_mode & stat.S_IXGRP:
                node.st_mode &= ~stat.S_ISGID

    def _change(self, node: Node, canonical: str) -> _Change:
        return self._changes.setdefault(canonical, _Change(stat.S_IMODE(node.st_mode), node.uid, node.gid))

    def forget(self, path: str) -> None:
        """Forget what chmod and chown did at a path (without links) and below: the kernel removed it."""
        if self._changes:
            for name in [name for name in self._changes if name == path or name.startswith(f"{path}/")]:
                del self._changes[name]


def _inherited_group(directory: TemporaryDirectory) -> int:
    return directory.gid if directory.st_mode & stat.S_ISGID else 0
