"""What a program has set up in a function's configuration space, kept so that it can be had again after a reset.

As ``pci_save_state`` and ``pci_restore_state`` of Linux: the header, the controls of PCI Express, masks and severities
of AER.  Registers of MSI and MSI-X are the kernel's (`Irq.renew`).  The command register is written last, so that
nothing is decoded before its address is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_express_regs import PCI_EXP_LNKCTL, PCI_EXP_LNKCTL2
from pyvfio.errors import MalformedAnswer
from pyvfio.pci.config import ConfigSpace

__all__ = ["SavedState"]

_NOBODY: Final = 0xFFFF
_SECOND: Final = 2
"""The version of the PCI Express capability from which on it has the second set of registers."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """Registers of one function: (offset, width in bytes, value), in the order in which they are written."""

    vendor_id: int
    device_id: int
    registers: tuple[tuple[int, int, int], ...]

    @classmethod
    def take(cls, config: ConfigSpace) -> SavedState:
        """Read them.  Raise `MalformedAnswer` when the function does not answer, and what `config` raises."""
        if config.vendor_id == _NOBODY:
            raise MalformedAnswer("save configuration space", config.name, "it reads as ones: nobody answers")
        places = list(_places(config))
        found = tuple((at, width, int.from_bytes(config.read(at, width), "little")) for at, width in places)
        return cls(config.vendor_id, config.device_id, found)

    def differences(self, config: ConfigSpace) -> list[tuple[int, int, int]]:
        """What is not as it was, in the order in which it is to be written."""
        return [
            (at, width, value)
            for at, width, value in self.registers
            if int.from_bytes(config.read(at, width), "little") != value
        ]

    def restore(self, config: ConfigSpace) -> int:
        """Write what is not as it was; how many registers those were.

        Raise `MalformedAnswer` when another function answers, or none.
        """
        found = (config.vendor_id, config.device_id)
        if found != (self.vendor_id, self.device_id):
            detail = f"{found[0]:04x}:{found[1]:04x} answers, it was {self.vendor_id:04x}:{self.device_id:04x}"
            raise MalformedAnswer("restore configuration space", config.name, detail)
        wrong = self.differences(config)
        for at, width, value in wrong:
            config.write(at, value.to_bytes(width, "little"))
        return len(wrong)


def _places(config: ConfigSpace) -> Iterator[tuple[int, int]]:
    """Offset and width of what is kept, in the order of writing."""
    for number in range(regs.PCI_STD_NUM_BARS):
        yield regs.PCI_BASE_ADDRESS_0 + 4 * number, 4
    yield regs.PCI_ROM_ADDRESS, 4
    yield regs.PCI_CACHE_LINE_SIZE, 1
    yield regs.PCI_LATENCY_TIMER, 1
    yield regs.PCI_INTERRUPT_LINE, 1
    express = config.capability(regs.PCI_CAP_ID_EXP)
    if express is not None:
        version = config.read_u16(express.offset + regs.PCI_EXP_FLAGS) & regs.PCI_EXP_FLAGS_VERS
        for at in (regs.PCI_EXP_DEVCTL, PCI_EXP_LNKCTL):
            yield express.offset + at, 2
        for at in (regs.PCI_EXP_DEVCTL2, PCI_EXP_LNKCTL2) if version >= _SECOND else ():
            yield express.offset + at, 2
    aer = config.extended_capability(extended.PCI_EXT_CAP_ID_ERR)
    if aer is not None:
        for at in (extended.PCI_ERR_UNCOR_MASK, extended.PCI_ERR_UNCOR_SEVER, extended.PCI_ERR_COR_MASK):
            yield aer + at, 4
    yield regs.PCI_COMMAND, 2
