"""What a program may do to the registers of each capability through vfio-pci, declared.

A register has bits that are virtual (read from and written to vfio-pci's copy, never the device) and bits that can be
written at all; the others are read from the device, and writes to them are dropped.  Everything that is not listed is
of the last kind.  Three ways of access:

========  ==========================================================================================
DEFAULT   by these bits; what a write changes in the device is read, changed and written
DIRECT    read from the device, but what links the chain is virtual; nothing can be written
RAW       read like DIRECT, written to the device as it is
========  ==========================================================================================

Source: ``drivers/vfio/pci/vfio_pci_config.c`` (6.12), the functions named ``init_pci_*_perm``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from pyvfio.abi import pci_bridge_regs as vpd
from pyvfio.abi import pci_capability_regs as capability_regs
from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs

__all__ = ["CAPABILITIES", "EXTENDED", "HEADER", "Access", "Permissions", "direct", "msi_permissions"]

_BYTE, _WORD, _DWORD = 0xFF, 0xFFFF, 0xFFFFFFFF
_VENDOR_SPECIFIC = (regs.PCI_CAP_ID_VNDR,)
_VENDOR_SPECIFIC_EXTENDED = (extended.PCI_EXT_CAP_ID_VNDR, extended.PCI_EXT_CAP_ID_DVSEC)


class Access(Enum):
    """How a capability is accessed; the table above."""

    DEFAULT = "default"
    DIRECT = "direct"
    RAW = "raw"


Field = tuple[int, int, int, int]
"""Offset in the capability, bytes, virtual bits, writable bits."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """The bits of a capability, a byte for each of its bytes; what lies beyond is zero."""

    access: Access
    virtual: bytes
    writable: bytes = b""

    @classmethod
    def of(cls, fields: Iterable[Field]) -> Permissions:
        """Make them of fields."""
        virtual, writable = bytearray(), bytearray()
        for offset, length, virtual_bits, writable_bits in fields:
            for mask, bits in ((virtual, virtual_bits), (writable, writable_bits)):
                mask.extend(bytes(max(0, offset + length - len(mask))))
                mask[offset : offset + length] = bits.to_bytes(length, "little")
        return cls(Access.DEFAULT, bytes(virtual), bytes(writable))


_NEXT: Field = (regs.PCI_CAP_LIST_NEXT, 1, _BYTE, 0)
_LINK: Field = (0, regs.PCI_CAP_SIZEOF, _DWORD, 0)
_BASE_ADDRESSES = range(regs.PCI_BASE_ADDRESS_0, regs.PCI_BASE_ADDRESS_5 + 4, 4)

HEADER = Permissions.of(
    (
        (regs.PCI_VENDOR_ID, 2, _WORD, 0),
        (regs.PCI_DEVICE_ID, 2, _WORD, 0),
        (regs.PCI_COMMAND, 2, regs.PCI_COMMAND_INTX_DISABLE, _WORD),
        (regs.PCI_STATUS, 2, regs.PCI_STATUS_CAP_LIST, 0),
        (regs.PCI_CACHE_LINE_SIZE, 1, 0, _BYTE),
        (regs.PCI_LATENCY_TIMER, 1, 0, _BYTE),
        (regs.PCI_BIST, 1, 0, _BYTE),
        *((offset, 4, _DWORD, _DWORD) for offset in _BASE_ADDRESSES),
        (regs.PCI_ROM_ADDRESS, 4, _DWORD, _DWORD),
        (regs.PCI_CAPABILITY_LIST, 1, _BYTE, 0),
        (regs.PCI_INTERRUPT_LINE, 1, _BYTE, _BYTE),
        (regs.PCI_INTERRUPT_PIN, 1, _BYTE, 0),
    )
)
"""Of the header of type 0."""

_PME = regs.PCI_PM_CTRL_PME_ENABLE | regs.PCI_PM_CTRL_PME_STATUS
_EXPRESS_VIRTUAL = regs.PCI_EXP_DEVCTL_BCR_FLR | regs.PCI_EXP_DEVCTL_PAYLOAD | regs.PCI_EXP_DEVCTL_READRQ

CAPABILITIES: dict[int, Permissions] = {
    regs.PCI_CAP_ID_PM: Permissions.of(
        (
            _NEXT,
            (regs.PCI_PM_PMC, 2, regs.PCI_PM_CAP_PME_MASK, 0),
            (regs.PCI_PM_CTRL, 4, _PME, _DWORD & ~(_PME | regs.PCI_PM_CTRL_STATE_MASK)),
        )
    ),
    regs.PCI_CAP_ID_VPD: Permissions.of(
        (_NEXT, (vpd.PCI_VPD_ADDR, 2, _WORD, _WORD), (vpd.PCI_VPD_DATA, 4, _DWORD, _DWORD))
    ),
    regs.PCI_CAP_ID_PCIX: Permissions.of(
        (_NEXT, (capability_regs.PCI_X_CMD, 2, 0, _WORD), (capability_regs.PCI_X_ECC_CSR, 4, 0, _DWORD))
    ),
    regs.PCI_CAP_ID_EXP: Permissions.of(
        (
            _NEXT,
            (regs.PCI_EXP_DEVCTL, 2, _EXPRESS_VIRTUAL, _WORD & ~regs.PCI_EXP_DEVCTL_PHANTOM),
            (regs.PCI_EXP_DEVCTL2, 2, 0, _WORD & ~regs.PCI_EXP_DEVCTL2_ARI),
        )
    ),
    regs.PCI_CAP_ID_AF: Permissions.of(
        (
            _NEXT,
            (capability_regs.PCI_AF_CTRL, 1, capability_regs.PCI_AF_CTRL_FLR, capability_regs.PCI_AF_CTRL_FLR),
        )
    ),
}
"""Of the capabilities that have any, by id.  Those of MSI depend on the device: `msi_permissions`."""

_UNCORRECTABLE = (
    extended.PCI_ERR_UNC_UND
    | extended.PCI_ERR_UNC_DLP
    | extended.PCI_ERR_UNC_SURPDN
    | extended.PCI_ERR_UNC_POISON_TLP
    | extended.PCI_ERR_UNC_FCP
    | extended.PCI_ERR_UNC_COMP_TIME
    | extended.PCI_ERR_UNC_COMP_ABORT
    | extended.PCI_ERR_UNC_UNX_COMP
    | extended.PCI_ERR_UNC_RX_OVER
    | extended.PCI_ERR_UNC_MALF_TLP
    | extended.PCI_ERR_UNC_ECRC
    | extended.PCI_ERR_UNC_UNSUP
    | extended.PCI_ERR_UNC_ACSV
    | extended.PCI_ERR_UNC_INTN
    | extended.PCI_ERR_UNC_MCBTLP
    | extended.PCI_ERR_UNC_ATOMEG
    | extended.PCI_ERR_UNC_TLPPRE
)
_CORRECTABLE = (
    extended.PCI_ERR_COR_RCVR
    | extended.PCI_ERR_COR_BAD_TLP
    | extended.PCI_ERR_COR_BAD_DLLP
    | extended.PCI_ERR_COR_REP_ROLL
    | extended.PCI_ERR_COR_REP_TIMER
    | extended.PCI_ERR_COR_ADV_NFAT
    | extended.PCI_ERR_COR_INTERNAL
    | extended.PCI_ERR_COR_LOG_OVER
)

EXTENDED: dict[int, Permissions] = {
    extended.PCI_EXT_CAP_ID_ERR: Permissions.of(
        (
            _LINK,
            *(
                (offset, 4, 0, _UNCORRECTABLE)
                for offset in (extended.PCI_ERR_UNCOR_STATUS, extended.PCI_ERR_UNCOR_MASK, extended.PCI_ERR_UNCOR_SEVER)
            ),
            (extended.PCI_ERR_COR_STATUS, 4, 0, _CORRECTABLE),
            (extended.PCI_ERR_COR_MASK, 4, 0, _CORRECTABLE),
            (extended.PCI_ERR_CAP, 4, 0, extended.PCI_ERR_CAP_ECRC_GENE | extended.PCI_ERR_CAP_ECRC_CHKE),
        )
    ),
    # The kernel opens the data register, although it is the data select register that there is something to write to.
    extended.PCI_EXT_CAP_ID_PWR: Permissions.of((_LINK, (capability_regs.PCI_PWR_DATA, 1, 0, _BYTE))),
}
"""Of the extended capabilities that have any, by id."""

_DIRECT = Permissions(Access.DIRECT, Permissions.of((_NEXT,)).virtual)
_DIRECT_EXTENDED = Permissions(Access.DIRECT, Permissions.of((_LINK,)).virtual)
_RAW = Permissions(Access.RAW, _DIRECT.virtual)
_RAW_EXTENDED = Permissions(Access.RAW, _DIRECT_EXTENDED.virtual)


def direct(number: int, *, is_extended: bool) -> Permissions:
    """Those of a capability that has no table of its own."""
    if is_extended:
        return _RAW_EXTENDED if number in _VENDOR_SPECIFIC_EXTENDED else _DIRECT_EXTENDED
    return _RAW if number in _VENDOR_SPECIFIC else _DIRECT


def msi_permissions(flags: int) -> Permissions:
    """Those of MSI, by what the flags say that the capability has."""
    fields: list[Field] = [_NEXT, (regs.PCI_MSI_FLAGS, 1, _BYTE, _BYTE), (regs.PCI_MSI_ADDRESS_LO, 4, _DWORD, _DWORD)]
    if flags & regs.PCI_MSI_FLAGS_64BIT:
        fields += [(regs.PCI_MSI_ADDRESS_HI, 4, _DWORD, _DWORD), (regs.PCI_MSI_DATA_64, 2, _WORD, _WORD)]
        mask, pending = regs.PCI_MSI_MASK_64, regs.PCI_MSI_PENDING_64
    else:
        fields += [(regs.PCI_MSI_DATA_32, 2, _WORD, _WORD)]
        mask, pending = regs.PCI_MSI_MASK_32, regs.PCI_MSI_PENDING_32
    if flags & regs.PCI_MSI_FLAGS_MASKBIT:
        fields += [(mask, 4, 0, _DWORD), (pending, 4, 0, _DWORD)]
    return Permissions.of(fields)
