"""Errors that the firmware of bare-metal POWER has found (``pnv_eeh_next_error`` of ``eeh-powernv.c``, 6.12)."""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

from pyvfio.abi.eeh_state import EehPeFlag
from pyvfio.abi.opal import OpalErrorType, OpalFreezeAction, OpalSeverity
from pyvfio_backends.software.linux.eeh_log import phb_log
from pyvfio_backends.software.linux.eeh_pe import PeType, is_active
from pyvfio_backends.software.linux.kernel_log import ERROR, INFO

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh_pe import EehHost, EehPe
    from pyvfio_backends.software.linux.pnv_eeh import PnvEeh

__all__ = ["ErrorKind", "Found", "PnvErrors"]

_LOG_BUFFER = 1 << 16


class ErrorKind(Enum):
    """``EEH_NEXT_ERR_*``: what the firmware has found."""

    NONE = auto()
    FROZEN_PE = auto()
    FENCED_PHB = auto()
    DEAD_PHB = auto()


class Found(NamedTuple):
    """An error, and the endpoint that has it."""

    kind: ErrorKind
    pe: EehPe | None = None


class PnvErrors:
    """The errors, for `platform`."""

    def __init__(self, platform: PnvEeh) -> None:
        self._platform = platform

    def next(self) -> Found:
        """The next error that is to be handled (``pnv_eeh_next_error``)."""
        for host in self._platform.eeh.hosts:
            if host.pe.flags & EehPeFlag.ISOLATED:
                continue
            error = self._platform.opal.pci_next_error(host.opal_id)
            if error.code or error.error is OpalErrorType.NO_ERROR or error.severity is OpalSeverity.NO_ERROR:
                continue
            found = self._classify(host, error.endpoint, error.error, error.severity)
            pe = found.pe
            if found.kind is ErrorKind.NONE or pe is None:
                continue
            if found.kind is not ErrorKind.DEAD_PHB and not pe.flags & EehPeFlag.ISOLATED:
                pe.isolate()
                self._platform.take_log(pe)
            if found.kind is ErrorKind.FROZEN_PE:
                pe = self._highest(pe)
                pe.isolate()
            return Found(found.kind, pe)
        return Found(ErrorKind.NONE)

    def _highest(self, pe: EehPe) -> EehPe:
        """The frozen endpoint that is the highest above one, or itself."""
        above = pe.parent
        while above is not None and not above.type & PeType.PHB:
            state = self._platform.state(above)
            if state > 0 and not is_active(state):
                pe = above
            above = above.parent
        return pe

    def _classify(self, host: EehHost, number: int, error: OpalErrorType, severity: OpalSeverity) -> Found:
        eeh = self._platform.eeh
        if error is OpalErrorType.PHB_ERROR:
            if severity is OpalSeverity.PHB_DEAD:
                eeh.say(ERROR, f"dead PHB#{host.number:x} detected, location: N/A")
                return Found(ErrorKind.DEAD_PHB, host.pe)
            if severity is OpalSeverity.PHB_FENCED:
                eeh.say(ERROR, f"Fenced PHB#{host.number:x} detected, location: N/A")
                return Found(ErrorKind.FENCED_PHB, host.pe)
            eeh.say(INFO, f"PHB#{host.number:x} informative error detected, location: N/A")
            self._platform.fetch_log(host.pe)
            phb_log(eeh.kernel, host.number, host.pe.log)
            return Found(ErrorKind.NONE)
        if error is not OpalErrorType.PE_ERROR:
            return Found(ErrorKind.NONE)
        pe = self._frozen(host, number)
        if pe is None:
            eeh.say(INFO, f"Clear non-existing PHB#{host.number:x}-PE#{number:x}")
            eeh.say(INFO, "PHB location: N/A")
            code, log = self._platform.opal.pci_get_phb_diag_data(host.opal_id, _LOG_BUFFER)
            if not code:
                phb_log(eeh.kernel, host.number, log)
            self._platform.opal.pci_eeh_freeze_clear(host.opal_id, number, OpalFreezeAction.ALL)
            return Found(ErrorKind.NONE)
        if pe.flags & EehPeFlag.ISOLATED or pe.passed:
            return Found(ErrorKind.NONE)
        eeh.say(ERROR, f"Frozen PE#{pe.address:x} on PHB#{host.number:x} detected")
        eeh.say(ERROR, "PE location: N/A, PHB location: N/A")
        return Found(ErrorKind.FROZEN_PE, pe)

    def _frozen(self, host: EehHost, number: int) -> EehPe | None:
        """The endpoint that is frozen, or one above it that is too (``pnv_eeh_get_pe``)."""
        number = host.endpoints.master_of(number)
        found = host.get(number)
        at = found
        if found is not None and not found.flags & EehPeFlag.ISOLATED:
            host.endpoints.freeze(number)
        while at is not None and (at := at.parent) is not None and not at.type & PeType.PHB:
            state = self._platform.state(at)
            if state <= 0 or is_active(state):
                continue
            found = at
            if not at.flags & EehPeFlag.ISOLATED:
                host.endpoints.freeze(at.address)
        return found
