"""OPAL: the calls by which an operating system uses the host bridges, with the firmware's return codes.

A call answers a code (`pyvfio.abi.opal`): 0 for success, a negative number for a refusal that changed nothing, or
milliseconds to wait and then to `pci_poll`.  Calls that give something back answer the code and that.  Bridges go by
their id, slots too: the bridge's own, or ``OPAL_SLOT_ID_PREFIX | routing id << 16 | bridge`` of a bridge below.
Source: ``core/pci-opal.c``, ``hw/phb4.c`` and ``hw/phb3.c`` of skiboot, from which the checks of arguments are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pyvfio.abi import opal as api
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.abi.opal import (
    OpalErrorType,
    OpalFreezeAction,
    OpalFreezeState,
    OpalReset,
    OpalSeverity,
)
from pyvfio.ioda.routing import ROUTING_IDS
from pyvfio_backends.software.hardware.ioda.error_log import diagnose
from pyvfio_backends.software.hardware.ioda.error_setup import set_up_errors
from pyvfio_backends.software.hardware.ioda.injection_calls import prepare
from pyvfio_backends.software.hardware.ioda.opal_tables import OpalTables
from pyvfio_backends.software.hardware.ioda.phb import Phb
from pyvfio_backends.software.hardware.ioda.slot_reset import ResetFailed, SlotReset
from pyvfio_backends.software.hardware.pcie.bridge import Bridge

__all__ = ["FreezeStatus", "NextError", "Opal"]

_GRANULE_MASK = 0xFFF
_RID_SHIFT, _ID_MASK = 16, 0xFFFF
_BUS_SHIFT, _FIRST_BUS = 8, 1
_NONE = -1
_VECTOR_BITS = 64


class FreezeStatus(NamedTuple):
    """Answer of ``opal_pci_eeh_freeze_status``."""

    code: int
    state: OpalFreezeState = OpalFreezeState.NOT_FROZEN
    error: OpalErrorType = OpalErrorType.NO_ERROR
    severity: OpalSeverity = OpalSeverity.NO_ERROR


class NextError(NamedTuple):
    """Answer of ``opal_pci_next_error``: `endpoint` is a frozen one, -1 for none."""

    code: int
    endpoint: int = _NONE
    error: OpalErrorType = OpalErrorType.NO_ERROR
    severity: OpalSeverity = OpalSeverity.NO_ERROR


class Opal(OpalTables):
    """The firmware over host bridges by their ids."""

    def __init__(self, phbs: Mapping[int, Phb]) -> None:
        super().__init__(phbs)
        self._slots: dict[int, SlotReset] = {}

    # configuration space

    def pci_config_read(self, phb_id: int, rid: int, offset: int, length: int) -> tuple[int, int]:
        """``opal_pci_config_read_byte``, ``_half_word``, ``_word``: code and value, all ones with a code but 0."""
        ones = (1 << 8 * length) - 1
        phb = self._phb(phb_id)
        code = self._config_code(phb, rid, offset, length)
        if phb is None or code:
            return code, ones
        return api.OPAL_SUCCESS, phb.config_read(phb.number, rid, offset, length)

    def pci_config_write(self, phb_id: int, rid: int, offset: int, length: int, value: int) -> int:
        """``opal_pci_config_write_byte``, ``_half_word``, ``_word``; some writes succeed and go nowhere."""
        phb = self._phb(phb_id)
        code = self._config_code(phb, rid, offset, length)
        if phb is not None and not code and not self._kept(phb, rid, offset, length):
            phb.config_write(phb.number, rid, offset, length, value)
        return code

    @staticmethod
    def _kept(phb: Phb, rid: int, offset: int, length: int) -> bool:
        """Whether firmware keeps a write for itself: of the power state, right behind the root port."""
        if not phb.model.keeps_power_states or rid >> _BUS_SHIFT != _FIRST_BUS:
            return False
        function = phb.function(phb.number, rid)
        at = function.offset(regs.PCI_CAP_ID_PM) if function is not None else None
        if at is None or offset + length > at + regs.PCI_PM_SIZEOF:
            return False
        return offset - at in range(regs.PCI_PM_CTRL, regs.PCI_PM_PPB_EXTENSIONS)

    def _config_code(self, phb: Phb | None, rid: int, offset: int, length: int) -> int:
        if phb is None or not 0 <= offset <= _GRANULE_MASK or offset % length or not 0 <= rid < ROUTING_IDS:
            return api.OPAL_PARAMETER
        own = rid == phb.port.rid
        if rid >> 8 == phb.root_bus.number and not own:
            return api.OPAL_HARDWARE
        return api.OPAL_HARDWARE if phb.dead or phb.fenced or (phb.held and not own) else api.OPAL_SUCCESS

    def pci_reinit(self, phb_id: int, rid: int) -> int:
        """``opal_pci_reinit``, ``OPAL_REINIT_PCI_DEV``: set a function up as firmware did, after it was reset."""
        phb = self._phb(phb_id)
        function = phb.function(phb.number, rid) if phb is not None else None
        if phb is None or function is None:
            return api.OPAL_PARAMETER
        set_up_errors(function)
        return api.OPAL_SUCCESS

    # errors

    def pci_eeh_freeze_status(self, phb_id: int, endpoint: int) -> FreezeStatus:
        """``opal_pci_eeh_freeze_status``; a fenced bridge shows everything as frozen, by an error of the bridge."""
        phb = self._phb(phb_id, endpoint)
        if phb is None:
            return FreezeStatus(api.OPAL_PARAMETER)
        frozen = OpalFreezeState.MMIO_DMA_FREEZE
        if phb.dead:
            return FreezeStatus(api.OPAL_HARDWARE, frozen, OpalErrorType.PHB_ERROR, OpalSeverity.PHB_DEAD)
        if phb.fenced:
            return FreezeStatus(api.OPAL_SUCCESS, frozen, OpalErrorType.PHB_ERROR, OpalSeverity.PHB_FENCED)
        state = phb.endpoints[endpoint].state
        severity = OpalSeverity.PE_ER if state else OpalSeverity.NO_ERROR
        return FreezeStatus(api.OPAL_SUCCESS, state, severity=severity)

    def pci_eeh_freeze_clear(self, phb_id: int, endpoint: int, action: int) -> int:
        """``opal_pci_eeh_freeze_clear``: let loads and stores (1), DMA (2) or both go again."""
        phb = self._phb(phb_id, endpoint)
        if phb is None:
            return api.OPAL_PARAMETER
        if phb.dead or phb.fenced:
            return api.OPAL_HARDWARE
        mmio, dma = bool(action & OpalFreezeAction.MMIO), bool(action & OpalFreezeAction.DMA)
        phb.endpoints.clear(endpoint, frozen=mmio, stopped=dma)
        return api.OPAL_SUCCESS

    def pci_eeh_freeze_set(self, phb_id: int, endpoint: int, action: int) -> int:
        """``opal_pci_eeh_freeze_set``: freeze loads and stores (1), DMA (2) or both."""
        phb = self._phb(phb_id, endpoint)
        if phb is not None and phb.dead:
            return api.OPAL_HARDWARE
        if phb is None or not 0 < action <= OpalFreezeAction.ALL:
            return api.OPAL_PARAMETER
        mmio, dma = bool(action & OpalFreezeAction.MMIO), bool(action & OpalFreezeAction.DMA)
        phb.endpoints.set(endpoint, frozen=mmio, stopped=dma)
        return api.OPAL_SUCCESS

    def pci_next_error(self, phb_id: int) -> NextError:
        """``opal_pci_next_error``: the worst that there is: bridge dead or fenced, an endpoint frozen, or a notice.

        Of frozen endpoints it is the first of the last 64 that have any (``phb4_eeh_next_error``).
        """
        phb = self._phb(phb_id)
        if phb is None:
            return NextError(api.OPAL_PARAMETER)
        if phb.dead:
            return NextError(api.OPAL_SUCCESS, _NONE, OpalErrorType.PHB_ERROR, OpalSeverity.PHB_DEAD)
        if phb.fenced:
            return NextError(api.OPAL_SUCCESS, _NONE, OpalErrorType.PHB_ERROR, OpalSeverity.PHB_FENCED)
        troubled = [one.number for one in phb.endpoints.troubled()]
        if troubled:
            first = min(troubled, key=lambda number: (-(number // _VECTOR_BITS), number))
            return NextError(api.OPAL_SUCCESS, first, OpalErrorType.PE_ERROR, OpalSeverity.PE_ER)
        if phb.informative:
            return NextError(api.OPAL_SUCCESS, _NONE, OpalErrorType.PHB_ERROR, OpalSeverity.INF)
        return NextError(api.OPAL_SUCCESS)

    def pci_get_phb_diag_data(self, phb_id: int, size: int) -> tuple[int, bytes]:
        """``opal_pci_get_phb_diag_data2``: code and the error log, for a buffer of `size` bytes."""
        phb = self._phb(phb_id)
        if phb is None:
            return api.OPAL_PARAMETER, b""
        if phb.dead:
            return api.OPAL_HARDWARE, b""
        data = diagnose(phb).to_bytes()
        if size < len(data):
            return api.OPAL_PARAMETER, b""
        phb.informative = False
        return api.OPAL_SUCCESS, data

    def pci_err_inject(self, phb_id: int, endpoint: int, type_: int, function: int, address: int, mask: int) -> int:
        """``opal_pci_err_inject``: have the next such access to an endpoint fail."""
        phb = self._phb(phb_id, endpoint)
        if (
            phb is None
            or endpoint == phb.model.reserved
            or type_ not in {one.value for one in EehErrorType}
            or function not in {one.value for one in EehErrorFunction}
        ):
            return api.OPAL_PARAMETER
        phb.inject(None)
        return prepare(phb, endpoint, EehErrorType(type_), EehErrorFunction(function), address, mask)

    # resets

    def _slot(self, slot_id: int) -> SlotReset | None:
        slot = self._slots.get(slot_id)
        phb = self.phbs.get(slot_id & _ID_MASK if slot_id & api.OPAL_SLOT_ID_PREFIX else slot_id)
        if phb is None:
            return None
        below: Bridge | None = None
        if slot_id & api.OPAL_SLOT_ID_PREFIX:
            found = phb.function(phb.number, slot_id >> _RID_SHIFT & _ID_MASK)
            if not isinstance(found, Bridge):
                return None
            below = None if found is phb.port else found
        if slot is None or slot.below is not below:
            slot = self._slots[slot_id] = SlotReset(phb, below)
        return slot

    def pci_reset(self, slot_id: int, scope: int, state: int) -> int:
        """``opal_pci_reset``: 0, a refusal, or milliseconds to wait before `pci_poll`."""
        slot = self._slot(slot_id)
        if slot is None or state not in (api.OPAL_ASSERT_RESET, api.OPAL_DEASSERT_RESET):
            return api.OPAL_PARAMETER
        own = slot.below is None
        scopes = {OpalReset.PCI_HOT, OpalReset.PCI_FUNDAMENTAL}
        scopes |= {OpalReset.PHB_COMPLETE, OpalReset.PCI_IODA_TABLE, OpalReset.PHB_ERROR} if own else set()
        if scope not in scopes:
            return api.OPAL_UNSUPPORTED
        if state == api.OPAL_DEASSERT_RESET:
            return api.OPAL_SUCCESS
        if scope == OpalReset.PCI_IODA_TABLE:
            slot.phb.reset_tables()
            return api.OPAL_SUCCESS
        if scope == OpalReset.PHB_ERROR:
            slot.phb.inject(None)
            return api.OPAL_SUCCESS
        if slot.busy or slot.phb.dead or (slot.phb.fenced and scope != OpalReset.PHB_COMPLETE):
            return api.OPAL_HARDWARE
        begin = {OpalReset.PCI_HOT: slot.hot, OpalReset.PCI_FUNDAMENTAL: slot.fundamental}
        try:
            return begin.get(OpalReset(scope), slot.complete)()
        except ResetFailed:
            return api.OPAL_HARDWARE

    def pci_poll(self, slot_id: int) -> int:
        """``opal_pci_poll``: 0 when the reset of a slot is done, a failure, or milliseconds to wait."""
        slot = self._slot(slot_id)
        if slot is None:
            return api.OPAL_PARAMETER
        try:
            return slot.poll()
        except ResetFailed:
            return api.OPAL_HARDWARE
