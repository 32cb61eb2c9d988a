"""Snapshots of the machine's tree and the uevents between them, in the format of ``sysfs-*.json``.

An entry is ``["d", mode]``, ``["l", target]``, ``["f", mode, text | {"hex": ...} | {"errno": ...} | None]`` (None: not
readable, or not read by the recorder) or ``["c", mode, "major:minor"]``; a step has what is gone, new and changed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .seam import Seam, errno_name

__all__ = ["Entry", "Recorder", "Step", "Tree"]

Entry = list[Any]
Tree = dict[str, Entry]

_BUSES = ("ccw", "css", "mdev", "pci", "scm")
_CLASSES = ("iommu", "mdev_bus", "vfio", "vfio-dev")
_MODULES = ("vfio", "vfio_ccw", "vfio_iommu_type1", "vfio_pci")
_NOT_READ = ("resource_alignment", "rom")  # the recorder left these alone


@dataclass
class Step:
    """What a step changed: paths to their old entry, new entry, or both; and its uevents as lines."""

    name: str
    gone: Tree = field(default_factory=dict)
    new: Tree = field(default_factory=dict)
    changed: dict[str, list[Entry]] = field(default_factory=dict)
    uevents: list[list[str]] = field(default_factory=list)


class Recorder:
    """Takes snapshots of a machine."""

    def __init__(self, seam: Seam) -> None:
        self._seam = seam
        self.first = self._snapshot()
        self._last = self.first
        self.steps: list[Step] = []

    def step(self, name: str) -> None:
        """Note what changed since the last snapshot."""
        now, before = self._snapshot(), self._last
        self.steps.append(
            Step(
                name,
                {path: entry for path, entry in before.items() if path not in now},
                {path: entry for path, entry in now.items() if path not in before},
                {
                    path: [before[path], entry]
                    for path, entry in now.items()
                    if path in before and before[path] != entry
                },
                self._seam.new_events(),
            )
        )
        self._last = now

    def _roots(self) -> Sequence[str]:
        devices = [name for name in self._seam.listing("/sys/devices") if name.startswith(("css", "pci"))]
        return [
            *(f"/sys/bus/{name}" for name in _BUSES),
            *(f"/sys/class/{name}" for name in _CLASSES),
            *(f"/sys/module/{name}" for name in _MODULES),
            *(f"/sys/devices/{name}" for name in devices),
            "/sys/devices/virtual/vfio",
            "/sys/kernel/iommu_groups",
            "/dev/vfio",
        ]

    def _snapshot(self) -> Tree:
        tree: Tree = {}
        for root in self._roots():
            if self._seam.exists(root):
                self._walk(root, tree)
        return tree

    def _walk(self, path: str, tree: Tree) -> None:
        found = self._seam.host.lstat(path)
        mode = oct(stat.S_IMODE(found.st_mode))
        if stat.S_ISLNK(found.st_mode):
            tree[path] = ["l", self._seam.host.readlink(path)]
        elif stat.S_ISCHR(found.st_mode):
            tree[path] = ["c", mode, f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"]
        elif stat.S_ISDIR(found.st_mode):
            tree[path] = ["d", mode]
            for name in self._seam.listing(path):
                self._walk(f"{path}/{name}", tree)
        else:
            tree[path] = ["f", mode, self._content(path, found.st_mode)]

    def _content(self, path: str, mode: int) -> Any:
        if not mode & 0o444 or path.rsplit("/", 1)[-1] in _NOT_READ:
            return None
        try:
            data = self._seam.read(path)
        except OSError as error:
            return {"errno": errno_name(error)}
        text = data.decode("latin-1")
        printable = all(char.isprintable() or char in "\n\t" for char in text) and data.isascii()
        return text if printable else {"hex": data.hex()}
