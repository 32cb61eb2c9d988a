"""The walk along a path (``fs/namei.c``): from names to nodes, over links and mounts."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass

from pyvfio_backends.software.linux.host_state import MountEntry
from pyvfio_backends.software.linux.nodes import Directory, Node, Symlink, fail

__all__ = ["Place", "Tree"]

_MAX_LINKS = 40
_NAME_MAX, _PATH_MAX = 255, 1 << 12
_PATH_SURELY = _PATH_MAX // 4  # no character has more bytes: a shorter path is not too long
_NOTHING_MOUNTED = MountEntry("rootfs", "/", "rootfs")


@dataclass(frozen=True, slots=True)
class Place:
    """The last part of a path: its directory, that one's path without links, the name there, the node if there is one.

    `name` is empty for the root, and ``.`` or ``..`` where the path ends so; `slash` tells of a trailing slash.
    """

    directory: Directory
    folder: str
    name: str
    slash: bool
    node: Node | None

    @property
    def path(self) -> str:
        """The path without links, unless the name is special."""
        return self.folder.rstrip("/") + "/" + self.name

    @property
    def special(self) -> bool:
        """Whether the last part is no name."""
        return self.name in ("", ".", "..")


class Tree:
    """The nodes below `root`, on the file systems of `mounts`, of which the last at a path counts."""

    def __init__(self, root: Directory, mounts: Sequence[MountEntry] = ()) -> None:
        self.root = root
        self.mounts = mounts

    def resolve(self, path: str, *, follow: bool = True) -> tuple[Node, str]:
        """The node at an absolute path, and its path without links.

        Raise OSError ENOENT, ENOTDIR, ELOOP or ENAMETOOLONG.
        """
        if len(path) >= _PATH_SURELY and len(os.fsencode(path)) >= _PATH_MAX:
            raise fail(errno.ENAMETOOLONG, path)
        if not path.startswith("/"):
            raise fail(errno.ENOENT, path)  # the machine has no current directory
        if "\0" in path:
            raise ValueError("embedded null byte")
        names: list[str] = []
        nodes: list[Node | None] = [self.root]  # None: not looked up, because a link led past it
        parts = path.split("/")[::-1]
        links = 0
        while parts:
            name = parts.pop()
            if name == "":
                continue
            node = nodes[-1]
            if not isinstance(node, Directory):
                raise fail(errno.ENOTDIR, path)
            if name == ".":
                continue
            if name == "..":
                if names:
                    names.pop()
                    nodes.pop()
                    nodes[-1] = nodes[-1] or self.resolve("/" + "/".join(names))[0]
                continue
            found = node.lookup(name)
            if found is None:
                raise fail(_missing(name, names[0] if names else ""), path)
            if isinstance(found, Symlink) and (follow or parts):
                links += 1
                if links > _MAX_LINKS:
                    raise fail(errno.ELOOP, path)
                leap = found.leap()
                if leap is not None:
                    names = leap[0].split("/")[1:]
                    nodes = [None] * len(names)
                    nodes.append(leap[1])
                    continue
                if found.target.startswith("/"):
                    names.clear()
                    del nodes[1:]
                parts += found.target.split("/")[::-1]
                continue
            names.append(name)
            nodes.append(found)
        last = nodes[-1] or self.root
        if path.endswith("/") and not isinstance(last, Directory):
            raise fail(errno.ENOTDIR, path)
        return last, "/" + "/".join(names)

    def place(self, path: str) -> Place:
        """Where a name is or could be.  Raise OSError for the path up to it, and ENAMETOOLONG (see `bounded`)."""
        return self.bounded(self.unbounded(path), path)

    def bounded(self, place: Place, path: str) -> Place:
        """The place itself.  Raise ENAMETOOLONG when its file system has no names so long."""
        if place.node is None and _missing(place.name, place.folder.split("/")[1]) == errno.ENAMETOOLONG:
            raise fail(errno.ENAMETOOLONG, path)
        return place

    def unbounded(self, path: str) -> Place:
        """Where a name is or could be, if it were not too long."""
        if len(os.fsencode(path)) >= _PATH_MAX:
            raise fail(errno.ENAMETOOLONG, path)
        if not path.startswith("/"):
            raise fail(errno.ENOENT, path)
        if "\0" in path:
            raise ValueError("embedded null byte")
        head, _, name = path.rstrip("/").rpartition("/")
        try:
            directory, folder = self.resolve(head + "/")
        except OSError as error:
            raise fail(error.errno or errno.ENOENT, path) from None
        if not isinstance(directory, Directory):
            raise fail(errno.ENOTDIR, path)
        node = None if name in ("", ".", "..") else directory.lookup(name)
        return Place(directory, folder, name, path.endswith("/"), node)

    def mount_of(self, canonical: str) -> MountEntry:
        """The mount that a path without links is on."""
        found, length = _NOTHING_MOUNTED, 0
        for entry in self.mounts:
            point = entry.mount_point.rstrip("/")
            if len(point) >= length and (canonical == point or canonical.startswith(point + "/")):
                found, length = entry, len(point)
        return found

    def is_mount_point(self, canonical: str) -> bool:
        """Whether something is mounted at a path without links."""
        return any(entry.mount_point == canonical for entry in self.mounts)


def _missing(name: str, top: str) -> int:
    """The errno for a name that is not there; sysfs has no limit: it only looks for the name."""
    return errno.ENAMETOOLONG if len(os.fsencode(name)) > _NAME_MAX and top != "sys" else errno.ENOENT
