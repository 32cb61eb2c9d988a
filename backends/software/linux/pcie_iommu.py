"""The IOMMU of an x86 machine as Linux has it: ``dmar0`` of class ``iommu`` (``drivers/iommu/intel/iommu.c``, 6.12).

It finds the functions of the machine when the PCI buses have been scanned, gives each a group, and tells the hardware
(`RemappingUnit`) which address space the DMA of a group has: none of its own until VFIO attaches one, for the host's
drivers do no DMA here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.nodes import Node, StaticDirectory, Symlink
from pyvfio_backends.software.linux.pcie_alias import dma_aliases

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.hardware.pcie.remapping import RemappingUnit
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["PcieIommu"]

_PAGE_SIZES = 1 << 12 | 1 << 21 | 1 << 30
_MESSAGES = (0xFEE00000, 0xFEEFFFFF)


class PcieIommu(Device):
    """``dmar0``, with links to the devices behind it; `unit` is the hardware."""

    def __init__(self, kernel: Kernel, unit: RemappingUnit) -> None:
        super().__init__(kernel, "dmar0", None, cls=kernel.class_("iommu"))
        self.unit = unit
        self._functions: dict[str, PcieFunction] = {}

    def boot(self, functions: Iterable[PcieFunction]) -> None:
        """Appear, and take all functions that are there (``bus_iommu_probe``)."""
        self.kernel.add_class_device(self, quiet=True)
        for function in functions:
            self.probe(function)

    def probe(self, function: PcieFunction) -> None:
        """Take a function: it gets a group (``iommu_probe_device``)."""
        device = function.pdev
        if device is None:
            return
        function.iommu = self
        self._functions[device.name] = function
        group = function.iommu_group()
        if group is not None:
            self.kernel.groups.join(group, device)

    def release(self, function: PcieFunction) -> None:
        """The function's device is gone (``iommu_release_device``)."""
        self.attach(function, None)
        function.iommu = None
        if function.pdev is not None:
            self._functions.pop(function.pdev.name, None)

    def group(self) -> IommuGroup:
        """A group for a function's device."""
        group = self.kernel.groups.create(type_="DMA", reserved=(_MESSAGES,))
        group.aperture = (0, (1 << 48) - 1)
        group.page_sizes = _PAGE_SIZES
        return group

    def attach(self, function: PcieFunction, space: DmaSpace | None) -> None:
        """The address space for the function's DMA, by whatever routing id it comes (``domain_context_mapping``)."""
        segment = function.bridge.domain
        for _, rid in dma_aliases(function):
            if space is None:
                self.unit.contexts.pop((segment, rid), None)
            else:
                self.unit.contexts[segment, rid] = space

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`."""
        links: dict[str, Node] = {
            name: Symlink(f"../../../..{one.pdev.devpath.removeprefix('/devices')}")
            for name, one in self._functions.items()
            if one.pdev is not None
        }
        return {"devices": StaticDirectory(links)}
