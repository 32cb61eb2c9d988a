"""The ccw bus: which driver takes which device, and cio's look for devices and paths that were lost.

Source: ``drivers/s390/cio/device.c``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pyvfio_backends.software.linux.ccw import CcwDevice, CcwDriver, CcwState
from pyvfio_backends.software.linux.css import Css
from pyvfio_backends.software.linux.css_bus import BoundDevices
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus, Driver

__all__ = ["CcwBus"]

_RECOVERY: Final = (3.0, 30.0, 300.0)
"""Seconds between one look for lost paths and the next."""


class CcwBus(Bus):
    """``/sys/bus/ccw``."""

    def __init__(self, css: Css) -> None:
        super().__init__(css.kernel, "ccw")
        self.css = css
        self._phase = 0
        self._looking = False
        self._timer = 0

    def match(self, device: Device, driver: Driver) -> bool:
        """See `Bus.match`."""
        return isinstance(device, CcwDevice) and isinstance(driver, CcwDriver) and driver.takes(device.identity)

    def uevent_vars(self, device: Device) -> list[tuple[str, str]]:
        """See `Bus.uevent_vars`."""
        if not isinstance(device, CcwDevice):
            return []
        ident = device.identity
        return [
            ("CU_TYPE", f"{ident.cu_type:04X}"),
            ("CU_MODEL", f"{ident.cu_model:02X}"),
            ("DEV_TYPE", f"{ident.dev_type:04X}"),
            ("DEV_MODEL", f"{ident.dev_model:02X}"),
            ("MODALIAS", device.modalias),
        ]

    def bound_to(self, driver: Driver) -> Mapping[str, Device]:
        """See `Bus.bound_to`."""
        return BoundDevices(self, driver)

    def remove(self, device: Device) -> None:
        """See `Bus.remove`; the driver goes first."""
        self.devices.pop(device.name, None)
        if device.driver is not None:
            self.detach(device)
        super().remove(device)

    def move(self, device: CcwDevice, parent: Device) -> None:
        """Put a device below another parent (``device_move``)."""
        old = device.devpath
        if device.parent is not None:
            device.parent.children.pop(device.name, None)
        device.parent = parent
        parent.children[device.name] = device
        device.uevent("move", [("DEVPATH_OLD", old)])

    # looking for lost paths

    def schedule_recovery(self) -> None:
        """Look for lost devices and paths soon, then ever less often (``ccw_device_schedule_recovery``)."""
        if not self._looking or self._phase:
            self._phase = 0
            self._arm()

    def _arm(self) -> None:
        self._looking = True
        self._timer += 1
        turn = self._timer

        def expired() -> None:
            if self._timer == turn:
                self._looking = False
                self._recover()

        self.kernel.clock.schedule(_RECOVERY[self._phase], expired, background=True)

    def _recover(self) -> None:
        again = False
        for device in list(self.devices.values()):
            if isinstance(device, CcwDevice) and device.is_incomplete:
                again = True
                if device.state is not CcwState.DISCONNECTED_SENSE_ID:
                    device.fsm.verify()
        if again and not self._looking:
            self._phase = min(self._phase + 1, len(_RECOVERY) - 1)
            self._arm()

    def boot_drivers(self, drivers: Iterable[CcwDriver]) -> None:
        """Register drivers without offering devices to them."""
        for driver in drivers:
            self.drivers[driver.name] = driver
