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

from pyvfio.zpci.instructions import CONFIG_SPACE, OperandException, Refused, Status

__all__ = ["CONFIG_SPACE", "OperandException", "Refused", "Status"]
