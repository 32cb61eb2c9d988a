"""A bus of PCI functions as a device of its own, of class ``pci_bus``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux import numa
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.numa import NO_NODE
from pyvfio_backends.software.linux.of_node import of_link
from pyvfio_backends.software.linux.pci_sysfs import WAITING, number
from pyvfio_backends.software.linux.vfs import Attribute, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.of_node import OfNode
    from pyvfio_backends.software.linux.pci import PciBus

__all__ = ["PciBusDevice"]


class PciBusDevice(Device):
    """``DDDD:BB`` of class ``pci_bus``, below a root or a bridge (`parent`)."""

    def __init__(
        self,
        parent: Device,
        domain: int,
        bus_number: int,
        bus: PciBus,
        rescan: Callable[[], None],
        numa_node: int = NO_NODE,
    ) -> None:
        kernel = parent.kernel
        super().__init__(kernel, f"{domain:04x}:{bus_number:02x}", parent, cls=kernel.class_("pci_bus"))
        self._bus = bus
        self._rescan = rescan
        self._numa_node = numa_node
        self.find_node: Callable[[], OfNode | None] | None = None
        """What gives the node of the bus in the device tree."""

    def of_node(self) -> OfNode | None:
        """See `Device.of_node` (``pci_set_bus_of_node``)."""
        return self.find_node() if self.find_node is not None else None

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        return {
            **self._node_files(),
            "cpuaffinity": Attribute(lambda: numa.mask(self.kernel, self._numa_node)),
            "cpulistaffinity": Attribute(lambda: numa.listed(self.kernel, self._numa_node)),
            "rescan": Attribute(store=self._store_rescan),
        }

    def _node_files(self) -> dict[str, Node]:
        """What is there for a node: no driver comes for a bus, so it waits for ever, if the node of its bridge does."""
        node = self.of_node()
        if node is None:
            return {}
        waits = self.parent is not None and self.parent.bus is not None
        return {"of_node": of_link(self.devpath, node.path), WAITING: Attribute(lambda: f"{int(waits)}\n")}

    def _store_rescan(self, data: bytes) -> None:
        if number(data):
            with self._bus.rescan_remove():
                self._rescan()
