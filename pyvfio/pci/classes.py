"""What the class code of a PCI function says in words.

Only the classes that people meet have a name of their own; a subclass without one is called after its base class.
Source: ``include/linux/pci_ids.h`` and the PCI Code and ID Assignment Specification.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_ids as ids

__all__ = ["class_name", "is_bridge"]

_INTERFACES: Final = {
    ids.PCI_CLASS_STORAGE_SATA_AHCI: "SATA controller (AHCI)",
    ids.PCI_CLASS_STORAGE_EXPRESS: "NVMe controller",
    ids.PCI_CLASS_BRIDGE_PCI_SUBTRACTIVE: "PCI bridge (subtractive)",
    ids.PCI_CLASS_SYSTEM_PIC_IOAPIC: "IO-APIC",
    ids.PCI_CLASS_SYSTEM_PIC_IOXAPIC: "IO(X)-APIC",
    ids.PCI_CLASS_SERIAL_FIREWIRE_OHCI: "FireWire controller (OHCI)",
    ids.PCI_CLASS_SERIAL_USB_UHCI: "USB controller (UHCI)",
    ids.PCI_CLASS_SERIAL_USB_OHCI: "USB controller (OHCI)",
    ids.PCI_CLASS_SERIAL_USB_EHCI: "USB controller (EHCI)",
    ids.PCI_CLASS_SERIAL_USB_XHCI: "USB controller (xHCI)",
    ids.PCI_CLASS_SERIAL_USB_DEVICE: "USB device",
}
"""By all 24 bits."""

_SUBCLASSES: Final = {
    ids.PCI_CLASS_NOT_DEFINED_VGA: "VGA-compatible device",
    ids.PCI_CLASS_STORAGE_SCSI: "SCSI controller",
    ids.PCI_CLASS_STORAGE_IDE: "IDE controller",
    ids.PCI_CLASS_STORAGE_FLOPPY: "floppy controller",
    ids.PCI_CLASS_STORAGE_RAID: "RAID controller",
    ids.PCI_CLASS_STORAGE_SATA: "SATA controller",
    ids.PCI_CLASS_STORAGE_SAS: "SAS controller",
    ids.PCI_CLASS_STORAGE_EXPRESS >> 8: "non-volatile memory controller",
    ids.PCI_CLASS_NETWORK_ETHERNET: "Ethernet controller",
    ids.PCI_CLASS_NETWORK_INFINIBAND: "InfiniBand controller",
    ids.PCI_CLASS_DISPLAY_VGA: "VGA controller",
    ids.PCI_CLASS_DISPLAY_3D: "3D controller",
    ids.PCI_CLASS_MULTIMEDIA_VIDEO: "video controller",
    ids.PCI_CLASS_MULTIMEDIA_AUDIO: "audio controller",
    ids.PCI_CLASS_MULTIMEDIA_HD_AUDIO: "HD audio controller",
    ids.PCI_CLASS_MEMORY_RAM: "RAM",
    ids.PCI_CLASS_MEMORY_FLASH: "flash memory",
    ids.PCI_CLASS_MEMORY_CXL: "CXL memory",
    ids.PCI_CLASS_BRIDGE_HOST: "host bridge",
    ids.PCI_CLASS_BRIDGE_ISA: "ISA bridge",
    ids.PCI_CLASS_BRIDGE_PCI: "PCI bridge",
    ids.PCI_CLASS_BRIDGE_CARDBUS: "CardBus bridge",
    ids.PCI_CLASS_COMMUNICATION_SERIAL: "serial controller",
    ids.PCI_CLASS_COMMUNICATION_PARALLEL: "parallel controller",
    ids.PCI_CLASS_COMMUNICATION_MULTISERIAL: "multiport serial controller",
    ids.PCI_CLASS_COMMUNICATION_MODEM: "modem",
    ids.PCI_CLASS_SYSTEM_PIC: "interrupt controller",
    ids.PCI_CLASS_SYSTEM_DMA: "DMA controller",
    ids.PCI_CLASS_SYSTEM_TIMER: "timer",
    ids.PCI_CLASS_SYSTEM_RTC: "clock",
    ids.PCI_CLASS_SYSTEM_PCI_HOTPLUG: "PCI hot-plug controller",
    ids.PCI_CLASS_SYSTEM_SDHCI: "SD host controller",
    ids.PCI_CLASS_SYSTEM_IOMMU: "IOMMU",
    ids.PCI_CLASS_SYSTEM_RCEC: "root complex event collector",
    ids.PCI_CLASS_INPUT_KEYBOARD: "keyboard controller",
    ids.PCI_CLASS_INPUT_MOUSE: "mouse controller",
    ids.PCI_CLASS_PROCESSOR_CO: "co-processor",
    ids.PCI_CLASS_SERIAL_FIREWIRE: "FireWire controller",
    ids.PCI_CLASS_SERIAL_USB: "USB controller",
    ids.PCI_CLASS_SERIAL_FIBER: "Fibre Channel adapter",
    ids.PCI_CLASS_SERIAL_SMBUS: "SMBus controller",
    ids.PCI_CLASS_SERIAL_IPMI: "IPMI interface",
    ids.PCI_CLASS_CRYPT_NETWORK: "network and computing encryption device",
    ids.PCI_CLASS_SP_OTHER: "signal processing controller",
    ids.PCI_CLASS_ACCELERATOR_PROCESSING: "processing accelerator",
}
"""By base class and subclass."""

_BASES: Final = {
    ids.PCI_CLASS_NOT_DEFINED: "unclassified device",
    ids.PCI_BASE_CLASS_STORAGE: "storage controller",
    ids.PCI_BASE_CLASS_NETWORK: "network controller",
    ids.PCI_BASE_CLASS_DISPLAY: "display controller",
    ids.PCI_BASE_CLASS_MULTIMEDIA: "multimedia controller",
    ids.PCI_BASE_CLASS_MEMORY: "memory controller",
    ids.PCI_BASE_CLASS_BRIDGE: "bridge",
    ids.PCI_BASE_CLASS_COMMUNICATION: "communication controller",
    ids.PCI_BASE_CLASS_SYSTEM: "system peripheral",
    ids.PCI_BASE_CLASS_INPUT: "input controller",
    ids.PCI_BASE_CLASS_DOCKING: "docking station",
    ids.PCI_BASE_CLASS_PROCESSOR: "processor",
    ids.PCI_BASE_CLASS_SERIAL: "serial bus controller",
    ids.PCI_BASE_CLASS_WIRELESS: "wireless controller",
    ids.PCI_BASE_CLASS_INTELLIGENT: "intelligent controller",
    ids.PCI_BASE_CLASS_SATELLITE: "satellite communication controller",
    ids.PCI_BASE_CLASS_CRYPT: "encryption controller",
    ids.PCI_BASE_CLASS_SIGNAL_PROCESSING: "signal processing controller",
    ids.PCI_BASE_CLASS_ACCELERATOR: "processing accelerator",
    ids.PCI_BASE_CLASS_INSTRUMENTATION: "non-essential instrumentation",
    ids.PCI_CLASS_OTHERS: "unassigned class",
}
"""By base class."""


def class_name(code: int) -> str:
    """What a class `code` of 24 bits is called; ``class 0x......`` when not even its base class is known.

    >>> class_name(0x020000), class_name(0x010802), class_name(0xFF0000), class_name(0x1F0000)
    ('Ethernet controller', 'NVMe controller', 'unassigned class', 'class 0x1f0000')
    """
    name = _INTERFACES.get(code) or _SUBCLASSES.get(code >> 8) or _BASES.get(code >> 16)
    return name or f"class 0x{code:06x}"


def is_bridge(code: int) -> bool:
    """Whether a function of class `code` (24 bits) is a PCI-to-PCI bridge, which a PCI Express port is too.

    >>> is_bridge(0x060400), is_bridge(0x060000)
    (True, False)
    """
    return code >> 8 == ids.PCI_CLASS_BRIDGE_PCI
