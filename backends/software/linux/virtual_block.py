"""Block devices that stand on others: device-mapper (``dm-0``) and md arrays (``md0``).

Below ``/sys/devices/virtual/block``: what they stand on is linked in ``slaves/``, and they in ``holders/`` of it
(``block/holder.c``).  Sources of the files: ``drivers/md/dm-sysfs.c``, ``drivers/md/md.c``.  The device below may go;
they stay, and their links lead nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pyvfio_backends.software.linux.block import BlockEntry, Disk
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.vfs import Node, StaticDirectory, Symlink, constant
from pyvfio_backends.software.medium.image import Image
from pyvfio_backends.software.medium.tables import SECTOR

__all__ = ["MappedDisk", "RaidDisk", "add_mapped", "add_raid"]

_MAPPER_MAJOR, _RAID_MAJOR = 253, 9
_ALL_MAPPED = object()
"""One holder for all device-mapper devices: several may stand on the same disk (``dm_get_table_device``)."""
_REDUNDANT = ("raid1", "raid4", "raid5", "raid6", "raid10")


class _Stacked(Disk):
    """A disk that stands on `below`."""

    __slots__ = ("slaves",)
    slaves: dict[str, str]

    def stand_on(self, below: Sequence[BlockEntry], holder: object) -> None:
        """Claim these, and link them.  Raise OSError EBUSY."""
        for entry in below:
            entry.state.claim(holder)
            entry.holders[self.name] = self
        self.state.below = tuple(entry.state for entry in below)
        self.slaves = {entry.name: entry.devpath for entry in below}

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        return {**super().attributes(), "slaves": self._links_to("slaves", self.slaves)}


class MappedDisk(_Stacked):
    """A device-mapper device: its `dm_name` and `dm_uuid`."""

    __slots__ = ("dm_name", "dm_uuid")
    partitioned = False
    dm_name: str
    dm_uuid: str

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        texts = {
            "name": self.dm_name,
            "rq_based_seq_io_merge_deadline": "0",
            "suspended": "0",
            "use_blk_mq": "1",
            "uuid": self.dm_uuid,
        }
        files: dict[str, Node] = {name: constant(f"{text}\n") for name, text in texts.items()}
        return {**super().attributes(), "dm": StaticDirectory(dict(files))}


class RaidDisk(_Stacked):
    """An md array of a `level`, in an `array_state`."""

    __slots__ = ("array_state", "level")
    level: str
    array_state: str

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        texts = {
            "array_state": self.array_state,
            "chunk_size": "0",
            "component_size": str(self.sectors // 2),
            "layout": "0",
            "level": self.level,
            "metadata_version": "1.2",
            "raid_disks": str(len(self.slaves)),
        }
        if self.level in _REDUNDANT:
            texts |= {"degraded": "0", "mismatch_cnt": "0", "sync_action": "idle"}
        entries: dict[str, Node] = {name: constant(f"{text}\n") for name, text in texts.items()}
        here = f"{self.devpath}/md"
        for slot, (name, path) in enumerate(self.slaves.items()):
            member: dict[str, Node] = {
                "block": Symlink(os.path.relpath(path, f"{here}/dev-{name}")),
                "slot": constant(f"{slot}\n"),
                "state": constant("in_sync\n"),
            }
            entries[f"dev-{name}"] = StaticDirectory(dict(member))
            entries[f"rd{slot}"] = Symlink(f"dev-{name}")
        return {**super().attributes(), "md": StaticDirectory(dict(entries))}


def _appear(disk: _Stacked, *, quiet: bool) -> None:
    disk.kernel.add_class_device(disk.bdi, quiet=quiet)
    disk.appear(quiet=quiet)


def add_mapped(
    kernel: Kernel, minor: int, below: Sequence[BlockEntry], *, name: str, uuid: str, size: int, quiet: bool = False
) -> MappedDisk:
    """Add ``dm-MINOR`` of `size` bytes, and the links of udev in ``/dev/mapper``.  Raise OSError EBUSY."""
    image = Image(size)
    disk = MappedDisk(
        kernel, None, f"dm-{minor}", (_MAPPER_MAJOR, minor), lambda: image, sectors=size // SECTOR, minors=1
    )
    disk.dm_name, disk.dm_uuid = name, uuid
    disk.stand_on(below, _ALL_MAPPED)
    _appear(disk, quiet=quiet)
    kernel.add_node(f"mapper/{name}", Symlink(f"../dm-{minor}"))
    if uuid.startswith("LVM-"):
        # "-" is doubled within the names of a volume group and a volume, and single between them
        group, _, volume = name.replace("--", "\0").partition("-")
        group, volume = group.replace("\0", "-"), volume.replace("\0", "-")
        if group and volume:
            kernel.add_node(f"{group}/{volume}", Symlink(f"../dm-{minor}"))
    return disk


def add_raid(
    kernel: Kernel,
    minor: int,
    below: Sequence[BlockEntry],
    *,
    level: str,
    array_state: str,
    size: int,
    quiet: bool = False,
) -> RaidDisk:
    """Add ``mdMINOR`` of `size` bytes.  Raise OSError EBUSY."""
    image = Image(size)
    disk = RaidDisk(kernel, None, f"md{minor}", (_RAID_MAJOR, minor), lambda: image, sectors=size // SECTOR, minors=1)
    disk.level, disk.array_state = level, array_state
    disk.stand_on(below, disk)
    disk.state.needs_all = level not in _REDUNDANT
    _appear(disk, quiet=quiet)
    return disk
