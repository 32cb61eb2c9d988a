"""Virtual functions of PCI Express, which Linux makes itself (``pci_iov_add_virtfn`` in ``drivers/pci/iov.c``, 6.12).

They are not scanned: their ids are all ones.  Vendor and device come from the physical function, where they are from
its SR-IOV capability, their base addresses from the resources that it has for all of them.  One whose number is beyond
the bus of the physical function is on a bus that no bridge leads to (``virtfn_add_bus``), within the numbers that the
bridge above has.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.address import PciAddress
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver
from pyvfio_backends.software.linux.pci_iov import FIRST_IOV
from pyvfio_backends.software.linux.resource import Resource
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["add_virtual", "remove_virtual", "virtual_resources"]


def add_virtual(physical: PcieFunction, number: int) -> PciDevice:
    """Add virtual function `number` (from 0) of a physical one, and seek a driver.  Raise OSError ENODEV."""
    device = physical.pdev
    if device is None or device.sriov is None:
        raise fail(errno.ENODEV)
    rid = device.sriov.routing_id(number)
    bus, bridge = _bus(physical, rid >> 8), physical.bridge
    devfn = rid & 0xFF
    hardware = bridge.complex.function(bridge.domain, rid)
    if hardware is None:
        raise fail(errno.ENODEV)
    function = bridge.new_function(bus, devfn, hardware)
    function.virtual_of, function.number = device, number
    virtual = PciDevice(function, bus.parent, bridge.bus, PciAddress(bridge.domain, bus.number, devfn >> 3, devfn & 7))
    function.pdev = virtual
    function.added = True
    bus.functions.pop(devfn, None)
    bus.functions[devfn] = function
    physical.virtual[number] = virtual
    if bridge.iommu is not None:
        bridge.iommu.probe(function)
    bridge.device_added(function)
    if isinstance(device.driver, PciDriver):
        device.driver.virtual_found(device, virtual)
    bridge.bus.add(virtual)
    return virtual


def _bus(physical: PcieFunction, number: int) -> PcieBus:
    from pyvfio_backends.software.linux.pcie_bus import PcieBus

    if number == physical.on.number:
        return physical.on
    bridge = physical.bridge
    found = bridge.virtual_buses.get(number)
    if found is None:
        found = bridge.virtual_buses[number] = PcieBus(bridge, number, physical.on.parent)
        bridge.bus.kernel.add_class_device(found.device)
    return found


def remove_virtual(physical: PcieFunction, number: int) -> None:
    """Take virtual function `number` away; may block until its user lets it go (``pci_iov_remove_virtfn``)."""
    virtual = physical.virtual.get(number)
    if virtual is None:
        return
    bridge, bus_number = physical.bridge, virtual.sysdata.bus_number
    bridge.bus.remove_device(virtual)
    physical.virtual.pop(number, None)
    bus = bridge.virtual_buses.get(bus_number)
    if bus is not None:
        bus.functions.pop(virtual.devfn, None)
        if not bus.devices():
            del bridge.virtual_buses[bus_number]
            bridge.bus.kernel.remove_class_device(bus.device)


def virtual_resources(physical: PciDevice, number: int, resources: list[Resource]) -> None:
    """Fill in the base addresses of a virtual function: its share of what the physical one has for all of them."""
    sriov = physical.sriov
    if sriov is None:
        return
    for index in range(regs.PCI_STD_NUM_BARS):
        whole, size = physical.resources[FIRST_IOV + index], sriov.bar_sizes[index]
        if whole.claimed:
            start = whole.start + size * number
            resources[index] = Resource(start, start + size - 1, whole.flags, claimed=True)
