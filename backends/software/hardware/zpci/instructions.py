"""How the instructions PCI LOAD and PCI STORE end when they do not succeed.

======  ===========================================  =======================
cc      meaning                                      here
======  ===========================================  =======================
0       done                                         the method returns
1       refused; the status says why                 `Refused`
2       busy, again later                            does not happen
3       the handle names no usable function          `Refused`, status 0
--      a program exception (lengths, boundaries)    `OperandException`
======  ===========================================  =======================

Sources: ``arch/s390/include/asm/pci_insn.h`` (condition codes, status), ``arch/s390/pci/pci_insn.c``.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CONFIG_SPACE", "OperandException", "Refused", "Status"]

CONFIG_SPACE = 15
"""The address space of configuration accesses (``ZPCI_PCIAS_CFGSPC``); 0 to 5 are the BARs."""


class Status(IntEnum):
    """``ZPCI_PCI_ST_*``: why an instruction was refused."""

    NONE = 0
    FUNCTION_NOT_ENABLED = 4
    FUNCTION_IN_ERROR = 8
    BLOCKED = 12
    INSUFFICIENT_RESOURCES = 16
    INVALID_ADDRESS_SPACE = 20
    FUNCTION_ALREADY_ENABLED = 24
    DMA_SPACE_NOT_ENABLED = 28
    OPERAND_IN_INVALID_SPACE = 36
    FUNCTION_NOT_AVAILABLE = 40
    ALREADY_IN_REQUESTED_STATE = 44


class Refused(Exception):
    """Condition code 1 or 3: nothing was done."""

    def __init__(self, cc: int, status: Status = Status.NONE) -> None:
        super().__init__(f"condition code {cc}, status {status.value} ({status.name.lower().replace('_', ' ')})")
        self.cc = cc
        self.status = status


class OperandException(Exception):
    """A length, a boundary or a place that the instruction does not permit."""
