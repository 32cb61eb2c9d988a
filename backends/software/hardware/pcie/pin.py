"""The interrupt pin of a function: what the device asserts, and what gets out.

Nothing gets out while the command register forbids it; the status register tells what the device asserts all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["InterruptPin"]


class InterruptPin:
    """The pin of `function`: `asserted` by the device, `out` when its bus was told so.

    Several parts of a device can share it: it is asserted while one of them does (`drive`).
    """

    __slots__ = ("_drivers", "asserted", "function", "out")

    def __init__(self, function: Function) -> None:
        self.function = function
        self.asserted = False
        self.out = False
        self._drivers: set[str] = set()

    def drive(self, part: str, asserted: bool) -> None:
        """Have one part of the device assert it, or no longer."""
        if asserted != (part in self._drivers):
            (self._drivers.add if asserted else self._drivers.discard)(part)
            self._assert(bool(self._drivers))

    def set(self, asserted: bool) -> None:
        """Assert or release it for the whole device; nothing happens without a pin."""
        self._drivers = {""} if asserted else set()
        self._assert(asserted)

    def _assert(self, asserted: bool) -> None:
        data = self.function.config.data
        self.asserted = asserted and bool(data[regs.PCI_INTERRUPT_PIN])
        status = data[regs.PCI_STATUS] & ~regs.PCI_STATUS_INTERRUPT
        data[regs.PCI_STATUS] = status | (regs.PCI_STATUS_INTERRUPT if self.asserted else 0)
        self.show()

    def show(self) -> None:
        """Tell the bus if it changed what gets out."""
        function = self.function
        out = self.asserted and not function.config.command & regs.PCI_COMMAND_INTX_DISABLE
        if out != self.out and function.bus is not None:
            self.out = out
            function.bus.intx(function.devfn, function.config.data[regs.PCI_INTERRUPT_PIN], out, function)
