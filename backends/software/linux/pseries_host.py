"""A host bridge of a guest on POWER as Linux has it: what is on it has one IOMMU group, and one table group.

At boot Linux does not look for functions, but takes those that the device tree tells of, with the addresses that
firmware gave; what firmware left out comes last and gets addresses from Linux.
Source: ``arch/powerpc/kernel/pci_of_scan.c``, ``platforms/pseries/{pci,iommu,setup}.c`` of Linux 6.12; the POWER lab's
recording.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.hardware.spapr.firmware import is_left_out
from pyvfio_backends.software.linux.device_tree import node_name
from pyvfio_backends.software.linux.of_node import OfNode
from pyvfio_backends.software.linux.pci_iov import FIRST_IOV
from pyvfio_backends.software.linux.powerpc_host import PowerHostBridge
from pyvfio_backends.software.linux.pseries_function import PseriesFunction
from pyvfio_backends.software.linux.pseries_table_group import PseriesTableGroup
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.hardware.spapr.hypervisor import Hypervisor
    from pyvfio_backends.software.hardware.spapr.phb import LogicalPhb
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.msi_domain import MsiDomain
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pcie_bus import PcieBus, Pins
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["PseriesHostBridge"]

_FIRST_PORT, _PORTS_STEP = 0x10000, 0x20000
_NO_NAME: Final = "legacy-device"
_TYPES: Final = {"scsi": "block", "ethernet": "network", "communication-controller": "serial"}
"""By the name of the node."""


class PseriesHostBridge(PowerHostBridge):
    """Host bridge `phb`, the one at `place` of the guest's."""

    def __init__(
        self, bus: PciBus, phb: LogicalPhb, hypervisor: Hypervisor, messages: MsiDomain, pins: Pins, place: int
    ) -> None:
        super().__init__(bus, phb, messages, pins)
        self.phb = phb
        self.booting = True
        """Whether functions are taken from the device tree."""
        self.names: dict[str, str] = {}
        """Firmware's short names for functions, each with its node's path."""
        self.ports = _FIRST_PORT + place * _PORTS_STEP
        """Linux's number of the first port."""
        self.windows = [
            Resource(self.ports, self.ports + len(phb.io) - 1, ResourceFlag.IO, claimed=True),
            Resource(phb.m32.start, phb.m32.stop - 1, ResourceFlag.MEM, claimed=True),
            Resource(phb.m64.start, phb.m64.stop - 1, ResourceFlag.MEM | ResourceFlag.MEM_64, claimed=True),
        ]
        self.group: IommuGroup = self.new_group(0, PseriesTableGroup(hypervisor, phb))

    @property
    def of_path(self) -> str:
        """See `PowerHostBridge.of_path`."""
        return f"/pci@{self.phb.buid:x}"

    def node_name(self, function: PcieFunction) -> str:
        """See `PowerHostBridge.node_name`."""
        return node_name(function, _NO_NAME)

    def node_type(self, function: PcieFunction) -> str:
        """See `PowerHostBridge.node_type`."""
        return _TYPES.get(self.node_name(function).partition("@")[0], "")

    def aliases(self, function: PcieFunction) -> tuple[str, ...]:
        """See `PowerHostBridge.aliases`."""
        path = f"{self.of_path}/{self.node_name(function)}"
        return tuple(name for name, node in self.names.items() if node == path and name[-1].isdigit())

    def root_node(self) -> OfNode:
        """See `PowerHostBridge.root_node`."""
        return OfNode(self.of_path, "pci", ("IBM,Logical_PHB",))

    # addresses

    def bus_address(self, address: int) -> int:
        """See `PciSysdata.bus_address`."""
        if address in range(self.ports, self.ports + len(self.phb.io)):
            return address - self.ports
        place = self.phb.to_bus(address)
        return place[1] if place is not None else address

    # functions

    def new_function(self, on: PcieBus, devfn: int, hardware: Function) -> PcieFunction:
        """See `PcieHostBridge.new_function`."""
        return PseriesFunction(self, on, devfn, hardware)

    def device_found(self, function: PcieFunction) -> None:
        """See `PcieHostBridge.device_found`: there are no virtual functions (`pseries_disable_sriov_resources`)."""
        if function.pdev is not None:
            for resource in function.pdev.resources[FIRST_IOV:]:
                resource.clear()

    def add_devices(self) -> None:
        """Give all that was found at boot its interrupt and its group."""
        for function in self.root.found():
            self.device_added(function)
        self.booting = False

    def scan(self, *, quiet: bool) -> None:
        """See `PciHostBridge.scan`: at boot, what firmware left out comes last."""
        super().scan(quiet=quiet)
        if self.booting:
            found = sorted(self.root.functions.items(), key=lambda item: self.left_out(item[1]))
            self.root.functions = dict(found)

    @staticmethod
    def left_out(function: PcieFunction) -> bool:
        """Whether firmware gave a function no addresses."""
        device = function.pdev
        return device is not None and is_left_out(device.vendor, device.device_id)

    def device_added(self, function: PcieFunction) -> None:
        """See `PcieHostBridge.device_added` (``pci_dma_dev_setup_pSeriesLP``)."""
        if function.pdev is None or not isinstance(function, PseriesFunction):
            return
        function.find_irq()
        self.join(self.group, function.pdev)

    def device_gone(self, function: PcieFunction) -> None:
        """See `PowerHostBridge.device_gone`: the group stays, with no device too."""
        super().device_gone(function)
        self.bus.kernel.groups.groups.setdefault(self.group.number, self.group)
