"""Advanced error reporting: the errors with their names, and the registers of AER and of containment (DPC), decoded.

Three names go about for each error: that of Linux (``aer_dev_*`` and the kernel log), that of QEMU's monitor
(``pcie_aer_inject_error``) and words.  Sources: ``drivers/pci/pcie/aer.c`` (Linux 6.12), QEMU's ``hw/pci/pcie_aer.c``,
PCI Express Base Specification 6.0, 7.8.4 and 7.9.14.

>>> find_error("COMP_TIME").name, find_error("cmpltto").bit
('CmpltTO', 14)
>>> [str(one) for one in errors_of(0x00041000)]
['TLP (poisoned TLP)', 'MalfTLP (malformed TLP)']
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_extended_regs import AerControl, AerPlace, LaterError
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.errors import Misuse
from pyvfio.pci.config import ConfigSpace
from pyvfio.pci.tlp import TlpHeader, decode_header, rid_text

__all__ = [
    "CORRECTABLE",
    "UNCORRECTABLE",
    "AerError",
    "AerRegisters",
    "DpcRegisters",
    "Severity",
    "error_names",
    "errors_of",
    "find_error",
]


class Severity(Enum):
    """How bad an error is; the value is the kernel's word in ``aer_dev_*``."""

    CORRECTABLE = "correctable"
    NONFATAL = "nonfatal"
    FATAL = "fatal"

    @property
    def message(self) -> str:
        """The message to the root port."""
        return {"correctable": "ERR_COR", "nonfatal": "ERR_NONFATAL", "fatal": "ERR_FATAL"}[self.value]


@dataclass(frozen=True, slots=True)
class AerError:
    """An error: its `bit` in the status register, Linux's `name`, QEMU's (empty if it has none), and `words`."""

    bit: int
    name: str
    qemu: str
    words: str
    correctable: bool = False

    @property
    def mask(self) -> int:
        """The bit as a mask."""
        return 1 << self.bit

    def __str__(self) -> str:
        return f"{self.name} ({self.words})"


def _bit(mask: int) -> int:
    return int(mask).bit_length() - 1


CORRECTABLE = tuple(
    AerError(_bit(mask), name, qemu, words, correctable=True)
    for mask, name, qemu, words in (
        (extended.PCI_ERR_COR_RCVR, "RxErr", "RCVR", "receiver error"),
        (extended.PCI_ERR_COR_BAD_TLP, "BadTLP", "BAD_TLP", "bad TLP"),
        (extended.PCI_ERR_COR_BAD_DLLP, "BadDLLP", "BAD_DLLP", "bad DLLP"),
        (extended.PCI_ERR_COR_REP_ROLL, "Rollover", "REP_ROLL", "replay number rollover"),
        (extended.PCI_ERR_COR_REP_TIMER, "Timeout", "REP_TIMER", "replay timer timeout"),
        (extended.PCI_ERR_COR_ADV_NFAT, "NonFatalErr", "ADV_NONFATAL", "advisory non-fatal error"),
        (extended.PCI_ERR_COR_INTERNAL, "CorrIntErr", "INTERNAL", "corrected internal error"),
        (extended.PCI_ERR_COR_LOG_OVER, "HeaderOF", "HL_OVERFLOW", "header log overflow"),
    )
)
"""The correctable errors, by bit."""
UNCORRECTABLE = tuple(
    AerError(_bit(mask), name, qemu, words)
    for mask, name, qemu, words in (
        (extended.PCI_ERR_UNC_UND, "Undefined", "TRAIN", "undefined, once link training"),
        (extended.PCI_ERR_UNC_DLP, "DLP", "DLP", "data link protocol error"),
        (extended.PCI_ERR_UNC_SURPDN, "SDES", "SDN", "surprise down"),
        (extended.PCI_ERR_UNC_POISON_TLP, "TLP", "POISON_TLP", "poisoned TLP"),
        (extended.PCI_ERR_UNC_FCP, "FCP", "FCP", "flow control protocol error"),
        (extended.PCI_ERR_UNC_COMP_TIME, "CmpltTO", "COMP_TIME", "completion timeout"),
        (extended.PCI_ERR_UNC_COMP_ABORT, "CmpltAbrt", "COMP_ABORT", "completer abort"),
        (extended.PCI_ERR_UNC_UNX_COMP, "UnxCmplt", "UNX_COMP", "unexpected completion"),
        (extended.PCI_ERR_UNC_RX_OVER, "RxOF", "RX_OVER", "receiver overflow"),
        (extended.PCI_ERR_UNC_MALF_TLP, "MalfTLP", "MALF_TLP", "malformed TLP"),
        (extended.PCI_ERR_UNC_ECRC, "ECRC", "ECRC", "end-to-end CRC error"),
        (extended.PCI_ERR_UNC_UNSUP, "UnsupReq", "UNSUP", "unsupported request"),
        (extended.PCI_ERR_UNC_ACSV, "ACSViol", "ACSV", "access control violation"),
        (extended.PCI_ERR_UNC_INTN, "UncorrIntErr", "INTN", "internal error"),
        (extended.PCI_ERR_UNC_MCBTLP, "BlockedTLP", "MCBTLP", "multicast TLP blocked"),
        (extended.PCI_ERR_UNC_ATOMEG, "AtomicOpBlocked", "ATOP_EBLOCKED", "atomic operation blocked"),
        (extended.PCI_ERR_UNC_TLPPRE, "TLPBlockedErr", "TLP_PRF_BLOCKED", "TLP prefix blocked"),
        (LaterError.POISON_BLOCKED, "PoisonTLPBlocked", "", "poisoned TLP blocked"),
        (LaterError.DMWR_BLOCKED, "DMWrReqBlocked", "", "deferrable memory write blocked"),
        (LaterError.IDE_CHECK, "IDECheck", "", "encryption (IDE) check failed"),
        (LaterError.MISROUTED_IDE, "MisIDETLP", "", "misrouted encrypted (IDE) TLP"),
        (LaterError.PCRC_CHECK, "PCRC_CHECK", "", "plaintext CRC check failed"),
        (LaterError.XLAT_BLOCKED, "TLPXlatBlocked", "", "TLP with a translated address blocked"),
    )
)
"""The uncorrectable errors, by bit."""
_NAMES = {name.lower(): one for one in (*CORRECTABLE, *UNCORRECTABLE) for name in (one.name, one.qemu) if name}


