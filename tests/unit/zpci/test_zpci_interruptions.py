"""No interruption is lost or invented: every interleaving of two functions that interrupt and a Linux that looks.

A function sets its vector's bit, then its summary bit, then requests an interruption; Linux's handler
(``zpci_floating_irq_handler``) clears what it finds, allows one more interruption, and looks once more.  All orders of
these small steps are gone through, with the code that carries the instructions out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from pyvfio.css.instructions import StorageError
from pyvfio.zpci.instructions import OperandException
from pyvfio.zpci.interruptions import SUBCLASSES, AdapterInterruptions, Registration, StorageBits
from pyvfio.zpci.sic import SicOperation
from pyvfio.zpci.vector import clear_bits, set_bit
from pyvfio.zpci.vector import test_bit as is_set

SUMMARY, VECTORS = 0, (8, 16)
ISC = 2


class Memory:
    def __init__(self, data: bytes = bytes(64)) -> None:
        self.data = bytearray(data)

    def read(self, address: int, count: int) -> bytes:
        if not 0 <= address <= len(self.data) - count:
            raise StorageError(address, count)
        return bytes(self.data[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        self.read(address, len(data))
        self.data[address : address + len(data)] = data


@dataclass(frozen=True)
class State:
    """Everything: storage, whether the subclass may interrupt, interruptions that wait, who is where."""

    data: bytes = bytes(64)
    armed: bool = True
    pending: int = 0
    # Per function: how many of its signals are done (three steps each).
    devices: tuple[int, ...] = (0, 0)
    # Linux: 0 idle; (step, function, whether interruptions are on already)
    handler: tuple[str, int, bool] | None = None
    handled: tuple[int, ...] = (0, 0)


def device_step(state: State, which: int, *, summary_first: bool) -> State:
    memory = Memory(state.data)
    bits = StorageBits(memory)
    done = state.devices[which]
    devices = tuple(n + (number == which) for number, n in enumerate(state.devices))
    step = done % 3
    pending, armed = state.pending, state.armed
    if step == (1 if summary_first else 0):
        set_bit(bits, VECTORS[which], 0)
    elif step == (0 if summary_first else 1):
        set_bit(bits, SUMMARY, which)
    else:
        made: list[int] = []
        interruptions = AdapterInterruptions(made.append)
        interruptions.control(SicOperation.SINGLE, ISC)
        if not armed:  # the one that it allows has been made
            interruptions.request(ISC)
            made.clear()
        interruptions.request(ISC)
        pending += len(made)
        armed = armed and not made
    return replace(state, data=bytes(memory.data), devices=devices, pending=pending, armed=armed)


def linux_step(state: State) -> State | None:
    """One step of the handler; None when Linux has nothing to do."""
    memory = Memory(state.data)
    bits = StorageBits(memory)
    if state.handler is None:
        if not state.pending:
            return None
        return replace(state, pending=state.pending - 1, handler=("scan", 0, False))
    what, which, on = state.handler
    if what == "scan":
        if which < len(VECTORS):
            found = list(clear_bits(bits, SUMMARY, which, 1))
            follow = ("vector", which, on) if found else ("scan", which + 1, on)
            return replace(state, data=bytes(memory.data), handler=follow)
        if on:
            return replace(state, handler=None)
        return replace(state, armed=True, handler=("scan", 0, True))
    found = list(clear_bits(bits, VECTORS[which], 0, 1))
    handled = tuple(n + (number == which and bool(found)) for number, n in enumerate(state.handled))
    return replace(state, data=bytes(memory.data), handled=handled, handler=("scan", which + 1, on))


def explore(signals: tuple[int, ...], *, summary_first: bool = False) -> list[State]:
    """All states in which nobody has anything to do any more."""
    todo, seen, ends = [State()], {State()}, []
    while todo:
        state = todo.pop()
        following = [
            device_step(state, which, summary_first=summary_first)
            for which, count in enumerate(signals)
            if state.devices[which] < 3 * count
        ]
        step = linux_step(state)
        if step is not None:
            following.append(step)
        if not following:
            ends.append(state)
        for new in following:
            if new not in seen:
                seen.add(new)
                todo.append(new)
    return ends


@pytest.mark.parametrize("signals", [(1, 0), (1, 1), (2, 0), (2, 1), (2, 2), (3, 3)])
def test_no_order_loses_an_interruption(signals: tuple[int, ...]) -> None:
    for end in explore(signals):
        assert not any(end.data), "bits are left, and nobody looks"
        for handled, count in zip(end.handled, signals, strict=True):
            assert handled <= count, "more than there were"
            assert bool(handled) == bool(count), "none was seen"


def test_the_other_order_of_the_bits_would_lose_one() -> None:
    """So the test can fail: with the summary bit first, Linux may clear it before there is anything in the vector."""
    assert any(any(end.data) for end in explore((1, 1), summary_first=True))


def test_delivering_sets_the_vector_before_the_summary() -> None:
    order: list[int] = []

    class Watched(Memory):
        def write(self, address: int, data: bytes) -> None:
            super().write(address, data)
            order.append(address)

    memory = Watched()
    Registration(ISC, 8, 8, 3, True, 0, 1).deliver(StorageBits(memory), 4)
    assert order == [8, 0]
    assert is_set(StorageBits(memory), 8, 7)
    assert is_set(StorageBits(memory), 0, 1)


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
