"""A disk as sysfs shows it: the class ``block``, and what tells people that a device is in use as one.

The values are those of an idle disk of 512-byte sectors without a partition (``block/blk-sysfs.c``, ``genhd.c``).  No
data can be reached through it, so there is no node in ``/dev``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.driver_core import Device
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.vfs import Attribute, Node, StaticDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Disk", "add_disk", "letters", "remove_disk"]

_FIRST_SEQUENCE = 9
"""The first disk's ``diskseq``: eight loop devices come before it."""
_MINORS = 16

_DISK: Mapping[str, str] = {
    "alignment_offset": "0",
    "cache_type": "write back",
    "capability": "0",
    "discard_alignment": "0",
    "events": "",
    "events_async": "",
    "events_poll_msecs": "-1",
    "ext_range": "256",
    "hidden": "0",
    "inflight": "       0        0",
    "partscan": "1",
    "range": "16",
    "removable": "0",
}
_QUEUE: Mapping[str, str] = {
    "add_random": "0",
    "atomic_write_boundary_bytes": "0",
    "atomic_write_max_bytes": "0",
    "atomic_write_unit_max_bytes": "0",
    "atomic_write_unit_min_bytes": "0",
    "chunk_sectors": "0",
    "dax": "0",
    "discard_granularity": "512",
    "discard_max_bytes": "2147483136",
    "discard_max_hw_bytes": "2147483136",
    "discard_zeroes_data": "0",
    "dma_alignment": "511",
    "fua": "0",
    "hw_sector_size": "512",
    "io_poll": "0",
    "io_poll_delay": "-1",
    "iostats": "1",
    "logical_block_size": "512",
    "max_discard_segments": "1",
    "max_hw_sectors_kb": "2147483647",
    "max_integrity_segments": "0",
    "max_sectors_kb": "1280",
    "max_segment_size": "4294967295",
    "max_segments": "254",
    "minimum_io_size": "512",
    "nomerges": "0",
    "nr_requests": "256",
    "nr_zones": "0",
    "optimal_io_size": "0",
    "physical_block_size": "512",
    "read_ahead_kb": "128",
    "rotational": "1",
    "rq_affinity": "1",
    "scheduler": "[none] ",
    "stable_writes": "0",
    "virt_boundary_mask": "0",
    "write_cache": "write back",
    "write_same_max_bytes": "0",
    "write_zeroes_max_bytes": "2147483136",
    "zone_append_max_bytes": "0",
    "zone_write_granularity": "0",
    "zoned": "none",
}
_HARDWARE_QUEUE: Mapping[str, str] = {
    "cpu_list": "0",
    "nr_reserved_tags": "0",
    "nr_tags": "256",
}
_EMPTY = frozenset({"events", "events_async"})
_WRITABLE = frozenset(
    {
        "add_random",
        "cache_type",
        "discard_max_bytes",
        "events_poll_msecs",
        "io_poll",
        "io_poll_delay",
        "iostats",
        "max_sectors_kb",
        "nomerges",
        "nr_requests",
        "read_ahead_kb",
        "rotational",
        "rq_affinity",
        "scheduler",
        "stable_writes",
        "write_cache",
    }
)
_IDLE = (" " * 7 + "0 ") + " ".join([" " * 7 + "0"] * 16) + "\n"


def _constant(name: str, text: str) -> Attribute:
    shown = text if name in _EMPTY else f"{text}\n"
    if name in _WRITABLE:
        return Attribute(lambda: shown, lambda data: None)
    return Attribute(lambda: shown)


def _constants(table: Mapping[str, str]) -> dict[str, Node]:
    return {name: _constant(name, text) for name, text in table.items()}


class _Bdi(Device):
    """``/sys/devices/virtual/bdi/MAJOR:MINOR``: the write-back control of a disk."""


class Disk(Device):
    """A disk `name` of `sectors` 512-byte sectors with the device number `major`:`minor`, below the device `parent`."""

    def __init__(
        self, kernel: Kernel, parent: Device, name: str, major: int, minor: int, *, sectors: int, readonly: bool,
        serial: str | None,
    ) -> None:  # fmt: skip
        super().__init__(kernel, name, parent, cls=kernel.class_("block"))
        self.devnode = (major, minor, name)
        self.sectors = sectors
        self.readonly = readonly
        self.serial = serial
        self.sequence = _next_sequence(kernel)
        self.bdi = _Bdi(kernel, f"{major}:{minor}", None, cls=kernel.class_("bdi"))

    def uevent_vars(self) -> list[tuple[str, str]]:
        """See `Device.uevent_vars`."""
        return [("DEVTYPE", "disk"), ("DISKSEQ", str(self.sequence))]

    def links(self) -> dict[str, str]:
        """See `Device.links`."""
        return {"bdi": self.bdi.devpath}

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        entries = _constants(_DISK)
        entries |= {
            "diskseq": Attribute(lambda: f"{self.sequence}\n"),
            "holders": StaticDirectory(),
            "mq": StaticDirectory({"0": StaticDirectory({**_constants(_HARDWARE_QUEUE), "cpu0": StaticDirectory()})}),
            "queue": StaticDirectory(dict(_constants(_QUEUE))),
            "ro": Attribute(lambda: f"{int(self.readonly)}\n"),
            "size": Attribute(lambda: f"{self.sectors}\n"),
            "slaves": StaticDirectory(),
            "stat": Attribute(lambda: _IDLE),
        }
        if self.serial is not None:
            entries["serial"] = Attribute(lambda: self.serial or "")
        return entries


def _next_sequence(kernel: Kernel) -> int:
    used = kernel.subsystems.get("diskseq", _FIRST_SEQUENCE)
    number = used if isinstance(used, int) else _FIRST_SEQUENCE
    kernel.subsystems["diskseq"] = number + 1
    return number


def letters(index: int) -> str:
    """The letters of disk number `index`: a to z, aa, ab, ..."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def add_disk(
    parent: Device,
    prefix: str,
    major: int,
    *,
    sectors: int,
    readonly: bool = False,
    serial: str | None = None,
    quiet: bool = False,
) -> Disk:
    """Add the disk PREFIX + letters, the first that is free; its bdi comes first, then the disk."""
    kernel = parent.kernel
    disks = kernel.class_("block").devices
    index = 0
    while f"{prefix}{letters(index)}" in disks:
        index += 1
    disk = Disk(
        kernel, parent, f"{prefix}{letters(index)}", major, index * _MINORS, sectors=sectors, readonly=readonly,
        serial=serial,
    )  # fmt: skip
    kernel.add_class_device(disk.bdi, quiet=quiet)
    kernel.add_class_device(disk, quiet=quiet)
    return disk


def remove_disk(disk: Disk) -> None:
    """Remove a disk, its bdi first."""
    kernel = disk.kernel
    kernel.remove_class_device(disk.bdi)
    kernel.remove_class_device(disk)
