"""Downstream port containment (DPC), declared::

          3              2              1              0
    00   | next (12)     ver. | id = 001d                            |
    04   | . T 6 B 5 . I 3 . enable 0..1 | A 12 log 8..11 S 7 P 6 R 5 irq 0..4
    08   | source id                   | ext. reason 5..6, busy 4, I 3, reason 1..2, triggered 0

A root port with the extensions (R) has the log of programmed I/O requests too; that is not declared here.
Source: PCI Express Base Specification, 6.0, 7.9.14.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi.pci_extended_regs import DpcControl
from pyvfio_backends.software.hardware.pci.register import ExtendedCapability, Register

__all__ = ["Dpc"]


@dataclass(frozen=True)
class Dpc(ExtendedCapability):
    """The capability of a root or downstream port; `irq` is its interrupt message number."""

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_DPC
    irq: int = 0
    software_trigger: bool = True

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`.  The software trigger reads 0."""
        able = self.irq | (extended.PCI_EXP_DPC_CAP_SW_TRIGGER if self.software_trigger else 0)
        yield Register(extended.PCI_EXP_DPC_CAP, 2, able | extended.PCI_EXP_DPC_CAP_POISONED_TLP)
        enable = extended.PCI_EXP_DPC_CTL_EN_FATAL | extended.PCI_EXP_DPC_CTL_EN_NONFATAL
        enable |= extended.PCI_EXP_DPC_CTL_INT_EN | DpcControl.BLOCK_POISONED
        yield Register(extended.PCI_EXP_DPC_CTL, 2, rw=enable)
        latched = extended.PCI_EXP_DPC_STATUS_TRIGGER | extended.PCI_EXP_DPC_STATUS_INTERRUPT
        told = extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN | extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_EXT
        yield Register(extended.PCI_EXP_DPC_STATUS, 2, w1c=latched, sticky=latched | told)
        yield Register(extended.PCI_EXP_DPC_SOURCE_ID, 2, sticky=0xFFFF)
