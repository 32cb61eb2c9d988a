"""Mediated devices: parents with their types, and devices that a parent's driver makes on request.

::

    PARENT/mdev_supported_types/DRIVER-TYPE/{available_instances,create,device_api,devices/,name}
    PARENT/UUID/{mdev_type,remove,...}

Source: ``drivers/vfio/mdev`` (``mdev_core.c``, ``mdev_sysfs.c``, ``mdev_driver.c``).  The class ``mdev_bus`` has a link
to each parent.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus, Driver
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, Symlink, fail

__all__ = ["MdevBus", "MdevDevice", "MdevDriver", "MdevParent", "MdevType", "MdevTypes", "mdev_bus"]

_UUID_SIZE = 36
_UUID = re.compile(rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z")
_PARENT_CLASS = "mdev_bus"
_VERSION = "0.1"


class MdevType:
    """A type that a parent offers: `name` is the last part of its directory's, `title` what people read."""

    def __init__(self, name: str, title: str = "") -> None:
        self.name = name
        self.title = title or name


class MdevDriver(Driver):
    """A driver of mediated devices: `api` names the VFIO device they become, `most` is how many a parent may have."""

    def __init__(self, bus: MdevBus, name: str, *, module: str, api: str, most: int) -> None:
        super().__init__(bus, name, module=module)
        self.api = api
        self.most = most

    def attributes_of(self, device: MdevDevice) -> dict[str, Node]:
        """What it puts into the directory of a device that it has (``driver.dev_groups``)."""
        return {}


class MdevParent:
    """What makes mediated devices below `device` (``mdev_register_parent``); `available` is how many more."""

    def __init__(self, device: Device, driver: MdevDriver, types: tuple[MdevType, ...]) -> None:
        self.device = device
        self.driver = driver
        self.types = types
        self.available = driver.most
        self.unregistering = False
        self.bus = mdev_bus(device.kernel)

    def register(self) -> None:
        """Show the types and tell user space."""
        self.device.kernel.class_(_PARENT_CLASS).devices[self.device.name] = self.device
        self.device.uevent("change", [("MDEV_STATE", "registered")])

    def unregister(self) -> None:
        """Remove the devices, which may block until their users are gone, then the types; tell user space."""
        self.unregistering = True
        self.device.kernel.class_(_PARENT_CLASS).devices.pop(self.device.name, None)
        for child in tuple(self.device.child_devices()):
            if isinstance(child, MdevDevice):
                self.bus.remove(child)
        self.device.uevent("change", [("MDEV_STATE", "unregistered")])

    def type_path(self, kind: MdevType) -> str:
        """The directory of a type, below ``/sys``."""
        return f"{self.device.devpath}/mdev_supported_types/{self._type_name(kind)}"

    def _type_name(self, kind: MdevType) -> str:
        # dev_driver_string: the driver, else the bus or the class
        driver, cls = self.device.driver, self.device.cls
        owner = driver.name if driver is not None else cls.name if cls is not None else ""
        return f"{owner}-{kind.name}"

    def instances(self, kind: MdevType) -> int:
        """How many more devices of a type there can be (``get_available``)."""
        return self.available

    def take(self, kind: MdevType) -> None:
        """A device of this type is made.  Raise OSError EUSERS when there can be none."""
        if not self.available:
            raise fail(errno.EUSERS)
        self.available -= 1

    def give(self, kind: MdevType) -> None:
        """A device of this type is gone."""
        self.available += 1

    def type_names(self) -> dict[str, MdevType]:
        """The types by the names of their directories."""
        return {self._type_name(kind): kind for kind in self.types}

    def type_directory(self, kind: MdevType) -> StaticDirectory:
        members: dict[str, Node] = {
            child.name: Symlink(f"../../../{child.name}")
            for child in self.device.child_devices()
            if isinstance(child, MdevDevice) and child.kind is kind and child.active
        }
        return StaticDirectory(
            {
                "available_instances": Attribute(lambda: f"{self.instances(kind)}\n"),
                "create": Attribute(store=lambda data: self._create(kind, data)),
                "device_api": Attribute(lambda: f"{self.driver.api}\n"),
                "devices": StaticDirectory(dict(members)),
                "name": Attribute(lambda: f"{kind.title}\n"),
            }
        )

    def _create(self, kind: MdevType, data: bytes) -> None:
        if not _UUID_SIZE <= len(data) <= _UUID_SIZE + 1 or _UUID.match(data[:_UUID_SIZE]) is None:
            raise fail(errno.EINVAL)  # the character after the UUID is not looked at
        self.create(kind, data[:_UUID_SIZE].decode().lower())

    def create(self, kind: MdevType, uuid: str) -> MdevDevice:
        """Make a device.  Raise OSError EEXIST, EUSERS (`take`), ENODEV, or what the driver's probe gives."""
        if uuid in self.bus.uuids:
            raise fail(errno.EEXIST)
        if self.unregistering and self.instances(kind):
            raise fail(errno.ENODEV)
        self.take(kind)
        self.bus.uuids.add(uuid)
        device = MdevDevice(self, kind, uuid)
        self.bus.add(device)
        try:
            self.bus.attach(device, self.driver)
        except OSError:
            self.bus.remove(device)
            raise
        device.active = True
        return device


