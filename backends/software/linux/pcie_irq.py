"""Interrupt messages of PCI functions on x86 (``arch/x86/kernel/apic/{msi,vector}.c``, VT-d's interrupt remapping).

::

    function --> message (address, data) --> remapping unit --> vector of a processor --> Linux's number --> handler

A vector is given to an interrupt when somebody asks for it (`start`), not when it is allocated; there are about two
hundred of each processor.  Without a remapping unit the message names processor and vector itself.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.hardware.pcie.interrupt_remapping import (
    InterruptUnit,
    RemappingEntry,
    compatible_message,
    remapped_message,
)
from pyvfio_backends.software.linux.ida import Ida
from pyvfio_backends.software.linux.msi_domain import MsiDomain
from pyvfio_backends.software.linux.pcie_type import express_type
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_msi import PciMsi
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["PcieMessages", "requester"]

_FIRST_VECTOR, _END_VECTORS = 0x21, 0xEC
_NOT_GIVEN: Final = frozenset((*range(0x30, 0x40), 0x80))
"""Vectors of the old interrupt controller, and of system calls."""
_FIRST_HANDLE = 16
"""Those before are of the I/O interrupt controller."""
_NO_VECTOR = 0
_MOST_MSIX = 2048


def requester(function: PcieFunction) -> int:
    """The routing id that the root complex sees messages of a function come with (``set_msi_sid``): its own, or that of
    a bridge to conventional PCI above it.
    """
    found, above = function.rid, function.on.above
    while above is not None:
        if above.pdev is not None and express_type(above.pdev) == ExpressType.PCI_BRIDGE and above.subordinate:
            found = above.subordinate.number << 8
        above = above.on.above
    return found


class PcieMessages(MsiDomain):
    """The messages of all functions below a root complex.  `unit` is the hardware that they arrive at."""

    movable = True
    dynamic = True
    plain = True

    def __init__(self, kernel: Kernel, complex_: RootComplex, *, remaps: bool = True) -> None:
        self._kernel = kernel
        self.unit = InterruptUnit(self._interrupt, remaps=remaps)
        self.several = remaps
        complex_.on_message = self.unit.message
        self._handles = Ida(_FIRST_HANDLE)
        self._of: dict[tuple[PciMsi, int], int] = {}
        self._vectors: dict[tuple[int, int], tuple[PciMsi, int]] = {}
        self._places: dict[tuple[PciMsi, int], tuple[int, int]] = {}

    def limit(self, msi: PciMsi) -> int:
        """See `MsiDomain.limit`: none but the table's."""
        return _MOST_MSIX

    def chip(self, msi: PciMsi) -> str:
        """See `MsiDomain.chip`."""
        prefix = "IR-" if self.unit.remaps else ""
        return f"{prefix}PCI-{'MSIX' if msi.is_msix else 'MSI'}-{msi.device.name}"

    def source(self, msi: PciMsi, vector: int) -> str:
        """See `MsiDomain.source`."""
        return f"{vector:3}-{'edge':8}"

    def set_up(self, msi: PciMsi) -> None:
        """See `MsiDomain.set_up`: give the vectors handles, those of MSI in a row."""
        if msi.is_msix:
            for vector in msi.irqs:
                self.add(msi, vector)
            return
        first = self._handles.take_block(msi.block)
        for vector in range(msi.block):
            self._give(msi, vector, first + vector)

    def add(self, msi: PciMsi, vector: int) -> None:
        """See `MsiDomain.add`."""
        self._give(msi, vector, self._handles.take())

    def _give(self, msi: PciMsi, vector: int, handle: int) -> None:
        self._of[msi, vector] = handle

    def restore(self, msi: PciMsi) -> None:
        """See `MsiDomain.restore`: the unit was not reset."""

    def tear_down(self, msi: PciMsi) -> None:
        """See `MsiDomain.tear_down`."""
        for key in [key for key in self._of if key[0] is msi]:
            self.stop(msi, key[1])
            self._handles.free(self._of.pop(key))

    def start(self, msi: PciMsi, vector: int, cpu: int) -> None:
        """See `MsiDomain.start`.  Raise OSError ENOSPC when the processor has no vector left."""
        for number in range(_FIRST_VECTOR, _END_VECTORS):
            if number not in _NOT_GIVEN and (cpu, number) not in self._vectors:
                break
        else:
            raise fail(errno.ENOSPC)
        self.stop(msi, vector)
        self._vectors[cpu, number] = msi, vector
        self._places[msi, vector] = cpu, number
        if self.unit.remaps:
            from pyvfio_backends.software.linux.pcie_function import PcieFunction

            function = msi.device.sysdata
            assert isinstance(function, PcieFunction)
            handle = self._of[msi, vector]
            self.unit.entries[handle] = RemappingEntry(function.bridge.domain, requester(function), cpu, number)

    def stop(self, msi: PciMsi, vector: int) -> None:
        """See `MsiDomain.stop`."""
        place = self._places.pop((msi, vector), None)
        if place is not None:
            del self._vectors[place]
            self.unit.entries.pop(self._of[msi, vector], None)

    def compose(self, msi: PciMsi, vector: int, cpu: int) -> tuple[int, int]:
        """See `MsiDomain.compose`."""
        if self.unit.remaps:
            return remapped_message(self._of[msi, vector])
        return compatible_message(*self._places.get((msi, vector), (cpu, _NO_VECTOR)))

    def _interrupt(self, cpu: int, vector: int) -> None:
        """A processor took a vector (``common_interrupt``)."""
        known = self._vectors.get((cpu, vector))
        if known is None:
            self._kernel.interrupts.count("ERR")
        else:
            known[0].deliver(known[1], cpu)
