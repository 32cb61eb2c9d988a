"""The directories of devices, classes and drivers below ``/sys``, and the links between them.

The model is ``drivers/base/core.c`` and ``fs/sysfs`` of the kernel (6.12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.vfs import Attribute, Directory, Node, StaticDirectory, Symlink

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.device import Device

__all__ = ["DeviceDirectory", "DeviceLink", "LinkDirectory"]

_FIXED = ("uevent", "subsystem", "device", "driver", "iommu_group", "dev")


def _relative(target: str, start: str) -> str:
    """The path from the directory `start` to `target`, both absolute and without links.

    A kernfs link goes up to the parent of its target at least, even if the target is above it.
    """
    here, there = start.split("/"), target.split("/")
    common = 1
    for one, other in zip(here[1:], there[1:-1], strict=False):
        if one != other:
            break
        common += 1
    return "../" * (len(here) - common) + "/".join(there[common:])


class DeviceLink(Symlink):
    """A link to a device from the directory at `start`."""

    __slots__ = ("device", "start")

    def __init__(self, device: Device, start: str) -> None:
        self.device = device
        self.start = start

    @property
    def target(self) -> str:
        """See `Symlink.target`."""
        return _relative(self.device.devpath, self.start)

    def leap(self) -> tuple[str, Node]:
        """See `Symlink.leap`."""
        return f"/sys{self.device.devpath}", self.device.node()


class DeviceDirectory(Directory):
    """The sysfs directory of a device."""

    __slots__ = ("device",)

    def __init__(self, device: Device) -> None:
        self.device = device

    def _link(self, target: str) -> Symlink:
        return Symlink(_relative(target, self.device.devpath))

    def _fixed_names(self) -> list[str]:
        return [name for name in (*_FIXED, *self.device.links()) if self._fixed(name) is not None]

    def _fixed(self, name: str) -> Node | None:
        """A file or a link that every device has, or of `Device.links`."""
        device = self.device
        target = None
        if name == "uevent":
            return Attribute(device.show_uevent, device.store_uevent)
        if name == "subsystem":
            if device.bus is not None:
                target = f"/bus/{device.bus.name}"
            elif device.cls is not None:
                target = f"/class/{device.cls.name}"
        elif name == "device":
            if device.bus is None and device.glue and device.parent is not None:
                target = device.parent.devpath
        elif name == "driver":
            if device.driver is not None and not device.letting_go:
                target = device.driver.sysfs_path
        elif name == "iommu_group":
            if device.iommu_group is not None:
                target = device.iommu_group.sysfs_path
        elif name == "dev" and device.devnode is not None:
            major, minor, _ = device.devnode
            return Attribute(lambda: f"{major}:{minor}\n")
        target = target or device.links().get(name)
        return None if target is None else self._link(target)

    def lookup(self, name: str) -> Node | None:
        device = self.device
        found = self._fixed(name) or device.attribute(name)
        if found is not None:
            return found
        child = device.children.get(name)
        if child is not None and not child.glue:
            return child.node()
        glued = {c.name: c.node for c in device.child_devices() if c.glue == name}
        if glued:
            return StaticDirectory(dict(glued))
        for other in device.child_devices():
            if other.name == name and not other.glue:
                return other.node()
        return None

    def subdirectories(self) -> int:
        device = self.device
        below = {child.glue or child.name for child in device.child_devices()}
        return len(below) + sum(isinstance(node, Directory) for node in device.attributes().values())

    def names(self) -> Iterable[str]:
        seen = {**dict.fromkeys(self._fixed_names()), **dict.fromkeys(self.device.attributes())}
        seen.update(dict.fromkeys(child.glue or child.name for child in self.device.child_devices()))
        return list(seen)


class LinkDirectory(Directory):
    """A directory of links to the devices of `table`, and of other nodes, at `path` below ``/sys``."""

    __slots__ = ("_extra", "_path", "_table")

    def __init__(
        self, path: str, table: Callable[[], Mapping[str, Device]], extra: dict[str, Node] | None = None
    ) -> None:
        self._path = path
        self._table = table
        self._extra = extra or {}

    def lookup(self, name: str) -> Node | None:
        if name in self._extra:
            return self._extra[name]
        device = self._table().get(name)
        return None if device is None else DeviceLink(device, self._path)

    def names(self) -> Iterable[str]:
        return [*self._table(), *self._extra]

    def subdirectories(self) -> int:
        return sum(isinstance(node, Directory) for node in self._extra.values())