class MdevTypes(Directory):
    """``mdev_supported_types`` of a parent."""

    __slots__ = ("parent",)

    def __init__(self, parent: MdevParent) -> None:
        self.parent = parent

    def lookup(self, name: str) -> Node | None:
        """See `Directory.lookup`."""
        kind = self.parent.type_names().get(name)
        return None if kind is None else self.parent.type_directory(kind)

    def names(self) -> Iterable[str]:
        """See `Directory.names`."""
        return self.parent.type_names()


class MdevDevice(Device):
    """A mediated device, named by its UUID, of the type `kind`; `active` from its making to its removal."""

    __slots__ = ("active", "kind", "mediated_by")

    def __init__(self, parent: MdevParent, kind: MdevType, uuid: str) -> None:
        super().__init__(parent.device.kernel, uuid, parent.device, bus=parent.bus)
        self.mediated_by = parent
        self.kind = kind
        self.active = False

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        own = self.driver.attributes_of(self) if isinstance(self.driver, MdevDriver) else {}
        removable = self.name in self.mediated_by.bus.devices
        return {"remove": Attribute(store=self._remove), **own} if removable else own

    def links(self) -> dict[str, str]:
        """See `Device.links`."""
        return {"mdev_type": self.mediated_by.type_path(self.kind)} if self.active else {}

    def _remove(self, data: bytes) -> None:
        if _kstrtoul_or_einval(data) and self.bus is not None and self.active:
            self.bus.remove(self)


def _kstrtoul_or_einval(data: bytes) -> int:
    """``kstrtoul`` in any base, with EINVAL for whatever is wrong."""
    try:
        return kstrtoul(data, 0)
    except OSError:
        raise fail(errno.EINVAL) from None


class MdevBus(Bus):
    """``/sys/bus/mdev``: no driver takes a device by itself; `uuids` are all that exist, those being removed too."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "mdev")
        self.uuids: set[str] = set()

    def remove(self, device: Device) -> None:
        """See `Bus.remove`; the driver goes first.  Blocks until the device's users are gone."""
        self.devices.pop(device.name, None)
        if isinstance(device, MdevDevice):
            device.active = False
        if device.driver is not None:
            self.detach(device)
        super().remove(device)
        if isinstance(device, MdevDevice) and device.name in self.uuids:
            self.uuids.discard(device.name)
            device.mediated_by.give(device.kind)


def mdev_bus(kernel: Kernel) -> MdevBus:
    """The bus of this kernel, made when it is first asked for."""
    bus = kernel.buses.get("mdev")
    if not isinstance(bus, MdevBus):
        bus = MdevBus(kernel)
        kernel.add_bus(bus)
        kernel.modules.load(Module("mdev", version=_VERSION))
        kernel.class_(_PARENT_CLASS)
    return bus
