"""Interrupt pins on x86: where those of a function lead, and the lines that they assert.

A bridge turns the pins of the devices behind it by their number; the pins that come out on root bus 0 lead to eight
lines of the I/O interrupt controller (q35's ACPI tables: devices up to 24, and 30, have the upper four, turned by their
number, the chipset's own the lower four).  The tables of further root buses of segment 0 lead them to the four links of
the old controller, which firmware gave the lines 10 and 11; elsewhere Linux uses what firmware wrote.
Sources: ``drivers/acpi/pci_irq.c`` (6.12), QEMU's ``hw/i386/acpi-build.c``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.irq_line import IrqLine

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.hardware.pcie.root_complex import RootBus, RootComplex
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["PciePins"]

_FIRST, _UPPER, _PINS = 16, 4, 4
_CHIPSET = (*range(0x19, 0x1E), 0x1F)
_SLOT_SHIFT = 3
_LINKS = (11, 10, 10, 11)
"""Of the links D, A, B and C."""


def _route(segment: int, bus: int, devfn: int, pin: int) -> int | None:
    """The line of pin 1 to 4 of a device on a root bus; None where no table tells."""
    slot = devfn >> _SLOT_SHIFT
    if segment:
        return None
    if bus:
        return _LINKS[(slot + pin - 1) % _PINS]
    if slot in _CHIPSET:
        return _FIRST + (pin - 1) % _PINS
    return _FIRST + _UPPER + (slot + pin - 1) % _PINS


class PciePins:
    """The pins below a root complex, and the lines by number."""

    def __init__(self, kernel: Kernel, complex_: RootComplex, *, remaps: bool = True) -> None:
        self._kernel = kernel
        self._chip = "IR-IO-APIC" if remaps else "IO-APIC"
        self._lines: dict[int, IrqLine] = {}
        complex_.on_intx = self._changed

    def line(self, number: int) -> IrqLine:
        """A line by its number."""
        found = self._lines.get(number)
        if found is None:
            source = f"{number:3}-{'fasteoi':8}"
            found = self._lines[number] = IrqLine(self._kernel.interrupts, number, self._chip, source)
        return found

    def number(self, function: PcieFunction) -> int:
        """The number that Linux has for the pin of a function, 0 without one (``acpi_pci_irq_enable``)."""
        data = function.config.data
        pin = data[regs.PCI_INTERRUPT_PIN]
        if not pin:
            return 0
        on, devfn = function.on, function.devfn
        while on.above is not None:
            slot = 0 if on.ari else devfn >> _SLOT_SHIFT
            pin = (pin - 1 + slot) % _PINS + 1
            devfn, on = on.above.devfn, on.above.on
        number = _route(function.bridge.domain, on.number, devfn, pin)
        return data[regs.PCI_INTERRUPT_LINE] if number is None else number

    def _changed(self, bus: RootBus, devfn: int, pin: int, asserted: bool, source: Function) -> None:
        number = _route(bus.segment.number, bus.number, devfn, pin)
        if number is None:
            number = source.config.data[regs.PCI_INTERRUPT_LINE]
        if number:
            self.line(number).set(source, asserted)
