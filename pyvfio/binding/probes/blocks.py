"""The block devices of a subject: disks and partitions, and what stands on them (device-mapper, md, bcache, loop).

``holders/`` of each disk and partition links what stands on it (``block/holder.c``); a loop device names its backing
file itself.  A disk that native NVMe multipath hides (``nvme0c1n1``, ``drivers/nvme/host/multipath.c``) is reached
through its head ``nvme0n1``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio.binding.probes.subject import Below, below_at

if TYPE_CHECKING:
    from pyvfio.binding.probes.subject import Subject
    from pyvfio.binding.probes.surroundings import Mount

__all__ = ["Block", "Stack"]

_HIDDEN_PATH = re.compile(r"nvme(\d+)c\d+n(\d+)")
_DM = {
    "LVM": "LVM logical volume",
    "CRYPT": "encrypted volume",
    "mpath": "multipath map",
    "DMRAID": "RAID set",
    "VDO": "VDO volume",
}
"""The words of device-mapper UUIDs before their first hyphen, by who made them."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block device: `name` (``sda1``), sysfs `path`, `number` (``8:1``) and `node`.

    `mapped` is its device-mapper name, `kind` what it is (``LVM logical volume``, ``md array, raid1``).  `under` is
    what it stands on or is a partition of, None for a disk of the subject's own; `own` says whether it is a disk or
    partition of the subject itself.
    """

    name: str
    path: str
    number: str
    node: str
    mapped: str = ""
    kind: str = ""
    under: Block | None = None
    own: bool = True

    @property
    def title(self) -> str:
        """The name for people: ``dm-0 (vg0-root)``."""
        return f"{self.name} ({self.mapped})" if self.mapped else self.name

    @property
    def where(self) -> str:
        """The name and the way down to the subject's own device: ``dm-0 (vg0-root) on sda2``."""
        below = self.under
        while below is not None and not below.own and self.name.startswith(below.name):
            below = below.under  # a partition's name tells its disk
        return self.title if self.own or below is None else f"{self.title} on {below.where}"


class Stack:
    """All block devices of a `subject`, the lower ones first."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._sysfs = subject.sysfs
        self.all: list[Block] = []
        for one in subject.of("block"):
            self._add_own(one)
        for block in self.all:  # grows while it is read
            self._add_partitions(block)
            self._add_holders(block)
            self._add_loops(block)

    @property
    def own(self) -> list[Block]:
        """The subject's own disks and partitions."""
        return [block for block in self.all if block.own]

    @property
    def uppers(self) -> list[Block]:
        """What stands on them."""
        return [block for block in self.all if not block.own and block.under is not None]

    def find(self, node: str) -> Block | None:
        """The one whose node is `node`, by any of its names below ``/dev``."""
        if not node.startswith("/dev/"):
            return None
        real = self._subject.surroundings.real_node(node)
        names = (node, real)
        return next((one for one in self.all if one.node in names or f"/dev/mapper/{one.mapped}" == node), None)

    def mounts(self) -> Iterator[tuple[Mount, Block]]:
        """The mounts whose file system is on one of them."""
        around = self._subject.surroundings
        by_number = {block.number: block for block in self.all if block.number}
        for mount in around.mounts:
            found = by_number.get(mount.number)
            if found is None and mount.number.startswith("0:"):  # more than one device, or a file system without one
                sources = [source for source in mount.source.split(":") if source.startswith("/dev/")]
                found = next((block for source in sources if (block := self.find(source))), None)
                if found is None and mount.fs_type == "btrfs" and sources:
                    source = posixpath.basename(around.real_node(sources[0]))
                    whole = next((names for names in around.btrfs.values() if source in names), ())
                    found = next((block for block in self.all if block.name in whole), None)
            if found is not None:
                yield mount, found

    def _known(self, name: str) -> bool:
        return any(block.name == name for block in self.all)

    def _add_own(self, one: Below) -> None:
        hidden = _HIDDEN_PATH.fullmatch(one.name)
        if hidden is not None and self._sysfs.attribute(f"{one.path}/hidden") == "1":
            head = self._sysfs.link(f"/sys/block/nvme{hidden[1]}n{hidden[2]}")
            if head is None:
                return
            one = below_at(self._sysfs, head)
        if not self._known(one.name):
            disk = None
            if one.value("DEVTYPE") == "partition":
                above = posixpath.basename(posixpath.dirname(one.path))
                disk = next((block for block in self.all if block.name == above), None)
            self.all.append(Block(one.name, one.path, one.number, one.node, under=disk))

    def _add_partitions(self, block: Block) -> None:
        for name in self._sysfs.names(block.path):
            path = f"{block.path}/{name}"
            if name.startswith(block.name) and self._sysfs.exists(f"{path}/partition") and not self._known(name):
                one = below_at(self._sysfs, path)
                self.all.append(Block(name, path, one.number, one.node, "", block.kind, block, block.own))

    def _add_holders(self, block: Block) -> None:
        for name in self._sysfs.names(f"{block.path}/holders"):
            path = self._sysfs.link(f"{block.path}/holders/{name}")
            if path is not None and not self._known(name):
                self._add_upper(path, block)

    def _add_loops(self, block: Block) -> None:
        for name in self._subject.surroundings.loops.get(block.node, ()):
            path = self._sysfs.link(f"/sys/block/{name}")
            if path is not None and not self._known(name):
                self._add_upper(path, block)

    def _add_upper(self, path: str, under: Block) -> None:
        one = below_at(self._sysfs, path)
        kind = ""
        mapped = self._sysfs.attribute(f"{path}/dm/name") or ""
        if mapped:
            kind = _dm_kind(self._sysfs.attribute(f"{path}/dm/uuid") or "")
        elif level := self._sysfs.attribute(f"{path}/md/level"):
            kind = f"md array, {level}"
            if state := self._sysfs.attribute(f"{path}/md/array_state"):
                kind += f", {state}"
        elif one.name.startswith("bcache"):
            kind = "bcache"
        elif one.name.startswith("loop"):
            kind = "loop device"
        self.all.append(Block(one.name, path, one.number, one.node, mapped, kind, under, own=False))


def _dm_kind(uuid: str) -> str:
    word, _, rest = uuid.partition("-")
    if re.fullmatch(r"part\d+", word):
        return f"partition of a {_DM.get(rest.partition('-')[0], 'device-mapper volume')}"
    return _DM.get(word, "device-mapper volume")
