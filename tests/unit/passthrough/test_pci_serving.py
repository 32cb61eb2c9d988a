"""The thread that serves a guest's PCI functions: it ends, leaves nothing, and hinders nobody."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pyvfio.passthrough import GuestPci
from pyvfio.passthrough.events import EventThread
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.fmb import Fmb
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, FunctionOperation, Request
from pyvfio_backends.software import software_of

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware_zpci"))
from zpci_rig import BASE, FMB, GuestRig

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Neither threads nor descriptors."""
    gc.collect()
    threads, open_before = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) == open_before


@pytest.fixture
def on() -> Iterator[GuestRig]:
    rig = GuestRig()
    rig.enable()
    yield rig
    rig.close()


def until(there: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not there():
        assert time.monotonic() < end
        time.sleep(0.005)


def raise_interrupt(rig: GuestRig, vector: int) -> None:
    software_of(rig.host.backend).machine.zpci.functions[0x20].signal(vector)


def test_it_starts_and_ends_many_times(on: GuestRig) -> None:
    on.interrupts_on()
    for turn in range(30):
        with on.guest.serve() as thread:
            raise_interrupt(on, turn % 4)
            until(lambda turn=turn: len(on.interrupts) == turn + 1)  # type: ignore[misc]
        thread.close()
    assert threading.active_count() < 10


def test_closing_does_not_wait_for_its_period(on: GuestRig) -> None:
    begun = time.monotonic()
    with EventThread(on.guest.filenos, on.guest.poll, period=1000):
        pass
    assert time.monotonic() - begun < PATIENCE


def test_the_guest_is_closed_first(on: GuestRig) -> None:
    with on.guest.serve():
        on.guest.close()


def test_functions_leave_while_it_serves(on: GuestRig) -> None:
    """One is taken away, the other's device stops answering; instructions go on all the while."""
    on.interrupts_on()
    on.dma_on()
    stop = threading.Event()
    wrong: list[BaseException] = []

    def program() -> None:
        try:
            while not stop.is_set():
                for fh in (on.fh, 0x80010001):
                    on.cpu.pcilg(Request(fh, CONFIG_SPACE, 4), 0)
                    on.cpu.rpcit(fh, BASE, 0x1000)
        except BaseException as error:
            wrong.append(error)

    with on.guest.serve():
        worker = threading.Thread(target=program)
        worker.start()
        try:
            for vector in range(4):
                raise_interrupt(on, vector)
            until(lambda: on.interrupts)
            on.guest.detach(0x100)
            on.guest.function(0x101).device.close()  # type: ignore[attr-defined]
            time.sleep(0.05)
        finally:
            stop.set()
            worker.join(PATIENCE)
    assert not worker.is_alive()
    assert wrong == []
    assert on.cpu.pcilg(Request(on.fh, CONFIG_SPACE, 4), 0) == Answer(3)


def test_interrupts_of_many_threads_at_once_are_none_too_few(on: GuestRig) -> None:
    """Four vectors, raised by four threads; the bits of all are there in the end, and nothing waits for ever."""
    on.interrupts_on(noi=4)
    with on.guest.serve():
        threads = [threading.Thread(target=lambda n=n: [raise_interrupt(on, n) for _ in range(50)]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        until(lambda: on.memory.read(0x2001, 1) == b"\xf0")
    assert len(on.interrupts) <= 200


def test_measurements_are_taken_when_they_are_due() -> None:
    """Though no descriptor says so."""
    rig = GuestRig()
    rig.guest._schedule = partial(GuestPci._schedule_work, rig.guest)  # the rig has timers of its own
    rig.enable()
    rig.guest.controls(rig.function()).measurement._interval = 0.02
    with rig.guest.serve():
        fib = Fib(fmb=FMB)
        assert rig.cpu.mpcifc(rig.fh, 0, FunctionOperation.SET_MEASUREMENT, fib) == Answer()
        until(lambda: Fmb.from_bytes(rig.memory.read(FMB, 128)).samples >= 2)
    rig.close()


def test_what_it_could_not_do_is_said_when_it_is_closed(on: GuestRig) -> None:
    def fail() -> None:
        raise RuntimeError("what a callback of the hypervisor raised")

    thread = EventThread(on.guest.filenos, fail, due=lambda: 0.0)
    until(lambda: thread.error)
    with pytest.raises(RuntimeError, match="hypervisor"):
        thread.close()
    thread.close()
