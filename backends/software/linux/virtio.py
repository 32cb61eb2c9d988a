"""The virtio bus: what a transport driver (virtio_ccw, virtio-pci) puts below its device.

A `VirtioDevice` has the attributes of ``drivers/virtio/virtio.c``; the drivers on the bus take what has their type and
make the children people look for (a disk, a port, a network interface).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus, Driver
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.vfs import Attribute, Node

__all__ = ["RING_FEATURES", "VirtioBus", "VirtioDevice", "VirtioDriver", "virtio_bus"]

_STATUS_UNUSED = 0x01
_STATUS_IN_USE = 0x0F
_STATUS_FAILED = 0x8B
_FEATURE_BITS = 64
_INDIRECT_DESC, _EVENT_IDX, _VERSION_1, _ACCESS_PLATFORM, _SR_IOV, _RING_RESET = 28, 29, 32, 33, 37, 40
RING_FEATURES = frozenset({_INDIRECT_DESC, _EVENT_IDX, _VERSION_1, _ACCESS_PLATFORM, _SR_IOV, _RING_RESET})
"""What this kernel's rings and transports can do, whatever the device (virtio_ccw does not offer the last two)."""


class VirtioDevice(Device):
    """``virtioN``: `device_id` is the virtio type, `vendor` 0x3832 behind channels and 0x1af4 behind PCI.

    `offered` are the numbers of the features that the device has; the driver accepts those it knows.
    """

    def __init__(
        self,
        bus: VirtioBus,
        parent: Device,
        device_id: int,
        vendor: int,
        offered: Iterable[int] = (),
        *,
        number: int | None = None,
        options: dict[str, object] | None = None,
    ) -> None:
        self.number = bus.take(number)
        super().__init__(bus.kernel, f"virtio{self.number}", parent, bus=bus)
        self.device_id = device_id
        self.vendor = vendor
        self.offered = frozenset(offered)
        self.options = options or {}
        self.start: Callable[[], None] | None = None
        """What the transport does for a driver that probes (``find_vqs``); it raises OSError when it cannot."""
        self.failed = False
        self.extra: dict[str, Node] = {}

    @property
    def modalias(self) -> str:
        """``virtio:dDDDDDDDDvVVVVVVVV``."""
        return f"virtio:d{self.device_id:08X}v{self.vendor:08X}"

    def _features(self) -> str:
        known = self.driver.features if isinstance(self.driver, VirtioDriver) else frozenset[int]()
        on = self.offered & (known | RING_FEATURES) if self.driver is not None else frozenset[int]()
        return "".join("1" if bit in on else "0" for bit in range(_FEATURE_BITS)) + "\n"

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        status = _STATUS_IN_USE if self.driver is not None else _STATUS_FAILED if self.failed else _STATUS_UNUSED
        return {
            "device": Attribute(lambda: f"{self.device_id:#06x}\n"),
            "features": Attribute(self._features),
            "modalias": Attribute(lambda: f"{self.modalias}\n"),
            "status": Attribute(lambda: f"{status:#010x}\n"),
            "vendor": Attribute(lambda: f"{self.vendor:#06x}\n"),
            **self.extra,
        }


class VirtioDriver(Driver):
    """A driver of devices of one virtio type, knowing `features`."""

    def __init__(self, bus: VirtioBus, name: str, device_id: int, features: Iterable[int] = ()) -> None:
        super().__init__(bus, name)
        self.device_id = device_id
        self.features = frozenset(features)

    def populate(self, device: VirtioDevice, *, quiet: bool) -> None:
        """Give a device its attributes and children; `quiet`: without events (the state at boot)."""

    def clear(self, device: VirtioDevice) -> None:
        """Take the children away again."""
        for child in reversed(list(device.child_devices())):
            self.kernel.remove_class_device(child)

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise the transport's OSError when it has no interrupts for the device."""
        if isinstance(device, VirtioDevice):
            device.failed = True
            if device.start is not None:
                device.start()
            device.failed = False
            self.populate(device, quiet=False)

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, VirtioDevice):
            self.clear(device)
            device.extra.clear()


class VirtioBus(Bus):
    """``/sys/bus/virtio``; it gives out the numbers of ``virtioN``, the lowest free one first (an ida)."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "virtio")
        self._numbers: set[int] = set()

    def take(self, number: int | None = None) -> int:
        """Take a number: the given one, which was reserved, or the lowest that is free."""
        if number is None:
            number = 0
            while number in self._numbers:
                number += 1
        self._numbers.add(number)
        return number

    def add_boot(self, device: VirtioDevice) -> None:
        """Add a device in the state after boot: bound, without events."""
        self.add(device, quiet=True)
        for driver in self.drivers.values():
            if self.match(device, driver):
                device.driver = driver
                driver.devices[device.name] = device
                if isinstance(driver, VirtioDriver):
                    driver.populate(device, quiet=True)
                break

    def remove(self, device: Device) -> None:
        """See `Bus.remove`; its driver takes the children away first."""
        if device.driver is not None:
            self.detach(device)
        super().remove(device)
        if isinstance(device, VirtioDevice):
            self._numbers.discard(device.number)

    def match(self, device: Device, driver: Driver) -> bool:
        """See `Bus.match`."""
        return (
            isinstance(device, VirtioDevice)
            and isinstance(driver, VirtioDriver)
            and device.device_id == driver.device_id
        )

    def uevent_vars(self, device: Device) -> list[tuple[str, str]]:
        """See `Bus.uevent_vars`."""
        return [("MODALIAS", device.modalias)] if isinstance(device, VirtioDevice) else []


def virtio_bus(kernel: Kernel) -> VirtioBus:
    """The bus of this kernel with its drivers, made when it is first asked for."""
    from pyvfio_backends.software.linux.virtio_drivers import register_drivers

    bus = kernel.buses.get("virtio")
    if not isinstance(bus, VirtioBus):
        bus = VirtioBus(kernel)
        kernel.add_bus(bus)
        register_drivers(bus)
    return bus
