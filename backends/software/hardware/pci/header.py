"""The headers of configuration space, declared: the registers that a program can write.

`pyvfio.abi.pci_regs` and `pyvfio.abi.pci_bridge_regs` draw them.  What PCI Express wires to 0 (latency timers, fast
back-to-back, VGA forwarding) is not there.
"""

from __future__ import annotations

from pyvfio.abi import pci_bridge_regs as bridge
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.register import Register

__all__ = ["BRIDGE", "COMMON"]

_COMMAND = (
    regs.PCI_COMMAND_IO
    | regs.PCI_COMMAND_MEMORY
    | regs.PCI_COMMAND_MASTER
    | regs.PCI_COMMAND_SERR
    | regs.PCI_COMMAND_INTX_DISABLE
)
_STATUS = (
    regs.PCI_STATUS_PARITY
    | regs.PCI_STATUS_SIG_TARGET_ABORT
    | regs.PCI_STATUS_REC_TARGET_ABORT
    | regs.PCI_STATUS_REC_MASTER_ABORT
    | regs.PCI_STATUS_SIG_SYSTEM_ERROR
    | regs.PCI_STATUS_DETECTED_PARITY
)
COMMON = (
    Register(regs.PCI_COMMAND, 2, rw=_COMMAND),
    Register(regs.PCI_STATUS, 2, w1c=_STATUS),
    Register(regs.PCI_CACHE_LINE_SIZE, 1, rw=0xFF),
    Register(regs.PCI_INTERRUPT_LINE, 1, rw=0xFF),
)
_TOP4, _TOP12, _DWORD = 0xF0, 0xFFF0, 0xFFFFFFFF
BRIDGE = (
    Register(bridge.PCI_PRIMARY_BUS, 3, rw=0xFFFFFF),
    Register(bridge.PCI_IO_BASE, 1, bridge.PCI_IO_RANGE_TYPE_16, rw=_TOP4),
    Register(bridge.PCI_IO_LIMIT, 1, bridge.PCI_IO_RANGE_TYPE_16, rw=_TOP4),
    Register(bridge.PCI_SEC_STATUS, 2, w1c=_STATUS),
    Register(bridge.PCI_MEMORY_BASE, 2, rw=_TOP12),
    Register(bridge.PCI_MEMORY_LIMIT, 2, rw=_TOP12),
    Register(bridge.PCI_PREF_MEMORY_BASE, 2, bridge.PCI_PREF_RANGE_TYPE_64, rw=_TOP12),
    Register(bridge.PCI_PREF_MEMORY_LIMIT, 2, bridge.PCI_PREF_RANGE_TYPE_64, rw=_TOP12),
    Register(bridge.PCI_PREF_BASE_UPPER32, 4, rw=_DWORD),
    Register(bridge.PCI_PREF_LIMIT_UPPER32, 4, rw=_DWORD),
    Register(
        bridge.PCI_BRIDGE_CONTROL,
        2,
        rw=bridge.PCI_BRIDGE_CTL_PARITY
        | bridge.PCI_BRIDGE_CTL_SERR
        | bridge.PCI_BRIDGE_CTL_ISA
        | bridge.PCI_BRIDGE_CTL_VGA
        | bridge.PCI_BRIDGE_CTL_BUS_RESET,
    ),
)
