"""Devices and their classes: what ``struct device`` and ``struct class`` are to the kernel.

The model is ``drivers/base/core.c`` and ``class.c`` of the kernel (6.12).  A device tree costs nothing until it is
looked at: directories and attributes are made when a path is resolved (`device_sysfs`), and a bus may hold devices that
are only named (`DeviceSource`) and built on first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from pyvfio_backends.software.linux.device_sysfs import DeviceDirectory, LinkDirectory
from pyvfio_backends.software.linux.uevents import parse_synthetic
from pyvfio_backends.software.linux.vfs import Directory, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.linux.driver_core import Bus, Driver
    from pyvfio_backends.software.linux.iommu_group import IommuGroup, Region
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.of_node import OfNode

__all__ = ["Device", "DeviceClass", "DeviceSource"]


class Device:
    """A device: a directory under ``/sys/devices``.

    Subclasses override `attributes`, `links` and `uevent_vars`.  `parent` is None for a root below ``/sys/devices``.
    """

    __slots__ = (
        "__weakref__",
        "_children",
        "bus",
        "cls",
        "dead",
        "devnode",
        "driver",
        "glue",
        "iommu_group",
        "kernel",
        "letting_go",
        "name",
        "override",
        "parent",
    )

    def __init__(
        self,
        kernel: Kernel,
        name: str,
        parent: Device | None,
        *,
        bus: Bus | None = None,
        cls: DeviceClass | None = None,
    ) -> None:
        self.kernel = kernel
        self.name = name
        self.parent = parent
        self.bus = bus
        self.cls = cls
        self.driver: Driver | None = None
        self._children: dict[str, Device] | None = None
        self.override: str | None = None
        self.devnode: tuple[int, int, str] | None = None
        self.iommu_group: IommuGroup | None = None
        self.dead = False
        self.letting_go = False  # its driver is on the way out, and its links are gone already
        # A class device below a device of another kind sits in a directory called like the class.
        self.glue = cls.name if cls is not None and parent is not None and parent.cls is None else ""

    def __str__(self) -> str:
        return self.name

    @property
    def devpath(self) -> str:
        """The path below ``/sys`` (``/devices/css0/0.0.0005``)."""
        if self.parent is not None:
            prefix = self.parent.devpath
        else:
            prefix = "/devices" if self.cls is None else f"/devices/virtual/{self.cls.name}"
        return f"{prefix}/{self.glue}/{self.name}" if self.glue else f"{prefix}/{self.name}"

    @property
    def children(self) -> dict[str, Device]:
        """The devices directly below, by name; it may be changed."""
        if self._children is None:
            self._children = {}
        return self._children

    def child_devices(self) -> Iterator[Device]:
        """The devices directly below this one."""
        yield from tuple(self.children.values())

    def attributes(self) -> dict[str, Node]:
        """The files and directories of this device besides those every device has."""
        return {}

    def attribute(self, name: str) -> Node | None:
        """One of `attributes`, or None; devices of which there are very many need not make all for it."""
        return self.attributes().get(name)

    def links(self) -> dict[str, str]:
        """Further links: name -> absolute path below ``/sys`` of the target."""
        return {}

    def reserved_regions(self) -> Iterable[Region]:
        """Addresses that are not for mappings of its DMA (``iommu_get_resv_regions``)."""
        return ()

    def attach_dma(self, space: DmaSpace | None) -> None:
        """What its DMA sees from now on; None: nothing.  Its IOMMU group calls it."""
        return

    def of_node(self) -> OfNode | None:
        """Its node in the device tree, on machines whose firmware makes one (``device.of_node``)."""
        return None

    def uevent_vars(self) -> list[tuple[str, str]]:
        """Variables of this device's own kind, after the bus's."""
        return []

    def node(self) -> Directory:
        """The directory of the device."""
        return DeviceDirectory(self)

    def variables(self) -> list[tuple[str, str]]:
        """What the ``uevent`` attribute shows and what follows the header in an event (``dev_uevent``)."""
        pairs: list[tuple[str, str]] = []
        if self.devnode is not None:
            major, minor, name = self.devnode
            pairs += [("MAJOR", str(major)), ("MINOR", str(minor)), ("DEVNAME", name)]
        if self.driver is not None:
            pairs.append(("DRIVER", self.driver.name))
        node = self.of_node()
        if node is not None:
            pairs += node.variables()
        if self.bus is not None:
            pairs += self.bus.uevent_vars(self)
        return pairs + self.uevent_vars()

    def uevent(self, action: str, extra: Iterable[tuple[str, str]] = ()) -> None:
        """Send an event of this device."""
        subsystem = self.bus.name if self.bus is not None else self.cls.name if self.cls is not None else ""
        if not subsystem:
            return  # the kernel sends none for a device without a bus or class
        pairs = [("SUBSYSTEM", subsystem), *extra, *self.variables()]
        if action == "unbind":
            pairs = [pair for pair in pairs if pair[0] != "MODALIAS"]
        self.kernel.uevents.send(action, self.devpath, pairs)

    def store_uevent(self, data: bytes) -> None:
        """What is written to ``uevent``.  Raise OSError for what is no synthetic event."""
        self.uevent(*parse_synthetic(data))

    def show_uevent(self) -> str:
        """What ``uevent`` shows."""
        return "".join(f"{key}={value}\n" for key, value in self.variables())


class DeviceSource(Protocol):
    """Devices that a bus only knows by name until somebody looks (for machines with very many)."""

    def names(self) -> Iterable[str]:
        """The names of the devices not built yet."""

    def make(self, name: str) -> Device | None:
        """Build the device (already added and bound as at boot, without events), or None if there is none."""


class DeviceClass:
    """A class (``/sys/class/NAME``): a directory of links to its devices."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.devices: dict[str, Device] = {}
        self.files: dict[str, Node] = {}
        """Files of the class itself."""

    def directory(self) -> Directory:
        """The directory of the class."""
        return LinkDirectory(f"/class/{self.name}", lambda: self.devices, self.files)
