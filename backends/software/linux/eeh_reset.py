"""Resets of endpoints, step by step or as a whole (``eeh_pe_reset``, ``eeh_pe_reset_full`` of ``eeh.c``, Linux 6.12).

An endpoint is frozen, and its configuration blocked, from the moment a reset is asserted until registers are back.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.eeh_state import EehPeFlag, EehPlatformState
from pyvfio_backends.software.linux.eeh import FREEZE, ResetKind
from pyvfio_backends.software.linux.eeh_pe import is_active
from pyvfio_backends.software.linux.kernel_log import INFO, WARNING, say
from pyvfio_backends.software.linux.resource import ResourceFlag

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh import Eeh
    from pyvfio_backends.software.linux.eeh_pe import EehPe
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["EehReset"]

_PATIENCE = 300.0  # PCI_BUS_RESET_WAIT_MSEC
_TRIES = 3


class EehReset:
    """Resets for `eeh`; each answers 0 or a negative errno.  With `passed` what programs have is thawed, too."""

    def __init__(self, eeh: Eeh) -> None:
        self._eeh = eeh

    def step(self, pe: EehPe, kind: int, *, passed: bool) -> int:
        """One step of a reset: asserted, or over (``eeh_pe_reset``)."""
        if kind == ResetKind.DEACTIVATE:
            code = self._eeh.platform.resets.step(pe, kind)
            pe.clear(EehPeFlag.CFG_BLOCKED, passed=passed)
            return code or self._set_up_again(pe, passed=passed)
        self._eeh.platform.set_option(pe, FREEZE)
        pe.mark(EehPeFlag.CFG_BLOCKED)
        return self._eeh.platform.resets.step(pe, kind)

    def _set_up_again(self, pe: EehPe, *, passed: bool) -> int:
        """After a reset: registers as they were, enabled, and thawed (``eeh_pe_reenable_devices``)."""
        self._eeh.platform.restore_bars(pe)
        for dev in pe.devs:
            if dev.pdev is not None and dev.pdev.enable_count:
                _reenable(dev.pdev)
        if pe.passed and not passed:
            self._eeh.say(INFO, f"Note: Leaving passthrough {pe.name} frozen.")
            code = 0
        else:
            code = self._eeh.unfreeze(pe)
        if not code:
            pe.clear(EehPeFlag.ISOLATED, passed=passed)
        return code

    def full(self, pe: EehPe, *, passed: bool) -> int:
        """A reset from beginning to end, with three attempts (``eeh_pe_reset_full``)."""
        marks = EehPeFlag.RESET | EehPeFlag.CFG_BLOCKED
        kind = ResetKind.HOT
        pe.mark(marks)
        code, state = 0, EehPlatformState(0)
        for attempt in range(1, _TRIES + 1):
            code = self.step(pe, kind, passed=passed) or self.step(pe, ResetKind.DEACTIVATE, passed=passed)
            if code:
                code = -errno.EIO
                self._eeh.say(WARNING, f"Failure {state:d} resetting {pe.name} (attempt {attempt})\n")
                continue
            if attempt > 1:
                self._eeh.say(WARNING, f"{pe.name}: Successful reset (attempt {attempt})")
            state = self._eeh.wait_state(pe, _PATIENCE)
            if is_active(state):
                break
            self._eeh.say(WARNING, f"{pe.name}: Slot inactive after reset: {state:#x} (attempt {attempt})")
        if not passed:
            self._freeze_passed(pe)
        pe.clear(marks, passed=True)
        return code

    def _freeze_passed(self, root: EehPe) -> None:
        """What programs have is not to go again by a reset of what is above it (``eeh_pe_refreeze_passed``)."""
        for pe in root.walk():
            if pe.passed and self._eeh.platform.state(pe) & (
                EehPlatformState.MMIO_ACTIVE | EehPlatformState.MMIO_ENABLED
            ):
                self._eeh.say(INFO, f"Passed-through PE {pe.name} was thawed by reset, re-freezing for safety.")
                self._eeh.set_option(pe, FREEZE)


def _reenable(pdev: PciDevice) -> None:
    """Have a function decode again what it did when it was enabled (``do_pci_enable_device``)."""
    kinds = [resource.flags for resource in pdev.resources if resource.size]
    wanted = regs.PCI_COMMAND_MEMORY if any(flags & ResourceFlag.MEM for flags in kinds) else 0
    wanted |= regs.PCI_COMMAND_IO if any(flags & ResourceFlag.IO for flags in kinds) else 0
    old = pdev.command
    if old | wanted != old:
        say(pdev, INFO, f"enabling device ({old:04x} -> {old | wanted:04x})")
        pdev.set_command(0, wanted)
    if not pdev.msi.irqs and pdev.read_config(regs.PCI_INTERRUPT_PIN, 1):
        pdev.set_intx(True)
