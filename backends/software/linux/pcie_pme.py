"""The service of a root port, or event collector, that wakes who asks for that (``drivers/pci/pcie/pme.c``, 6.12).

::

    interrupt:  "PME status" in root status? interrupt off --> work
    work:       who? "PME status" of the port cleared --> its own cleared --> it wakes (`pci_runtime`)
                again while there is one; interrupt on

Behind a bridge to conventional PCI all are asked, since the message does not tell who it was.  That Linux looks at
functions every second which can raise events, in case their messages do not arrive, is not modelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_express_regs as express
from pyvfio.abi.pci_regs import ExpressType
from pyvfio.pci.tlp import rid_text
from pyvfio_backends.software.linux.kernel_log import INFO, say
from pyvfio_backends.software.linux.pci_power import take_event
from pyvfio_backends.software.linux.pcie_rcec import on_bus
from pyvfio_backends.software.linux.pcie_recovery import walk
from pyvfio_backends.software.linux.pcie_type import express_type

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["PowerEventService"]

_ONES = 0xFFFFFFFF


class PowerEventService:
    """The service of `port` (``pcie_pme_probe``)."""

    def __init__(self, port: PciDevice) -> None:
        self.port = port
        self._off = False

    def prepare(self) -> None:
        """Before anybody takes interrupts: have none, and forget what was before."""
        self._enable(False)
        self._clear()

    def start(self) -> None:
        """Have interrupts."""
        self._enable(True)

    def stop(self) -> None:
        """Have none any more (``pcie_pme_remove``)."""
        self.prepare()
        self._off = True

    @property
    def _status(self) -> int:
        return self.port.read_config(self.port.express + express.PCI_EXP_RTSTA, 4)

    def _clear(self) -> None:
        self.port.write_config(self.port.express + express.PCI_EXP_RTSTA, 4, express.PCI_EXP_RTSTA_PME)

    def _enable(self, on: bool) -> None:
        at = self.port.express + express.PCI_EXP_RTCTL
        control = self.port.read_config(at, 2) & ~express.PCI_EXP_RTCTL_PMEIE
        self.port.write_config(at, 2, control | (express.PCI_EXP_RTCTL_PMEIE if on else 0))

    def interrupt(self) -> bool:
        """The port interrupts (``pcie_pme_irq``); whether that is for an event."""
        status = self._status
        if status == _ONES or not status & express.PCI_EXP_RTSTA_PME:
            return False
        self._enable(False)
        self.port.kernel.clock.schedule(0, self._work)
        return True

    def _work(self) -> None:
        """Wake all that asked for it (``pcie_pme_work_fn``)."""
        while not self._off:
            status = self._status
            if status == _ONES or not status & express.PCI_EXP_RTSTA_PME:
                break
            self._clear()
            if not self._handle(status & express.PCI_EXP_RTSTA_PME_RQ_ID):
                self._say("Spurious native interrupt!")
        if not self._off:
            self._enable(True)

    def _say(self, text: str) -> None:
        say(self.port, INFO, f"PME: {text}")

    # who it was (pcie_pme_handle_request)

    def _handle(self, rid: int) -> bool:
        """Wake who has this routing id; whether anybody had an event."""
        port, number, devfn = self.port, rid >> 8, rid & 0xFF
        if rid == port.sysdata.bus_number << 8 | port.devfn:
            return _wake(port) or self._ask(port)  # a port may send in its own name what came from conventional PCI
        bridge, there = self._bridge_to(number), list(on_bus(port, number))
        if bridge is None and not there:
            return False
        if not devfn and self._ask_behind(bridge):
            return True
        for device in there:
            if device.devfn == devfn:
                return _wake(device)
        if not devfn:
            return False
        self._say(f"interrupt generated for non-existent device {rid_text(rid)}")
        return self._ask_behind(bridge)

    def _bridge_to(self, number: int) -> PciDevice | None:
        """The bridge, this port or one below it, whose bus has this number; an event collector has none."""
        for device in (self.port, *walk(self.port)):
            if device.is_bridge and device.read_config(bridge_regs.PCI_SECONDARY_BUS, 1) == number:
                return device
        return None

    def _ask_behind(self, bridge: PciDevice | None) -> bool:
        """Ask all behind a bridge if conventional PCI is there (``pcie_pme_from_pci_bridge``)."""
        return bridge is not None and express_type(bridge) == ExpressType.PCI_BRIDGE and self._ask(bridge)

    @staticmethod
    def _ask(bridge: PciDevice) -> bool:
        """Wake all functions of conventional PCI below a bridge that have an event (``pcie_pme_walk_bus``)."""
        woken = [_wake(device) for device in walk(bridge) if not device.express]
        return any(woken)


def _wake(device: PciDevice) -> bool:
    """Wake a function if it has an event; whether it had."""
    if not take_event(device):
        return False
    device.runtime.event()
    return True
