"""Which IOMMU group a PCI Express function joins (``pci_device_group`` in ``drivers/iommu/iommu.c``, 6.12).

The kernel asks for each function in the order in which they were found, and looks for a group that is there:

1. of a function in whose name its requests come (`dma_aliases`); then, from there upwards,
2. of a bridge, as long as the way from the bridge to the root does not isolate (`acs_enabled`); then
3. of a function whose requests may come in the name of the topmost one, or the other way round (`dma_alias`);
4. of another function of its device, when neither isolates, or that function's aliases.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.pci_acs import acs_enabled
from pyvfio_backends.software.linux.pci_quirks import dma_alias
from pyvfio_backends.software.linux.pcie_alias import dma_aliases

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["find_group"]

_SLOT = ~7


def find_group(function: PcieFunction) -> IommuGroup | None:
    """The group that is there and that the function has to join; None: it gets a new one."""
    top = function
    for alias, _ in dma_aliases(function):
        top = alias
        if (group := _group(alias)) is not None:
            return group
    while (bridge := top.on.above) is not None and not _path_isolates(bridge):
        top = bridge
        if (group := _group(bridge)) is not None:
            return group
    seen: set[int] = set()
    group = _of_aliases(top, seen)
    return group if group is not None else _of_functions(top, seen)


def _device(function: PcieFunction) -> PciDevice:
    """Its device, which it has while anybody asks for groups."""
    device = function.pdev
    assert device is not None
    return device


def _group(function: PcieFunction) -> IommuGroup | None:
    return function.pdev.iommu_group if function.pdev is not None else None


def _path_isolates(bridge: PcieFunction | None) -> bool:
    """Whether all bridges from one up to the root isolate (``pci_acs_path_enabled``)."""
    while bridge is not None:
        if not acs_enabled(_device(bridge)):
            return False
        bridge = bridge.on.above
    return True


def _others(function: PcieFunction) -> Iterator[PcieFunction]:
    """The other functions on its bus, in the order in which they were found."""
    return (one for one in function.on.functions.values() if one is not function and one.pdev is not None)


def _of_aliases(function: PcieFunction, seen: set[int]) -> IommuGroup | None:
    """The group of the function or of one that it shares a name with (``get_pci_alias_group``)."""
    if function.devfn in seen:
        return None
    seen.add(function.devfn)
    if (group := _group(function)) is not None:
        return group
    mine = dma_alias(_device(function))
    for other in _others(function):
        if mine == other.devfn or dma_alias(_device(other)) == function.devfn:
            group = _of_aliases(other, seen) or _of_functions(other, seen)
            if group is not None:
                return group
    return None


def _of_functions(function: PcieFunction, seen: set[int]) -> IommuGroup | None:
    """The group of another function of its device, if neither isolates (``get_pci_function_alias_group``)."""
    device = _device(function)
    if not device.multifunction or acs_enabled(device):
        return None
    for other in _others(function):
        if other.devfn & _SLOT == function.devfn & _SLOT and not acs_enabled(_device(other)):
            group = _of_aliases(other, seen)
            if group is not None:
                return group
    return None
