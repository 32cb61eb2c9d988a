"""The driver core: buses, drivers, and the files through which people bind devices.

The model is ``drivers/base`` of the kernel (6.12): `bus.c` for ``bind``, ``unbind``, ``drivers_probe`` and
``drivers_autoprobe``, `dd.c` for match and probe.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.bus_sysfs import BusDirectory
from pyvfio_backends.software.linux.device import Device, DeviceSource
from pyvfio_backends.software.linux.device_sysfs import LinkDirectory
from pyvfio_backends.software.linux.uevents import synthetic_uevents
from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, Symlink, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["Bus", "Driver", "override_attribute"]


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
        return LinkDirectory(self.sysfs_path, lambda: self.bus.bound_to(self), extra)

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

    def add(self, device: Device, *, quiet: bool = False, seek: bool = True) -> None:
        """Add a device: event, then a driver is sought, unless somebody does that later (not `seek`).

        `quiet` is for the state at boot: no events, no search.
        """
        self.devices[device.name] = device
        if device.parent is not None:
            device.parent.children[device.name] = device
        if quiet:
            return
        device.uevent("add")
        self.added(device)
        if self.autoprobe and seek:
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
        return BusDirectory(self)

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
