"""Waiting for what the interrupts of one device bring, by any number of threads and asyncio tasks at once.

Interrupts are taken in one place (`Intake`): whoever waits looks, and what came is given to whom it concerns, so none
takes away what another waits for.  What has several steps is a generator of `Wait`s, which `Intake.run` and
`Intake.run_async` drive; so the same steps serve threads and event loops.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from pyvfio.errors import Misuse, Timeout
from pyvfio.process import EventFd, wait_for_any
from pyvfio.vfio.irq import Irq

__all__ = ["Intake", "Steps", "Wait"]

T = TypeVar("T")
#: How often somebody who waits looks whether the device is there still, in seconds.
_LOOK: Final = 1.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until `done` (called under the lock) gives true, up to `deadline` (`time.monotonic`; None: for ever).

    With `finish` it is waited for even when the task is cancelled meanwhile; the deadline bounds that.
    """

    done: Callable[[], object]
    deadline: float | None
    finish: bool = False

    @property
    def left(self) -> float:
        """Seconds until the next look."""
        return _LOOK if self.deadline is None else max(0.0, min(_LOOK, self.deadline - time.monotonic()))

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and time.monotonic() >= self.deadline


Steps = Generator[Wait, None, T]
"""Work of several steps: it is resumed when what it waits for is so, and `Timeout` is raised in it when it is late."""


@dataclass(slots=True)
class _Listening:
    """How many tasks of an event loop wait, and which descriptors it watches for them."""

    tasks: int = 0
    fds: set[int] = field(default_factory=set)


