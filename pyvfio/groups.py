"""IOMMU groups: the devices that can only be given away together.

A group can be used (it is *viable*) while nobody uses the kernel's own DMA in it.  A driver claims that for the whole
group when it gets a member, ``iommu_device_use_default_domain()``, unless it says that it leaves DMA alone
(``driver_managed_dma``), which VFIO's drivers do and few others.  What the member is does not matter: a bridge under
``pcieport`` is harmless, and the same bridge under ``shpchp`` is not.  Source: ``drivers/vfio/group.c``,
``pci_dma_configure()`` in ``drivers/pci/pci-driver.c`` and ``drivers/iommu/iommu.c``, Linux 5.19 and later.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass

from pyvfio.devices import device_at
from pyvfio.errors import NoSuchDevice
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice, has_vfio_driver

__all__ = ["IommuGroup", "Member", "ReservedRegion"]

_MANAGES_NO_DMA = {
    "pcieport": "pcieport only looks after the bridge and does no DMA",
    "pci-stub": "pci-stub does nothing with the device",
    "fsl-pci": "fsl-pci only looks after the bridge and does no DMA",
}
"""The drivers beside VFIO's that set ``driver_managed_dma`` (all that do in 6.12): they leave the group's DMA alone."""
_CLAIMING_BUSES = ("pci", "platform", "amba", "fsl-mc", "cdx")
"""The buses that claim a group's DMA for a driver; callers of ``iommu_device_use_default_domain()``."""


_UNSAFE = "noiommu-"
_DIRECT = "direct"


@dataclass(frozen=True, slots=True)
class Member:
    """A device of a group: its `driver`, whether it `blocks` the group, and the `reason` in words."""

    name: str
    driver: str | None
    blocks: bool
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.driver or 'no driver'}): {self.reason}"


@dataclass(frozen=True, slots=True)
class ReservedRegion:
    """IOVAs that cannot be mapped, `start` to `last` inclusive, and the kernel's word for why (``kind``)."""

    start: int
    last: int
    kind: str

    def __str__(self) -> str:
        return f"{self.start:#x} to {self.last:#x}"


class IommuGroup:
    """Group `number` of a host."""

    def __init__(self, sysfs: Sysfs, number: int) -> None:
        self.sysfs = sysfs
        self.number = number

    @property
    def path(self) -> str:
        """Its directory in sysfs."""
        return f"/sys/kernel/iommu_groups/{self.number}"

    @property
    def exists(self) -> bool:
        """Whether there is such a group."""
        return self.sysfs.exists(self.path)

    @property
    def name(self) -> str:
        """The group's name (``vfio-noiommu``), usually empty."""
        return self.sysfs.attribute(f"{self.path}/name") or ""

    @property
    def type(self) -> str:
        """The type of its default domain (``DMA-FQ``, ``identity``)."""
        return self.sysfs.attribute(f"{self.path}/type") or ""

    @property
    def node(self) -> str:
        """The node of the group; it exists while a VFIO driver has one of the members."""
        return f"/dev/vfio/{_UNSAFE if self.without_iommu else ''}{self.number}"

    @property
    def without_iommu(self) -> bool:
        """Whether vfio made it for a device that no IOMMU is in front of (``vfio_noiommu_group_alloc``).

        The group's name does not tell: mediated devices have groups of the same name, ``vfio-noiommu``.
        """
        return self.sysfs.exists(f"/sys/class/vfio/{_UNSAFE}{self.number}")

    @property
    def device_paths(self) -> list[str]:
        """The directories of its members, whatever bus they are on."""
        names = self.sysfs.names(f"{self.path}/devices")
        return [path for name in names if (path := self.sysfs.link(f"{self.path}/devices/{name}"))]

    @property
    def devices(self) -> list[SysfsDevice]:
        """Its members on the buses that this library knows."""
        found: list[SysfsDevice] = []
        for path in self.device_paths:
            try:
                found.append(device_at(self.sysfs, path))
            except NoSuchDevice:
                continue  # a platform device or the like; `members` still lists it
        return found

    @property
    def reserved_regions(self) -> list[ReservedRegion]:
        """The reserved regions, in the kernel's order."""
        lines = (self.sysfs.attribute(f"{self.path}/reserved_regions") or "").splitlines()
        parts = (line.split() for line in lines)
        return [ReservedRegion(int(start, 16), int(last, 16), kind) for start, last, kind in parts]

    @property
    def firmware_memory(self) -> list[ReservedRegion]:
        """The regions of kind ``direct``: memory that firmware keeps for a device, for whose sake the kernel gives the
        group to no program.  Those that are ``direct-relaxable`` keep nobody away.
        """
        return [region for region in self.reserved_regions if region.kind == _DIRECT]

    def members(self) -> list[Member]:
        """Each member with its driver and whether it keeps the group from user space."""
        return [self._member(path) for path in self.device_paths]

    def blockers(self, besides: str = "") -> list[Member]:
        """The members that keep the group from user space, without the one called `besides`."""
        return [member for member in self.members() if member.blocks and member.name != besides]

    @property
    def viable(self) -> bool:
        """Whether no member blocks."""
        return not self.blockers()

    def _member(self, path: str) -> Member:
        name = posixpath.basename(path)
        driver = self.sysfs.link_name(f"{path}/driver")
        if driver is None:
            return Member(name, None, False, "harmless: no driver has it")
        if has_vfio_driver(self.sysfs, path):
            return Member(name, driver, False, "ready: a VFIO driver has it")
        if driver in _MANAGES_NO_DMA:
            return Member(name, driver, False, f"harmless: {_MANAGES_NO_DMA[driver]}")
        bus = self.sysfs.link_name(f"{path}/subsystem")
        if bus is not None and bus not in _CLAIMING_BUSES:
            return Member(name, driver, False, f"harmless: drivers on bus {bus} claim no DMA of the group")
        return Member(name, driver, True, f"blocks: {driver} has it, and may do DMA through the group")

    def __str__(self) -> str:
        return str(self.number)

    def __repr__(self) -> str:
        return f"<IommuGroup {self.number}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, IommuGroup):
            return NotImplemented
        return self.number == other.number and self.sysfs.backend is other.sysfs.backend

    def __hash__(self) -> int:
        return hash(self.number)
