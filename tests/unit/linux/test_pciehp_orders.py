"""pciehp in all orders of what people, cards and programs do, against a small model that knows neither registers nor
interrupts.

The model was written from ``drivers/pci/hotplug/pciehp_ctrl.c`` (6.12): what the slot has become 4 s after each
deed.  One oddity of the kernel is in it: for a slot with a button the interrupt of presence is not enabled, but its
handler takes note of presence whenever another event (or the end of a command) brings it there, so that a card that was
put in counts from then on (`Model.stale`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from errno import ENODEV, EPERM

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from slot_rig import ADDRESS, FUNCTION, SlotRig

from pyvfio.pci.slot_state import Indicator
from pyvfio_backends.software.linux.pciehp import SlotPhase

NO_SHRINKING = [Phase.explicit, Phase.reuse, Phase.generate]
STEP = 4.0
BLINK = 5.0


@dataclass
class Model:
    """One slot: with a `button` or not, and with a `latch`; `phase` is off, on, or which way it will go ("+", "-").

    `stale`: presence has changed and nobody has looked yet; `bad`: the card makes the power controller fail.
    """

    button: bool = True
    latch: bool = False
    completion: bool = True
    card: bool = False
    bad: bool = False
    phase: str = "off"
    stale: bool = False
    opened: bool = False
    attention: int = 0
    since: float = 0.0
    now: float = 0.0

    # deeds; each tells what the doer gets to know

    def insert(self) -> bool:
        if self.card or (self.latch and not self.opened):
            return False
        self.card, self.bad, self.stale = True, False, True
        if not self.button:
            self.look()
        return True

    def pull(self) -> bool:
        if not self.card or (self.latch and not self.opened):
            return False
        self.card = self.bad = False
        if self.phase in ("on", "-"):
            self.off()  # by the link
        else:
            self.stale = True
            if not self.button:
                self.look()
        return True

    def press(self) -> bool:
        if not self.button:
            return False
        way = {"off": "+", "on": "-", "+": "off", "-": "on"}
        self.phase, self.attention, self.since = way[self.phase], 0, self.now
        self.look()
        return True

    def command(self) -> None:
        """The kernel gave the slot a command, whose end is an interrupt."""
        if self.completion:
            self.look()

    def power(self, on: bool) -> int:
        if on:
            return self.enable() if self.phase in ("off", "+") else ENODEV
        if self.phase not in ("on", "-"):
            return ENODEV
        self.off()
        return 0

    def set_attention(self, value: int) -> None:
        self.attention = value
        self.command()

    def move_latch(self) -> bool:
        if not self.latch:
            return False
        self.opened = not self.opened
        if self.opened and self.phase in ("on", "-"):
            self.off()
            self.enable()  # refused: the latch is open
        return True

    def fail(self, lasting: bool) -> bool:
        """A power fault, of a card that has power."""
        if self.phase not in ("on", "-"):
            return False
        self.bad = lasting
        self.off()
        self.attention = 1
        self.enable()
        return True

    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.phase in ("+", "-") and self.now - self.since >= BLINK:
            if self.phase == "-":
                self.off()
            else:
                self.enable()

    # what follows

    def look(self) -> None:
        stale, self.stale = self.stale, False
        if stale and self.phase in ("off", "+"):
            self.enable()

    def off(self) -> None:
        self.phase, self.stale = "off", False

    def enable(self) -> int:
        blinking, self.phase = self.phase == "+", "off"
        if not self.card or self.opened:
            if blinking or (self.card and self.button):
                self.stale = self.stale and not self.completion  # the indicator goes off
            return ENODEV
        self.stale = False
        if self.bad:
            self.attention = 1
            return EPERM
        self.phase, self.attention = "on", 0
        return 0


PHASES = {
    SlotPhase.OFF: "off",
    SlotPhase.ON: "on",
    SlotPhase.BLINKING_ON: "+",
    SlotPhase.BLINKING_OFF: "-",
}
LIGHTS = {"off": Indicator.OFF, "on": Indicator.ON, "+": Indicator.BLINK, "-": Indicator.BLINK}


class Pair:
    """A machine and its model, which are done the same to."""

    def __init__(self, *, button: bool = True, latch: bool = False, completion: bool = True) -> None:
        self.rig = SlotRig(button=button, latch=latch, completion=completion)
        self.model = Model(button=button, latch=latch, completion=completion)
        self.functions = 0

    def do(self, deed: str) -> None:
        model, rig = self.model, self.rig
        deeds: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "insert": (model.insert, rig.try_plug),
            "pull": (model.pull, rig.try_pull),
            "press": (model.press, self._press),
            "power 1": (lambda: model.power(True), lambda: rig.write("power", "1")),
            "power 0": (lambda: model.power(False), lambda: rig.write("power", "0")),
            "attention": (self._model_attention, lambda: rig.write("attention", "1")),
            "latch": (model.move_latch, self._latch),
            "fault": (lambda: model.fail(False), lambda: self._fault(False)),
            "short": (lambda: model.fail(True), lambda: self._fault(True)),
            "wait": (lambda: None, lambda: None),
        }
        before = rig.machine.clock.now
        expected, found = (one() for one in deeds[deed])
        assert expected == found, deed
        rig.machine.clock.advance(max(0.0, STEP - (rig.machine.clock.now - before)))
        model.wait(STEP)
        self.check(deed)

    def _model_attention(self) -> int:
        self.model.set_attention(1)
        return 0

    def _press(self) -> bool:
        if not self.model.button:
            return False
        self.rig.slots.press("port")
        return True

    def _latch(self) -> bool:
        if not self.model.latch:
            return False
        self.rig.slots.open_latch("port", opened=not self.rig.slot.state.latch_open)
        return True

    def _fault(self, lasting: bool) -> bool:
        if self.rig.phase not in (SlotPhase.ON, SlotPhase.BLINKING_OFF):
            return False
        self.rig.slots.fault("port", lasting=lasting)
        return True

    def check(self, deed: str) -> None:
        rig, model, state = self.rig, self.model, self.rig.slot.state
        assert PHASES[rig.phase] == model.phase, deed
        here = model.phase in ("on", "-")
        assert state.present == model.card
        assert state.power == here
        assert state.indicator is LIGHTS[model.phase], deed
        assert rig.there() == here
        assert rig.read("power") == str(int(here))
        assert rig.read("adapter") == str(int(model.card))
        assert rig.read("attention") == str(model.attention), deed
        for told in rig.told():
            change = {f"add {ADDRESS}.0": 1, f"remove {ADDRESS}.0": -1}[told]
            self.functions += change
            assert self.functions in (0, 1), "added twice, or removed twice"
        assert self.functions == here

    def empty(self) -> None:
        """Back to the start: no card, nothing pending, attention off."""
        if self.model.latch and not self.model.opened:
            self.do("latch")
        self.do("pull")
        for _ in range(4):
            self.do("wait")
        if self.model.latch:
            self.do("latch")
        self.rig.write("attention", "0")
        self.model.set_attention(0)
        self.rig.machine.clock.advance(STEP)
        if self.model.stale:  # a slot that says nothing: a press has it looked at
            self.do("press")
            for _ in range(3):
                self.do("wait")
        self.check("empty")


DEEDS = ("insert", "pull", "press", "power 1", "power 0", "wait")
FAULTS = ("fault", "short")
"""Not of a slot that is silent about commands: the bit of the fault stays, and counts when somebody looks next."""
ALL = (*DEEDS, "attention", "latch", *FAULTS)


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_every_order_of_deeds(length: int) -> None:
    pair = Pair()
    for deeds in itertools.product(DEEDS, repeat=length):
        try:
            for deed in deeds:
                pair.do(deed)
            pair.empty()
        except AssertionError as error:
            raise AssertionError(f"{' / '.join(deeds)}: {error}") from error
    pair.rig.close()


@pytest.mark.parametrize("kind", ["no button", "latch", "silent"])
def test_every_order_with_other_slots(kind: str) -> None:
    pair = Pair(button=kind != "no button", latch=kind == "latch", completion=kind != "silent")
    left_out = {"no button": ("latch",), "latch": (), "silent": ("latch", *FAULTS)}[kind]
    others = [deed for deed in ALL if deed not in left_out]
    for deeds in itertools.product(others, repeat=3 if kind == "latch" else 2):
        try:
            for deed in deeds:
                pair.do(deed)
            pair.empty()
        except AssertionError as error:
            raise AssertionError(f"{kind}: {' / '.join(deeds)}: {error}") from error
    pair.rig.close()


class Slots(RuleBasedStateMachine):
    """Long orders of everything."""

    @initialize(button=st.booleans(), latch=st.booleans(), completion=st.booleans())
    def boot(self, button: bool, latch: bool, completion: bool) -> None:
        self.pair = Pair(button=button, latch=latch, completion=completion)

    @rule(deed=st.sampled_from(ALL))
    def deed(self, deed: str) -> None:
        if self.pair.model.completion or deed not in FAULTS:
            self.pair.do(deed)

    def teardown(self) -> None:
        if hasattr(self, "pair"):
            self.pair.rig.close()


TestSlots = Slots.TestCase
TestSlots.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, phases=NO_SHRINKING)


class Chaos(RuleBasedStateMachine):
    """Deeds with any time between them: what must hold always, and what must be so when all is quiet."""

    @initialize(button=st.booleans(), completion=st.booleans(), delay=st.sampled_from([0.0, 0.1, 0.9, 1.5]))
    def boot(self, button: bool, completion: bool, delay: float) -> None:
        self.rig = SlotRig(button=button, completion=completion)
        self.rig.slot.hardware.link_delay = delay
        self.delay = delay
        self.here = 0

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.11, 0.5, 1.0, 3.0, 5.0]))
    def wait(self, seconds: float) -> None:
        self.rig.pass_time(seconds)

    @rule()
    def insert(self) -> None:
        self.rig.try_plug()

    @rule()
    def pull(self) -> None:
        self.rig.try_pull()

    @rule()
    def press(self) -> None:
        if self.rig.slot.state.button:
            self.rig.slots.press("port")

    @rule(lasting=st.booleans())
    def fault(self, lasting: bool) -> None:
        self.rig.slots.fault("port", lasting=lasting)

    @rule(value=st.sampled_from("01"))
    def power(self, value: str) -> None:
        assert self.rig.write("power", value) in (0, ENODEV, EPERM, 5)

    @rule(value=st.sampled_from("0123"))
    def attention(self, value: str) -> None:
        assert self.rig.write("attention", value) == 0

    @rule()
    def quiet(self) -> None:
        rig = self.rig
        rig.pass_time(20)
        assert rig.phase in (SlotPhase.OFF, SlotPhase.ON)
        assert not rig.controller.thread.pending
        assert not rig.controller.thread.running
        on, state = rig.phase is SlotPhase.ON, rig.slot.state
        assert state.power == on
        assert state.link == (on and not rig.slot.hardware.cut_off)
        assert rig.there() == on
        assert not on or state.present

    @invariant()
    def nothing_twice(self) -> None:
        if not hasattr(self, "rig"):
            return
        for told in self.rig.told():
            self.here += 1 if told.startswith("add") else -1
            assert self.here in (0, 1)
        assert self.rig.there(FUNCTION) == bool(self.here)
        if self.here:
            assert self.rig.phase is not SlotPhase.OFF

    def teardown(self) -> None:
        if hasattr(self, "rig"):
            self.rig.close()


TestChaos = Chaos.TestCase
TestChaos.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, phases=NO_SHRINKING)
