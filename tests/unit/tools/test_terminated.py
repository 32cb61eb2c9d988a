"""A signal ends a command between the calls of a software machine, as it does between a kernel's."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from pyvfio_tools.acting import terminated

_CALL = """
import time
def call(done, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.001)
    done.append(True)
"""


def call_of(module: str) -> Callable[[list[bool], float], None]:
    """A function of a module of this name."""
    names: dict[str, Callable[[list[bool], float], None]] = {"__name__": module}  # type: ignore[dict-item]
    exec(_CALL, names)
    return names["call"]


def signalled(module: str, done: list[bool], seconds: float, rest: float = 0.0) -> None:
    """A command that is in a call of `module` for some seconds, and gets SIGTERM early."""
    with terminated():
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM)).start()
        call_of(module)(done, seconds)
        time.sleep(rest)


def test_a_call_of_the_machine_is_done_first() -> None:
    done: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        signalled("pyvfio_backends.software.linux.type1", done, 0.15, rest=5)
    assert done == [True]


def test_everything_else_is_interrupted_at_once() -> None:
    done: list[bool] = []
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        signalled("pyvfio.vfio.device", done, 5)
    assert done == []
    assert time.monotonic() - began < 4


def test_a_call_that_hangs_is_interrupted_in_the_end() -> None:
    done: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        signalled("pyvfio_backends.software.linux.vfio_core", done, 30)
    assert done == []


def test_nothing_is_left_when_the_work_ends_before() -> None:
    done: list[bool] = []
    before = signal.getsignal(signal.SIGTERM)
    threads = threading.active_count()
    signalled("pyvfio_backends.software.x", done, 0.05)
    assert signal.getsignal(signal.SIGTERM) is before
    time.sleep(0.05)
    assert threading.active_count() <= threads
