"""A function on a host bridge of a guest on POWER, as the PCI core is given it.

Source: ``arch/powerpc/kernel/pci_of_scan.c`` of Linux 6.12 (of_pci_parse_addrs, pci_parse_of_flags).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio_backends.software.hardware.pcie.request import Space
from pyvfio_backends.software.linux.pci_device import ROM
from pyvfio_backends.software.linux.powerpc_function import PowerFunction
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pseries_host import PseriesHostBridge

__all__ = ["PseriesFunction"]

_TYPE_64, _TYPE_PREFETCH = 0x4, 0x8


class PseriesFunction(PowerFunction):
    """See above."""

    node_shown = -1
    waits = False

    def __init__(self, host: PseriesHostBridge, on: PcieBus, devfn: int, hardware: Function) -> None:
        super().__init__(host, on, devfn, hardware)
        self.host = host
        self.knows_speeds = not self.host.booting  # ``of_create_pci_dev`` does not look

    # addresses

    def map_resources(self, resources: list[Resource]) -> None:
        """See `PciSysdata.map_resources`: at boot with flags as the device tree tells, and later those of registers."""
        super().map_resources(resources)
        for index, resource in enumerate(resources[: ROM + 1]):
            if resource.flags & ResourceFlag.IO:
                self._map_ports(resource)
            elif resource.flags & ResourceFlag.MEM:
                self._map_memory(resource, rom=index == ROM)

    def _map_ports(self, resource: Resource) -> None:
        if resource.start:
            resource.start += self.host.ports
            resource.end += self.host.ports

    def _map_memory(self, resource: Resource, *, rom: bool) -> None:
        address = self.host.phb.from_bus(resource.start)
        if self.host.booting:
            if rom or address is None:  # the device tree tells this of neither
                resource.flags &= ~(ResourceFlag.PREFETCH | _TYPE_PREFETCH)
            if address is not None and resource.start in self.host.phb.m32_bus:
                resource.flags &= ~(ResourceFlag.MEM_64 | _TYPE_64)
        if address is not None:
            resource.start, resource.end = address, address + resource.size - 1

    def _place(self, bar: int, offset: int) -> tuple[int, Space]:
        """Ports are memory to the processor."""
        address, space = super()._place(bar, offset)
        if space is Space.IO:
            return self.host.phb.io.start + self.host.bus_address(address), Space.MEMORY
        return address, space

    # the IOMMU

    def iommu_group(self) -> IommuGroup | None:
        """See `PciSysdata.iommu_group`."""
        return self.host.group
