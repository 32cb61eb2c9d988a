"""Event collectors and the integrated endpoints whose messages end there (``drivers/pci/pcie/rcec.c``, Linux 6.12).

::

    integrated endpoint --> root complex --> event collector: root error status, root status --> interrupt
                                                 association: devices of its own bus; the numbers of other buses

An integrated endpoint is behind no port.  Linux reads a collector's association once, when it finds the function, and
links the endpoints that are there when ``pcieport`` takes the collector.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.pcie_recovery import walk
from pyvfio_backends.software.linux.pcie_type import express_type

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["Association", "link", "on_bus", "read_association", "reporters", "walk_associated"]

_VERSION_SHIFT, _VERSION = 16, 0xF
_BYTE = 0xFF


@dataclass(frozen=True, slots=True)
class Association:
    """Bit n of `devices` is device n of the collector's bus; `buses` are others (``struct rcec_ea``)."""

    devices: int
    buses: range


def read_association(device: PciDevice) -> Association | None:
    """The association of an event collector; None of any other function, or without the capability."""
    if express_type(device) != ExpressType.RC_EC:
        return None
    at = device.find_extended_capability(extended.PCI_EXT_CAP_ID_RCEC)
    if not at:
        return None
    devices = device.read_config(at + extended.PCI_RCEC_RCIEP_BITMAP, 4)
    if device.read_config(at, 4) >> _VERSION_SHIFT & _VERSION < extended.PCI_RCEC_BUSN_REG_VER:
        return Association(devices, range(0))
    buses = device.read_config(at + extended.PCI_RCEC_BUSN, 4)
    return Association(devices, range(buses >> 8 & _BYTE, (buses >> 16 & _BYTE) + 1))


def on_bus(like: PciDevice, number: int) -> Iterator[PciDevice]:
    """The functions on the bus of this number, in the domain of `like`, in the order in which they were found."""
    from pyvfio_backends.software.linux.pci_device import PciDevice

    for device in list(like.pci_bus.devices.values()):
        same = isinstance(device, PciDevice) and device.address.domain == like.address.domain
        if isinstance(device, PciDevice) and same and device.sysdata.bus_number == number:
            yield device


def walk_associated(collector: PciDevice) -> Iterator[PciDevice]:
    """The integrated endpoints of a collector: those of its own bus, then of each other one (``pcie_walk_rcec``)."""
    found = collector.association
    if found is None:
        return
    own = collector.sysdata.bus_number
    for number in (own, *(one for one in found.buses if one != own)):
        for top in on_bus(collector, number):
            for device in (top, *walk(top)):
                if express_type(device) != ExpressType.RC_END:
                    continue
                if device.sysdata.bus_number != own or found.devices >> (device.devfn >> 3) & 1:
                    yield device


def link(collector: PciDevice) -> None:
    """Let the integrated endpoints know their collector (``pcie_link_rcec``)."""
    for device in walk_associated(collector):
        device.collector = collector


def reporters(root: PciDevice) -> Iterator[PciDevice]:
    """Whose messages end at a root port or an event collector, but for its own."""
    return walk_associated(root) if express_type(root) == ExpressType.RC_EC else walk(root)
