"""The driver core: devices, buses, drivers, and the files through which people bind them.

The model is ``drivers/base`` of the kernel (6.12): `bus.c` for ``bind``, ``unbind``, ``drivers_probe`` and
``drivers_autoprobe``, `dd.c` for match and probe, `core.c` for the events.  A device tree costs nothing until it is
looked at: directories and attributes are made when a path is resolved, and a bus may hold devices that are only named
(`DeviceSource`) and built on first use.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from pyvfio_backends.software.linux.uevents import parse_synthetic, synthetic_uevents
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, Symlink, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["Bus", "Device", "DeviceClass", "DeviceDirectory", "DeviceSource", "Driver", "override_attribute"]


class Device:
    """A device: a directory under ``/sys/devices``.

    Subclasses override `attributes`, `links` and `uevent_vars`.  `parent` is None for a root below ``/sys/devices``.
    """

    __slots__ = (
        "__weakref__",
        "_children",
        "bus",
        "cls",
        "dead",
        "devnode",
        "driver",
        "glue",
        "iommu_group",
        "kernel",
        "letting_go",
        "name",
        "override",
        "parent",
    )

    def __init__(
        self,
        kernel: Kernel,
        name: str,
        parent: Device | None,
        *,
        bus: Bus | None = None,
        cls: DeviceClass | None = None,
    ) -> None:
        self.kernel = kernel
        self.name = name
        self.parent = parent
        self.bus = bus
        self.cls = cls
        self.driver: Driver | None = None
        self._children: dict[str, Device] | None = None
        self.override: str | None = None
        self.devnode: tuple[int, int, str] | None = None
        self.iommu_group: IommuGroup | None = None
        self.dead = False
        self.letting_go = False  # its driver is on the way out, and its links are gone already
        # A class device below a device of another kind sits in a directory called like the class.
        self.glue = cls.name if cls is not None and parent is not None and parent.cls is None else ""

    def __str__(self) -> str:
        return self.name

    @property
    def devpath(self) -> str:
        """The path below ``/sys`` (``/devices/css0/0.0.0005``)."""
        if self.parent is not None:
            prefix = self.parent.devpath
        else:
            prefix = "/devices" if self.cls is None else f"/devices/virtual/{self.cls.name}"
        return f"{prefix}/{self.glue}/{self.name}" if self.glue else f"{prefix}/{self.name}"

    @property
    def children(self) -> dict[str, Device]:
        """The devices directly below, by name; it may be changed."""
        if self._children is None:
            self._children = {}
        return self._children

    def child_devices(self) -> Iterator[Device]:
        """The devices directly below this one."""
        yield from tuple(self.children.values())

    def attributes(self) -> dict[str, Node]:
        """The files and directories of this device besides those every device has."""
        return {}

    def attribute(self, name: str) -> Node | None:
        """One of `attributes`, or None; devices of which there are very many need not make all for it."""
        return self.attributes().get(name)

    def links(self) -> dict[str, str]:
        """Further links: name -> absolute path below ``/sys`` of the target."""
        return {}

    def uevent_vars(self) -> list[tuple[str, str]]:
        """Variables of this device's own kind, after the bus's."""
        return []

    def node(self) -> Directory:
        """The directory of the device."""
        return DeviceDirectory(self)

    def variables(self) -> list[tuple[str, str]]:
        """What the ``uevent`` attribute shows and what follows the header in an event (``dev_uevent``)."""
        pairs: list[tuple[str, str]] = []
        if self.devnode is not None:
            major, minor, name = self.devnode
            pairs += [("MAJOR", str(major)), ("MINOR", str(minor)), ("DEVNAME", name)]
        if self.driver is not None:
            pairs.append(("DRIVER", self.driver.name))
        if self.bus is not None:
            pairs += self.bus.uevent_vars(self)
        return pairs + self.uevent_vars()

    def uevent(self, action: str, extra: Iterable[tuple[str, str]] = ()) -> None:
        """Send an event of this device."""
        subsystem = self.bus.name if self.bus is not None else self.cls.name if self.cls is not None else ""
        if not subsystem:
            return  # the kernel sends none for a device without a bus or class
        pairs = [("SUBSYSTEM", subsystem), *extra, *self.variables()]
        if action == "unbind":
            pairs = [pair for pair in pairs if pair[0] != "MODALIAS"]
        self.kernel.uevents.send(action, self.devpath, pairs)

    def _store_uevent(self, data: bytes) -> None:
        self.uevent(*parse_synthetic(data))

    def _show_uevent(self) -> str:
        return "".join(f"{key}={value}\n" for key, value in self.variables())


_FIXED = ("uevent", "subsystem", "device", "driver", "iommu_group", "dev")


def _relative(target: str, start: str) -> str:
    """The path from the directory `start` to `target`, both absolute and without links.

    A kernfs link goes up to the parent of its target at least, even if the target is above it.
    """
    here, there = start.split("/"), target.split("/")
    common = 1
    for one, other in zip(here[1:], there[1:-1], strict=False):
        if one != other:
            break
        common += 1
    return "../" * (len(here) - common) + "/".join(there[common:])


class _DeviceLink(Symlink):
    """A link to a device from the directory at `start`."""

    __slots__ = ("device", "start")

    def __init__(self, device: Device, start: str) -> None:
        self.device = device
        self.start = start

    @property
    def target(self) -> str:  # type: ignore[override]
        return _relative(self.device.devpath, self.start)

    def leap(self) -> tuple[str, Node]:
        """See `Symlink.leap`."""
        return f"/sys{self.device.devpath}", self.device.node()


class DeviceDirectory(Directory):
    """The sysfs directory of a device."""

    __slots__ = ("device",)

    def __init__(self, device: Device) -> None:
        self.device = device

    def _link(self, target: str) -> Symlink:
        return Symlink(_relative(target, self.device.devpath))

    def _fixed_names(self) -> list[str]:
        return [name for name in (*_FIXED, *self.device.links()) if self._fixed(name) is not None]

    def _fixed(self, name: str) -> Node | None:
        """A file or a link that every device has, or of `Device.links`."""
        device = self.device
        target = None
        if name == "uevent":
            return Attribute(device._show_uevent, device._store_uevent)
        if name == "subsystem":
            if device.bus is not None:
                target = f"/bus/{device.bus.name}"
            elif device.cls is not None:
                target = f"/class/{device.cls.name}"
        elif name == "device":
            if device.bus is None and device.glue and device.parent is not None:
                target = device.parent.devpath
        elif name == "driver":
            if device.driver is not None and not device.letting_go:
                target = device.driver.sysfs_path
        elif name == "iommu_group":
            if device.iommu_group is not None:
                target = device.iommu_group.sysfs_path
        elif name == "dev" and device.devnode is not None:
            major, minor, _ = device.devnode
            return Attribute(lambda: f"{major}:{minor}\n")
        target = target or device.links().get(name)
        return None if target is None else self._link(target)

    def lookup(self, name: str) -> Node | None:
        device = self.device
        found = self._fixed(name) or device.attribute(name)
        if found is not None:
            return found
        child = device.children.get(name)
        if child is not None and not child.glue:
            return child.node()
        glued = {c.name: c.node for c in device.child_devices() if c.glue == name}
        if glued:
            return StaticDirectory(dict(glued))
        for other in device.child_devices():
            if other.name == name and not other.glue:
                return other.node()
        return None

    def subdirectories(self) -> int:
        device = self.device
        below = {child.glue or child.name for child in device.child_devices()}
        return len(below) + sum(isinstance(node, Directory) for node in device.attributes().values())

    def names(self) -> Iterable[str]:
        seen = {**dict.fromkeys(self._fixed_names()), **dict.fromkeys(self.device.attributes())}
        seen.update(dict.fromkeys(child.glue or child.name for child in self.device.child_devices()))
        return list(seen)


class DeviceSource(Protocol):
    """Devices that a bus only knows by name until somebody looks (for machines with very many)."""

    def names(self) -> Iterable[str]:
        """The names of the devices not built yet."""

    def make(self, name: str) -> Device | None:
        """Build the device (already added and bound as at boot, without events), or None if there is none."""


class DeviceClass:
    """A class (``/sys/class/NAME``): a directory of links to its devices."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.devices: dict[str, Device] = {}
        self.files: dict[str, Node] = {}
        """Files of the class itself."""

    def directory(self) -> Directory:
        """The directory of the class."""
        return _LinkDirectory(f"/class/{self.name}", lambda: self.devices, self.files)


