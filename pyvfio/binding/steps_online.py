"""Setting channel devices online and offline, and waiting for those that have yet to come."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.address import DeviceNumber
from pyvfio.binding.step import Step, journaled
from pyvfio.devices import ChannelDevice
from pyvfio.errors import Timeout
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["SetOnline", "come", "set_online"]

_PATIENCE = 15.0
_LOOK_EVERY = 0.02


def _wait(ready: Callable[[], bool], operation: str, name: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        if time.monotonic() >= deadline:
            raise Timeout(
                operation, name, cause=f"not so after {_PATIENCE:g} s", next_step="look at the kernel log (dmesg)"
            )
        time.sleep(_LOOK_EVERY)


def come(device: ChannelDevice) -> str:
    """Wait until a channel device is registered; an empty string, or what is wrong."""
    try:
        _wait(lambda: device.exists, "wait for the channel device", device.name)
    except Timeout as error:
        return f"the channel device {device.name} did not come back ({error.cause})"
    return ""


@journaled("online")
@dataclass(frozen=True, slots=True)
class SetOnline(Step):
    """Set a channel device `online` or offline, where it was `before`; it may appear only while the plan runs."""

    name: str
    online: bool
    before: bool

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"set {self.name} {'online' if self.online else 'offline'}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return f"set it {'online' if self.before else 'offline'}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/ccw/devices/{self.name}/online",)

    def _set(self, sysfs: Sysfs, wanted: bool) -> None:
        device = ChannelDevice(sysfs, DeviceNumber.parse(self.name))
        _wait(lambda: device.exists, "wait for the channel device", device.name)
        if device.online != wanted:
            device.set_online(wanted)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        self._set(sysfs, self.online)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = ChannelDevice(sysfs, DeviceNumber.parse(self.name)).online
        return "" if now == self.online else f"it is {'online' if now else 'not online'}"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        device = ChannelDevice(sysfs, DeviceNumber.parse(self.name))
        if not self.before or (device.exists and device.online):
            return ""  # one that was offline may have come, and be online, with its driver
        return "it is not online any more"

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """See `Step.takes_back`."""
        device = ChannelDevice(sysfs, DeviceNumber.parse(self.name))
        return [device] if not self.before and device.exists and device.online else []

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        if self.before or ChannelDevice(sysfs, DeviceNumber.parse(self.name)).exists:
            self._set(sysfs, self.before)  # one that was not there before need not come for this


def set_online(device: ChannelDevice, online: bool) -> SetOnline:
    """Set a channel device online or offline."""
    return SetOnline(device.name, online, device.exists and device.online)
