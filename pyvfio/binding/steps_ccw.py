"""Steps for channel devices: attributes, and going online and offline in the two special ways of the DASD drivers.

Sources: ``drivers/s390/cio/device.c`` (``online_store``), ``drivers/s390/block/dasd_devmap.c`` (``safe_offline``).
"""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.address import DeviceNumber
from pyvfio.binding.step import Step, journaled
from pyvfio.devices import ChannelDevice
from pyvfio.errors import PermissionDenied
from pyvfio.sysfs import Sysfs

__all__ = ["ForceOnline", "SafeOffline", "SetAttribute", "same", "set_attribute", "value_of"]


def _device(sysfs: Sysfs, name: str) -> ChannelDevice:
    return ChannelDevice(sysfs, DeviceNumber.parse(name))


def _restore(sysfs: Sysfs, name: str, online: bool) -> None:
    device = _device(sysfs, name)
    if device.online != online:
        device.set_online(online)


@journaled("ccw-force-online")
@dataclass(frozen=True, slots=True)
class ForceOnline(Step):
    """Set a device online although another system has it reserved.  What that system had is lost: no inverse has it."""

    name: str

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"set {self.name} online by force"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "set it offline"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/ccw/devices/{self.name}/online",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        if not _device(sysfs, self.name).online:
            _device(sysfs, self.name).write("online", "force")

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return "" if _device(sysfs, self.name).online else "it is not online"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        _restore(sysfs, self.name, False)


@journaled("ccw-safe-offline")
@dataclass(frozen=True, slots=True)
class SafeOffline(Step):
    """Set a DASD offline after all that was written to it is there; the kernel waits for it."""

    name: str

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"set {self.name} offline when all its I/O has ended"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "set it online"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/ccw/devices/{self.name}/safe_offline",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        if _device(sysfs, self.name).online:
            _device(sysfs, self.name).write("safe_offline", "0")

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return "it is still online" if _device(sysfs, self.name).online else ""

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        _restore(sysfs, self.name, True)


@journaled("ccw-attribute")
@dataclass(frozen=True, slots=True)
class SetAttribute(Step):
    """Write `value` to an attribute of a channel device, which showed `before` (None: nothing that could be read)."""

    name: str
    attribute: str
    value: str
    before: str | None

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"set attribute {self.attribute} of {self.name} to {self.value}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "leave it: what it was cannot be read" if self.before is None else f"set it to {self.before}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/ccw/devices/{self.name}/{self.attribute}",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        _device(sysfs, self.name).write(self.attribute, self.value)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = value_of(_device(sysfs, self.name), self.attribute)
        return "" if now is None or same(now, self.value) else f"it shows {now}"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        device = _device(sysfs, self.name)
        if self.before and value_of(device, self.attribute) not in (None, self.before):
            device.write(self.attribute, self.before)


def value_of(device: ChannelDevice, attribute: str) -> str | None:
    """What an attribute shows; None when it cannot be read or is not there."""
    try:
        return device.attribute(attribute)
    except PermissionDenied:
        return None  # it can only be written


def same(shown: str, written: str) -> bool:
    """Whether an attribute shows what was written: the same text, or the same number in another spelling."""
    try:
        return shown == written or int(shown, 0) == int(written, 0)
    except ValueError:
        return False


def set_attribute(device: ChannelDevice, attribute: str, value: str) -> SetAttribute:
    """Set an attribute, remembering what it shows now."""
    return SetAttribute(device.name, attribute, value, value_of(device, attribute))
