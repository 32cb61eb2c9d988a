"""How many messages the MSI capability of a device has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["message_count"]

_MOST_SHIFT = 1


def message_count(device: PciDevice) -> int:
    """How many messages the device has, 0 without the capability."""
    at = device.find_capability(regs.PCI_CAP_ID_MSI)
    if not at:
        return 0
    return 1 << ((device.read_config(at + regs.PCI_MSI_FLAGS, 2) & regs.PCI_MSI_FLAGS_QMASK) >> _MOST_SHIFT)
