"""The css bus: which driver takes which subchannel, and the devices that are only named so far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pyvfio_backends.software.linux.css_driver import CssDriver
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus, Driver
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.subchannel import SubchannelDevice

__all__ = ["BoundDevices", "CssBus"]


class CssBus(Bus):
    """``/sys/bus/css``: a driver takes the subchannel types it names, and with an override only the one named."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "css")

    def match(self, device: Device, driver: Driver) -> bool:
        """See `Bus.match`."""
        if device.override is not None and device.override != driver.name:
            return False
        return isinstance(device, SubchannelDevice) and isinstance(driver, CssDriver) and device.st in driver.types

    def uevent_vars(self, device: Device) -> list[tuple[str, str]]:
        """See `Bus.uevent_vars`."""
        if not isinstance(device, SubchannelDevice):
            return []
        return [("ST", f"{device.st:01X}"), ("MODALIAS", f"css:t{device.st:01X}")]

    def bound_to(self, driver: Driver) -> Mapping[str, Device]:
        """See `Bus.bound_to`."""
        return BoundDevices(self, driver)

    def remove(self, device: Device) -> None:
        """See `Bus.remove`; the driver goes first, and takes its children along."""
        self.devices.pop(device.name, None)
        if device.driver is not None:
            self.detach(device)
        super().remove(device)


class BoundDevices(Mapping[str, Device]):
    """The devices of a driver by name; those that are only named so far count, and are built when asked for."""

    def __init__(self, bus: Bus, driver: Driver) -> None:
        self._bus = bus
        self._driver = driver

    def __getitem__(self, name: str) -> Device:
        device = self._bus.find(name)
        if device is None or device.driver is not self._driver:
            raise KeyError(name)
        return device

    def __iter__(self) -> Iterator[str]:
        yield from list(self._driver.devices)
        for source in self._bus.sources:
            bound = getattr(source, "bound_names", None)
            if bound is not None:
                yield from bound(self._driver.name)

    def __len__(self) -> int:
        return sum(1 for _ in self)
