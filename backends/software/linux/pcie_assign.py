"""Addresses that Linux gives by itself, where firmware gave none (``drivers/pci/setup-bus.c``, ``setup-res.c``, 6.12).

Two things, as on the x86 lab's machine: an I/O window for each port with a hot-pluggable slot on a root bus, and
addresses within the window above for what has none, which is the BARs of virtual functions.  Each gets the lowest place
that is free.  Windows that firmware made are not made larger.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_device import RESOURCES, PciDevice
from pyvfio_backends.software.linux.pci_iov import FIRST_IOV
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

__all__ = ["assign_unassigned"]

_WINDOW = 1 << 12  # the granularity of I/O windows
_IO, _MEMORY, _PREFETCHABLE = RESOURCES, RESOURCES + 1, RESOURCES + 2


def assign_unassigned(functions: Iterable[PcieFunction], io: range) -> None:
    """Give addresses to what has none (``pcibios_assign_resources``).

    `functions` are all of the machine, each bridge before what is behind it; `io` the ports that devices can have.
    """
    known = [(function, function.pdev) for function in functions if function.pdev is not None]
    used = [resource for _, device in known for resource in device.resources if resource.flags & ResourceFlag.IO]
    for function, device in known:
        if function.on.above is None and device.is_bridge and not device.resources[_IO].flags and _hotplugs(device):
            place = _lowest(used, io, _WINDOW, _WINDOW)
            if place is not None:
                device.resources[_IO] = made = Resource(place, place + _WINDOW - 1, ResourceFlag.IO)
                used.append(made)
                _write_io_window(device, made)
    for function, device in known:
        above = function.on.above.pdev if function.on.above is not None else None
        if above is not None:
            _assign_virtual(function, device, above)


def _hotplugs(device: PciDevice) -> bool:
    """Whether a port has a hot-pluggable slot (``set_pcie_hotplug_bridge``)."""
    if not device.express or not device.read_config(device.express + regs.PCI_EXP_FLAGS, 2) & regs.PCI_EXP_FLAGS_SLOT:
        return False
    slot = device.read_config(device.express + express_regs.PCI_EXP_SLTCAP, 4)
    return bool(slot & express_regs.PCI_EXP_SLTCAP_HPC)


def _lowest(used: Iterable[Resource], room: range, size: int, align: int) -> int | None:
    """The lowest aligned place that none of the resources has."""
    place = -(-room.start // align) * align
    for resource in sorted(used, key=lambda one: one.start):
        if resource.start < place + size and resource.end >= place:
            place = -(-(resource.end + 1) // align) * align
    return place if place + size <= room.stop else None


def _write_io_window(device: PciDevice, window: Resource) -> None:
    device.write_config(bridge_regs.PCI_IO_BASE, 1, window.start >> 8 & 0xF0)
    device.write_config(bridge_regs.PCI_IO_LIMIT, 1, window.end >> 8 & 0xF0)


def _assign_virtual(function: PcieFunction, device: PciDevice, above: PciDevice) -> None:
    """Addresses for the BARs of virtual functions, those that need the coarsest alignment first."""
    if device.sriov is None:
        return
    waiting = [n for n in range(FIRST_IOV, RESOURCES) if device.resources[n].flags and not device.resources[n].start]
    for number in sorted(waiting, key=lambda n: -device.resources[n].size):
        resource = device.resources[number]
        wide = resource.flags & ResourceFlag.PREFETCH and resource.flags & ResourceFlag.MEM_64
        window = above.resources[_PREFETCHABLE if wide else _MEMORY]
        siblings = [one for other in function.on.devices() for one in other.resources if one.flags and one.start]
        size = resource.size
        align = size // max(1, device.sriov.total)
        place = _lowest(siblings, range(window.start, window.end + 1), size, align) if window.flags else None
        if place is None:
            continue
        resource.start, resource.end = place, place + size - 1
    device.sriov.write_bars()
