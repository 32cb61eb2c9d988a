"""What Linux keeps of a function's configuration over a reset or low power, and how it brings it back.

::

    header                 16 words; the command register comes last, after the base addresses
    PCI Express            device, link, slot and root control, as far as the function has them
    extended capabilities  masks, severity and control of errors (AER), latency tolerance, containment

MSI, MSI-X, SR-IOV and access control are not read: the kernel knows them, and writes them again.  Source:
``pci_save_state``, ``pci_restore_state`` and ``pci_save_pcie_state`` in ``drivers/pci/pci.c``, ``pci_save_aer_state``,
``pci_save_dpc_state``, ``pci_restore_config_space`` (6.12).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_extended_regs as extended_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["SavedState", "restore_state", "save_state"]

_HEADER_DWORDS = 16
_ROOTS = (ExpressType.ROOT_PORT, ExpressType.RC_EC)
_WITHOUT_LINK = (ExpressType.RC_END, ExpressType.RC_EC)
_WITH_SLOT = (ExpressType.ROOT_PORT, ExpressType.DOWNSTREAM)
_EXTENDED = (
    (extended_regs.PCI_EXT_CAP_ID_LTR, ((extended_regs.PCI_LTR_MAX_SNOOP_LAT, 4),)),
    (extended_regs.PCI_EXT_CAP_ID_DPC, ((extended_regs.PCI_EXP_DPC_CTL, 2),)),
    (
        extended_regs.PCI_EXT_CAP_ID_ERR,
        (
            (extended_regs.PCI_ERR_UNCOR_MASK, 4),
            (extended_regs.PCI_ERR_UNCOR_SEVER, 4),
            (extended_regs.PCI_ERR_COR_MASK, 4),
            (extended_regs.PCI_ERR_CAP, 4),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class SavedState:
    """What ``pci_save_state`` keeps: the header, as 16 words, and `registers` as offset, length and value."""

    words: tuple[int, ...]
    registers: tuple[tuple[int, int, int], ...] = ()


def save_state(device: PciDevice) -> SavedState:
    """Keep the configuration of a function."""
    words = tuple(device.read_config(4 * index, 4) for index in range(_HEADER_DWORDS))
    return SavedState(words, tuple((at, size, device.read_config(at, size)) for at, size in _kept(device)))


def restore_state(device: PciDevice, saved: SavedState) -> None:
    """Bring it back: capabilities, the header, MSI-X if it was on, and where virtual functions are.

    Errors that it has noted are forgotten: a reset leaves them (``pci_aer_clear_status``).
    """
    from pyvfio_backends.software.linux.pci_acs import enable_acs

    if device.aer is not None:
        device.aer.clear()
    for at, size, value in saved.registers:
        device.write_config(at, size, value)
    for index in range(_HEADER_DWORDS - 1, -1, -1):
        if device.read_config(4 * index, 4) != saved.words[index]:
            device.write_config(4 * index, 4, saved.words[index])
    device.msi.restore()
    enable_acs(device)
    if device.sriov is not None:
        device.sriov.restore()


def _kept(device: PciDevice) -> Iterator[tuple[int, int]]:
    """Where the registers are that are kept besides the header, and their lengths."""
    if not device.express:
        return
    at = device.express
    flags = device.read_config(at + regs.PCI_EXP_FLAGS, 2)
    kind = regs.pci_exp_type(flags)
    link = kind not in _WITHOUT_LINK
    slot = kind in _WITH_SLOT and bool(flags & regs.PCI_EXP_FLAGS_SLOT)
    second = flags & regs.PCI_EXP_FLAGS_VERS > 1
    wanted = (
        (regs.PCI_EXP_DEVCTL, True),
        (express_regs.PCI_EXP_LNKCTL, link),
        (express_regs.PCI_EXP_SLTCTL, slot),
        (express_regs.PCI_EXP_RTCTL, kind in _ROOTS),
        (regs.PCI_EXP_DEVCTL2, second),
        (express_regs.PCI_EXP_LNKCTL2, second and link),
        (express_regs.PCI_EXP_SLTCTL2, second and slot),
    )
    yield from ((at + register, 2) for register, there in wanted if there)
    if device.config_size <= regs.PCI_CFG_SPACE_SIZE:
        return
    for number, registers in _EXTENDED:
        base = device.find_extended_capability(number)
        if base:
            yield from ((base + register, size) for register, size in registers)
            if number == extended_regs.PCI_EXT_CAP_ID_ERR and kind in _ROOTS:
                yield base + extended_regs.PCI_ERR_ROOT_COMMAND, 4
