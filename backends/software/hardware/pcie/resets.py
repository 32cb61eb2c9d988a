"""Resets that a function does to itself when a register is written: function-level reset, and the way back from D3hot.

::

    device control, bit 15 written as 1   function-level reset, if device capabilities have it; the bit reads 0
    power state D3hot -> D0               a reset too, unless "no soft reset" is set
    power state not supported             the state stays as it was

All bring registers back to their start but sticky bits.  Source: PCI Express Base Specification, 6.0, 6.6.2 and 5.3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.register import Capability
from pyvfio_backends.software.hardware.pcie.capabilities import PowerManagement
from pyvfio_backends.software.hardware.pcie.express import Express

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["watch_resets"]

_D1, _D2, _D3HOT = 1, 2, 3


def watch_resets(function: Function, declared: Capability, at: int) -> None:
    """Have a function reset itself as the registers of a capability at an offset say."""
    if isinstance(declared, Express) and declared.flr:

        def control(before: int, ones: int) -> None:
            if ones & regs.PCI_EXP_DEVCTL_BCR_FLR:
                function.reset_self()

        function.config.watch(at + regs.PCI_EXP_DEVCTL, 2, control)
    if isinstance(declared, PowerManagement):
        missing = {state for state, there in ((_D1, declared.d1), (_D2, declared.d2)) if not there}

        def power(before: int, ones: int) -> None:
            register = at + regs.PCI_PM_CTRL
            value = function.config.read(register, 2)
            was, now = before & regs.PCI_PM_CTRL_STATE_MASK, value & regs.PCI_PM_CTRL_STATE_MASK
            if now in missing:
                function.config.put(register, 2, value & ~regs.PCI_PM_CTRL_STATE_MASK | was)
            elif was == _D3HOT and not now and not declared.no_soft_reset:
                function.reset_self()

        function.config.watch(at + regs.PCI_PM_CTRL, 2, power)
