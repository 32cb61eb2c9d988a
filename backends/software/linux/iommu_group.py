"""IOMMU groups: which devices stand or fall together (``drivers/iommu/iommu.c``)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, Symlink, fail

__all__ = ["IommuGroup", "IommuGroups"]


class IommuGroup:
    """A group of devices.

    `number`, an optional `name` (``vfio-noiommu``), the `type` of its domain and its reserved regions.  `aperture` is
    the first and last usable IOVA and `page_sizes` the bitmap of IOMMU page sizes, both None for a group without an
    IOMMU of its own (mediated devices).  `owner` is who owns DMA for user space (a VFIO container or an iommufd
    context), or None while kernel drivers do; claiming a group with an owner is EBUSY.
    """

    def __init__(
        self, number: int, *, name: str = "", type_: str = "DMA-FQ", reserved: tuple[tuple[int, int], ...] = ()
    ):
        self.number = number
        self.name = name
        self.type = type_
        self.reserved = reserved
        self.devices: dict[str, Device] = {}
        self.aperture: tuple[int, int] | None = None
        self.page_sizes: int | None = None
        self.owner: object | None = None

    @property
    def sysfs_path(self) -> str:
        """The path below ``/sys``."""
        return f"/kernel/iommu_groups/{self.number}"

    def directory(self) -> Directory:
        """The directory of the group."""
        path = f"{self.sysfs_path}/devices"
        entries: dict[str, Node] = {
            "devices": StaticDirectory(
                {name: Symlink(os.path.relpath(device.devpath, path)) for name, device in self.devices.items()}
            ),
            "reserved_regions": Attribute(self._show_reserved),
            "type": Attribute(lambda: f"{self.type}\n", self._store_type),
        }
        if self.name:
            entries["name"] = Attribute(lambda: f"{self.name}\n")
        return StaticDirectory(dict(entries))

    def _store_type(self, data: bytes) -> None:
        # iommu_group_store_type: a flush queue can be had at any time, else nobody may use the group's DMA.
        word = data.split(b"\0")[0].removesuffix(b"\n").decode(errors="replace")
        if self.aperture is None or word not in ("identity", "DMA", "DMA-FQ", "auto"):
            raise fail(errno.EINVAL)
        drivers = [device.driver for device in self.devices.values() if device.driver is not None]
        in_use = self.owner is not None or not all(getattr(driver, "driver_managed_dma", False) for driver in drivers)
        if in_use and (self.type, word) != ("DMA", "DMA-FQ"):
            raise fail(errno.EPERM)
        if word == "identity":
            raise fail(errno.EOPNOTSUPP)  # s390's IOMMU has no such domain
        self.type = "DMA" if word == "DMA" else "DMA-FQ"

    def _show_reserved(self) -> str:
        return "".join(f"{start:#018x} {end:#018x} reserved\n" for start, end in self.reserved)


class IommuGroups(Directory):
    """``/sys/kernel/iommu_groups``: numbers are given out lowest free first (an ida)."""

    __slots__ = ("groups",)

    def __init__(self) -> None:
        self.groups: dict[int, IommuGroup] = {}

    def create(
        self, *, name: str = "", type_: str = "DMA-FQ", reserved: tuple[tuple[int, int], ...] = ()
    ) -> IommuGroup:
        """A new group without members."""
        number = next(n for n in range(len(self.groups) + 1) if n not in self.groups)
        group = self.groups[number] = IommuGroup(number, name=name, type_=type_, reserved=reserved)
        return group

    def join(self, group: IommuGroup, device: Device) -> None:
        """Put a device into a group."""
        group.devices[device.name] = device
        device.iommu_group = group

    def leave(self, device: Device) -> None:
        """Take a device out of its group; a group without members goes away."""
        group = device.iommu_group
        if group is None:
            return
        group.devices.pop(device.name, None)
        device.iommu_group = None
        if not group.devices:
            self.groups.pop(group.number, None)

    def lookup(self, name: str) -> Node | None:
        group = self.groups.get(int(name)) if name.isdecimal() else None
        return None if group is None else group.directory()

    def names(self) -> Iterable[str]:
        return [str(number) for number in self.groups]
