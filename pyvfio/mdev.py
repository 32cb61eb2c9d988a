"""Mediated devices: the parents that offer them, the types, and their making.

::

    PARENT/mdev_supported_types/TYPE/{available_instances,create,description,device_api,devices,name}
    PARENT/UUID/{mdev_type,remove,...}

Source: ``Documentation/driver-api/vfio-mediated-device.rst``, ``drivers/vfio/mdev/mdev_sysfs.c``.
"""

from __future__ import annotations

import errno

from pyvfio.address import MdevUuid
from pyvfio.devices import MediatedDevice, devices_on, parent_at
from pyvfio.errors import DeviceBusy, KernelRefused, NoSuchDevice, PyvfioError
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["MdevParent", "MdevType", "free_parent", "mdev_parents"]


class MdevType:
    """One type that `parent` offers; `id` is the name of its directory (``vfio_ccw-io``)."""

    def __init__(self, sysfs: Sysfs, parent: SysfsDevice, type_id: str) -> None:
        self.sysfs = sysfs
        self.parent = parent
        self.id = type_id

    @property
    def path(self) -> str:
        """Its directory in sysfs."""
        return f"{self.parent.link_path}/mdev_supported_types/{self.id}"

    @property
    def name(self) -> str:
        """The name for people; empty when the driver gives none."""
        return self.sysfs.attribute(f"{self.path}/name") or ""

    @property
    def description(self) -> str:
        """The description; empty when the driver gives none."""
        return self.sysfs.attribute(f"{self.path}/description") or ""

    @property
    def device_api(self) -> str:
        """Which VFIO device it becomes (``vfio-ccw``)."""
        return self.sysfs.attribute(f"{self.path}/device_api") or ""

    @property
    def available_instances(self) -> int:
        """How many more can be made now."""
        return int(self.sysfs.attribute(f"{self.path}/available_instances") or "0", 0)

    def devices(self) -> list[MediatedDevice]:
        """The mediated devices of this type, by UUID."""
        names = self.sysfs.names(f"{self.path}/devices")
        return [MediatedDevice(self.sysfs, MdevUuid.parse(name)) for name in names]

    def require(self) -> None:
        """Raise `NoSuchDevice` when the parent does not offer the type now."""
        if not self.sysfs.exists(self.path):
            offered = ", ".join(self.sysfs.names(f"{self.parent.link_path}/mdev_supported_types")) or "none"
            raise NoSuchDevice(
                "create mediated device",
                f"{self.parent}: {self.id}",
                path=self.path,
                cause=f"the parent offers these types: {offered}",
            )

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "parent": self.parent.name,
            "type": self.id,
            "device_api": self.device_api,
            "available_instances": self.available_instances,
            "name": self.name,
            "description": self.description,
            "devices": [device.name for device in self.devices()],
        }

    def create(self, uuid: MdevUuid | str | None = None) -> MediatedDevice:
        """Make a mediated device called `uuid` (None: a random one) and check that it is there.

        Raise `BadAddress` for what is no UUID, `DeviceBusy` when the UUID is taken or no instance is left,
        `NoSuchDevice` when the parent does not offer the type, and the class for any other errno.
        """
        name = MdevUuid.random() if uuid is None else MdevUuid.parse(str(uuid))
        self.require()
        path = f"{self.path}/create"
        try:
            self.sysfs.write_text(path, str(name))
        except PyvfioError as error:
            raise self._refused(error, name, path) from error
        device = MediatedDevice(self.sysfs, name)
        if not device.exists:
            raise KernelRefused(
                "create mediated device", str(name), path=path, cause="the kernel took it, but it is gone"
            )
        return device

    def _refused(self, error: PyvfioError, name: MdevUuid, path: str) -> PyvfioError:
        # mdev_device_create() answers EEXIST for a known UUID and EUSERS when no instance is left.
        words = {
            errno.EEXIST: ("a mediated device has this UUID already", "choose another UUID, or leave it out"),
            errno.EUSERS: (
                f"{self.parent} has no instance left; in use: {', '.join(map(str, self.devices())) or 'unknown'}",
                "remove the other one first",
            ),
        }
        cause, next_step = words.get(error.errno or 0, (error.cause, error.next_step))
        kind = DeviceBusy if error.errno in words else type(error)
        return kind(
            "create mediated device",
            f"{name} on {self.parent}",
            path=path,
            errno=error.errno,
            cause=cause,
            next_step=next_step,
        )

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<MdevType {self.id} of {self.parent}>"


class MdevParent:
    """A device from which mediated devices can be made."""

    def __init__(self, device: SysfsDevice) -> None:
        self.device = device

    def types(self) -> list[MdevType]:
        """The types it offers, by id; empty while no mdev driver has it."""
        names = self.device.sysfs.names(f"{self.device.link_path}/mdev_supported_types")
        return [MdevType(self.device.sysfs, self.device, name) for name in names]

    def type(self, type_id: str) -> MdevType:
        """The type called `type_id`; whether it is offered is checked when one is made."""
        return MdevType(self.device.sysfs, self.device, type_id)

    def __str__(self) -> str:
        return str(self.device)

    def __repr__(self) -> str:
        return f"<MdevParent {self.device}>"


def mdev_parents(sysfs: Sysfs) -> list[MdevParent]:
    """The parents of a host, by name: the class ``mdev_bus``, or on a kernel without it the devices that have types."""
    listed = "/sys/class/mdev_bus"
    if sysfs.exists(listed):
        paths = [path for name in sysfs.names(listed) if (path := sysfs.link(f"{listed}/{name}"))]
        return [MdevParent(parent_at(sysfs, path)) for path in paths]
    devices = (device for bus in ("css", "pci") for device in devices_on(sysfs, bus))
    return [MdevParent(device) for device in devices if sysfs.exists(f"{device.link_path}/mdev_supported_types")]


def free_parent(sysfs: Sysfs, type_id: str) -> MdevParent:
    """The parent with the most free instances of a type; of several with as many, the first by name.

    Raise `NoSuchDevice` when no parent offers the type, `DeviceBusy` when none has an instance left.
    """
    parents = mdev_parents(sysfs)
    offers = {parent: kind for parent in parents for kind in parent.types() if kind.id == type_id}
    if not offers:
        known = sorted({kind.id for parent in parents for kind in parent.types()})
        raise NoSuchDevice(
            "find a parent for the type",
            type_id,
            path="/sys/class/mdev_bus",
            cause=f"no parent offers this type; types on this host: {', '.join(known) or 'none'}",
            next_step="pyvfio mdev types lists parents and types",
        )
    room = {parent: kind.available_instances for parent, kind in offers.items()}
    best = max(room, key=lambda parent: room[parent])  # the first of the largest
    if room[best] < 1:
        users = [str(device) for kind in offers.values() for device in kind.devices()]
        raise DeviceBusy(
            "find a parent for the type",
            type_id,
            path=offers[best].path,
            cause=f"none is left on {', '.join(map(str, offers))}; in use: {', '.join(users) or 'none'}",
            next_step="remove a device that is not used: pyvfio mdev list shows who uses which",
        )
    return best