class Intake:
    """The interrupts `irqs` (more with `add`); `take` is called under `lock` to take in what they brought.

    `look` is called when nothing came for a second; it raises when nothing can come any more.
    """

    def __init__(self, name: str, take: Callable[[], bool], look: Callable[[], None]) -> None:
        self.lock = threading.RLock()
        self.name = name
        self._take = take
        self._look = look
        self._irqs: list[Irq] = []
        self._closed = False
        self._bells: list[Callable[[], None]] = []
        self._bells_lock = threading.Lock()
        self._listening: dict[asyncio.AbstractEventLoop, _Listening] = {}

    def add(self, irq: Irq) -> None:
        """Enable an interrupt, unless it is ours already.  Raise as `Irq.enable`."""
        with self.lock:
            self.check()
            if irq not in self._irqs:
                irq.enable()
                irq.on_disable.append(self.ring)
                self._irqs.append(irq)

    @property
    def irqs(self) -> tuple[Irq, ...]:
        """The interrupts that are enabled here."""
        return tuple(self._irqs)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def close(self) -> None:
        """Disable the interrupts; whoever waits gets `Misuse`.  A second call does nothing."""
        with self.lock:
            irqs, self._irqs, self._closed = self._irqs, [], True
        self.ring()
        for irq in irqs:
            irq.on_disable.remove(self.ring)
            irq.disable()

    def ring(self) -> None:
        """Let everybody who waits look again."""
        with self._bells_lock:  # so that nobody frees a bell meanwhile
            for bell in self._bells:
                bell()

    # waiting

    def check(self) -> None:
        """Raise `Misuse` when it was closed, or an interrupt was disabled."""
        if self._closed or any(not irq.enabled for irq in self._irqs):
            raise Misuse("wait for interrupt", self.name, cause="it was closed or disabled meanwhile")

    def is_so(self, wait: Wait) -> bool:
        """Take in what came, and say whether what is waited for is so.  Raise `Misuse` after `close`."""
        with self.lock:
            self.check()
            if self._take():
                self.ring()
            return bool(wait.done())

    def wait(self, wait: Wait) -> None:
        """Block until it is so.  Raise `Timeout`, `Misuse` (closed meanwhile), or what `look` raises."""
        if self.is_so(wait):
            return
        with EventFd() as bell:
            with self._bells_lock:
                self._bells.append(bell.signal)
            try:
                while not self.is_so(wait):
                    self._in_time(wait)
                    with self.lock:
                        events = [event for irq in self._irqs for event in irq.eventfds]
                    wait_for_any([bell, *events], wait.left)
                    if not bell.read() and not any(event.fileno() < 0 for event in events):
                        self._quiet(wait)
            finally:
                with self._bells_lock:
                    self._bells.remove(bell.signal)

    async def wait_async(self, wait: Wait) -> None:
        """As `wait`, without blocking the event loop."""
        if self.is_so(wait):
            return
        loop = asyncio.get_running_loop()
        rung = asyncio.Event()

        def bell() -> None:
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(rung.set)

        with self._bells_lock:
            self._bells.append(bell)
        self._listen(loop)
        try:
            while not self.is_so(wait):
                self._in_time(wait)
                rung.clear()
                try:
                    async with asyncio.timeout(wait.left):
                        await rung.wait()
                except TimeoutError:
                    self._quiet(wait)
        finally:
            self._unlisten(loop)
            with self._bells_lock:
                self._bells.remove(bell)

    def _in_time(self, wait: Wait) -> None:
        if wait.late:
            raise Timeout("wait for interrupt", self.name, cause="nothing came in time")

    def _quiet(self, wait: Wait) -> None:
        if not wait.late and not self.is_so(wait):
            self._look()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let an event loop take in what comes while one of its tasks waits here."""
        with self.lock:
            listening = self._listening.setdefault(loop, _Listening())
            listening.tasks += 1
            for event in [event for irq in self._irqs for event in irq.eventfds]:
                if event.fileno() not in listening.fds:
                    loop.add_reader(event.fileno(), self._came)
                    listening.fds.add(event.fileno())

    def _unlisten(self, loop: asyncio.AbstractEventLoop) -> None:
        with self.lock:
            listening = self._listening[loop]
            listening.tasks -= 1
            if not listening.tasks:
                del self._listening[loop]
                for fd in listening.fds:
                    loop.remove_reader(fd)

    def _came(self) -> None:
        """A descriptor can be read: take it in here, on the event loop."""
        with suppress(Misuse), self.lock:
            self.check()
            self._take()
        self.ring()

    # work of several steps

    def run(self, steps: Steps[T]) -> T:
        """Do the work on this thread."""
        try:
            return self._drive(steps, next(steps))
        except StopIteration as stop:
            result: T = stop.value
            return result
        except BaseException as error:
            if inspect.getgeneratorstate(steps) != inspect.GEN_SUSPENDED:
                raise
            return self._throw(steps, error)  # Ctrl-C came between two steps

    def _drive(self, steps: Steps[T], wait: Wait) -> T:
        """Go on with the work where it waits.  Raise StopIteration with its result."""
        while True:
            try:
                self.wait(wait)
            except BaseException as error:
                wait = steps.throw(error)
            else:
                wait = next(steps)

    def _throw(self, steps: Steps[T], error: BaseException) -> T:
        """Go on with the work on this thread, after an error where it waits."""
        try:
            return self._drive(steps, steps.throw(error))
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def run_async(self, steps: Steps[T]) -> T:
        """Do the work in this task.  A cancelled task finishes the steps that say so, and is cancelled then."""
        cancelled: asyncio.CancelledError | None = None
        try:
            wait = next(steps)
            while True:
                try:
                    await self.wait_async(wait)
                except GeneratorExit:  # the task is given up together with its event loop
                    with suppress(asyncio.CancelledError):
                        self._throw(steps, asyncio.CancelledError())
                    raise
                except asyncio.CancelledError as error:
                    if wait.finish:
                        cancelled = error
                    else:
                        wait = steps.throw(error)
                except BaseException as error:
                    wait = steps.throw(error)
                else:
                    wait = next(steps)
        except StopIteration as stop:
            if cancelled is not None:
                raise cancelled from None
            result: T = stop.value
            return result
