"""What Linux has of a host bridge on POWER, bare metal or a guest (``struct pci_controller``), and of its IOMMU.

::

    PowerHostBridge   (PcieHostBridge)      PowerFunction   (PcieFunction)
      PnvHostBridge     bare metal: endpoints    PnvFunction
      PseriesHostBridge a guest: one group       PseriesFunction

Source: ``arch/powerpc/kernel/{pci-common,iommu}.c`` of Linux 6.12.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.device_tree import node_name
from pyvfio_backends.software.linux.nodes import Node, StaticDirectory, Symlink
from pyvfio_backends.software.linux.pcie_bus import PcieHostBridge

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.host_bridges import HostBridge
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.msi_domain import MsiDomain
    from pyvfio_backends.software.linux.of_node import OfNode
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_bus import PcieBus, Pins
    from pyvfio_backends.software.linux.pcie_function import PcieFunction
    from pyvfio_backends.software.linux.tce_table import TableGroup

__all__ = ["PowerHostBridge", "PowerIommu"]


class PowerIommu(Device):
    """``iommu-phbDDDD``: the IOMMU in a host bridge (``ppc_iommu_register_device``)."""

    def __init__(self, kernel: Kernel, domain: int) -> None:
        super().__init__(kernel, f"iommu-phb{domain:04x}", None, cls=kernel.class_("iommu"))
        self.functions: dict[str, Device] = {}
        kernel.add_class_device(self, quiet=True)

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        links: dict[str, Node] = {
            name: Symlink(f"../../../..{device.devpath.removeprefix('/devices')}")
            for name, device in self.functions.items()
        }
        return {"devices": StaticDirectory(links), "spapr-tce-iommu": StaticDirectory({})}


class PowerHostBridge(PcieHostBridge):
    """Host bridge `phb` of domain ``phb.number``."""

    def __init__(self, bus: PciBus, phb: HostBridge, messages: MsiDomain, pins: Pins) -> None:
        super().__init__(bus, phb, phb.root_bus, messages, pins)
        self.iommu_node = PowerIommu(bus.kernel, self.domain)

    @property
    @abstractmethod
    def of_path(self) -> str:
        """The node in the device tree."""

    def node_name(self, function: PcieFunction) -> str:
        """What firmware calls the node of a function."""
        return node_name(function)

    def node_type(self, function: PcieFunction) -> str:
        """The device type that firmware says in a function's node; empty: it says none."""
        return ""

    def aliases(self, function: PcieFunction) -> tuple[str, ...]:
        """Other names that firmware has for a function, of those that end with a number."""
        return ()

    @abstractmethod
    def root_node(self) -> OfNode:
        """The bridge's own node in the device tree."""

    def bus_node(self, bus: PcieBus) -> OfNode | None:
        """See `PcieHostBridge.bus_node`."""
        return self.root_node() if bus.above is None else bus.above.of_node()

    # groups

    def new_group(self, number: int, table_group: TableGroup) -> IommuGroup:
        """The IOMMU group of endpoint `number` (``iommu_register_group``)."""
        group = self.bus.kernel.groups.create(type_="unknown")
        group.name = f"domain{self.domain}-pe{number:x}"
        group.table_group = table_group
        return group

    def join(self, group: IommuGroup, device: PciDevice) -> None:
        """A device comes into its group (``iommu_add_device``)."""
        self.bus.kernel.groups.join(group, device)
        self.iommu_node.functions[device.name] = device

    def device_gone(self, function: PcieFunction) -> None:
        """The device of a function has left its group."""
        if function.pdev is not None:
            self.iommu_node.functions.pop(function.pdev.name, None)
