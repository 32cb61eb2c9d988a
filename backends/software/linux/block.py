"""Disks and their partitions: the class ``block``, with the nodes in ``/dev`` by which what is on them can be read.

The values of sysfs are those of an idle disk (``block/genhd.c``, ``block/partitions/core.c``).  A disk that a driver
leaves is gone at once, whoever uses it: mounts stay, and find nothing below them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pyvfio_backends.software.linux.block_device import BlockDevice, BlockNode, Content
from pyvfio_backends.software.linux.block_files import (
    BLOCK_SIZES,
    DISK,
    HARDWARE_QUEUE,
    IDLE,
    INFLIGHT,
    QUEUE,
    constants,
)
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, Symlink
from pyvfio_backends.software.medium.image import Image, Window
from pyvfio_backends.software.medium.tables import SECTOR, Part

__all__ = ["BlockEntry", "Disk", "Medium", "Partition", "add_disk", "letters", "media", "remove_disk"]

_MEDIA: Final[Key[dict[str, Medium]]] = Key("media")
_RESERVED: Final[Key[set[str]]] = Key("disk names in use")
_SEQUENCE: Final[Key[int]] = Key("diskseq")
_FIRST_SEQUENCE = 9
"""The first disk's ``diskseq``: eight loop devices come before it."""
_MOST_PARTITIONS = 256
_EXTENDED_MAJOR = 259
"""The major of partitions beyond the minors of their disk."""


class Medium:
    """What is on a disk, whatever it is called and whoever drives it: `parts`, and an image made when it is read."""

    def __init__(self, make: Callable[[], Image], parts: Sequence[Part] = ()) -> None:
        self._make = make
        self._image: Image | None = None
        self.parts = tuple(parts)

    @property
    def image(self) -> Image:
        """All its bytes."""
        if self._image is None:
            self._image = self._make()
        return self._image


def media(kernel: Kernel) -> dict[str, Medium]:
    """The media of the machine by the names of the devices that have them (``0020:00:00.0``, ``0.0.013f``)."""
    return kernel.subsystems.get_or_make(_MEDIA, dict)


class _Bdi(Device):
    """``/sys/devices/virtual/bdi/MAJOR:MINOR``: the write-back control of a disk."""


