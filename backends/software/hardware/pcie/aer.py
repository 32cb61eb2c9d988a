"""Advanced error reporting (AER), declared::

          3              2              1              0
    00   | next (12)     ver. | id = 0001                            |
    04   | uncorrectable error status                                |
    08   | uncorrectable error mask                                  |
    0c   | uncorrectable error severity (1: fatal)                   |
    10   | correctable error status                                  |
    14   | correctable error mask                                    |
    18   | ... MHRE 10, MHRC 9, ECRC: CHKE 8 CHKC 7 GENE 6 GENC 5, first error pointer 0..4
    1c   | header log, 16 bytes                                      |
    2c   | root error command: FERE 2, NFERE 1, CERE 0               |
    30   | root error status: irq 27..31, F 6, NF 5, 1st F 4, MU 3, U 2, MC 1, C 0
    34   | source of ERR_(NON)FATAL    | source of ERR_COR           |
    38   | TLP prefix log, 16 bytes                                  |

The root error registers are there in root ports and event collectors only.  Everything but the root error command is
sticky.  Source: PCI Express Base Specification, 6.0, 7.8.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi.pci_extended_regs import AerControl, AerPlace
from pyvfio_backends.software.hardware.pci.register import ExtendedCapability, Register

__all__ = ["CORRECTABLE", "FATAL", "ROOT_EVENTS", "UNCORRECTABLE", "Aer"]

UNCORRECTABLE = (
    extended.PCI_ERR_UNC_DLP
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
"""The uncorrectable errors that a function here can log."""
FATAL = (
    extended.PCI_ERR_UNC_DLP
    | extended.PCI_ERR_UNC_SURPDN
    | extended.PCI_ERR_UNC_FCP
    | extended.PCI_ERR_UNC_RX_OVER
    | extended.PCI_ERR_UNC_MALF_TLP
    | extended.PCI_ERR_UNC_INTN
)
"""Those that are fatal unless software says otherwise."""
_MASKED = extended.PCI_ERR_UNC_INTN | extended.PCI_ERR_UNC_TLPPRE
CORRECTABLE = (
    extended.PCI_ERR_COR_RCVR
    | extended.PCI_ERR_COR_BAD_TLP
    | extended.PCI_ERR_COR_BAD_DLLP
    | extended.PCI_ERR_COR_REP_ROLL
    | extended.PCI_ERR_COR_REP_TIMER
    | extended.PCI_ERR_COR_ADV_NFAT
    | extended.PCI_ERR_COR_INTERNAL
    | extended.PCI_ERR_COR_LOG_OVER
)
"""The correctable errors that a function here can log."""
_COR_MASKED = extended.PCI_ERR_COR_ADV_NFAT | extended.PCI_ERR_COR_INTERNAL | extended.PCI_ERR_COR_LOG_OVER
ROOT_EVENTS = (
    extended.PCI_ERR_ROOT_COR_RCV
    | extended.PCI_ERR_ROOT_MULTI_COR_RCV
    | extended.PCI_ERR_ROOT_UNCOR_RCV
    | extended.PCI_ERR_ROOT_MULTI_UNCOR_RCV
    | extended.PCI_ERR_ROOT_FIRST_FATAL
    | extended.PCI_ERR_ROOT_NONFATAL_RCV
    | extended.PCI_ERR_ROOT_FATAL_RCV
)
"""The bits of the root error status register that a written 1 clears."""
_SIZE, _SIZE_WITHOUT_LOG = 0x48, 0x38


@dataclass(frozen=True)
class Aer(ExtendedCapability):
    """Advanced error reporting; with the root error registers for a root port or an event collector (`root`).

    `irq` is the interrupt message number in the root error status, `multiple` whether the header log can queue.  With
    `overwrites` the log has the last error where it should keep the first, as QEMU's functions have it.
    """

    id: ClassVar[int] = extended.PCI_EXT_CAP_ID_ERR
    root: bool = False
    edition: int = 2
    irq: int = 0
    multiple: bool = False
    ecrc: bool = True
    prefix_log: bool = True
    overwrites: bool = False

    @property
    def size(self) -> int:
        """See `Capability.size`: root error registers have their place in all, the prefix log in those that log one."""
        return _SIZE if self.prefix_log else _SIZE_WITHOUT_LOG

    @property
    def revision(self) -> int:
        """See `Capability.revision`."""
        return self.edition

    def registers(self) -> Iterator[Register]:
        """See `Capability.registers`."""
        every = UNCORRECTABLE
        yield Register(extended.PCI_ERR_UNCOR_STATUS, 4, w1c=every, sticky=every)
        yield Register(extended.PCI_ERR_UNCOR_MASK, 4, _MASKED, rw=every, sticky=every)
        yield Register(extended.PCI_ERR_UNCOR_SEVER, 4, FATAL, rw=every, sticky=every)
        yield Register(extended.PCI_ERR_COR_STATUS, 4, w1c=CORRECTABLE, sticky=CORRECTABLE)
        yield Register(extended.PCI_ERR_COR_MASK, 4, _COR_MASKED, rw=CORRECTABLE, sticky=CORRECTABLE)
        able = extended.PCI_ERR_CAP_ECRC_GENC | extended.PCI_ERR_CAP_ECRC_CHKC if self.ecrc else 0
        enable = extended.PCI_ERR_CAP_ECRC_GENE | extended.PCI_ERR_CAP_ECRC_CHKE if self.ecrc else 0
        able |= AerControl.MULTIPLE_CAPABLE if self.multiple else 0
        enable |= AerControl.MULTIPLE_ENABLE if self.multiple else 0
        pointer = AerControl.FIRST_ERROR | AerControl.PREFIX_PRESENT
        yield Register(extended.PCI_ERR_CAP, 4, able, rw=enable, sticky=enable | pointer)
        yield Register(extended.PCI_ERR_HEADER_LOG, AerPlace.HEADER_SIZE, sticky=(1 << 8 * AerPlace.HEADER_SIZE) - 1)
        if self.root:
            command = extended.PCI_ERR_ROOT_CMD_COR_EN | extended.PCI_ERR_ROOT_CMD_NONFATAL_EN
            yield Register(extended.PCI_ERR_ROOT_COMMAND, 4, rw=command | extended.PCI_ERR_ROOT_CMD_FATAL_EN)
            yield Register(extended.PCI_ERR_ROOT_STATUS, 4, self.irq << 27, w1c=ROOT_EVENTS, sticky=ROOT_EVENTS)
            yield Register(extended.PCI_ERR_ROOT_ERR_SRC, 4, sticky=0xFFFFFFFF)
        if self.prefix_log:
            yield Register(AerPlace.PREFIX_LOG, AerPlace.PREFIX_SIZE, sticky=(1 << 8 * AerPlace.PREFIX_SIZE) - 1)
