"""``VFIO_EEH_PE_OP``: what a program does with its device's endpoint (``vfio_spapr_ioctl_eeh_pe_op``, Linux 6.12)."""

from __future__ import annotations

import ctypes
import errno
from typing import TYPE_CHECKING, Final

from pyvfio.abi import vfio_spapr as spapr
from pyvfio.abi.layout import offset_of
from pyvfio_backends.software.linux.eeh import DISABLE, ENABLE, THAW_DMA, THAW_MMIO, ResetKind
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh import Eeh
    from pyvfio_backends.software.linux.eeh_pe import EehPe
    from pyvfio_backends.software.linux.uaccess import Argument

__all__ = ["operate"]

_LEAST: Final = offset_of(spapr.EehPeOp, "op") + ctypes.sizeof(ctypes.c_uint32)
_WHOLE: Final = ctypes.sizeof(spapr.EehPeOp)


def operate(eeh: Eeh, pe: EehPe, argument: Argument) -> int:
    """Answer the request for an endpoint.  Raise OSError."""
    op = spapr.EehPeOp.from_buffer_copy(argument.read(0, _LEAST).ljust(_WHOLE, b"\0"))
    if op.argsz < _LEAST or op.flags:
        raise fail(errno.EINVAL)
    code = _operate(eeh, pe, op, argument)
    if code < 0:
        raise fail(-code)
    return code


def _operate(eeh: Eeh, pe: EehPe, op: spapr.EehPeOp, argument: Argument) -> int:
    options = {
        spapr.VFIO_EEH_PE_DISABLE: DISABLE,
        spapr.VFIO_EEH_PE_ENABLE: ENABLE,
        spapr.VFIO_EEH_PE_UNFREEZE_IO: THAW_MMIO,
        spapr.VFIO_EEH_PE_UNFREEZE_DMA: THAW_DMA,
    }
    resets = {
        spapr.VFIO_EEH_PE_RESET_DEACTIVATE: ResetKind.DEACTIVATE,
        spapr.VFIO_EEH_PE_RESET_HOT: ResetKind.HOT,
        spapr.VFIO_EEH_PE_RESET_FUNDAMENTAL: ResetKind.FUNDAMENTAL,
    }
    if op.op in options:
        return eeh.set_option(pe, options[op.op])
    if op.op in resets:
        return eeh.resets.step(pe, resets[op.op], passed=True)
    if op.op == spapr.VFIO_EEH_PE_GET_STATE:
        return eeh.get_state(pe)
    if op.op == spapr.VFIO_EEH_PE_CONFIGURE:
        return 0  # pnv_eeh_configure_bridge has nothing to do
    if op.op != spapr.VFIO_EEH_PE_INJECT_ERR or op.argsz < _WHOLE:
        return -errno.EINVAL
    err = spapr.EehPeOp.from_buffer_copy(argument.read(0, _WHOLE)).err
    # both are "int" in the kernel
    return eeh.inject(pe, _signed(err.type), _signed(err.func), err.addr, err.mask)


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value
