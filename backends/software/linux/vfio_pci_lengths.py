"""How long vfio-pci takes each capability to be; 0 for those that it hides.

Source: ``drivers/vfio/pci/vfio_pci_config.c`` (6.12), ``pci_cap_length``, ``pci_ext_cap_length`` and the functions
named ``vfio_*_cap_len``.
"""

from __future__ import annotations

from pyvfio.abi import pci_bridge_regs as vpd
from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.vfio_pci_physical import PhysicalFunction

__all__ = ["capability_length", "extended_length"]

_LENGTHS: dict[int, int] = {
    regs.PCI_CAP_ID_PM: regs.PCI_PM_SIZEOF,
    regs.PCI_CAP_ID_AGP: capability_regs.PCI_AGP_SIZEOF,
    regs.PCI_CAP_ID_VPD: vpd.PCI_CAP_VPD_SIZEOF,
    regs.PCI_CAP_ID_MSIX: regs.PCI_CAP_MSIX_SIZEOF,
    regs.PCI_CAP_ID_AF: capability_regs.PCI_CAP_AF_SIZEOF,
}
_EXTENDED_LENGTHS: dict[int, int] = {
    extended.PCI_EXT_CAP_ID_ERR: extended.PCI_ERR_ROOT_COMMAND,
    extended.PCI_EXT_CAP_ID_DSN: extended.PCI_EXT_CAP_DSN_SIZEOF,
    extended.PCI_EXT_CAP_ID_PWR: capability_regs.PCI_EXT_CAP_PWR_SIZEOF,
    extended.PCI_EXT_CAP_ID_ARI: extended.PCI_EXT_CAP_ARI_SIZEOF,
    extended.PCI_EXT_CAP_ID_ATS: extended.PCI_EXT_CAP_ATS_SIZEOF,
    regs.PCI_EXT_CAP_ID_SRIOV: regs.PCI_EXT_CAP_SRIOV_SIZEOF,
    extended.PCI_EXT_CAP_ID_MCAST: capability_regs.PCI_EXT_CAP_MCAST_ENDPOINT_SIZEOF,
    extended.PCI_EXT_CAP_ID_PRI: capability_regs.PCI_EXT_CAP_PRI_SIZEOF,
    extended.PCI_EXT_CAP_ID_LTR: extended.PCI_EXT_CAP_LTR_SIZEOF,
}
_VIRTUAL_CHANNELS = (extended.PCI_EXT_CAP_ID_VC, extended.PCI_EXT_CAP_ID_VC9, extended.PCI_EXT_CAP_ID_MFVC)
_MSI_LENGTH, _MSI_WIDE, _MSI_MASKABLE = regs.PCI_MSI_DATA_32 + 2, 4, 10
_ARBITRATION_ALIGNMENT = 16
_ACS_LENGTH, _EGRESS_WORD, _EGRESS_MOST = 8, 32, 256
_REBAR_HEADER, _REBAR_ENTRY = 4, 8


def capability_length(device: PhysicalFunction, number: int, at: int) -> int:
    """Bytes of a conventional capability at an offset, by what its registers say; 0 hides it."""
    if number in _LENGTHS:
        return _LENGTHS[number]
    if number == regs.PCI_CAP_ID_MSI:
        flags = device.read_config(at + regs.PCI_MSI_FLAGS, 2)
        wide, maskable = flags & regs.PCI_MSI_FLAGS_64BIT, flags & regs.PCI_MSI_FLAGS_MASKBIT
        return _MSI_LENGTH + (_MSI_WIDE if wide else 0) + (_MSI_MASKABLE if maskable else 0)
    if number == regs.PCI_CAP_ID_PCIX:
        version = capability_regs.pci_x_cmd_version(device.read_config(at + capability_regs.PCI_X_CMD, 2))
        return capability_regs.PCI_CAP_PCIX_SIZEOF_V2 if version else capability_regs.PCI_CAP_PCIX_SIZEOF_V0
    if number == regs.PCI_CAP_ID_HT:
        kind = device.read_config(at + 3, 1) & capability_regs.HT_3BIT_CAP_MASK
        return capability_regs.HT_CAP_SIZEOF_SHORT if kind else capability_regs.HT_CAP_SIZEOF_LONG
    if number == regs.PCI_CAP_ID_VNDR:
        return device.read_config(at + regs.PCI_CAP_FLAGS, 1)
    if number == regs.PCI_CAP_ID_EXP:
        flags = device.read_config(at + regs.PCI_EXP_FLAGS, 2)
        without_link = regs.pci_exp_type(flags) == regs.PCI_EXP_TYPE_RC_END
        if flags & regs.PCI_EXP_FLAGS_VERS == 1:
            return regs.PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V1 if without_link else regs.PCI_CAP_EXP_ENDPOINT_SIZEOF_V1
        return regs.PCI_CAP_EXP_RC_ENDPOINT_SIZEOF_V2 if without_link else regs.PCI_CAP_EXP_ENDPOINT_SIZEOF_V2
    if number == regs.PCI_CAP_ID_SATA:
        place = device.read_config(at + capability_regs.PCI_SATA_REGS, 1) & capability_regs.PCI_SATA_REGS_MASK
        inline = place == capability_regs.PCI_SATA_REGS_INLINE
        return capability_regs.PCI_SATA_SIZEOF_LONG if inline else capability_regs.PCI_SATA_SIZEOF_SHORT
    return 0


