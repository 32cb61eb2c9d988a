"""What the contract expects of a call: that it fails with this errno, or that a state comes within a time."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pyvfio.backend import Backend

__all__ = ["fails", "let_pass", "settles"]


def _name(number: int | None) -> str:
    return errno.errorcode.get(number or 0, str(number))


@contextmanager
def fails(*numbers: int) -> Iterator[None]:
    """Expect an OSError with one of these errnos in the block; anything else is an AssertionError with both names."""
    wanted = " or ".join(_name(number) for number in numbers)
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise AssertionError(f"expected {wanted}, got {_name(error.errno)}") from error
    else:
        raise AssertionError(f"expected {wanted}, the call succeeded")


def settles(question: Callable[[], object], timeout: float = 10.0) -> bool:
    """Ask until the answer is true; False when it was not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not question():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def let_pass(backend: Backend, seconds: float) -> None:
    """Let time pass for what the machine does by itself: the clock of a software machine moves, on a host it sleeps."""
    clock = getattr(getattr(backend, "machine", None), "clock", None)
    if clock is None or clock.paced:
        time.sleep(seconds)
    else:
        clock.advance(seconds)