class BlockEntry(Device):
    """A device of the class ``block``: its `state`, and the `holders`, devices that stand on it."""

    __slots__ = ("holders", "state")

    def __init__(
        self, kernel: Kernel, name: str, parent: Device | None, major: int, minor: int, state: BlockDevice
    ) -> None:
        super().__init__(kernel, name, parent, cls=kernel.class_("block"))
        self.devnode = (major, minor, name)
        self.state = state
        self.holders: dict[str, Device] = {}

    @property
    def number(self) -> tuple[int, int]:
        """Major and minor."""
        major, minor, _ = self.devnode or (0, 0, "")
        return major, minor

    def _links_to(self, folder: str, devices: Mapping[str, str]) -> Directory:
        here = f"{self.devpath}/{folder}"
        return StaticDirectory({name: Symlink(os.path.relpath(path, here)) for name, path in devices.items()})

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`: what disks and partitions have in common."""
        return {
            "alignment_offset": Attribute(lambda: "0\n"),
            "discard_alignment": Attribute(lambda: "0\n"),
            "holders": self._links_to("holders", {name: device.devpath for name, device in self.holders.items()}),
            "inflight": Attribute(lambda: f"{INFLIGHT}\n"),
            "ro": Attribute(lambda: f"{int(self.state.readonly)}\n"),
            "stat": Attribute(lambda: IDLE),
        }

    def appear(self, *, quiet: bool) -> None:
        """Make the node, then the directory, with an event."""
        self.kernel.add_node(self.name, BlockNode(*self.number, self.state))
        self.kernel.add_class_device(self, quiet=quiet)

    def vanish(self) -> None:
        """Remove the node and the directory."""
        self.kernel.remove_node(self.name)
        self.kernel.remove_class_device(self)


class Partition(BlockEntry):
    """A partition of `disk`."""

    __slots__ = ("disk", "part")

    def __init__(self, disk: Disk, part: Part, major: int, minor: int) -> None:
        digit = disk.name[-1:].isdigit()
        state = BlockDevice(
            lambda: Window(disk.image(), part.start, part.size), whole=disk.state, readonly=disk.state.readonly
        )
        super().__init__(disk.kernel, f"{disk.name}{'p' if digit else ''}{part.number}", disk, major, minor, state)
        self.disk = disk
        self.part = part

    def uevent_vars(self) -> list[tuple[str, str]]:
        """See `Device.uevent_vars`."""
        pairs = [("DEVTYPE", "partition"), ("DISKSEQ", str(self.disk.sequence)), ("PARTN", str(self.part.number))]
        return [*pairs, ("PARTNAME", self.part.name)] if self.part.name else pairs

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        return {
            **super().attributes(),
            "partition": Attribute(lambda: f"{self.part.number}\n"),
            "size": Attribute(lambda: f"{self.part.size // SECTOR}\n"),
            "start": Attribute(lambda: f"{self.part.start // SECTOR}\n"),
        }


class Disk(BlockEntry):
    """A disk `name` of `sectors` 512-byte sectors with the device number `major`:`minor`, below the device `parent`.

    Its partitions up to number `minors` - 1 have the minors after its own; if it is not `partitioned`, it has none.
    """

    __slots__ = ("bdi", "block_size", "minors", "sectors", "sequence")
    partitioned = True

    def __init__(
        self,
        kernel: Kernel,
        parent: Device | None,
        name: str,
        number: tuple[int, int],
        content: Callable[[], Content],
        *,
        sectors: int,
        minors: int = 1,
        readonly: bool = False,
    ) -> None:
        super().__init__(kernel, name, parent, *number, BlockDevice(content, readonly=readonly))
        self.sectors = sectors
        self.block_size = SECTOR
        self.minors = minors
        self.sequence = _next_sequence(kernel)
        self.bdi = _Bdi(kernel, "{}:{}".format(*number), None, cls=kernel.class_("bdi"))

    def image(self) -> Image:
        """What its partitions are parts of."""
        content = self.state.content
        if not isinstance(content, Image):
            raise TypeError(f"{self.name} has no image of its own")
        return content

    def refill(self, medium: Medium) -> None:
        """Have other contents, before anybody has looked."""
        self.state.refill(lambda: medium.image)

    def uevent_vars(self) -> list[tuple[str, str]]:
        """See `Device.uevent_vars`."""
        return [("DEVTYPE", "disk"), ("DISKSEQ", str(self.sequence))]

    def links(self) -> dict[str, str]:
        """See `Device.links`."""
        return {"bdi": self.bdi.devpath}

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        return {
            **super().attributes(),
            **constants(DISK),
            "diskseq": Attribute(lambda: f"{self.sequence}\n"),
            "ext_range": Attribute(lambda: f"{_MOST_PARTITIONS if self.partitioned else 1}\n"),
            "partscan": Attribute(lambda: f"{int(self.partitioned)}\n"),
            "queue": StaticDirectory(dict(constants({**QUEUE, **self.queue_sizes()}))),
            "range": Attribute(lambda: f"{self.minors}\n"),
            "size": Attribute(lambda: f"{self.sectors}\n"),
            "slaves": StaticDirectory(),
        }

    def queue_sizes(self) -> dict[str, str]:
        """The files of the queue that tell the size of blocks."""
        return dict.fromkeys(BLOCK_SIZES, str(self.block_size))

    def partitions(self) -> list[Partition]:
        """Its partitions."""
        return [child for child in self.child_devices() if isinstance(child, Partition)]

    def show_parts(self, parts: Sequence[Part], *, quiet: bool) -> None:
        """Find these partitions (``blk_add_partitions``)."""
        major, minor = self.number
        for part in sorted(parts, key=lambda part: part.number):
            if part.number < self.minors:
                Partition(self, part, major, minor + part.number).appear(quiet=quiet)
            else:
                Partition(self, part, _EXTENDED_MAJOR, _next_extended(self.kernel)).appear(quiet=quiet)


class _HardwareDisk(Disk):
    """A disk with hardware queues; `serial` is what virtio disks say (None: the driver has no such file)."""

    __slots__ = ("serial",)
    serial: str | None

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        entries = super().attributes()
        queue = StaticDirectory({**constants(HARDWARE_QUEUE), "cpu0": StaticDirectory()})
        entries["mq"] = StaticDirectory({"0": queue})
        if self.serial is not None:
            entries["cache_type"] = Attribute(lambda: "write back\n", lambda data: None)
            entries["serial"] = Attribute(lambda: self.serial or "")
        return entries

    def queue_sizes(self) -> dict[str, str]:
        """See `Disk.queue_sizes`; virtio disks discard whole blocks, and their largest request is of whole blocks."""
        sizes = super().queue_sizes()
        if self.serial is not None and self.block_size > SECTOR:
            largest = (1 << 31) - (self.block_size >> 10)
            sizes |= {"discard_granularity": str(self.block_size), "max_hw_sectors_kb": str(largest)}
        return sizes


def _next_sequence(kernel: Kernel) -> int:
    number = kernel.subsystems.get(_SEQUENCE) or _FIRST_SEQUENCE
    kernel.subsystems[_SEQUENCE] = number + 1
    return number


def _next_extended(kernel: Kernel) -> int:
    taken = {entry.number for entry in kernel.class_("block").devices.values() if isinstance(entry, BlockEntry)}
    return next(minor for minor in range(len(taken) + 1) if (_EXTENDED_MAJOR, minor) not in taken)


def letters(index: int) -> str:
    """The letters of disk number `index`: a to z, aa, ab, ..."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def _reserved(kernel: Kernel) -> set[str]:
    """The names of disks that are gone while somebody uses them still."""
    return kernel.subsystems.get_or_make(_RESERVED, set)


def add_disk(
    parent: Device,
    prefix: str,
    major: int,
    medium: Medium,
    *,
    sectors: int,
    minors: int = 16,
    index: int | None = None,
    readonly: bool = False,
    serial: str | None = None,
    block_size: int = SECTOR,
    quiet: bool = False,
) -> Disk:
    """Add the disk PREFIX + letters, the first that is free unless `index` says which; its bdi comes first, then the
    disk, then its partitions.
    """
    kernel = parent.kernel
    if index is None:
        index = 0
        taken = kernel.class_("block").devices.keys() | _reserved(kernel)
        while f"{prefix}{letters(index)}" in taken:
            index += 1
    disk = _HardwareDisk(
        kernel,
        parent,
        f"{prefix}{letters(index)}",
        (major, index * minors),
        lambda: medium.image,
        sectors=sectors,
        minors=minors,
        readonly=readonly,
    )
    disk.serial = serial
    disk.block_size = block_size
    kernel.add_class_device(disk.bdi, quiet=quiet)
    disk.appear(quiet=quiet)
    disk.show_parts(medium.parts, quiet=quiet)
    return disk


def remove_disk(disk: Disk) -> None:
    """Remove a disk: its partitions first, then its bdi.  Who has it open or mounted keeps something dead."""
    kernel, name = disk.kernel, disk.name
    disk.state.gone = True
    for partition in disk.partitions():
        partition.vanish()
    kernel.remove_class_device(disk.bdi)
    disk.vanish()
    if disk.state.users:
        _reserved(kernel).add(name)
        disk.state.forgotten = lambda: _reserved(kernel).discard(name)
