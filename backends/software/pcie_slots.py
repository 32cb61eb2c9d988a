"""The slots of a PCI Express machine, as somebody who stands before it sees them: cards, buttons, latches, indicators.

::

    machine.slots.plug("rpe", "nvme")             a card of one function, into the slot of the port with this id
    machine.slots.plug("rpe", CARD)               functions by number, or the specs of a whole switch
    machine.slots.press("9")                      by physical number; "0000:00:0c.0", the port's address, works too
    machine.slots.subscribe(lambda slot, event: print(machine.clock.now, slot.name, event))
    machine.clock.advance(5)                      the card has power

`plug` with ``press=True`` also presses the button, in one step, as QEMU's ``device_add`` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.pci.slot_state import SlotEvent, SlotState
from pyvfio_backends.software.description import PcieFunctionSpec
from pyvfio_backends.software.hardware.pcie.function import Function
from pyvfio_backends.software.hardware.pcie.port import DownstreamPort
from pyvfio_backends.software.hardware.pcie.slot import HotplugSlot
from pyvfio_backends.software.pcie_tree import build_card

if TYPE_CHECKING:
    from pyvfio_backends.software.clock import Clock
    from pyvfio_backends.software.hardware.pcie.host_bridges import HostBridges
    from pyvfio_backends.software.hardware.pcie.root_complex import RootComplex
    from pyvfio_backends.software.machine import Machine

__all__ = ["LINK_DELAY", "Card", "MachineSlot", "MachineSlots", "switch_on"]

LINK_DELAY = 0.1
"""Seconds of the machine's time that the link of a card takes that was put in, or got power."""

Card = str | Function | Mapping[int, Function] | Sequence[PcieFunctionSpec]
"""The name of a model, a function, several by number, or what stands behind ``card`` in the words of a machine file."""


def switch_on(complex_: RootComplex | HostBridges[Any], clock: Clock) -> None:
    """Give a fabric its time, and its slots the state that they have after power-up."""
    for root in complex_.root_buses:
        root.schedule = clock.schedule
    for _, function in complex_.functions():
        if isinstance(function, DownstreamPort):
            function.power_up()
            if function.slot is not None:
                function.slot.link_delay = LINK_DELAY


class MachineSlot:
    """A slot: `port` is the port above, `hardware` the slot itself, `address` the port's now."""

    def __init__(self, segment: int, port: DownstreamPort, hardware: HotplugSlot) -> None:
        self._segment = segment
        self.port = port
        self.hardware = hardware

    @property
    def address(self) -> str:
        """The address of the port."""
        from pyvfio.address import PciAddress

        rid = self.port.rid
        return str(PciAddress(self._segment, rid >> 8, rid >> 3 & 0x1F, rid & 7))

    @property
    def name(self) -> str:
        """Its physical number, as text."""
        return str(self.hardware.number)

    @property
    def state(self) -> SlotState:
        """What its registers say."""
        return self.hardware.state

    @property
    def card(self) -> dict[int, Function]:
        """The functions in it, by number."""
        return dict(self.port.secondary.functions)


class MachineSlots:
    """All slots of a machine; each call ends when all that it causes now is done."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @contextlib.contextmanager
    def _acting(self) -> Iterator[None]:
        with self._machine.lock:
            yield
            self._machine.clock.settle()

    def all(self) -> list[MachineSlot]:
        """The slots that there are now, those of switches that were plugged too."""
        return [
            MachineSlot(segment, function, function.slot)
            for segment, function in self._machine.pcie.functions()
            if isinstance(function, DownstreamPort) and function.slot is not None
        ]

    def find(self, name: str) -> MachineSlot:
        """The slot of the port with an id or an address, or with a physical number.

        Raise `NoSuchDevice`; `Misuse`: several slots have the number.
        """
        every = self.all()
        found = [one for one in every if name in (one.port.name, one.address)]
        found = found or [one for one in every if one.name == name]
        if not found:
            raise NoSuchDevice("find slot", name, cause=f"there is {', '.join(one.name for one in every) or 'none'}")
        if len(found) > 1:
            ports = ", ".join(one.address for one in found)
            raise Misuse("find slot", name, cause=f"several ports have it: {ports}")
        return found[0]

    def plug(self, name: str, card: Card, *, press: bool = False) -> dict[int, Function]:
        """Put a card into a slot, and `press` its button after that; the functions by number.

        Raise `Misuse` as `HotplugSlot.insert`, and for a card that cannot be built; nothing is plugged then.
        """
        with self._acting():
            hardware = self.find(name).hardware
            functions = self._build(card)
            hardware.insert(functions)
            for function in functions.values():
                self._give_time(function)
            if press:
                hardware.press()
        return functions

    def _build(self, card: Card) -> dict[int, Function]:
        if isinstance(card, str):
            card = [PcieFunctionSpec(card, "card")]
        if isinstance(card, Function):
            return {0: card}
        if isinstance(card, Mapping):
            return dict(card)
        return build_card(card, self._machine.peripherals)

    def _give_time(self, function: Function) -> None:
        """The slots behind a switch that was plugged take their time, too."""
        if isinstance(function, DownstreamPort) and function.slot is not None:
            function.slot.link_delay = LINK_DELAY
        behind = getattr(function, "secondary", None)
        for one in behind.functions.values() if behind is not None else ():
            self._give_time(one)

    def pull(self, name: str) -> dict[int, Function]:
        """Take the card out, now, whether or not it is in use (see `HotplugSlot.pull`); its functions by number."""
        with self._acting():
            return self.find(name).hardware.pull()

    def press(self, name: str) -> None:
        """Press the attention button.  Raise `Misuse`: there is none."""
        with self._acting():
            self.find(name).hardware.press()

    def open_latch(self, name: str, *, opened: bool = True) -> None:
        """Open the latch (MRL), or close it.  Raise `Misuse` as `HotplugSlot.set_latch`."""
        with self._acting():
            self.find(name).hardware.set_latch(opened)

    def lock(self, name: str, *, engaged: bool = True) -> None:
        """Engage the electromechanical interlock, or release it.  Raise `Misuse`: there is none."""
        with self._acting():
            self.find(name).hardware.set_interlock(engaged)

    def fault(self, name: str, *, lasting: bool = False) -> None:
        """Have the power controller find a fault (see `HotplugSlot.fault`)."""
        with self._acting():
            self.find(name).hardware.fault(lasting=lasting)

    def subscribe(self, told: Callable[[MachineSlot, SlotEvent], None]) -> Callable[[], None]:
        """Have `told` called with each event of the slots that there are now; what is given back ends that."""

        def listen(slot: MachineSlot) -> Callable[[], None]:
            return slot.hardware.subscribe(lambda event: told(slot, event))

        ends = [listen(slot) for slot in self.all()]

        def end() -> None:
            for one in ends:
                one()

        return end
