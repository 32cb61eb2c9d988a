"""What a function notes of errors: status bits, the AER registers and messages to the root port.

An uncorrectable error becomes, by the severity register and by who can still mend it::

    status bit, device status ---- masked: nothing more
        |
        +-- non-fatal, and the requester knows by the completion --> advisory: correctable error, ERR_COR
        +-- severity 0 ------------------------------------------------------------> ERR_NONFATAL
        +-- severity 1 ------------------------------------------------------------> ERR_FATAL

The first unmasked one is in the header log until its status bit is cleared, and the first error pointer names it;
where several are recorded, the next one takes its place then.
Messages go only if device control (or SERR in the command register) lets them.
Source: PCI Express Base Specification, 6.0, 6.2.3 to 6.2.5 and figure 6-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pyvfio.abi import pci_extended_regs as extended
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_extended_regs import AerControl, AerPlace
from pyvfio_backends.software.hardware.pcie.aer import FATAL
from pyvfio_backends.software.hardware.pcie.packet import header
from pyvfio_backends.software.hardware.pcie.request import Outcome, Request

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["ErrorMessage", "PacketLog", "Reporter", "Severity"]

_POINTER = AerControl.FIRST_ERROR
_QUEUE = 8
_WORDS = 4


class Severity(Enum):
    """How bad an error is, as its message says."""

    CORRECTABLE = "ERR_COR"
    NONFATAL = "ERR_NONFATAL"
    FATAL = "ERR_FATAL"


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    """An error message on its way to the root port: how bad, and the routing id of who found the error."""

    severity: Severity
    rid: int


@dataclass(frozen=True, slots=True)
class PacketLog:
    """What is logged of a packet: the four words of its `header`, and up to four of prefixes before it."""

    header: tuple[int, ...] = (0,) * _WORDS
    prefix: tuple[int, ...] = ()

    @classmethod
    def of(cls, header: int) -> PacketLog:
        """Of a header as one little-endian number of 16 bytes."""
        return cls(tuple(header >> 32 * word & 0xFFFFFFFF for word in range(_WORDS)))


def _number(words: tuple[int, ...]) -> int:
    return sum(word << 32 * place for place, word in enumerate(words))


_ENABLES = {
    Severity.CORRECTABLE: regs.PCI_EXP_DEVCTL_CERE,
    Severity.NONFATAL: regs.PCI_EXP_DEVCTL_NFERE,
    Severity.FATAL: regs.PCI_EXP_DEVCTL_FERE,
}
_DETECTED = {
    Severity.CORRECTABLE: regs.PCI_EXP_DEVSTA_CED,
    Severity.NONFATAL: regs.PCI_EXP_DEVSTA_NFED,
    Severity.FATAL: regs.PCI_EXP_DEVSTA_FED,
}


class Reporter:
    """Notes the errors that `function` detects.  A conventional function has the bits of the status register only."""

    __slots__ = ("function", "logs_prefixes", "overwrites", "queue", "serr_reports")

    def __init__(self, function: Function) -> None:
        self.function = function
        self.queue: list[tuple[int, PacketLog]] = []
        """Errors that wait to be shown, with their header logs, where software lets several be recorded."""
        self.logs_prefixes = False
        """Whether there is a log of prefixes."""
        self.serr_reports = True
        """Whether SERR in the command register is enough for uncorrectable errors to be reported."""
        self.overwrites = False
        """Whether a later error takes the place of the first one in the log."""

    # what happens

    def refused(self, outcome: Outcome, request: Request) -> None:
        """The function refused a request as its completer: unsupported request, or completer abort."""
        if outcome is Outcome.ABORT:
            self._status(regs.PCI_STATUS_SIG_TARGET_ABORT)
            self.uncorrectable(extended.PCI_ERR_UNC_COMP_ABORT, request, advisory=not request.posted)
        else:
            self.uncorrectable(extended.PCI_ERR_UNC_UNSUP, request, advisory=not request.posted)

    def answered(self, outcome: Outcome, request: Request) -> None:
        """A request of the function's own came to this."""
        if outcome is Outcome.UNSUPPORTED:
            self._status(regs.PCI_STATUS_REC_MASTER_ABORT)
        elif outcome in (Outcome.ABORT, Outcome.VIOLATION):
            self._status(regs.PCI_STATUS_REC_TARGET_ABORT)
        elif outcome is Outcome.POISONED:
            self.poisoned(request)
        elif outcome in (Outcome.TIMEOUT, Outcome.MALFORMED, Outcome.ECRC):
            self.uncorrectable(extended.PCI_ERR_UNC_COMP_TIME, None)

    def poisoned(self, request: Request) -> None:
        """Poisoned data arrived."""
        self._status(regs.PCI_STATUS_DETECTED_PARITY)
        self.uncorrectable(extended.PCI_ERR_UNC_POISON_TLP, request)

    def uncorrectable(
        self, error: int, request: Request | None, *, advisory: bool = False, log: PacketLog | None = None
    ) -> None:
        """An uncorrectable error (a bit ``PCI_ERR_UNC_*``) was detected, with the request that showed it, or its `log`.

        `advisory`: somebody else learns of it by a completion, so a non-fatal one is only reported as correctable.
        """
        if log is None:
            log = PacketLog.of(header(request)) if request is not None else PacketLog()
        severity = Severity.FATAL if self._severities & error else Severity.NONFATAL
        if advisory and severity is Severity.NONFATAL:
            self._advisory(error, log)
            return
        self._detected(severity, error)
        aer = self._aer
        if aer is not None:
            masked = self._get(aer + extended.PCI_ERR_UNCOR_MASK) & error
            if not masked:
                self._record(aer, error, log)
            self._set(aer + extended.PCI_ERR_UNCOR_STATUS, error)
            if masked:
                return
        serr = self.function.config.command & regs.PCI_COMMAND_SERR
        if error != extended.PCI_ERR_UNC_UNSUP or serr or self._control & regs.PCI_EXP_DEVCTL_URRE:
            self._send(severity)

    def correctable(self, error: int) -> None:
        """A correctable error (a bit ``PCI_ERR_COR_*``) was detected."""
        self._detected(Severity.CORRECTABLE, 0)
        aer = self._aer
        if aer is not None:
            self._set(aer + extended.PCI_ERR_COR_STATUS, error)
            if self._get(aer + extended.PCI_ERR_COR_MASK) & error:
                return
        self._send(Severity.CORRECTABLE)

    @property
    def checks_digest(self) -> bool:
        """Whether the function checks end-to-end CRCs."""
        aer = self._aer
        return aer is not None and bool(self._get(aer + extended.PCI_ERR_CAP) & extended.PCI_ERR_CAP_ECRC_CHKE)

    # how it is noted

    def _advisory(self, error: int, log: PacketLog) -> None:
        self._detected(Severity.CORRECTABLE, error)
        aer = self._aer
        if aer is not None:
            self._set(aer + extended.PCI_ERR_COR_STATUS, extended.PCI_ERR_COR_ADV_NFAT)
            if self._get(aer + extended.PCI_ERR_COR_MASK) & extended.PCI_ERR_COR_ADV_NFAT:
                return
            if not self._get(aer + extended.PCI_ERR_UNCOR_MASK) & error:
                self._record(aer, error, log)
            self._set(aer + extended.PCI_ERR_UNCOR_STATUS, error)
        if error != extended.PCI_ERR_UNC_UNSUP or self._control & regs.PCI_EXP_DEVCTL_URRE:
            self._send(Severity.CORRECTABLE)

    def _record(self, aer: int, error: int, log: PacketLog) -> None:
        """Log an error if it is the first; queue it where several are recorded."""
        recorded = self._get(aer + extended.PCI_ERR_CAP) & AerControl.MULTIPLE_ENABLE
        if not self._first_stands(aer) or (self.overwrites and not recorded):
            self._show(aer, error, log)
        elif recorded:
            if len(self.queue) < _QUEUE:
                self.queue.append((error, log))
            else:
                self.correctable(extended.PCI_ERR_COR_LOG_OVER)

    def _first_stands(self, aer: int) -> bool:
        """Whether the error that the first error pointer names was not cleared yet."""
        status, mask = (self._get(aer + at) for at in (extended.PCI_ERR_UNCOR_STATUS, extended.PCI_ERR_UNCOR_MASK))
        return bool(status & ~mask & 1 << (self._get(aer + extended.PCI_ERR_CAP) & _POINTER))

    def _show(self, aer: int, error: int, log: PacketLog) -> None:
        config = self.function.config
        control = self._get(aer + extended.PCI_ERR_CAP) & ~(_POINTER | AerControl.PREFIX_PRESENT)
        prefixed = self.logs_prefixes and any(log.prefix)
        control |= AerControl.PREFIX_PRESENT if prefixed else 0
        config.put(aer + extended.PCI_ERR_CAP, 4, control | error.bit_length() - 1)
        config.put(aer + extended.PCI_ERR_HEADER_LOG, AerPlace.HEADER_SIZE, _number(log.header))
        if prefixed:
            config.put(aer + AerPlace.PREFIX_LOG, AerPlace.PREFIX_SIZE, _number(log.prefix))

    def watch(self, aer: int) -> None:
        """Go on to the next recorded error when software clears the first one."""

        def cleared(before: int, ones: int) -> None:
            first = 1 << (self._get(aer + extended.PCI_ERR_CAP) & _POINTER)
            if self.queue and before & first and not self._get(aer + extended.PCI_ERR_UNCOR_STATUS) & first:
                error, log = self.queue.pop(0)
                self._show(aer, error, log)
                for waiting, _ in [(error, log), *self.queue]:
                    self._set(aer + extended.PCI_ERR_UNCOR_STATUS, waiting)

        self.function.config.watch(aer + extended.PCI_ERR_UNCOR_STATUS, 4, cleared)

    def _detected(self, severity: Severity, error: int) -> None:
        at = self.function.offset(regs.PCI_CAP_ID_EXP)
        if at is not None:
            bits = _DETECTED[severity]
            bits |= regs.PCI_EXP_DEVSTA_URD if error == extended.PCI_ERR_UNC_UNSUP else 0
            self._set(at + regs.PCI_EXP_DEVSTA, bits, 2)

    def _send(self, severity: Severity) -> None:
        function = self.function
        serr = severity is not Severity.CORRECTABLE and function.config.command & regs.PCI_COMMAND_SERR
        enabled = (serr and self.serr_reports) or self._control & _ENABLES[severity]
        if function.offset(regs.PCI_CAP_ID_EXP) is None or not enabled:
            return
        if serr:
            self._status(regs.PCI_STATUS_SIG_SYSTEM_ERROR)
        if function.bus is not None:
            function.report(ErrorMessage(severity, function.rid))

    # registers

    @property
    def _aer(self) -> int | None:
        return self.function.offset(extended.PCI_EXT_CAP_ID_ERR, extended=True)

    @property
    def _severities(self) -> int:
        aer = self._aer
        return FATAL if aer is None else self._get(aer + extended.PCI_ERR_UNCOR_SEVER)

    @property
    def _control(self) -> int:
        at = self.function.offset(regs.PCI_CAP_ID_EXP)
        return 0 if at is None else self.function.config.read(at + regs.PCI_EXP_DEVCTL, 2)

    def _status(self, bits: int) -> None:
        self._set(regs.PCI_STATUS, bits, 2)

    def _get(self, at: int) -> int:
        return self.function.config.read(at, 4)

    def _set(self, at: int, bits: int, width: int = 4) -> None:
        config = self.function.config
        config.put(at, width, config.read(at, width) | bits)
