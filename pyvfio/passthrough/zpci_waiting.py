"""Waiting for what happens at the host to a guest's PCI functions, and for what is due here."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from pyvfio.errors import PyvfioError
from pyvfio.passthrough.events import EventThread, wait_for_any, wait_for_any_async
from pyvfio.passthrough.memory import GuestStorage
from pyvfio.passthrough.signals import HostNews
from pyvfio.passthrough.zpci_function import GuestFunction
from pyvfio.passthrough.zpci_processor import GuestProcessor
from pyvfio.process import EventFd
from pyvfio.zpci.event import ErrorEvent
from pyvfio.zpci.function import FunctionSet, InstructedFunction

__all__ = ["GuestWaiting"]

_TOD_PER_SECOND: Final = 4_096_000_000


class GuestWaiting(GuestProcessor):
    """The instructions of a guest, and `poll`, `wait`, `wait_async` or `serve` for what the host has for it.

    Interruptions that the host's machine forwards need none of them, but end a `wait`.
    """

    def __init__(
        self,
        functions: FunctionSet,
        memory: GuestStorage,
        *,
        on_interruption: Callable[[int], None],
        on_error: Callable[[ErrorEvent], None],
    ) -> None:
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._came = False
        self._waiter: EventFd | None = None
        self._waking = threading.Lock()
        super().__init__(
            functions,
            memory,
            on_interruption=on_interruption,
            on_error=on_error,
            schedule=self._schedule_work,
            now=lambda: int(time.time() * _TOD_PER_SECOND),
        )

    @abstractmethod
    def all_functions(self) -> list[InstructedFunction]:
        """All functions of the guest."""

    @abstractmethod
    def request(self, fid: int) -> None:
        """Ask the guest to let a function go."""

    def _schedule_work(self, delay: float, work: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._serial), work))

    def forget_work(self) -> None:
        """Drop what would be due later."""
        self._timers.clear()

    def _forwarded(self, isc: int) -> None:
        super()._forwarded(isc)
        with self._waking:
            self._came = True
            if self._waiter is not None:
                self._waiter.signal()

    @contextmanager
    def _awake(self) -> Iterator[list[int]]:
        """The descriptors to wait for; one of them is signalled when an interruption was forwarded."""
        with closing(EventFd()) as waiter:
            with self._waking:
                self._waiter = waiter
                if self._came:
                    waiter.signal()
            try:
                yield [*self.filenos(), waiter.fileno()]
            finally:
                with self._waking:
                    self._waiter = None

    def filenos(self) -> list[int]:
        """The descriptors that can be read when something happened at the host."""
        with self.lock:
            found: list[int] = []
            for function in self.all_functions():
                if isinstance(function, GuestFunction):
                    found += function.filenos()
            return found

    def poll(self) -> None:
        """Take in what happened: interrupts and signals of devices, measurements that are due."""
        with self.lock:
            self._came = False
            for function in self.all_functions():
                if isinstance(function, GuestFunction):
                    try:
                        news = function.poll()
                    except PyvfioError:
                        news = HostNews(failed=True)
                    if news.failed:
                        function.fail()
                    if news.asked:
                        self.request(function.fid)
            now = time.monotonic()  # what is due again at once waits for the next time
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait up to `timeout` seconds for something to happen, and take it in; whether anything did."""
        with self._awake() as fds:
            happened = wait_for_any(fds, self._patience(timeout))
        self.poll()
        return happened

    async def wait_async(self, timeout: float | None = None) -> bool:
        """As `wait`, without blocking the event loop; one task at a time."""
        with self._awake() as fds:
            happened = await wait_for_any_async(fds, self._patience(timeout))
        self.poll()
        return happened

    def _patience(self, timeout: float | None) -> float | None:
        """The seconds until `timeout` or a measurement is due."""
        due = self._timers[0][0] - time.monotonic() if self._timers else None
        return min((limit for limit in (timeout, due) if limit is not None), default=None)

    def serve(self) -> EventThread:
        """A thread that polls whenever something happens or is due, until it is closed (a context manager)."""
        return EventThread(self.filenos, self.poll, due=lambda: self._patience(None))
