"""Interrupts below a host bridge of POWER, bare metal or a guest: its messages, and the lines of its pins.

::

    function --> message --> host bridge --> interrupt n of the bridge, or of the guest --> handler
    function --> pin A to D ---------------> line of the bridge -------------------------> handlers

A vector has an interrupt from its allocation on.
Source: ``arch/powerpc/kernel/pci-common.c`` of Linux 6.12; names and numbers are those of the POWER lab's
``/proc/interrupts``.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.interrupts_powerpc import source_text
from pyvfio_backends.software.linux.irq_line import IrqLine
from pyvfio_backends.software.linux.msi_domain import MsiDomain
from pyvfio_backends.software.linux.pci_msi import interrupt_numbers

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.hardware.pcie.root_complex import RootBus, RootComplex
    from pyvfio_backends.software.hardware.pcie.upstream import Source
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_msi import PciMsi
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["PINS", "XIVE", "PowerMessages", "PowerPins"]

XIVE: Final = "XIVE-IRQ"
"""The machine's interrupt controller."""
PINS: Final = 4
_SLOT_SHIFT = 3
_MOST_MSIX = 2048
_RID_SHIFT, _DOMAIN_SHIFT = 11, 27


class PowerMessages(MsiDomain):
    """The messages of what is below the host bridge of `domain`; `name` is the chip's in ``/proc/interrupts``."""

    movable = True
    plain = True
    several = True

    def __init__(self, domain: int, name: str) -> None:
        self._domain = domain
        self._name = name
        self._of: dict[tuple[PciMsi, int], int] = {}
        self._vectors: dict[int, tuple[PciMsi, int]] = {}
        self._cpus: dict[tuple[PciMsi, int], int] = {}

    @abstractmethod
    def take(self, count: int) -> int:
        """The first of `count` interrupts in a row that are free.  Raise OSError ENOSPC."""

    def give_back(self, interrupt: int) -> None:
        """An interrupt is not needed any more."""
        return

    def is_taken(self, interrupt: int) -> bool:
        """Whether an interrupt is a vector's."""
        return interrupt in self._vectors

    def interrupt_of(self, msi: PciMsi, vector: int) -> int:
        """The interrupt of a vector."""
        return self._of[msi, vector]

    def limit(self, msi: PciMsi) -> int:
        """See `MsiDomain.limit`: none but the table's."""
        return _MOST_MSIX

    def chip(self, msi: PciMsi) -> str:
        """See `MsiDomain.chip`."""
        return self._name

    def source(self, msi: PciMsi, vector: int) -> str:
        """See `MsiDomain.source` (``pci_msi_domain_calc_hwirq``)."""
        sysdata = msi.device.sysdata
        rid = sysdata.bus_number << 8 | sysdata.devfn
        return source_text(vector | rid << _RID_SHIFT | self._domain << _DOMAIN_SHIFT, "Edge")

    def set_up(self, msi: PciMsi) -> None:
        """See `MsiDomain.set_up`: interrupts of the bridge, those of MSI in a row.  Raise OSError ENOSPC."""
        if msi.is_msix:
            try:
                for vector in msi.irqs:
                    self._give(msi, vector, self.take(1))
            except OSError:
                self.tear_down(msi)
                raise
            return
        first = self.take(msi.block)
        for vector in range(msi.block):
            self._give(msi, vector, first + vector)

    def _give(self, msi: PciMsi, vector: int, interrupt: int) -> None:
        self._of[msi, vector] = interrupt
        self._vectors[interrupt] = msi, vector

    def restore(self, msi: PciMsi) -> None:
        """See `MsiDomain.restore`: the bridge was not reset."""

    def tear_down(self, msi: PciMsi) -> None:
        """See `MsiDomain.tear_down`."""
        for key in [key for key in self._of if key[0] is msi]:
            interrupt = self._of.pop(key)
            del self._vectors[interrupt]
            self._cpus.pop(key, None)
            self.give_back(interrupt)

    def start(self, msi: PciMsi, vector: int, cpu: int) -> None:
        """See `MsiDomain.start`."""
        self._cpus[msi, vector] = cpu

    def arrived(self, source: Source, interrupt: int) -> None:
        """A message has raised an interrupt."""
        known = self._vectors.get(interrupt)
        if known is not None:
            known[0].deliver(known[1], self._cpus.get(known, 0))


class PowerPins:
    """The pins below host bridge `phb`; the first of its lines is interrupt `first` of the machine.

    Linux numbers a line when it finds the first device whose pin leads to it.
    """

    def __init__(self, kernel: Kernel, phb: RootComplex, first: int) -> None:
        self._kernel = kernel
        self._first = first
        self._numbers: dict[int, int] = {}
        self._lines: dict[int, IrqLine] = {}
        phb.on_intx = self._changed

    def line(self, number: int) -> IrqLine:
        """A line by Linux's number."""
        return self._lines[number]

    def number(self, function: PcieFunction) -> int:
        """Linux's number of the line of a function's pin, 0 without one (``of_irq_parse_and_map_pci``)."""
        pin = function.config.data[regs.PCI_INTERRUPT_PIN]
        if not pin:
            return 0
        on, devfn = function.on, function.devfn
        while on.above is not None:
            slot = 0 if on.ari else devfn >> _SLOT_SHIFT
            pin = (pin - 1 + slot) % PINS + 1
            devfn, on = on.above.devfn, on.above.on
        return self._map(self.place(devfn, pin))

    def place(self, devfn: int, pin: int) -> int:
        """Which of the bridge's lines a pin on its root bus leads to."""
        return (pin - 1) % PINS

    def _map(self, pin: int) -> int:
        number = self._numbers.get(pin)
        if number is None:
            number = self._numbers[pin] = interrupt_numbers(self._kernel).take()
            source = source_text(self._first + pin, "Level")
            self._lines[number] = IrqLine(self._kernel.interrupts, number, XIVE, source)
        return number

    def _changed(self, bus: RootBus, devfn: int, pin: int, asserted: bool, source: Function) -> None:
        self.line(self._map(self.place(devfn, pin))).set(source, asserted)