class _LinkDirectory(Directory):
    __slots__ = ("_extra", "_path", "_table")

    def __init__(self, path: str, table: object, extra: dict[str, Node] | None = None) -> None:
        self._path = path
        self._table = table
        self._extra = extra or {}

    def _devices(self) -> Mapping[str, Device]:
        table: Mapping[str, Device] = self._table()  # type: ignore[operator]
        return table

    def lookup(self, name: str) -> Node | None:
        if name in self._extra:
            return self._extra[name]
        device = self._devices().get(name)
        return None if device is None else _DeviceLink(device, self._path)

    def names(self) -> Iterable[str]:
        return [*self._devices(), *self._extra]

    def subdirectories(self) -> int:
        return sum(isinstance(node, Directory) for node in self._extra.values())


class Driver:
    """A driver: a directory below its bus.  Subclasses override `probe` and `remove` and may add attributes."""

    def __init__(self, bus: Bus, name: str, *, module: str = "") -> None:
        self.bus = bus
        self.kernel = bus.kernel
        self.name = name
        self.module = module
        self.devices: dict[str, Device] = {}

    @property
    def sysfs_path(self) -> str:
        """The path below ``/sys``."""
        return f"/bus/{self.bus.name}/drivers/{self.name}"

    def probe(self, device: Device) -> None:
        """Take the device.  Raise OSError to refuse."""

    def remove(self, device: Device) -> None:
        """Let the device go; may block until its users have."""

    def attributes(self) -> dict[str, Node]:
        """Files besides ``bind``, ``unbind`` and ``uevent``."""
        return {}

    def directory(self) -> Directory:
        """The directory of the driver."""
        extra: dict[str, Node] = {
            "bind": Attribute(store=self._bind),
            "unbind": Attribute(store=self._unbind),
            "uevent": synthetic_uevents(self.kernel.uevents, self.sysfs_path, "drivers"),
            **self.attributes(),
        }
        if self.module:
            extra["module"] = Symlink(os.path.relpath(f"/module/{self.module}", self.sysfs_path))
        return _LinkDirectory(self.sysfs_path, lambda: self.bus.bound_to(self), extra)

    def _bind(self, data: bytes) -> None:
        device = self.bus.find(_line(data))
        if device is None or not self.bus.match(device, self):
            raise fail(errno.ENODEV)
        self.bus.await_lock(device)
        if device.dead:
            raise fail(errno.ENODEV)
        if device.driver is not None:
            raise fail(errno.EBUSY)
        self.bus.attach(device, self)

    def _unbind(self, data: bytes) -> None:
        device = self.bus.find(_line(data))
        if device is None or device.driver is not self:
            raise fail(errno.ENODEV)
        self.bus.detach(device)


