"""What a host bridge of bare-metal POWER writes to the kernel's log when asked (``powerpc/PCIxxxx`` in debugfs).

::

    dump_diag_regs        the error log, as the firmware has it
    dump_ioda_pe_state    a line for each endpoint that is given out

Source: ``pnv_pci_diag_data_set`` and ``pnv_pci_ioda_pe_dump`` in ``platforms/powernv/pci-ioda.c`` (6.12).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.abi import opal as api
from pyvfio_backends.software.linux.debugfs import DebugFile
from pyvfio_backends.software.linux.eeh_log import phb_log
from pyvfio_backends.software.linux.kernel_log import WARNING, kernel_log
from pyvfio_backends.software.linux.pci_sysfs import number
from pyvfio_backends.software.linux.pnv_pe import PeFlag
from pyvfio_backends.software.linux.vfs import Node, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pnv_host import PnvHostBridge
    from pyvfio_backends.software.linux.pnv_pe import PnvPe

__all__ = ["bridge_debug_files"]

_LOG_BUFFER: Final = 0x4000
_WORDS: Final = {
    PeFlag.DEVICE: "dev ",
    PeFlag.BUS: "bus ",
    PeFlag.BUS_ALL: "all ",
    PeFlag.MASTER: "master ",
    PeFlag.SLAVE: "slave ",
    PeFlag.VF: "vf ",
}


def bridge_debug_files(bridge: PnvHostBridge) -> dict[str, Callable[[], Node]]:
    """The files of a bridge, which are written with any number."""
    kernel = bridge.bus.kernel

    def registers(data: bytes) -> None:
        number(data)
        code, log = bridge.opal.pci_get_phb_diag_data(bridge.opal_id, _LOG_BUFFER)
        if code != api.OPAL_SUCCESS:
            raise fail(errno.EIO)
        phb_log(kernel, bridge.domain, log)

    def endpoints(data: bytes) -> None:
        number(data)
        for pe in bridge.endpoints:
            kernel_log(kernel).add(WARNING, _line(bridge, pe))

    return {"dump_diag_regs": lambda: _written(registers), "dump_ioda_pe_state": lambda: _written(endpoints)}


def _written(store: Callable[[bytes], None]) -> Node:
    return DebugFile(_not_shown, store, mode=0o200)


def _not_shown() -> str:
    raise fail(errno.EACCES)


def _line(bridge: PnvHostBridge, pe: PnvPe) -> str:
    """``pe_level_printk``: the bus or the function goes first; the reserved one has neither."""
    where = ""
    if pe.bus is not None:
        where = f"{bridge.domain:04x}:{pe.bus.number:02x}     "
    elif pe.parent is not None:
        where = f"{bridge.domain:04x}:{pe.rid >> 8:02x}:{pe.rid >> 3 & 0x1F:2x}.{pe.rid & 7}"
    words = "".join(word for flag, word in _WORDS.items() if pe.flags & flag)
    return f"pci {where}: [PE# {pe.number:02x}] rid: {pe.rid:04x} dev count: {pe.devices:2} flags: {words}"
