"""IOMMU groups: which devices stand or fall together (``drivers/iommu/iommu.c``)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.kernel_log import WARNING, say
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, Symlink, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.linux.iommufd_tables import NestingDriver
    from pyvfio_backends.software.linux.tce_table import TableGroup

__all__ = ["KINDS", "IommuAbilities", "IommuGroup", "IommuGroups", "Region"]

_DIRECT, _RELAXABLE = "direct", "direct-relaxable"
KINDS: Final = (_DIRECT, _RELAXABLE, "reserved", "msi")
"""The kinds of reserved regions, in the kernel's order (``enum iommu_resv_type``)."""
_NEEDS_MAPPING = (
    "Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1"
    " mapping. Contact your platform vendor."
)


class Region(NamedTuple):
    """Addresses `first` to `last` that are not for mappings; `kind` is the word that ``reserved_regions`` has for it.

    Those of kind ``direct`` must be mapped, each address to itself, as long as there is the device; those of kind
    ``direct-relaxable`` only as long as the kernel's own drivers have it.
    """

    first: int
    last: int
    kind: str = "reserved"

    @property
    def mapped(self) -> bool:
        """Whether the kernel's own domains have it mapped."""
        return self.kind in (_DIRECT, _RELAXABLE)


@dataclass(frozen=True, slots=True)
class IommuAbilities:
    """What an IOMMU driver can do besides mapping.

    `hardware` is what it tells of the hardware: a number for the kind, and a structure (``iommu_ops.hw_info``).
    `user_domains`: it makes page tables as programs ask (``domain_alloc_user``).  `enforces_coherency`: all DMA can be
    made to snoop caches; `tracks_dirty`: page tables can note what was written.  `needs_access`: it refuses to map what
    the device may neither read nor write (``intel_iommu_map``; iommufd's compatibility code leaves it to the driver).
    `nesting` is its driver's half of page tables of programs in others, None: it has none.
    """

    hardware: tuple[int, bytes] = (0, b"")
    user_domains: bool = False
    enforces_coherency: bool = False
    tracks_dirty: bool = False
    needs_access: bool = False
    nesting: NestingDriver | None = None


class IommuGroup:
    """A group of devices.

    `number`, an optional `name` (``vfio-noiommu``), and the `type` of its domain, which ``auto`` brings back.
    `aperture` is the first and last usable IOVA and `page_sizes` the bitmap of IOMMU page sizes, both None for a group
    without an IOMMU of its own (mediated devices).  `abilities` are its IOMMU's.  `owner` is who owns DMA for user
    space (a VFIO container or an iommufd context), or None while kernel drivers do; claiming a group with an owner is
    EBUSY.
    """

    def __init__(self, number: int, *, name: str = "", type_: str = "DMA-FQ"):
        self.number = number
        self.name = name
        self.type = type_
        self.devices: dict[str, Device] = {}
        self.aperture: tuple[int, int] | None = None
        self.page_sizes: int | None = None
        self.abilities = IommuAbilities()
        self.domains: Mapping[str, DmaSpace | None] = {}
        """The default domains that its IOMMU has, by type: what the DMA of kernel drivers sees."""
        self.table_group: TableGroup | None = None
        """On POWER, what makes its DMA windows (``iommu_group_set_iommudata``)."""
        self._first_type = type_
        self._owner: object | None = None
        self._space: DmaSpace | None = None

    @property
    def owner(self) -> object | None:
        """Who owns its DMA."""
        return self._owner

    @owner.setter
    def owner(self, owner: object | None) -> None:
        self._owner = owner
        if self.table_group is not None:
            # The blocked and the platform domain of ``spapr_tce_iommu_ops``.
            if owner is None:
                self.table_group.release_ownership()
            else:
                self.table_group.take_ownership()
        self._changed()

    def take_ownership(self, owner: object) -> None:
        """A program is to own its DMA (``__iommu_take_dma_ownership``).

        Raise OSError EINVAL when a device needs memory that firmware has reserved for it, which a program's page tables
        do not have (``__iommu_device_set_domain``).
        """
        for device in self.devices.values():
            if any(region.kind == _DIRECT for region in device.reserved_regions()):
                say(device, WARNING, _NEEDS_MAPPING)
                raise fail(errno.EINVAL)
        self.owner = owner

    @property
    def regions(self) -> list[Region]:
        """The reserved regions of all its devices, those of one kind that touch as one (`iommu_insert_resv_region`)."""
        every = {region for device in self.devices.values() for region in device.reserved_regions()}
        found: list[Region] = []
        for region in sorted(every, key=lambda one: (one.first, KINDS.index(one.kind))):
            for index, before in enumerate(found):
                if before.kind == region.kind and region.first <= before.last + 1:
                    found[index] = before._replace(last=max(before.last, region.last))
                    break
            else:
                found.append(region)
        return found

    @property
    def reserved(self) -> list[tuple[int, int]]:
        """The addresses that programs cannot map (``vfio_iommu_resv_exclude``)."""
        return [(region.first, region.last) for region in self.regions if region.kind != _RELAXABLE]

    @property
    def space(self) -> DmaSpace | None:
        """What DMA of its devices sees: what was attached; without that nothing if it has an owner, else its domain."""
        if self._space is not None or self._owner is not None:
            return self._space
        return self.domains.get(self.type)

    def attach(self, space: DmaSpace | None) -> None:
        """The address space for the DMA of all devices (``iommu_attach_group``); None: none any more."""
        self._space = space
        self._changed()

    def _changed(self) -> None:
        for device in self.devices.values():
            device.attach_dma(self.space)

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
        known = self.aperture is not None or self.table_group is not None
        if not known or word not in ("identity", "DMA", "DMA-FQ", "auto"):
            raise fail(errno.EINVAL)
        drivers = [device.driver for device in self.devices.values() if device.driver is not None]
        in_use = self.owner is not None or not all(getattr(driver, "driver_managed_dma", False) for driver in drivers)
        if in_use and (self.type, word) != ("DMA", "DMA-FQ"):
            raise fail(errno.EPERM)
        if self.table_group is not None and word != "auto":
            raise fail(errno.EINVAL)  # the platform's domain is the only one that it can have
        if word == "identity" and word not in self.domains:
            raise fail(errno.EOPNOTSUPP)  # s390's IOMMU has no such domain
        self.type = self._first_type if word == "auto" else word
        self._changed()

    def _show_reserved(self) -> str:
        return "".join(f"{one.first:#018x} {one.last:#018x} {one.kind}\n" for one in self.regions)


class IommuGroups(Directory):
    """``/sys/kernel/iommu_groups``: numbers are given out lowest free first (an ida)."""

    __slots__ = ("groups",)

    def __init__(self) -> None:
        self.groups: dict[int, IommuGroup] = {}

    def create(self, *, name: str = "", type_: str = "DMA-FQ") -> IommuGroup:
        """A new group without members."""
        number = next(n for n in range(len(self.groups) + 1) if n not in self.groups)
        group = self.groups[number] = IommuGroup(number, name=name, type_=type_)
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
