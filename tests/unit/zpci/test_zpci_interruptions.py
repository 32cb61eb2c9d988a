"""No interruption is lost or invented: every order of functions that interrupt and a Linux that looks.

A function sets its vector's bit, then its summary bit, then requests an interruption; Linux's handler
(``zpci_floating_irq_handler``) clears what it finds, allows one more interruption, and looks once more.  All orders of
these small steps are gone through, with the code that carries the instructions out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from orders import Memory, Steps, Thread, World, explore

from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.function import FunctionState
from pyvfio.zpci.instructions import OperandException, Status
from pyvfio.zpci.interruptions import SUBCLASSES, AdapterInterruptions, Registration, StorageBits
from pyvfio.zpci.sic import SicOperation
from pyvfio.zpci.vector import clear_bits, set_bit
from pyvfio.zpci.vector import test_bit as is_set

SUMMARY, VECTORS = 0, (8, 16)
ISC = 2


class Floating(World):
    """Two functions with vectors of their own, and a summary bit each, or (`shared`) one for both."""

    def __init__(self, signals: tuple[int, ...], *, shared: bool = False, summary: bool = True) -> None:
        super().__init__()
        self.shared = shared
        self.summary = summary
        self.interruptions.control(SicOperation.SINGLE, ISC)
        for which in (0, 1):
            self.register(which)
        self.threads = [Thread(self.linux()), *(Thread(self.device(n, count)) for n, count in enumerate(signals))]

    def register(self, which: int) -> None:
        bit = 0 if self.shared else which
        fib = Fib(isc=ISC, noi=1, aibv=VECTORS[which], sum=int(self.summary), aisb=SUMMARY, aisbo=bit)
        assert self.controls[which].register_interrupts(fib).cc == 0

    def linux(self) -> Steps:
        """``zpci_floating_irq_handler``; without summary bits it looks at all vectors."""
        while True:
            yield lambda: ISC in self.pending
            self.pending.remove(ISC)
            irqs_on = False
            while True:
                for bit in range(1 if self.shared else 2):
                    yield None
                    if not self.summary or self.take(SUMMARY, bit):
                        for which in (0, 1) if self.shared else (bit,):
                            yield None
                            self.handled[which] += self.take(VECTORS[which], 0)
                yield None
                if irqs_on:
                    break
                self.interruptions.control(SicOperation.SINGLE, ISC)
                irqs_on = True


def check(ends: list[Any], *, seen: bool = True) -> None:
    assert ends
    for end in ends:
        assert not any(end.memory.data), "bits are left, and nobody looks"
        assert not end.pending
        for handled, sent in zip(end.handled, end.sent, strict=True):
            assert handled <= sent, "more than there were"
            assert bool(handled) == bool(sent) or not seen, "none was seen"


@pytest.mark.parametrize("signals", [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2)])
@pytest.mark.parametrize("how", [{}, {"shared": True}, {"summary": False}], ids=["own", "shared", "no summary"])
def test_no_order_loses_an_interruption(signals: tuple[int, ...], how: dict[str, bool]) -> None:
    check(explore(lambda: Floating(signals, **how)))


def test_the_other_order_of_the_bits_would_lose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test can fail: with the summary bit first, Linux may clear it before there is anything in the vector."""

    def steps(self: AdapterInterruptions, bits: Any, one: Registration, vector: int, address: int) -> Iterator[None]:
        set_bit(bits, one.aisb, one.aisbo)
        yield
        set_bit(bits, one.aibv, vector)
        yield
        self.request(one.isc)

    monkeypatch.setattr(AdapterInterruptions, "steps", steps)
    assert any(any(end.memory.data) for end in explore(lambda: Floating((1, 1))))


def test_looking_only_once_would_lose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test can fail: what comes before interrupts are on again is found by the second look."""

    class Once(Floating):
        def linux(self) -> Steps:
            while True:
                yield lambda: ISC in self.pending
                self.pending.remove(ISC)
                for which in (0, 1):
                    yield None
                    if self.take(SUMMARY, which):
                        yield None
                        self.handled[which] += self.take(VECTORS[which], 0)
                yield None
                self.interruptions.control(SicOperation.SINGLE, ISC)

    assert any(any(end.memory.data) for end in explore(lambda: Once((1, 1))))


# ---- registering in the middle, and errors -----------------------------------------------------------------------


class Registering(Floating):
    """The first function's interrupts are taken away, and (`again`) registered anew with a cleared vector."""

    def __init__(self, signals: tuple[int, ...], *, again: bool, shared: bool) -> None:
        super().__init__(signals, shared=shared)
        self.threads.append(Thread(self.driver(again)))
        self.late = 0

    def driver(self, again: bool) -> Steps:
        yield self.quiet(0)
        assert self.controls[0].deregister_interrupts().cc == 0
        before, seen = self.sent[0], self.handled[0]
        yield None
        # arch_teardown_msi_irqs: the vector goes, with what it says
        if self.take(VECTORS[0], 0):
            self.sent[0] -= 1
        self.late = self.handled[0] - seen
        assert self.sent[0] <= before
        yield None
        if again:
            self.register(0)

    def extra(self) -> int:
        return self.late


