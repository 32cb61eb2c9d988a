"""Power management events (PME): how a function asks for attention, also while it sleeps.

::

    function: "PME status" --- enabled? --> message, with its routing id --> ports --> root port or event collector
    behind a bridge to conventional PCI it is a wire, and the bridge sends the message: of device 0 on its bus

    root status: the first sender, until software clears "PME status"; those that come meanwhile wait ("pending")

An interrupt is a message (the same as hot-plug's) each time that "PME status" comes to be, or else the pin while it
stands.  A sender does not repeat its message.  Source: PCI Express Base Specification, 6.0, 5.3.3 and 6.1.5.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pyvfio.abi import pci_express_regs as express
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pci.register import Capability
from pyvfio_backends.software.hardware.pcie.capabilities import PowerManagement

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["RootPowerEvents", "raise_event", "watch_events"]

_PIN = "power"
_MESSAGE_SHIFT = 9


def raise_event(function: Function) -> bool:
    """Have a function ask for attention; False where its power management cannot, from the state that it is in."""
    at = function.offset(regs.PCI_CAP_ID_PM)
    if at is None:
        return False
    config = function.config
    if not config.read(at + regs.PCI_PM_PMC, 2) & regs.PCI_PM_CAP_PME << function.power_state:
        return False
    control = config.read(at + regs.PCI_PM_CTRL, 2)
    config.put(at + regs.PCI_PM_CTRL, 2, control | regs.PCI_PM_CTRL_PME_STATUS)
    if not control & regs.PCI_PM_CTRL_PME_STATUS:
        _send(function, at)
    return True


def watch_events(function: Function, declared: Capability, at: int) -> None:
    """Have a function send the event that it has when software enables events."""
    if not isinstance(declared, PowerManagement) or not declared.pme:
        return

    def written(before: int, ones: int) -> None:
        if not before & regs.PCI_PM_CTRL_PME_ENABLE:
            _send(function, at)

    function.config.watch(at + regs.PCI_PM_CTRL, 2, written)


def _send(function: Function, at: int) -> None:
    control = function.config.read(at + regs.PCI_PM_CTRL, 2)
    both = regs.PCI_PM_CTRL_PME_STATUS | regs.PCI_PM_CTRL_PME_ENABLE
    if control & both == both and function.bus is not None:
        function.bus.power_event(function.rid)


class RootPowerEvents:
    """Root status of `function`, a root port or an event collector."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self._waiting: deque[int] = deque()
        self._pending = False

    def watch(self, at: int) -> None:
        """Go on to the next sender, and interrupt or stop to, as software writes; PCI Express's registers are here."""
        config = self.function.config
        config.watch(at + express.PCI_EXP_RTSTA, 4, lambda before, ones: self._cleared(at))
        config.watch(at + express.PCI_EXP_RTCTL, 2, lambda before, ones: self._interrupt(at))
        self.function.on_reset.append(lambda: self._reset(at))

    def receive(self, rid: int) -> None:
        """Take a message of who has this routing id."""
        at = self.function.offset(regs.PCI_CAP_ID_EXP)
        if at is None:
            return
        config = self.function.config
        status = config.read(at + express.PCI_EXP_RTSTA, 4)
        if not status & express.PCI_EXP_RTSTA_PME:
            self._show(at, rid)
        elif rid not in (status & express.PCI_EXP_RTSTA_PME_RQ_ID, *self._waiting):
            self._waiting.append(rid)
            config.put(at + express.PCI_EXP_RTSTA, 4, status | express.PCI_EXP_RTSTA_PENDING)

    def _show(self, at: int, rid: int) -> None:
        more = express.PCI_EXP_RTSTA_PENDING if self._waiting else 0
        self.function.config.put(at + express.PCI_EXP_RTSTA, 4, rid | express.PCI_EXP_RTSTA_PME | more)
        self._interrupt(at)

    def _cleared(self, at: int) -> None:
        self._interrupt(at)
        if self._waiting and not self.function.config.read(at + express.PCI_EXP_RTSTA, 4) & express.PCI_EXP_RTSTA_PME:
            self._show(at, self._waiting.popleft())

    def _reset(self, at: int) -> None:
        self._waiting.clear()
        self._interrupt(at)

    def _interrupt(self, at: int) -> None:
        function = self.function
        noted = function.config.read(at + express.PCI_EXP_RTSTA, 4) & express.PCI_EXP_RTSTA_PME
        enabled = function.config.read(at + express.PCI_EXP_RTCTL, 2) & express.PCI_EXP_RTCTL_PMEIE
        pending = bool(noted and enabled)
        was, self._pending = self._pending, pending and function.messages_on
        function.pin.drive(_PIN, pending and not function.messages_on)
        if self._pending and not was:
            flags = function.config.read(at + regs.PCI_EXP_FLAGS, 2)
            function.signal((flags & regs.PCI_EXP_FLAGS_IRQ) >> _MESSAGE_SHIFT)
