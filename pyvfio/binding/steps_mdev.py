"""Steps that write the attributes of a mediated device."""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.address import MdevUuid
from pyvfio.binding.step import Step, journaled
from pyvfio.devices import MediatedDevice
from pyvfio.sysfs import Sysfs

__all__ = ["KeepAttributes", "SetAttribute"]


def _path(uuid: str, name: str) -> str:
    return f"/sys/bus/mdev/devices/{uuid}/{name}"


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
