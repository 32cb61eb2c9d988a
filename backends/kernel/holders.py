"""Who holds a node, asked of every process's descriptors and mappings; psutil tells the programs' names."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator

from pyvfio.backend import Holder

__all__ = ["holders"]


def _same(wanted: os.stat_result) -> Callable[[os.stat_result], bool]:
    """Whether a file is the wanted one: a device by its number, as containers have nodes of their own for it."""
    kind = stat.S_IFMT(wanted.st_mode)
    if stat.S_ISBLK(wanted.st_mode) or stat.S_ISCHR(wanted.st_mode):
        return lambda found: found.st_rdev == wanted.st_rdev and stat.S_IFMT(found.st_mode) == kind
    return lambda found: (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def _descriptors(pid: int, same: Callable[[os.stat_result], bool]) -> Iterator[int]:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            status = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        if same(status):
            yield int(name)


def holders(path: str) -> list[Holder]:
    """The processes that have the node at `path` open or mapped, as far as this user may see.

    Raise OSError when the node is not there.
    """
    import psutil  # slow to import, and only needed here

    wanted = os.stat(path)
    same = _same(wanted)
    found: list[Holder] = []
    for pid in psutil.pids():
        try:
            numbers = list(_descriptors(pid, same))
            if not numbers and _maps(pid, wanted):
                numbers = [-1]
            if numbers:
                name = psutil.Process(pid).name() or "?"
                found += [Holder(pid, name, number) for number in numbers]
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or is another user's
    return found


def _maps(pid: int, wanted: os.stat_result) -> bool:
    """Whether the process maps the node.  psutil would read smaps, which not every kernel has."""
    inode = str(wanted.st_ino)
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            _, _, _, device, number, *_ = line.split(None, 5)
            if number == inode:
                major, minor = (int(part, 16) for part in device.split(":"))
                if os.makedev(major, minor) == wanted.st_dev:
                    return True
    return False
