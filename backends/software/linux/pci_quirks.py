"""Devices that Linux knows better than they say, as far as it decides about isolation (``drivers/pci/quirks.c``, 6.12).

Not here are quirks that ask more than vendor and device: those of platforms other than x86, of Intel's and AMD's
chipsets (they read registers that no emulated chipset has), Zhaoxin's ports and Wangxun's NICs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.pcie_type import express_type

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["acs_quirk", "dma_alias", "is_express_bridge"]

_INTEL, _BROADCOM, _ZHAOXIN, _SOLARFLARE, _CAVIUM = 0x8086, 0x14E4, 0x1D17, 0x1924, 0x177D
_MARVELL, _ADAPTEC, _FUNCTION_0, _FUNCTION_1 = 0x1B4B, 0x9005, 0, 1
_SERVICES = (
    regs.PCI_ACS_SV | regs.PCI_ACS_TB | regs.PCI_ACS_RR | regs.PCI_ACS_CR | regs.PCI_ACS_UF | regs.PCI_ACS_DT,
    regs.PCI_ACS_SV | regs.PCI_ACS_RR | regs.PCI_ACS_CR | regs.PCI_ACS_UF,
)

_ISOLATED: Final = frozenset(
    (vendor, device)
    for vendor, devices in {
        _INTEL: (
            *(0x10C6, 0x10DB, 0x10DD, 0x10E1, 0x10F1, 0x10F7, 0x10F8, 0x10F9, 0x10FA, 0x10FB, 0x10FC),
            *(0x1507, 0x1514, 0x151C, 0x1529, 0x152A, 0x154D, 0x154F, 0x1551, 0x1558),
            *(0x1509, 0x150E, 0x150F, 0x1510, 0x1511, 0x1516, 0x1527),
            *(0x10C9, 0x10E6, 0x10E7, 0x10E8, 0x150A, 0x150D, 0x1518, 0x1526),
            *(0x10A7, 0x10A9, 0x10D6, 0x1521, 0x1522, 0x1523, 0x1524),
            *(0x105E, 0x105F, 0x1060, 0x10D9, 0x15B7, 0x15B8),
        ),
        _BROADCOM: (0x16D7, 0x1750, 0x1751, 0x1752, 0x1760, 0x1761, 0x1762, 0x1763),
        _CAVIUM: (0xA026, 0xA059, 0xA060),
        _SOLARFLARE: (0x0903, 0x0923, 0x0A03),
        _ZHAOXIN: (0x3038, 0x3104, 0x9083),
        0x19A2: (0x710,),
        0x10DF: (0x720,),
    }.items()
    for device in devices
)
"""Functions of one device that their vendor says do not reach each other (``pci_quirk_mf_endpoint_acs``)."""

_USES_FUNCTION: Final = {
    **dict.fromkeys(((0x1180, 0xE832), (0x1180, 0xE476), (0x6766, 0x3D40), (0x6766, 0x3D41)), _FUNCTION_0),
    **{
        (_MARVELL, device): _FUNCTION_1
        for device in (
            *(0x9120, 0x9123, 0x9125, 0x9128, 0x9130, 0x9170, 0x9172, 0x917A, 0x9182, 0x9183),
            *(0x91A0, 0x9215, 0x9220, 0x9230, 0x9235),
        )
    },
    **dict.fromkeys(((0x1103, 0x0642), (0x1103, 0x0645), (0x197B, 0x2392), (0x1C28, 0x0122)), _FUNCTION_1),
}
"""Whose requests come in the name of which function of their device."""

_USES_PLACE: Final = {(_ADAPTEC, 0x0285, _ADAPTEC, 0x02BB): 1 << 3, (_ADAPTEC, 0x0285, _ADAPTEC, 0x02BC): 1 << 3}
"""Whose requests come in the name of which place on their bus, by vendor, device and subsystem's."""

_EXPRESS_BRIDGES: Final = frozenset(
    {(0x1B21, 0x1080), (0x10E3, 0x8113), (0x1283, 0x8892), (0x1283, 0x8893), (_INTEL, 0x244E)}
)
"""Bridges from PCI Express to conventional PCI that have no PCI Express capability."""


def acs_quirk(device: PciDevice, services: int) -> bool | None:
    """Whether a device has `services` of ACS whatever it says; None: it is as it says."""
    if (device.vendor, device.device_id) in _ISOLATED:
        return not services & ~_SERVICES[0]
    if device.vendor == _INTEL and express_type(device) == ExpressType.RC_END:
        return not services & ~_SERVICES[1]
    return None


def dma_alias(device: PciDevice) -> int | None:
    """The other place on its bus (device and function number) in whose name its requests may come; None for none."""
    function = _USES_FUNCTION.get((device.vendor, device.device_id))
    if function is not None:
        place = device.devfn & ~7 | function
        return None if place == device.devfn else place
    return _USES_PLACE.get((device.vendor, device.device_id, device.subsystem_vendor, device.subsystem_device))


def is_express_bridge(device: PciDevice, above: PciDevice | None) -> bool:
    """Whether a bridge without PCI Express capability, below `above`, is one from PCI Express to conventional PCI."""
    known = (device.vendor, device.device_id) in _EXPRESS_BRIDGES and not device.express and device.is_bridge
    return known and above is not None and express_type(above) not in (None, ExpressType.PCI_BRIDGE)
