"""The directory of a bus below ``/sys/bus``: its devices, its drivers, its files.

The model is ``drivers/base/bus.c`` of the kernel (6.12).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device_sysfs import DeviceLink
from pyvfio_backends.software.linux.vfs import Directory, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.driver_core import Bus

__all__ = ["BusDirectory"]


class BusDirectory(Directory):
    """``/sys/bus/NAME``."""

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
        return None if device is None else DeviceLink(device, f"/bus/{self.bus.name}/devices")

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