@pytest.mark.parametrize("signals", [(1, 1), (2, 0)])
@pytest.mark.parametrize("again", [False, True], ids=["away", "again"])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_deregistering_in_the_middle(signals: tuple[int, ...], again: bool, shared: bool) -> None:
    """Nothing is left, the other function loses nothing, and a message without registration goes nowhere."""
    ends = explore(lambda: Registering(signals, again=again, shared=shared))
    check(ends, seen=False)
    assert all(bool(end.handled[1]) == bool(signals[1]) for end in ends)
    assert {end.sent[0] for end in ends} > {0} or again


class Failing(Floating):
    """The first function goes into error while it interrupts; Linux resets the error after that."""

    def __init__(self, signals: tuple[int, ...], *, reset: bool) -> None:
        super().__init__(signals)
        self.threads.append(Thread(self.error(reset)))

    def error(self, reset: bool) -> Steps:
        yield None
        self.functions[0].state = FunctionState.ERROR
        yield None
        if reset:
            assert self.controls[0].reset_error().cc == 0


@pytest.mark.parametrize("reset", [False, True])
def test_a_function_in_error_sends_nothing_and_disturbs_nobody(reset: bool) -> None:
    ends = explore(lambda: Failing((2, 0), reset=reset))
    check(ends)
    assert {end.sent[0] for end in ends} == {0, 1, 2}


def test_a_vector_in_no_storage_fails_one_function_only() -> None:
    def make() -> Floating:
        world = Floating((1, 1))
        world.controls[0].deregister_interrupts()
        world.controls[0].register_interrupts(Fib(isc=ISC, noi=1, aibv=1 << 40, sum=1, aisb=SUMMARY))
        return world

    for end in explore(make):
        assert (end.errors, end.handled) == ([ErrorCode.BIT_VECTOR_ACCESS], [0, 1])
        assert not any(end.memory.data)


# ---- rules -------------------------------------------------------------------------------------------------------


def test_delivering_sets_the_vector_before_the_summary() -> None:
    order: list[int] = []

    class Watched(Memory):
        def write(self, address: int, data: bytes) -> None:
            super().write(address, data)
            order.append(address)

    memory, made = Watched(), []
    interruptions = AdapterInterruptions(made.append)
    for _ in interruptions.steps(StorageBits(memory), Registration(ISC, 8, 8, 3, True, 0, 1), 4, 0):
        assert not made
    assert (order, made) == ([8, 0], [ISC])
    assert is_set(StorageBits(memory), 8, 7)
    assert is_set(StorageBits(memory), 0, 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.register_interrupts(Fib(noi=1)),
        lambda one: one.deregister_interrupts(directed=True),
    ],
)
def test_what_is_out_of_sequence(change: Callable[[Any], Any]) -> None:
    answer = change(Floating((0, 0)).controls[0])
    assert (answer.cc, answer.status) == (1, Status.FUNCTION_ALREADY_ENABLED)


def test_bits_are_numbered_from_the_left() -> None:
    bits = StorageBits(Memory())
    assert not set_bit(bits, 0, 0)
    assert set_bit(bits, 0, 0)
    set_bit(bits, 0, 63)
    assert bits.read(0, 8) == bytes.fromhex("8000000000000001")
    assert list(clear_bits(bits, 0, 0, 64)) == [0, 63]
    assert bits.read(0, 8) == bytes(8)


def test_subclasses_do_not_disturb_each_other() -> None:
    made: list[int] = []
    interruptions = AdapterInterruptions(made.append)
    interruptions.control(SicOperation.SINGLE, 1)
    for isc in (1, 1, 2, 2):
        interruptions.request(isc)
    assert made == [1, 2, 2]
    assert (interruptions.made[2], interruptions.suppressed[1]) == (2, 1)
    with pytest.raises(OperandException):
        interruptions.control(SicOperation.ALL, SUBCLASSES)
