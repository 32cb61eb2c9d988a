"""Interrupts of a guest on POWER: messages and pins below its host bridges, and those of the partition.

Source: ``arch/powerpc/platforms/pseries/msi.c`` of Linux 6.12; numbers are those of the POWER lab's
``/proc/interrupts`` and device tree.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.interrupts_powerpc import source_text
from pyvfio_backends.software.linux.pci_msi import interrupt_numbers
from pyvfio_backends.software.linux.powerpc_irq import PINS, XIVE, PowerMessages, PowerPins
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.spapr.hypervisor import Hypervisor
    from pyvfio_backends.software.hardware.spapr.phb import LogicalPhb
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_msi import PciMsi

__all__ = ["PseriesMessages", "PseriesPins", "add_early_interrupts", "add_late_interrupts"]

_FIRST_PIN: Final = 0x1200
_SLOT_SHIFT = 3
_FIRST: Final = 1 << 12
_EARLY: Final = (("XIVE-IPI", 0, "IPI-0"), (XIVE, _FIRST, "RAS_EPOW"))
_LATE: Final = ((XIVE, 0x11F0, "hvc_console"), (XIVE, _FIRST + 1, "RAS_HOTPLUG"))


class PseriesMessages(PowerMessages):
    """The messages of what is below a host bridge; the hypervisor gives the interrupts (``ibm,change-msi``)."""

    def __init__(self, hypervisor: Hypervisor, phb: LogicalPhb) -> None:
        super().__init__(phb.number, "pSeries-PCI-MSI")
        self._hypervisor = hypervisor
        phb.dma.deliver = self.arrived

    def take(self, count: int) -> int:
        """See `PowerMessages.take`."""
        first = self._hypervisor.take_messages(count)
        if first is None:
            raise fail(errno.ENOSPC)
        return first

    def give_back(self, interrupt: int) -> None:
        """See `PowerMessages.give_back`."""
        self._hypervisor.give_messages(interrupt, 1)

    def compose(self, msi: PciMsi, vector: int, cpu: int) -> tuple[int, int]:
        """See `MsiDomain.compose`."""
        return self._hypervisor.message(self.interrupt_of(msi, vector))


class PseriesPins(PowerPins):
    """The pins below host bridge `phb`: four lines, in turn by the device on the root bus (``interrupt-map``)."""

    def __init__(self, kernel: Kernel, phb: LogicalPhb) -> None:
        super().__init__(kernel, phb, _FIRST_PIN + PINS * phb.number)

    def place(self, devfn: int, pin: int) -> int:
        """See `PowerPins.place`."""
        return (pin - 1 + (devfn >> _SLOT_SHIFT)) % PINS


def _add(kernel: Kernel, chip: str, number: int, name: str) -> None:
    line = kernel.interrupts.add(interrupt_numbers(kernel).take(), chip)
    line.source, line.name = source_text(number, "Edge"), name


def add_early_interrupts(kernel: Kernel) -> None:
    """Those that are there before PCI."""
    for one in _EARLY:
        _add(kernel, *one)


def add_late_interrupts(kernel: Kernel) -> None:
    """Those that come when PCI functions have their lines."""
    for one in _LATE:
        _add(kernel, *one)
