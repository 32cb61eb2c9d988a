"""Access control services (ACS) as Linux switches them on and relies on them (``drivers/pci/pci.c``, 6.12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.pci_quirks import acs_quirk
from pyvfio_backends.software.linux.pcie_type import express_type

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["REQUIRED", "acs_enabled", "enable_acs"]

REQUIRED: Final = regs.PCI_ACS_SV | regs.PCI_ACS_RR | regs.PCI_ACS_CR | regs.PCI_ACS_UF
"""What isolates: nobody's name can be used by another, and all requests go up to the IOMMU (``REQ_ACS_FLAGS``)."""

_NEVER = (ExpressType.PCIE_BRIDGE, ExpressType.PCI_BRIDGE, ExpressType.RC_EC)
_ALWAYS = (ExpressType.DOWNSTREAM, ExpressType.ROOT_PORT)
_IF_SEVERAL = (ExpressType.ENDPOINT, ExpressType.UPSTREAM, ExpressType.LEG_END, ExpressType.RC_END)


def enable_acs(device: PciDevice) -> None:
    """Switch on what isolates, as far as the device has it, if an IOMMU asked for that (``pci_enable_acs``).

    So it is when a device is found, and after each reset: nothing is kept of what was in the register.
    """
    at = device.find_extended_capability(regs.PCI_EXT_CAP_ID_ACS) if device.sysdata.isolates else 0
    if at:
        services = device.read_config(at + regs.PCI_ACS_CAP, 2)
        control = device.read_config(at + regs.PCI_ACS_CTRL, 2)
        device.write_config(at + regs.PCI_ACS_CTRL, 2, control | services & REQUIRED)


def acs_enabled(device: PciDevice, services: int = REQUIRED) -> bool:
    """Whether a device isolates, in effect (``pci_acs_enabled``).

    Conventional PCI and bridges to it never do; ports do by their registers; a device with one function has nobody
    beside itself to be isolated from.
    """
    quirk = acs_quirk(device, services)
    if quirk is not None:
        return quirk
    kind = express_type(device)
    if kind is None or kind in _NEVER:
        return False
    if kind in _ALWAYS or (kind in _IF_SEVERAL and device.multifunction):
        return _flags_enabled(device, services)
    return True


def _flags_enabled(device: PciDevice, services: int) -> bool:
    """By the registers: what the capability does not have counts as wired on, but for egress control."""
    at = device.find_extended_capability(regs.PCI_EXT_CAP_ID_ACS)
    if not at:
        return False
    needed = services & (device.read_config(at + regs.PCI_ACS_CAP, 2) | regs.PCI_ACS_EC)
    return device.read_config(at + regs.PCI_ACS_CTRL, 2) & needed == needed
