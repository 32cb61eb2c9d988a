"""Steps that make and remove mediated devices, and write their attributes."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from pyvfio.address import MdevUuid
from pyvfio.binding.facts import vfio_nodes
from pyvfio.binding.step import Step, journaled
from pyvfio.devices import MediatedDevice, device_named, link_path
from pyvfio.errors import PyvfioError, Timeout
from pyvfio.mdev import MdevParent
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["CreateMdev", "KeepAttributes", "RemoveMdev", "SetAttribute", "remove_mdev"]


def _path(uuid: str, name: str) -> str:
    return f"/sys/bus/mdev/devices/{uuid}/{name}"


@journaled("mdev-create")
@dataclass(frozen=True, slots=True)
class CreateMdev(Step):
    """Create the mediated device `uuid` of `type` on `parent`, which may become a parent only while the plan runs."""

    bus: str
    parent: str
    type: str
    uuid: str

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"create mediated device {self.uuid} on {self.parent}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "remove it"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"{link_path(self.bus, self.parent)}/mdev_supported_types/{self.type}/create",)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        _create(sysfs, self.bus, self.parent, self.type, self.uuid)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return "" if MediatedDevice(sysfs, MdevUuid.parse(self.uuid)).exists else "it is not there"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        return f"{self.uuid} is there already" if MediatedDevice(sysfs, MdevUuid.parse(self.uuid)).exists else ""

    def takes_back(self, sysfs: Sysfs) -> list[SysfsDevice]:
        """See `Step.takes_back`."""
        device = MediatedDevice(sysfs, MdevUuid.parse(self.uuid))
        return [device] if device.exists else []

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        device = MediatedDevice(sysfs, MdevUuid.parse(self.uuid))
        if device.exists:
            device.remove(deadline=None)


def _create(sysfs: Sysfs, bus: str, parent: str, type_id: str, uuid: str) -> None:
    if not MediatedDevice(sysfs, MdevUuid.parse(uuid)).exists:
        MdevParent(device_named(sysfs, bus, parent)).type(type_id).create(uuid)


@journaled("mdev-remove")
@dataclass(frozen=True, slots=True)
class RemoveMdev(Step):
    """Remove the mediated device `uuid`; the inverse makes it again on `parent` with the same name.

    The kernel may wait for those who have `held` open.
    """

    bus: str
    parent: str
    type: str
    uuid: str
    held: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"remove mediated device {self.uuid}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return f"create it again on {self.parent}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (f"/sys/bus/mdev/devices/{self.uuid}/remove",)

    @property
    def nodes(self) -> tuple[str, ...]:
        """See `Step.nodes`."""
        return self.held

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        device = MediatedDevice(sysfs, MdevUuid.parse(self.uuid))
        if device.exists:
            device.remove(deadline=None)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return "it is still there" if MediatedDevice(sysfs, MdevUuid.parse(self.uuid)).exists else ""

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        return "" if MediatedDevice(sysfs, MdevUuid.parse(self.uuid)).exists else f"{self.uuid} is not there any more"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`.

        Raise `Timeout` while the kernel still waits in the removal: it has left the bus then, and its name is taken.
        """
        try:
            _create(sysfs, self.bus, self.parent, self.type, self.uuid)
        except PyvfioError as error:
            if error.errno != errno.EEXIST or MediatedDevice(sysfs, MdevUuid.parse(self.uuid)).exists:
                raise
            raise Timeout(
                error.operation,
                error.obj,
                path=error.path,
                cause="the kernel still removes the one of this name, and waits for those who have it open",
            ) from error


@journaled("mdev-attribute")
@dataclass(frozen=True, slots=True)
class SetAttribute(Step):
    """Write `value` to the attribute `name` of the mediated device `uuid`.

    `before` is what it said; None when it cannot be read, which is right in two places: where the step before made the
    device, whose removal takes the attribute along (`fresh`), and where it is the only step of its plan.
    """

    uuid: str
    name: str
    value: str
    before: str | None = None
    fresh: bool = False

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"write {self.value!r} to {self.name} of {self.uuid}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        if self.fresh:
            return "it goes with the device"
        return "none: it cannot be read" if self.before is None else f"write {self.before!r}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (_path(self.uuid, self.name),)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        sysfs.write_text(self.paths[0], self.value)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        if self.fresh or self.before is None or self.before == self.value:
            return ""
        # the kernel may spell the value in its own way, but it does not stay what it was
        now = sysfs.attribute(self.paths[0])
        return f"it still says {now}" if now == self.before else ""

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        if self.fresh or self.before is None:
            return
        if sysfs.attribute(self.paths[0]) != self.before:
            sysfs.write_text(self.paths[0], self.before or "\n")


@journaled("mdev-keep-attributes")
@dataclass(frozen=True, slots=True)
class KeepAttributes(Step):
    """Remember what the attributes `names` of the mediated device `uuid` say (`values`), before it is removed.

    The inverse writes them again, once the device was made again.
    """

    uuid: str
    names: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"remember the attributes of {self.uuid}: {', '.join(self.names)}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "write them again"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return tuple(_path(self.uuid, name) for name in self.names)

    def do(self, sysfs: Sysfs) -> None:
        """Nothing is changed here."""

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return ""

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        if not MediatedDevice(sysfs, MdevUuid.parse(self.uuid)).exists:
            return
        for name, value in zip(self.names, self.values, strict=True):
            path = _path(self.uuid, name)
            if value and sysfs.attribute(path) != value:
                sysfs.write_text(path, value)


def remove_mdev(device: MediatedDevice) -> RemoveMdev:
    """Remove a mediated device."""
    parent = device.parent
    return RemoveMdev(parent.bus, parent.name, device.type.id, device.name, vfio_nodes(device))
