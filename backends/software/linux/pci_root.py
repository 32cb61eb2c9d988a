"""A root bus with one function: ``/sys/devices/pciDDDD:00`` and its ``pci_bus`` (``arch/s390/pci/pci_bus.c``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.driver_core import Device
from pyvfio_backends.software.linux.pci_device import ROM
from pyvfio_backends.software.linux.pci_sysfs import number
from pyvfio_backends.software.linux.vfs import Attribute, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.zpci import ZpciDev

__all__ = ["PciRoot"]


class _BusDevice(Device):
    """``DDDD:00`` of class ``pci_bus``."""

    def __init__(self, root: PciRoot) -> None:
        kernel = root.device.kernel
        super().__init__(kernel, f"{root.domain:04x}:00", root.device, cls=kernel.class_("pci_bus"))
        self.root = root

    def attributes(self) -> dict[str, Node]:
        return {
            "cpuaffinity": Attribute(lambda: "1\n"),
            "cpulistaffinity": Attribute(lambda: "0\n"),
            "rescan": Attribute(store=self._store_rescan),
        }

    def _store_rescan(self, data: bytes) -> None:
        if number(data):
            self.root.rescan()


class PciRoot:
    """The bus of a function; `domain` is its UID, or the lowest free number without UID checking."""

    def __init__(self, zdev: ZpciDev, bus: PciBus) -> None:
        self.zdev = zdev
        self.bus = bus
        self.domain = bus.take_domain(zdev.function.uid)
        self.device = Device(bus.kernel, f"pci{self.domain:04x}:00", None)
        self._bus_device = _BusDevice(self)

    def add(self, *, quiet: bool) -> None:
        """Put the bus into the tree."""
        self.bus.kernel.add_root(self.device)
        self.bus.kernel.add_class_device(self._bus_device, quiet=quiet)

    def remove(self) -> None:
        """Take it away."""
        self.bus.kernel.remove_class_device(self._bus_device)
        self.bus.kernel.remove_root(self.device)
        self.bus.domains.discard(self.domain)

    def rescan(self) -> None:
        """Find what is new (``pci_rescan_bus``).

        The kernel then gives addresses to what has none.  The expansion ROM cannot have one and is forgotten.
        """
        self.zdev.scan()
        if self.zdev.pdev is not None:
            self.zdev.pdev.resources[ROM].clear()
