"""Who holds a node, asked of every process's descriptors and mappings with psutil."""

from __future__ import annotations

import os
from collections.abc import Iterator

from pyvfio.backend import Holder

__all__ = ["holders"]


def _descriptors(pid: int, wanted: os.stat_result) -> Iterator[int]:
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            status = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
            yield int(name)


def holders(path: str) -> list[Holder]:
    """The processes that have the node at `path` open or mapped, as far as this user may see.

    Raise OSError when the node is not there.
    """
    import psutil  # slow to import, and only needed here

    wanted = os.stat(path)
    found: list[Holder] = []
    for process in psutil.process_iter(["name"]):
        name = process.info["name"] or "?"
        try:
            numbers = list(_descriptors(process.pid, wanted))
            found += [Holder(process.pid, name, number) for number in numbers]
            if not numbers and _maps(process.pid, wanted):
                found.append(Holder(process.pid, name, -1))
        except (psutil.Error, OSError):
            continue  # it ended meanwhile, or is another user's
    return found


def _maps(pid: int, wanted: os.stat_result) -> bool:
    """Whether the process maps the node.  psutil would read smaps, which not every kernel has."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            _, _, _, device, inode, *_ = line.split(None, 5)
            major, minor = (int(part, 16) for part in device.split(":"))
            if int(inode) == wanted.st_ino and os.makedev(major, minor) == wanted.st_dev:
                return True
    return False