def extended_length(device: PhysicalFunction, number: int, at: int) -> int:
    """Bytes of an extended capability at an offset, by what its registers say; 0 hides it."""
    if number in _EXTENDED_LENGTHS:
        return _EXTENDED_LENGTHS[number]
    if number == extended.PCI_EXT_CAP_ID_VNDR:
        return device.read_config(at + extended.PCI_VSEC_HDR, 4) >> extended.PCI_VSEC_HDR_LEN_SHIFT
    if number == extended.PCI_EXT_CAP_ID_DVSEC:
        return capability_regs.pci_dvsec_header1_len(device.read_config(at + extended.PCI_DVSEC_HEADER1, 4))
    if number in _VIRTUAL_CHANNELS:
        return _channels_length(device, at)
    if number == regs.PCI_EXT_CAP_ID_ACS:
        if not device.read_config(at + regs.PCI_ACS_CAP, 1) & regs.PCI_ACS_EC:
            return _ACS_LENGTH
        bits = device.read_config(at + regs.PCI_ACS_EGRESS_BITS, 1)
        return _ACS_LENGTH + (-(-bits // _EGRESS_WORD) * _EGRESS_WORD if bits else _EGRESS_MOST) // 8
    if number == extended.PCI_EXT_CAP_ID_REBAR:
        control = device.read_config(at + capability_regs.PCI_REBAR_CTRL, 1)
        count = (control & capability_regs.PCI_REBAR_CTRL_NBAR_MASK) >> capability_regs.PCI_REBAR_CTRL_NBAR_SHIFT
        return _REBAR_HEADER + count * _REBAR_ENTRY
    if number == extended.PCI_EXT_CAP_ID_DPA:
        last = device.read_config(at + capability_regs.PCI_DPA_CAP, 1) & capability_regs.PCI_DPA_CAP_SUBSTATE_MASK
        return capability_regs.PCI_DPA_BASE_SIZEOF + last + 1
    if number == extended.PCI_EXT_CAP_ID_TPH:
        able = device.read_config(at + capability_regs.PCI_TPH_CAP, 4)
        if able & capability_regs.PCI_TPH_CAP_LOC_MASK != capability_regs.PCI_TPH_LOC_CAP:
            return capability_regs.PCI_TPH_BASE_SIZEOF
        last = (able & capability_regs.PCI_TPH_CAP_ST_MASK) >> capability_regs.PCI_TPH_CAP_ST_SHIFT
        return capability_regs.PCI_TPH_BASE_SIZEOF + 2 * last + 2
    return 0


def _channels_length(device: PhysicalFunction, at: int) -> int:
    """Bytes with a table for the arbitration between channels, which is never the program's."""
    more = device.read_config(at + extended.PCI_VC_PORT_CAP1, 4) & extended.PCI_VC_CAP1_EVCC
    able = device.read_config(at + extended.PCI_VC_PORT_CAP2, 4)
    length = extended.PCI_CAP_VC_BASE_SIZEOF + (1 + more) * extended.PCI_CAP_VC_PER_VC_SIZEOF
    for bit, phases in (
        (extended.PCI_VC_CAP2_128_PHASE, 128),
        (extended.PCI_VC_CAP2_64_PHASE, 64),
        (extended.PCI_VC_CAP2_32_PHASE, 32),
    ):
        if able & bit:
            return -(-length // _ARBITRATION_ALIGNMENT) * _ARBITRATION_ALIGNMENT + phases * 4 // 8
    return length
