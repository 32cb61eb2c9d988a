"""A function behind a host bridge of POWER, bare metal or a guest, as the PCI core is given it.

Source: ``arch/powerpc/kernel/{pci-common,of,iommu}.c`` of Linux 6.12.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.of_node import OfNode, of_link
from pyvfio_backends.software.linux.pci_sysfs import WAITING
from pyvfio_backends.software.linux.pcie_aspm import LinkDirectory
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.pcie_vga import is_vga
from pyvfio_backends.software.linux.vfs import Attribute, Node

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.linux.device import Device
    from pyvfio_backends.software.linux.iommu_group import Region
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.powerpc_host import PowerHostBridge

__all__ = ["PowerFunction"]


class PowerFunction(PcieFunction):
    """See above."""

    node_shown = 0
    """What ``numa_node`` says."""
    waits = True
    """Whether firmware's nodes are looked at for what a device waits for (``fw_devlink``)."""

    def __init__(self, power: PowerHostBridge, on: PcieBus, devfn: int, hardware: Function) -> None:
        super().__init__(on, devfn, hardware)
        self.power = power
        self.irq = 0

    def bus_address(self, address: int) -> int:
        """See `PciSysdata.bus_address`."""
        return self.power.bus_address(address)

    def enable(self, device: PciDevice) -> None:
        """See `PciSysdata.enable`."""
        return

    def find_irq(self) -> None:
        """The number of the line that its pin leads to (``pci_read_irq_line``)."""
        self.irq = self.power.pins.number(self)

    # the IOMMU

    @property
    def iommu_device(self) -> Device | None:
        """See `PciSysdata.iommu_device`: of devices with a group."""
        grouped = self.pdev is not None and self.pdev.iommu_group is not None
        return self.power.iommu_node if grouped else None

    def reserved_regions(self) -> Iterable[Region]:
        """See `PciSysdata.reserved_regions`."""
        return ()

    def attach_dma(self, space: DmaSpace | None) -> None:
        """See `PciSysdata.attach_dma`: what DMA sees is in the group's tables (`TableGroup`)."""

    def iommu_release(self) -> None:
        """See `PciSysdata.iommu_release`."""
        self.power.device_gone(self)

    # files

    @property
    def firmware_node(self) -> Device | None:
        """See `PciSysdata.firmware_node`: there is no ACPI, and ``of_node`` leads to what firmware tells."""
        return None

    @property
    def of_path(self) -> str:
        """The node in the device tree, which firmware made."""
        above = self.power.of_path if self.on.above is None else ""
        if isinstance(self.on.above, PowerFunction):
            above = self.on.above.of_path
        return f"{above}/{self.power.node_name(self)}"

    def of_node(self) -> OfNode | None:
        """See `PciSysdata.of_node`: virtual functions have none."""
        if self.virtual_of is not None:
            return None
        path = self.of_path
        return OfNode(path, self.power.node_type(self), aliases=self.power.aliases(self))

    def attributes(self, device: PciDevice) -> Mapping[str, Node]:
        """See `PciSysdata.attributes`."""
        shown = f"{self.node_shown}\n"
        found: dict[str, Node] = {"link": LinkDirectory(self), "numa_node": Attribute(lambda: shown, _ignored)}
        if self.virtual_of is None:
            found["devspec"] = Attribute(lambda: f"{self.of_path}\n")
            found["of_node"] = of_link(device.devpath, self.of_path)
            if self.waits and device.driver is None:
                found[WAITING] = Attribute(lambda: f"{int(device.is_bridge)}\n")
        if is_vga(self):
            found["boot_vga"] = Attribute(lambda: f"{int(self.bus.vga_default is self)}\n")
        return found


def _ignored(data: bytes) -> None:
    """There is one node only."""
