"""The thread of a slot, which its interrupt wakes: it works off events, one set after the other.

It sleeps, and it waits until whoever uses a function lets it go; events stay pending meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pyvfio_backends.software.clock import Clock

__all__ = ["Result", "SlotThread", "Steps"]

Steps: TypeAlias = Generator[float | Callable[[], None], None, None]
"""What the thread does: seconds to sleep, or work that may block."""
Result: TypeAlias = Generator[float | Callable[[], None], None, int]
"""Such steps, with 0 or an errno in the end."""


class SlotThread:
    """It has events `pending`, or is `running`; `handle` gives the steps for a set of events."""

    def __init__(self, clock: Clock, handle: Callable[[int], Steps]) -> None:
        self.pending = 0
        self.running = False
        self._clock = clock
        self._handle = handle
        self._awake = False
        self._waits = False
        self._closed = False
        self._steps: Steps | None = None

    def request(self, events: int) -> None:
        """Have something done, with what is pending besides (``pciehp_request``)."""
        self.pending |= events
        if not self._awake and not self._closed:
            self._awake = True
            self._clock.schedule(0, self._run)

    def close(self) -> None:
        """Begin nothing any more."""
        self._closed = True

    def finish(self) -> None:
        """Let the machine's time pass until what was begun is done, or waits for somebody."""
        self._clock.run_until(lambda: self._waits or not self._awake)

    def wait(self) -> None:
        """Wait until the thread has nothing to do; while it waits for a user of a function, without the machine."""

        def idle() -> bool:
            return not self.pending and not self.running

        while not idle():
            if self._waits:
                self._clock.wait(lambda: idle() or not self._waits)
            elif not self._clock.run_until(lambda: idle() or self._waits):
                self._clock.wait(lambda: idle() or self._waits)

    def _run(self) -> None:
        self.running = True
        events, self.pending = self.pending, 0
        self._steps = self._handle(events)
        self._go_on()

    def _go_on(self) -> None:
        """Take steps until one sleeps, or waits; then it goes on from there."""
        steps = self._steps
        assert steps is not None
        for step in steps:
            if not callable(step):
                self._clock.schedule(step, self._go_on)
                return
            if not self._do(step):
                return
        self.running = self._awake = False
        if self.pending:
            self.request(0)
        self._clock.notify()

    def _do(self, work: Callable[[], None]) -> bool:
        """Do work that may block; whether it is done.  If not, its own thread goes on with the steps after it."""
        done: list[bool] = []

        def body() -> None:
            work()
            done.append(True)
            if self._waits:
                self._waits = False
                self._go_on()
                self._clock.settle()

        self._clock.run_apart(body, "pciehp")
        self._waits = not done
        return bool(done)
