"""The slots of a machine for programs behind the seam: its buttons, and what happens, with the passing of its time.

No system call presses a button: a host's backend has none of this.  `SoftwareBackend` has, beyond `Backend`,
`press_button`, `let_pass` and `slot_events`.
"""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from pyvfio.errors import NotAvailable
from pyvfio.pci.slot_state import SlotEvent

if TYPE_CHECKING:
    from pyvfio_backends.software.backend import SoftwareBackend
    from pyvfio_backends.software.machine import Machine
    from pyvfio_backends.software.pcie_slots import MachineSlot, MachineSlots

__all__ = ["SlotEvents", "machine_slots", "slot_name"]

_STEP = 0.05


def machine_slots(machine: Machine) -> MachineSlots:
    """The slots of a machine.  Raise `NotAvailable` for one of another architecture."""
    found: MachineSlots | None = getattr(machine, "slots", None)
    if found is None:
        cause = f"{machine.name} has no PCI Express ports; slots of IBM Z have no buttons and no indicators"
        raise NotAvailable("use a slot", machine.name, cause=cause)
    return found


def slot_name(machine: Machine, slot: MachineSlot) -> str:
    """What Linux calls a slot: its number, with a further one where several have that."""
    from pyvfio_backends.software.linux.pciehp_service import SLOT_NAMES

    names = machine.kernel.subsystems.get(SLOT_NAMES) or {}
    return names.get(slot.address, slot.name)


class SlotEvents:
    """What happens at the slots from now on.

    Reading lets the machine's time pass where work is put off (`passes`); real time passes else, unless the reader
    `drives` the machine: then nothing can happen.
    """

    def __init__(self, backend: SoftwareBackend, *, passes: bool, drives: bool) -> None:
        self._backend = backend
        self._machine = backend.machine
        self._passes = passes
        self._drives = drives
        self._queue: collections.deque[tuple[float, str, SlotEvent]] = collections.deque()
        with self._machine.lock:
            slots = getattr(self._machine, "slots", None)
            self._end = slots.subscribe(self._note) if slots is not None else lambda: None

    def _note(self, slot: MachineSlot, event: SlotEvent) -> None:
        self._queue.append((self._machine.clock.now, slot_name(self._machine, slot), event))
        self._machine.clock.notify()

    def read(self, timeout: float) -> list[tuple[float, str, SlotEvent]]:
        """What has happened: the machine's time, the slot and the event; waits up to `timeout` seconds for it."""
        clock = self._machine.clock
        with self._machine.lock:
            left = timeout
            while not self._queue and left > 0:
                if clock.paced or not self._passes or not clock.busy:
                    if clock.paced or not self._drives:
                        clock.condition.wait(left)
                    break
                self._backend.let_pass(min(_STEP, left))
                left -= _STEP
            found = list(self._queue)
            self._queue.clear()
        return found

    def close(self) -> None:
        """Listen no more."""
        with self._machine.lock:
            self._end()