class Bus:
    """A bus (``/sys/bus/NAME``).  Subclasses override `match`, `uevent_vars` and `attributes`."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.autoprobe = True
        self.drivers: dict[str, Driver] = {}
        self.devices: dict[str, Device] = {}
        self.sources: list[DeviceSource] = []

    # what a bus decides

    def match(self, device: Device, driver: Driver) -> bool:
        """Whether `driver` may take `device` (the override included)."""
        return False

    def uevent_vars(self, device: Device) -> list[tuple[str, str]]:
        """The bus's variables of a device's events."""
        return []

    def added(self, device: Device) -> None:
        """A device was added, and no driver has been sought yet."""

    def attributes(self) -> dict[str, Node]:
        """Files besides those that every bus has."""
        return {}

    # the table of devices

    def find(self, name: str) -> Device | None:
        """The device called `name`, built now if it was only named so far."""
        device = self.devices.get(name)
        if device is None:
            for source in self.sources:
                device = source.make(name)
                if device is not None:
                    break
        return device

    def names(self) -> list[str]:
        """The names of all devices."""
        seen = dict.fromkeys(self.devices)
        for source in self.sources:
            seen.update(dict.fromkeys(source.names()))
        return list(seen)

    def bound_to(self, driver: Driver) -> Mapping[str, Device]:
        """The devices of a driver, those of the sources included."""
        return driver.devices

    # adding and removing

    def register(self, driver: Driver) -> None:
        """Add a driver; it takes what it matches (``driver_register``)."""
        self.drivers[driver.name] = driver
        if self.autoprobe:
            self.attach_all(driver)

    def add(self, device: Device, *, quiet: bool = False) -> None:
        """Add a device: event, then a driver is sought.  `quiet` is for the state at boot: no events, no search."""
        self.devices[device.name] = device
        if device.parent is not None:
            device.parent.children[device.name] = device
        if quiet:
            return
        device.uevent("add")
        self.added(device)
        if self.autoprobe:
            self.probe(device)

    def remove(self, device: Device) -> None:
        """Remove a device: its driver lets it go, then the event.  May block."""
        for child in reversed(list(device.child_devices())):
            if child.bus is not None:
                child.bus.remove(child)
            elif child.cls is not None:
                self.kernel.remove_class_device(child)
        # Nobody finds it by the bus any more, even while its driver still waits for users (bus_remove_device).
        self.devices.pop(device.name, None)
        if device.driver is not None:
            self.detach(device)
        device.dead = True
        if device.parent is not None:
            device.parent.children.pop(device.name, None)
        self.kernel.vfs.forget(f"/sys{device.devpath}")
        device.uevent("remove")

    # binding

    def await_lock(self, device: Device) -> None:
        """Wait for the device's lock, which a driver that lets the device go has (``device_lock``)."""
        if device.letting_go:
            self.kernel.clock.wait(lambda: not device.letting_go)

    def probe(self, device: Device) -> bool:
        """Look for a driver; True when the device has one afterwards.  A refusing driver is passed over."""
        if device.driver is not None:
            return True
        for driver in tuple(self.drivers.values()):
            if not self.match(device, driver):
                continue
            try:
                self.attach(device, driver)
            except OSError:
                continue
            return True
        return False

    def attach_all(self, driver: Driver) -> None:
        """Offer all free devices to a driver (``driver_attach``)."""
        for name in self.names():
            device = self.find(name)
            if device is not None and device.driver is None and self.match(device, driver):
                try:
                    self.attach(device, driver)
                except OSError:
                    continue

    def attach(self, device: Device, driver: Driver) -> None:
        """Probe and bind.  Raise the driver's OSError; the device is free then."""
        device.driver = driver
        try:
            driver.probe(device)
        except OSError:
            device.driver = None
            raise
        driver.devices[device.name] = device
        device.uevent("bind")

    def detach(self, device: Device) -> None:
        """Take the device away from its driver.  May block until its users let it go."""
        driver = device.driver
        if driver is None:
            return
        if device.letting_go:  # somebody else has the device's lock
            self.kernel.clock.wait(lambda: not device.letting_go)
            return
        device.letting_go = True
        driver.devices.pop(device.name, None)
        driver.remove(device)
        device.letting_go = False
        device.driver = None
        self.kernel.clock.notify()
        device.uevent("unbind")

    # sysfs

    def directory(self) -> Directory:
        """The directory of the bus."""
        return _BusDirectory(self)

    def file(self, name: str) -> Node | None:
        """A file of the bus's directory."""
        if name == "drivers_autoprobe":
            return Attribute(lambda: f"{int(self.autoprobe)}\n", self._store_autoprobe)
        if name == "drivers_probe":
            return Attribute(store=self._store_probe)
        if name == "uevent":
            return synthetic_uevents(self.kernel.uevents, f"/bus/{self.name}", "bus")
        return self.attributes().get(name)

    def _store_autoprobe(self, data: bytes) -> None:
        self.autoprobe = not data.startswith(b"0")

    def _store_probe(self, data: bytes) -> None:
        device = self.find(_line(data))
        if device is None:
            raise fail(errno.ENODEV)
        self.await_lock(device)
        if not device.dead:
            self.probe(device)


