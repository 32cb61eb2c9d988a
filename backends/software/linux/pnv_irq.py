"""Interrupts below a host bridge of bare-metal POWER: its messages, and the lines of its pins.

::

    function --> message --> host bridge: is it one of the endpoint's? --> interrupt n of the bridge --> handler
    function --> pin A to D --------------------------------------------> line of the bridge ---------> handlers

A vector has an interrupt of the bridge from its allocation on; which endpoint may send it is told with the message that
the function is given.  Source: ``arch/powerpc/platforms/powernv/pci-ioda.c``, ``arch/powerpc/kernel/pci-common.c`` of
Linux 6.12; names and numbers are those of the POWER lab's ``/proc/interrupts``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.interrupts_powerpc import source_text
from pyvfio_backends.software.linux.irq_line import IrqLine
from pyvfio_backends.software.linux.pci_host import MsiDomain
from pyvfio_backends.software.linux.pci_msi import interrupt_numbers
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.opal import Opal
    from pyvfio_backends.software.hardware.ioda.phb import Phb
    from pyvfio_backends.software.hardware.pcie.function import Function
    from pyvfio_backends.software.hardware.pcie.root_complex import RootBus
    from pyvfio_backends.software.hardware.pcie.upstream import Source
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_msi import PciMsi
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["LINES", "XIVE", "PnvMessages", "PnvPins", "first_interrupt"]

LINES: Final = 8
"""The interrupts of a bridge that are no messages: four of pins, and those of errors."""
XIVE: Final = "XIVE-IRQ"
"""The machine's interrupt controller."""
_PINS = 4
_SLOT_SHIFT = 3
_MOST_MSIX = 2048
_RID_SHIFT, _DOMAIN_SHIFT = 11, 27
_END_OF_BRIDGES = 0xFF000


def first_interrupt(phb: Phb, before: int) -> int:
    """The machine's number of a bridge's first interrupt, `before` being how many the bridges before it have."""
    return _END_OF_BRIDGES - before - (phb.model.messages + LINES)


class PnvMessages(MsiDomain):
    """The messages of what is below a host bridge (``PNV-PCI-MSI``)."""

    movable = True
    plain = True
    several = True

    def __init__(self, opal: Opal, phb: Phb) -> None:
        self._opal = opal
        self._phb = phb
        self._of: dict[tuple[PciMsi, int], int] = {}
        self._vectors: dict[int, tuple[PciMsi, int]] = {}
        self._cpus: dict[tuple[PciMsi, int], int] = {}
        phb.inbound.deliver = self._interrupt

    def limit(self, msi: PciMsi) -> int:
        """See `MsiDomain.limit`: none but the table's."""
        return _MOST_MSIX

    def chip(self, msi: PciMsi) -> str:
        """See `MsiDomain.chip`."""
        return "PNV-PCI-MSI"

    def source(self, msi: PciMsi, vector: int) -> str:
        """See `MsiDomain.source` (``pci_msi_domain_calc_hwirq``)."""
        sysdata = msi.device.sysdata
        rid = sysdata.bus_number << 8 | sysdata.devfn
        return source_text(vector | rid << _RID_SHIFT | self._phb.number << _DOMAIN_SHIFT, "Edge")

    def set_up(self, msi: PciMsi) -> None:
        """See `MsiDomain.set_up`: interrupts of the bridge, those of MSI in a row.  Raise OSError ENOSPC."""
        if msi.is_msix:
            try:
                for vector in msi.irqs:
                    self._give(msi, vector, self._free(1))
            except OSError:
                self.tear_down(msi)
                raise
            return
        first = self._free(msi.block)
        for vector in range(msi.block):
            self._give(msi, vector, first + vector)

    def _free(self, count: int) -> int:
        """The first of `count` free interrupts, at a multiple of that (``msi_bitmap_alloc_hwirqs``)."""
        for first in range(0, self._phb.model.messages - count + 1, count):
            if not any(one in self._vectors for one in range(first, first + count)):
                return first
        raise fail(errno.ENOSPC)

    def _give(self, msi: PciMsi, vector: int, interrupt: int) -> None:
        self._of[msi, vector] = interrupt
        self._vectors[interrupt] = msi, vector

    def restore(self, msi: PciMsi) -> None:
        """See `MsiDomain.restore`: the bridge was not reset."""

    def tear_down(self, msi: PciMsi) -> None:
        """See `MsiDomain.tear_down`."""
        for key in [key for key in self._of if key[0] is msi]:
            del self._vectors[self._of.pop(key)]
            self._cpus.pop(key, None)

    def start(self, msi: PciMsi, vector: int, cpu: int) -> None:
        """See `MsiDomain.start`."""
        self._cpus[msi, vector] = cpu

    def compose(self, msi: PciMsi, vector: int, cpu: int) -> tuple[int, int]:
        """See `MsiDomain.compose` (``__pnv_pci_ioda_msi_setup``): from now on it is the endpoint's; 0 and 0 without."""
        from pyvfio_backends.software.linux.pnv_function import PnvFunction

        sysdata, interrupt = msi.device.sysdata, self._of[msi, vector]
        pe = sysdata.pe if isinstance(sysdata, PnvFunction) else None
        if pe is None or self._opal.pci_set_xive_pe(self._phb.number, pe.number, interrupt):
            return 0, 0
        ask = self._opal.get_msi_64 if self._is_wide(msi) else self._opal.get_msi_32
        _, address, data = ask(self._phb.number, 0, interrupt)
        return address, data

    @staticmethod
    def _is_wide(msi: PciMsi) -> bool:
        flags = msi.plain_capability + regs.PCI_MSI_FLAGS
        return msi.is_msix or bool(msi.device.read_config(flags, 2) & regs.PCI_MSI_FLAGS_64BIT)

    def _interrupt(self, source: Source, interrupt: int) -> None:
        known = self._vectors.get(interrupt)
        if known is not None:
            known[0].deliver(known[1], self._cpus.get(known, 0))


class PnvPins:
    """The pins below a host bridge; the first of its lines is interrupt `first` of the machine.

    Linux numbers a line when it finds the first device whose pin leads to it.
    """

    def __init__(self, kernel: Kernel, phb: Phb, first: int) -> None:
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
            pin = (pin - 1 + slot) % _PINS + 1
            devfn, on = on.above.devfn, on.above.on
        return self._map((pin - 1) % _PINS)

    def _map(self, pin: int) -> int:
        number = self._numbers.get(pin)
        if number is None:
            number = self._numbers[pin] = interrupt_numbers(self._kernel).take()
            source = source_text(self._first + pin, "Level")
            self._lines[number] = IrqLine(self._kernel.interrupts, number, XIVE, source)
        return number

    def _changed(self, bus: RootBus, devfn: int, pin: int, asserted: bool, source: Function) -> None:
        self.line(self._map((pin - 1) % _PINS)).set(source, asserted)
