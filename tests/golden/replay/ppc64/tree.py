"""What sysfs shows of the functions of a host on POWER, their buses, groups and IOMMUs: the same walk on both sides.

A fact is ``path::what``, where `what` is ``mode``, ``entries``, ``link``, ``text`` or ``hex``.  Below a function only
its own files are looked at, not those of a class that a driver put there, and nowhere ``power``.  Messages' interrupts
are counted (``messages``), as their numbers depend on what else the host has.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any

from pyvfio.backend import Backend

__all__ = ["ROOTS", "Tree", "read_tree"]

Tree = dict[str, Any]

ROOTS = (
    *("/sys/bus/pci/devices", "/sys/class/pci_bus", "/sys/class/iommu"),
    *("/sys/kernel/iommu_groups", "/sys/devices/virtual/iommu", "/proc/powerpc/eeh"),
)
_POWER = "power"
_LEFT_OUT = re.compile(r"virtio\d+|net|ptp|nvme|pools")
_UNREAD = re.compile(r"resource\d.*|rom|legacy_(io|mem)|remove|rescan|reset")
_MOST = 1 << 13


def read_tree(host: Backend) -> Tree:
    """All facts of a host, each by its name."""
    found: Tree = {}
    bridges = [f"/sys/devices/{name}" for name in sorted(host.listdir("/sys/devices")) if name.startswith("pci")]
    for path in (*bridges, *ROOTS):
        _walk(host, path, found)
    return found


def _walk(host: Backend, path: str, found: Tree) -> None:
    mode = host.lstat(path).st_mode
    name = path.rpartition("/")[2]
    found[f"{path}::mode"] = oct(mode)
    if stat.S_ISLNK(mode):
        found[f"{path}::link"] = host.readlink(path)
    elif stat.S_ISDIR(mode):
        names = sorted(one for one in host.listdir(path) if one != _POWER)
        if name == "msi_irqs":
            found[f"{path}::messages"] = len(names)
            return
        found[f"{path}::entries"] = names
        for one in names:
            if not _LEFT_OUT.fullmatch(one):
                _walk(host, f"{path}/{one}", found)
    elif mode & stat.S_IRUSR and not _UNREAD.fullmatch(name):
        data = _read(host, path)
        found[f"{path}::hex" if name == "config" else f"{path}::text"] = (
            data.hex() if name == "config" else data.decode()
        )


def _read(host: Backend, path: str) -> bytes:
    fd = host.open(path, os.O_RDONLY)
    try:
        data = b""
        while len(data) < _MOST and (more := host.read(fd, _MOST)):
            data += more
        return data
    finally:
        host.close(fd)
