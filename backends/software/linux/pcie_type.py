"""What a device is to PCI Express, which is asked of every device; so this module needs little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["express_type"]


def express_type(device: PciDevice) -> int | None:
    """What a device is to PCI Express (``pci_pcie_type``); None for conventional PCI."""
    if not device.express:
        return None
    return regs.pci_exp_type(device.read_config(device.express + regs.PCI_EXP_FLAGS, 2))
