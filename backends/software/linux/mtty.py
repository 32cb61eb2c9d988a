"""The module mtty: the kernel's sample of a parent of mediated devices (``samples/vfio-mdev/mtty.c``, 6.12).

``/sys/devices/virtual/mtty/mtty`` offers two types, of one serial port and of two; there are 24 ports in all.  A device
is a PCI serial controller to its user, whose ports loop back.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio.abi import vfio as abi
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.mdev import (
    MdevBus,
    MdevDevice,
    MdevDriver,
    MdevParent,
    MdevType,
    MdevTypes,
    mdev_bus,
)
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.vfs import Node, StaticDirectory, constant, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.mtty_device import MttyDevice

__all__ = ["load"]

_NAME = "mtty"
_PORTS: Final = 24
_TYPES: Final = (MdevType("1", "Single port serial"), MdevType("2", "Dual port serial"))


class _Parent(MdevParent):
    def instances(self, kind: MdevType) -> int:
        return self.available // int(kind.name)

    def take(self, kind: MdevType) -> None:
        if self.available < int(kind.name):
            raise fail(errno.ENOSPC)  # by its probe: the core is told a number that it does not check
        self.available -= int(kind.name)

    def give(self, kind: MdevType) -> None:
        self.available += int(kind.name)


class _ParentDevice(Device):
    types: MdevTypes | None = None

    def attributes(self) -> dict[str, Node]:
        return {} if self.types is None else {"mdev_supported_types": self.types}


class _Driver(MdevDriver):
    def __init__(self, bus: MdevBus) -> None:
        super().__init__(bus, _NAME, module=_NAME, api=abi.VFIO_DEVICE_API_PCI_STRING, most=_PORTS)
        self._vfio: dict[str, MttyDevice] = {}

    def attributes_of(self, device: MdevDevice) -> dict[str, Node]:
        text = f"This is MDEV {device.name}\n"
        return {"vendor": StaticDirectory({"sample_mdev_dev": constant(text)})}

    def probe(self, device: Device) -> None:
        from pyvfio_backends.software.linux.mtty_device import MttyDevice  # most machines never have one

        if not isinstance(device, MdevDevice):
            raise fail(errno.ENODEV)
        vfio = MttyDevice(device, int(device.kind.name))
        try:
            vfio.register()
        except OSError:
            vfio.release()
            raise
        self._vfio[device.name] = vfio

    def remove(self, device: Device) -> None:
        vfio = self._vfio.get(device.name)
        if vfio is not None:
            vfio.unregister()
            self._vfio.pop(device.name, None)


def load(kernel: Kernel) -> None:
    """Load the module, as at boot, without events."""
    bus = mdev_bus(kernel)
    kernel.modules.load(Module(_NAME, version="0.1"), needs=("mdev",))
    driver = _Driver(bus)
    bus.register(driver)
    device = _ParentDevice(kernel, _NAME, None, cls=kernel.class_(_NAME))
    parent = _Parent(device, driver, _TYPES)
    device.types = MdevTypes(parent)
    kernel.add_class_device(device, quiet=True)
    kernel.class_("mdev_bus").devices[device.name] = device
