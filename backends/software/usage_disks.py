"""The names that the kernel gives to a machine's disks and interfaces at boot, and where partitions lie.

A machine file uses these names, so they have to be known before the machine is built.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyvfio.address import SubchannelId
from pyvfio_backends.software.description import MachineSpec, PcieFunctionSpec
from pyvfio_backends.software.hardware.devices.ckd_models import MODELS
from pyvfio_backends.software.medium.tables import DASD_TRACK, TABLES, Part
from pyvfio_backends.software.usage import DiskSpec

__all__ = [
    "DASD_HEADS",
    "DISK_SIZE",
    "BootDisk",
    "boot_disks",
    "boot_interfaces",
    "boot_tags",
    "dasd_cylinders",
    "lay_out",
]

DISK_SIZE = 1 << 20
"""The size of a virtio disk unless its options say otherwise."""
_INTERFACES = {"virtio-net-pci": "virtio_pci", "e1000e": "e1000e", "igb": "igb"}
DASD_CYLINDERS, DASD_HEADS = 30051, 15
_MOST_IN_ORDER = 64
"""Longer runs of subchannels are not built at boot, so that their disks have no names yet."""


@dataclass(frozen=True, slots=True)
class BootDisk:
    """A disk of the machine: its `size` in bytes and the volume serial of a DASD (else empty)."""

    size: int
    volser: str = ""


def _letters(index: int) -> str:
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("a") + digit) + text
    return text


def _size(options: dict[str, object]) -> int:
    size = options.get("size", DISK_SIZE)
    return size if isinstance(size, int) else DISK_SIZE


def dasd_cylinders(options: Mapping[str, object]) -> int:
    """The cylinders of a volume in memory as its options say."""
    cylinders, model = options.get("cylinders"), options.get("model")
    if isinstance(cylinders, int) and cylinders:
        return cylinders
    return MODELS[model].cylinders if isinstance(model, str) and model in MODELS else DASD_CYLINDERS


def _held(spec: MachineSpec, models: Mapping[str, str]) -> list[PcieFunctionSpec]:
    """The PCI Express functions of these models (model -> the driver's module) whose driver is loaded."""
    loaded = {name.replace("-", "_") for name in spec.modules}
    return [function for function in spec.pcie_functions if models.get(function.model) in loaded]


def boot_disks(spec: MachineSpec) -> dict[str, BootDisk]:
    """The disks that drivers hold at boot, by their names."""
    virtio: list[BootDisk] = [
        BootDisk(_size(function.options))
        for function in spec.functions
        if (function.model, function.driver, function.state) == ("virtio-blk", "virtio-pci", "configured")
    ]
    virtio += [BootDisk(_size(function.options)) for function in _held(spec, {"virtio-blk-pci": "virtio_pci"})]
    dasd: list[BootDisk] = []
    for row in sorted(spec.subchannels, key=lambda row: SubchannelId.parse(row.schid)):
        if not row.online or row.count > _MOST_IN_ORDER:
            continue
        if (row.unit, row.driver) == ("virtio-blk", "virtio_ccw"):
            virtio += [BootDisk(_size(row.options))] * row.count
        elif (row.unit, row.driver) == ("dasd-3390", "dasd-eckd"):
            size = dasd_cylinders(row.options) * DASD_HEADS * DASD_TRACK
            dasd += [BootDisk(size, str(row.options.get("volser", "0X3F3F")))] * row.count
    named = {f"vd{_letters(index)}": disk for index, disk in enumerate(virtio)}
    return named | {f"dasd{_letters(index)}": disk for index, disk in enumerate(dasd)}


def boot_interfaces(spec: MachineSpec) -> list[str]:
    """The interfaces that drivers hold at boot, with the loopback interface."""
    count = sum(
        (function.model, function.driver, function.state) == ("virtio-net", "virtio-pci", "configured")
        for function in spec.functions
    ) + sum(
        row.count
        for row in spec.subchannels
        if (row.unit, row.driver, row.online) == ("virtio-net", "virtio_ccw", True)
    )
    count += len(_held(spec, _INTERFACES))
    return ["lo", *(f"eth{number}" for number in range(count))]


def boot_tags(spec: MachineSpec) -> list[str]:
    """The tags of the directories of the hypervisor (virtio-9p) that drivers hold at boot."""
    tags = [
        str(row.options.get("mount_tag", ""))
        for row in spec.subchannels
        if (row.unit, row.driver, row.online) == ("virtio-9p", "virtio_ccw", True)
    ]
    held = _held(spec, {"virtio-9p-pci": "virtio_pci"})
    return tags + [str(function.options.get("mount_tag", "src")) for function in held]


def lay_out(disk: DiskSpec, facts: BootDisk) -> Iterator[Part]:
    """The partitions of a disk with their places, in the order of the description."""
    table = TABLES["dasd" if facts.volser else disk.table]
    before = 0
    for index, row in enumerate(disk.partition):
        start = row.start or max(before, -(-table.head // table.align) * table.align)
        end = start + row.size if row.size else (facts.size - table.tail) // table.align * table.align
        yield Part(row.number or index + 1, start, end - start, row.name, row.signature)
        before = -(-end // table.align) * table.align