def find_error(name: str) -> AerError:
    """The error that Linux or QEMU calls so, in any case of letters.  Raise `Misuse`."""
    found = _NAMES.get(name.strip().lower())
    if found is None:
        raise Misuse(
            "find PCI Express error",
            name,
            cause="neither Linux nor QEMU has an error of this name",
            next_step=f"it is one of {', '.join(error_names())}",
        )
    return found


def error_names() -> list[str]:
    """All names that `find_error` knows: Linux's, each followed by QEMU's where that is another."""
    return [name for one in (*CORRECTABLE, *UNCORRECTABLE) for name in dict.fromkeys((one.name, one.qemu)) if name]


def errors_of(status: int, *, correctable: bool = False) -> tuple[AerError, ...]:
    """The errors whose bits are set in a status (or mask) register; bits that have no name are called ``bit N``."""
    table = {one.bit: one for one in (CORRECTABLE if correctable else UNCORRECTABLE)}
    return tuple(
        table.get(bit) or AerError(bit, f"bit {bit}", "", "unknown", correctable)
        for bit in range(status.bit_length())
        if status >> bit & 1
    )


def _express_type(config: ConfigSpace) -> int | None:
    found = config.capability(regs.PCI_CAP_ID_EXP)
    return None if found is None else regs.pci_exp_type(config.read_u16(found.offset + regs.PCI_EXP_FLAGS))


