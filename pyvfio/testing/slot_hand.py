"""The hand at a slot of native hot-plug: it puts cards in, presses buttons, and takes a card out when it is off.

A software machine has slots to plug something into; for the guest of ``make hil`` the monitor of the QEMU that runs it
does that: a card that is added presses the button, one that is to go too, and QEMU takes it out once slot and power
indicator are off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pyvfio.backend import Backend
from pyvfio.pci.slot import SLOTS, Slot, slots
from pyvfio.sysfs import Sysfs
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import let_pass
from pyvfio.testing.monitor import Monitor

__all__ = ["CARD", "SlotHand", "empty_slot", "settles_in_time", "slot_hand"]

CARD = "virtio-rng-pci"
_NAME = "contract"
_STEP = 0.1


class SlotHand(Protocol):
    """Somebody before one slot."""

    def plug(self) -> None:
        """Put a `CARD` in, and press the button."""

    def press(self) -> None:
        """Press the button, to take the card out when it is off."""

    def holds(self) -> bool:
        """Whether the card has been taken out."""

    def close(self) -> None:
        """Leave."""


class _AtMachine:
    def __init__(self, machine: Any, port: str) -> None:
        self._slots = machine.slots
        self._port = port
        self._slots.find(port).hardware.ejects = True

    def plug(self) -> None:
        self._slots.plug(self._port, CARD, press=True)

    def press(self) -> None:
        self._slots.press(self._port)

    def holds(self) -> bool:
        return not self._slots.find(self._port).card

    def close(self) -> None:
        self._slots.find(self._port).hardware.ejects = False


class _AtMonitor:
    def __init__(self, backend: Backend, node: str, port: str) -> None:
        self._monitor = Monitor(backend, node)
        self._bus = self._monitor.device(port)

    def plug(self) -> None:
        self._monitor.events.clear()
        self._monitor.ask("device_add", driver=CARD, id=_NAME, bus=self._bus, **{"disable-legacy": "on"})

    def press(self) -> None:
        self._monitor.ask("device_del", id=_NAME)

    def holds(self) -> bool:
        self._monitor.ask("query-status")  # events come with answers
        return "DEVICE_DELETED" in self._monitor.events

    def close(self) -> None:
        self._monitor.__exit__()


def slot_hand(backend: Backend, port: str) -> SlotHand | None:
    """The hand at the slot of a port; None where nobody plugs anything into the host."""
    machine = getattr(backend, "machine", None)
    if hasattr(machine, "slots"):
        return _AtMachine(machine, port)
    node = Monitor.find(backend)
    return None if node is None else _AtMonitor(backend, node, port)


def empty_slot(backend: Backend) -> Slot | None:
    """An empty slot with a button, of a port that reports the state of its link; None without one."""
    if not Attributes(backend).exists(SLOTS):
        return None
    for one in slots(Sysfs(backend)):
        port, state = one.port, one.state()
        able = state is not None and state.button and state.link is not None
        if able and one.adapter is False and port is not None and port.driver == "pcieport":
            return one
    return None


def settles_in_time(backend: Backend, question: Callable[[], object], seconds: float = 20.0) -> bool:
    """Ask until the answer is true, and let time of the host, or of the machine, pass; False if it never was."""
    left = seconds
    while not question():
        if left <= 0:
            return False
        let_pass(backend, _STEP)
        left -= _STEP
    return True
