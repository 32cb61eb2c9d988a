"""Where messages of errors and of power management events end: at a root port, or at a root complex event collector."""

from __future__ import annotations

from collections.abc import Sequence

from pyvfio.abi import pci_extended_regs as extended
from pyvfio_backends.software.hardware.pci.bar import Bar
from pyvfio_backends.software.hardware.pci.config import ConfigSpace
from pyvfio_backends.software.hardware.pci.register import Capability
from pyvfio_backends.software.hardware.pcie.aer import Aer
from pyvfio_backends.software.hardware.pcie.express import Express
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.power_events import RootPowerEvents
from pyvfio_backends.software.hardware.pcie.root_errors import RootErrors

__all__ = ["EventCollector", "MessageEnd"]


class MessageEnd(Function):
    """A function where such messages end, with the registers for that in its capabilities."""

    def __init__(self, config: ConfigSpace, bars: Sequence[Bar] = (), *, name: str = "") -> None:
        super().__init__(config, bars, name=name)
        self.root_errors = RootErrors(self)
        self.power_events = RootPowerEvents(self)

    def added(self, capability: Capability, offset: int) -> None:
        """See `Function.added`."""
        super().added(capability, offset)
        if isinstance(capability, Aer):
            self.root_errors.watch(offset)
        elif isinstance(capability, Express):
            self.power_events.watch(offset)


class EventCollector(MessageEnd):
    """A root complex event collector: where messages of integrated endpoints end: errors, power management events.

    Its association capability says whose (`extended.CollectorAssociation`); without one it hears only itself.
    """

    def hears(self, rid: int) -> bool:
        """Whether messages of the integrated endpoint with this routing id, in its segment, end here."""
        if self.bus is None or rid == self.rid:
            return rid == self.rid
        at = self.offset(extended.PCI_EXT_CAP_ID_RCEC, extended=True)
        if at is None:
            return False
        config, bus = self.config, rid >> 8
        if bus == self.bus.number:
            return bool(config.read(at + extended.PCI_RCEC_RCIEP_BITMAP, 4) >> (rid >> 3 & 0x1F) & 1)
        if config.read(at, 4) >> 16 & 0xF < extended.PCI_RCEC_BUSN_REG_VER:
            return False
        buses = config.read(at + extended.PCI_RCEC_BUSN, 4)
        return buses >> 8 & 0xFF <= bus <= buses >> 16 & 0xFF
