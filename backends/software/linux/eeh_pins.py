"""Interrupt pins of what is recovered: off until drivers have their devices again (``eeh_set_irq_state``, 6.12).

A pin is the host bridge's and of no endpoint, so that a device goes on asserting it while it is frozen, and nobody
could have it stop.  So Linux switches the line off, for all that share it.  Messages stop with DMA.

A function that is taken away meanwhile is forgotten, and nobody switches the line on again for it: who shares it gets
no interrupts then, until all have left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi.eeh_state import EehDevMode
from pyvfio_backends.software.linux.pci_driver import PciDriver

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh_pe import EehDev, EehPe
    from pyvfio_backends.software.linux.irq_line import IrqLine

__all__ = ["switch_pins"]


def switch_pins(root: EehPe, *, on: bool) -> None:
    """Switch the lines of all functions that recovery is for and that have a driver."""
    for dev in root.every():
        pdev = dev.pdev
        if pdev is None or not dev.actionable or not isinstance(pdev.driver, PciDriver):
            continue
        line = pdev.sysdata.irq_line()
        if line is not None:
            (_enable if on else _disable)(dev, line)


def _disable(dev: EehDev, line: IrqLine) -> None:
    """``eeh_disable_irq``."""
    if dev.pdev is None or dev.pdev.msi.irqs or not line.handled:
        return
    dev.mode |= EehDevMode.IRQ_DISABLED
    line.disable()


def _enable(dev: EehDev, line: IrqLine) -> None:
    """``eeh_enable_irq``."""
    if dev.mode & EehDevMode.IRQ_DISABLED:
        dev.mode &= ~EehDevMode.IRQ_DISABLED
        if line.off:
            line.enable()
