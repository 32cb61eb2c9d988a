"""Mediated devices: the parents that offer them, the types, and their making.

::

    PARENT/mdev_supported_types/TYPE/{available_instances,create,description,device_api,devices,name}
    PARENT/UUID/{mdev_type,remove,...}

Source: ``Documentation/driver-api/vfio-mediated-device.rst``, ``drivers/vfio/mdev/mdev_sysfs.c``.
"""

from __future__ import annotations

import errno

from pyvfio.address import MdevUuid
from pyvfio.devices import MediatedDevice, device_at, devices_on
from pyvfio.errors import DeviceBusy, KernelRefused, NoSuchDevice, PyvfioError
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["MdevParent", "MdevType", "mdev_parents"]


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

    def create(self, uuid: MdevUuid | str | None = None) -> MediatedDevice:
        """Make a mediated device called `uuid` (None: a random one) and check that it is there.

        Raise `BadAddress` for what is no UUID, `DeviceBusy` when the UUID is taken or no instance is left,
        `NoSuchDevice` when the parent does not offer the type, and the class for any other errno.
        """
        name = MdevUuid.random() if uuid is None else MdevUuid.parse(str(uuid))
        if not self.sysfs.exists(self.path):
            offered = ", ".join(self.sysfs.names(f"{self.parent.link_path}/mdev_supported_types")) or "none"
            raise NoSuchDevice(
                "create mediated device",
                f"{self.parent}: {self.id}",
                path=self.path,
                cause=f"the parent offers these types: {offered}",
            )
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
        return [MdevParent(device_at(sysfs, path)) for path in paths]
    devices = (device for bus in ("css", "pci") for device in devices_on(sysfs, bus))
    return [MdevParent(device) for device in devices if sysfs.exists(f"{device.link_path}/mdev_supported_types")]