class _BusDirectory(Directory):
    __slots__ = ("bus",)

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def lookup(self, name: str) -> Node | None:
        if name == "devices":
            return _BusDevices(self.bus)
        return _DriverDirectory(self.bus) if name == "drivers" else self.bus.file(name)

    def names(self) -> Iterable[str]:
        return ["devices", "drivers", "drivers_autoprobe", "drivers_probe", "uevent", *self.bus.attributes()]


class _BusDevices(Directory):
    __slots__ = ("bus",)

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def lookup(self, name: str) -> Node | None:
        device = self.bus.find(name)
        return None if device is None else _DeviceLink(device, f"/bus/{self.bus.name}/devices")

    def names(self) -> Iterable[str]:
        return self.bus.names()

    def subdirectories(self) -> int:
        return 0


class _DriverDirectory(Directory):
    __slots__ = ("bus",)

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    def lookup(self, name: str) -> Node | None:
        driver = self.bus.drivers.get(name)
        return None if driver is None else driver.directory()

    def names(self) -> Iterable[str]:
        return list(self.bus.drivers)


def _line(data: bytes) -> str:
    # sysfs_streq: one newline at the end does not count
    text = data.decode(errors="replace").split("\0")[0]
    return text.removesuffix("\n")


def override_attribute(device: Device) -> Attribute:
    """``driver_override``: a name, or a newline (or a zero byte) to clear; shows ``(null)`` when clear.

    Source: ``driver_set_override`` in ``drivers/base/driver.c``.
    """

    def store(data: bytes) -> None:
        if len(data) >= Attribute.page - 1:
            raise fail(errno.EINVAL)
        text = data.decode(errors="replace").split("\0")[0].split("\n")[0]
        device.override = text or None

    return Attribute(lambda: f"{device.override or '(null)'}\n", store)