@dataclass(frozen=True, slots=True)
class AerRegisters:
    """The registers of AER of a function, as they were read.  `root` ones are None but for a root port or collector.

    `header` is the log, as four words; `prefix` the log of prefixes, empty where there is none.
    """

    status: int
    mask: int
    severity: int
    correctable_status: int
    correctable_mask: int
    control: int
    header: tuple[int, int, int, int]
    prefix: tuple[int, ...] = ()
    root_command: int | None = None
    root_status: int | None = None
    root_source: int | None = None

    @classmethod
    def read(cls, config: ConfigSpace) -> AerRegisters | None:
        """Read them; None for a function without AER, or of which only the first 256 bytes can be seen."""
        at = config.extended_capability(extended.PCI_EXT_CAP_ID_ERR)
        if at is None:
            return None
        data = config.read(at, extended.PCI_ERR_ROOT_COMMAND)
        status, mask, severity, correctable, correctable_mask, control, *log = struct.unpack_from("<10I", data, 4)
        prefix: tuple[int, ...] = ()
        if control & AerControl.PREFIX_PRESENT:
            prefix = struct.unpack("<4I", config.read(at + AerPlace.PREFIX_LOG, AerPlace.PREFIX_SIZE))
        root: tuple[int | None, int | None, int | None] = (None, None, None)
        if _express_type(config) in (ExpressType.ROOT_PORT, ExpressType.RC_EC):
            root = struct.unpack("<3I", config.read(at + extended.PCI_ERR_ROOT_COMMAND, 12))
        words = (log[0], log[1], log[2], log[3])
        return cls(status, mask, severity, correctable, correctable_mask, control, words, prefix, *root)

    @property
    def uncorrectable(self) -> tuple[AerError, ...]:
        """The uncorrectable errors that are noted."""
        return errors_of(self.status)

    @property
    def correctable(self) -> tuple[AerError, ...]:
        """The correctable errors that are noted."""
        return errors_of(self.correctable_status, correctable=True)

    @property
    def first(self) -> AerError | None:
        """The error that the first error pointer names, if it is noted: that of the header log."""
        mask = 1 << (self.control & AerControl.FIRST_ERROR)
        return errors_of(mask)[0] if self.status & mask else None

    @property
    def packet(self) -> TlpHeader | None:
        """What the header log has, decoded; None when it is empty."""
        return decode_header(self.header)

    def severity_of(self, error: AerError) -> Severity:
        """What the function would report the error as."""
        if error.correctable:
            return Severity.CORRECTABLE
        return Severity.FATAL if self.severity & error.mask else Severity.NONFATAL

    @property
    def worst(self) -> Severity | None:
        """The worst of what is noted and not masked; None when nothing is."""
        noted = self.status & ~self.mask
        if noted:
            return Severity.FATAL if noted & self.severity else Severity.NONFATAL
        return Severity.CORRECTABLE if self.correctable_status & ~self.correctable_mask else None

    @property
    def uncorrectable_source(self) -> int | None:
        """The routing id of who sent the last uncorrectable error that was a first one; None but for a root port."""
        return None if self.root_source is None else self.root_source >> 16

    @property
    def correctable_source(self) -> int | None:
        """As `uncorrectable_source`, of correctable ones."""
        return None if self.root_source is None else self.root_source & 0xFFFF

    def as_dict(self) -> dict[str, object]:
        """As plain data: registers as numbers, and what they mean."""
        found: dict[str, object] = {
            "uncorrectable": {
                "status": self.status,
                "mask": self.mask,
                "severity": self.severity,
                "errors": [one.name for one in self.uncorrectable],
                "masked": [one.name for one in errors_of(self.mask)],
                "fatal": [one.name for one in errors_of(self.severity)],
            },
            "correctable": {
                "status": self.correctable_status,
                "mask": self.correctable_mask,
                "errors": [one.name for one in self.correctable],
                "masked": [one.name for one in errors_of(self.correctable_mask, correctable=True)],
            },
            "control": self.control,
            "first": None if self.first is None else self.first.name,
            "header": None if self.packet is None else self.packet.as_dict(),
            "prefix": [f"{word:08x}" for word in self.prefix],
        }
        if self.root_status is not None and self.root_source is not None:
            found["root"] = {
                "command": self.root_command,
                "status": self.root_status,
                "uncorrectable_source": rid_text(self.root_source >> 16),
                "correctable_source": rid_text(self.root_source & 0xFFFF),
            }
        return found


@dataclass(frozen=True, slots=True)
class DpcRegisters:
    """The registers of downstream port containment of a port, as they were read; `source` is a routing id."""

    capability: int
    control: int
    status: int
    source: int

    @classmethod
    def read(cls, config: ConfigSpace) -> DpcRegisters | None:
        """Read them; None for a function without."""
        at = config.extended_capability(extended.PCI_EXT_CAP_ID_DPC)
        if at is None:
            return None
        return cls(*struct.unpack("<4H", config.read(at + extended.PCI_EXP_DPC_CAP, 8)))

    @property
    def enabled(self) -> Severity | None:
        """The least severity that triggers it; None while it is off."""
        if self.control & extended.PCI_EXP_DPC_CTL_EN_NONFATAL:
            return Severity.NONFATAL
        return Severity.FATAL if self.control & extended.PCI_EXP_DPC_CTL_EN_FATAL else None

    @property
    def triggered(self) -> bool:
        """Whether the link is kept down now."""
        return bool(self.status & extended.PCI_EXP_DPC_STATUS_TRIGGER)

    @property
    def reason(self) -> str:
        """Why it triggered, now or the last time."""
        reason = self.status & extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN
        if reason == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_UNCOR:
            return "an uncorrectable error of the port itself"
        if reason == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_NFE:
            return f"ERR_NONFATAL from {rid_text(self.source)}"
        if reason == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_FE:
            return f"ERR_FATAL from {rid_text(self.source)}"
        more = self.status & extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_EXT
        if more == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_RP_PIO:
            return "a programmed I/O error of the root port"
        return "software" if more == extended.PCI_EXP_DPC_STATUS_TRIGGER_RSN_SW_TRIGGER else "a reserved reason"

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "control": self.control,
            "status": self.status,
            "enabled": None if self.enabled is None else self.enabled.value,
            "triggered": self.triggered,
            "reason": self.reason if self.triggered else None,
            "source": rid_text(self.source),
        }
