"""What a program can do with an endpoint through VFIO, and what Linux calls the state that the firmware tells.

::

    loads, stores   DMA        state
    go              go         NORMAL
    go              stopped    STOPPED_DMA
    frozen          stopped    STOPPED           also when the firmware does not know
    frozen          go         UNAVAIL
    reset going on             RESET             of hypervisors: skiboot, bare metal's firmware, never says it

Sources: ``vfio.h``; ``arch/powerpc/kernel/eeh.c`` and ``platforms/powernv/eeh-powernv.c`` of Linux 6.12
(eeh_pe_get_state, pnv_eeh_get_pe_state).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyvfio.abi import vfio_spapr as abi
from pyvfio.abi.opal import OpalFreezeState
from pyvfio.abi.vfio_spapr import EehState

__all__ = ["PeOperation", "pe_state"]


class PeOperation(IntEnum):
    """``VFIO_EEH_PE_*``: the operation of ``VFIO_EEH_PE_OP``."""

    DISABLE = abi.VFIO_EEH_PE_DISABLE
    ENABLE = abi.VFIO_EEH_PE_ENABLE
    UNFREEZE_IO = abi.VFIO_EEH_PE_UNFREEZE_IO
    UNFREEZE_DMA = abi.VFIO_EEH_PE_UNFREEZE_DMA
    GET_STATE = abi.VFIO_EEH_PE_GET_STATE
    RESET_DEACTIVATE = abi.VFIO_EEH_PE_RESET_DEACTIVATE
    RESET_HOT = abi.VFIO_EEH_PE_RESET_HOT
    RESET_FUNDAMENTAL = abi.VFIO_EEH_PE_RESET_FUNDAMENTAL
    CONFIGURE = abi.VFIO_EEH_PE_CONFIGURE
    INJECT_ERR = abi.VFIO_EEH_PE_INJECT_ERR


_STATES: Final = {
    OpalFreezeState.NOT_FROZEN: EehState.NORMAL,
    OpalFreezeState.MMIO_FREEZE: EehState.UNAVAIL,
    OpalFreezeState.DMA_FREEZE: EehState.STOPPED_DMA,
    OpalFreezeState.RESET: EehState.RESET,
}


def pe_state(state: OpalFreezeState) -> EehState:
    """What Linux makes of a state of the firmware, for an endpoint that it is not recovering itself."""
    return _STATES.get(state, EehState.STOPPED)
