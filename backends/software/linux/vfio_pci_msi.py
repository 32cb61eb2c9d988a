"""The MSI capability as vfio-pci shows it: a copy, for the kernel has the interrupts.

Source: ``drivers/vfio/pci/vfio_pci_config.c`` (6.12), `init_pci_cap_msi_perm` and `vfio_msi_config_write`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["capability_length", "message_count", "virtual_fields", "write_flags"]

_QUEUE_SHIFT, _MOST_SHIFT = 4, 1


def _flags(device: PciDevice, at: int) -> int:
    return device.read_config(at + regs.PCI_MSI_FLAGS, 2)


def capability_length(device: PciDevice, at: int) -> int:
    """Bytes of the capability, by what its flags say it has."""
    length = regs.PCI_MSI_DATA_64 + 2 if _flags(device, at) & regs.PCI_MSI_FLAGS_64BIT else regs.PCI_MSI_DATA_32 + 2
    return length + (10 if _flags(device, at) & regs.PCI_MSI_FLAGS_MASKBIT else 0)


def message_count(device: PciDevice) -> int:
    """How many messages the device has, 0 without the capability."""
    at = device.find_capability(regs.PCI_CAP_ID_MSI)
    return 1 << ((_flags(device, at) & regs.PCI_MSI_FLAGS_QMASK) >> _MOST_SHIFT) if at else 0


def virtual_fields(device: PciDevice, at: int) -> list[tuple[int, int]]:
    """The fields, offset and length in bytes, that the program reads from and writes to the copy."""
    wide = bool(_flags(device, at) & regs.PCI_MSI_FLAGS_64BIT)
    fields = [(regs.PCI_MSI_FLAGS, 1), (regs.PCI_MSI_ADDRESS_LO, 4)]
    fields += [(regs.PCI_MSI_ADDRESS_HI, 4), (regs.PCI_MSI_DATA_64, 2)] if wide else [(regs.PCI_MSI_DATA_32, 2)]
    if _flags(device, at) & regs.PCI_MSI_FLAGS_MASKBIT:
        mask = regs.PCI_MSI_MASK_64 if wide else regs.PCI_MSI_MASK_32
        fields += [(mask, 4), (mask + 4, 4)]
    return [(at + offset, length) for offset, length in fields]


def write_flags(device: PciDevice, at: int, flags: int) -> int:
    """What becomes of flags that a program wrote: MSI is switched on by a request, and has no more messages than there
    are.  The device gets them, too.
    """
    flags &= ~regs.PCI_MSI_FLAGS_ENABLE
    most = (_flags(device, at) & regs.PCI_MSI_FLAGS_QMASK) >> _MOST_SHIFT
    if (flags & regs.PCI_MSI_FLAGS_QSIZE) >> _QUEUE_SHIFT > most:
        flags = flags & ~regs.PCI_MSI_FLAGS_QSIZE | most << _QUEUE_SHIFT
    device.store_config(at + regs.PCI_MSI_FLAGS, 2, flags)
    return flags
