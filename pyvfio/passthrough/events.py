"""Waiting for the interrupts of devices that a guest uses, and a thread that does nothing else."""

from __future__ import annotations

import asyncio
import select
import threading
import time
from collections.abc import Callable, Iterable
from typing import Self

from pyvfio.process import EventFd

__all__ = ["EventThread", "wait_for_any", "wait_for_any_async"]


def wait_for_any(fds: Iterable[int], timeout: float | None) -> bool:
    """Wait up to `timeout` seconds (None: for ever) until one of the descriptors can be read; whether one can."""
    poller = select.poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return bool(poller.poll(None if timeout is None else max(0.0, timeout) * 1000))


async def wait_for_any_async(fds: Iterable[int], timeout: float | None) -> bool:
    """As `wait_for_any`, without blocking the event loop."""
    loop, came, watched = asyncio.get_running_loop(), asyncio.Event(), list(fds)
    for fd in watched:
        loop.add_reader(fd, came.set)
    try:
        async with asyncio.timeout(timeout):
            await came.wait()
    except TimeoutError:
        return False
    finally:
        for fd in watched:
            loop.remove_reader(fd)
    return True


class EventThread:
    """Calls `work` on a thread whenever one of the descriptors that `fds` names can be read, until `close`.

    The descriptors are asked for anew each time, and at least every `period` seconds.  `due` says in how many seconds
    there is work in any case (None: never).  What `work` raises ends the thread, is kept in `error`, and raised by
    `close`.  A context manager.
    """

    def __init__(
        self,
        fds: Callable[[], list[int]],
        work: Callable[[], object],
        *,
        due: Callable[[], float | None] = lambda: None,
        period: float = 0.2,
    ) -> None:
        self._fds = fds
        self._work = work
        self._due = due
        self._period = period
        self._stop = EventFd()
        self._stopping = False
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="pyvfio-passthrough", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stopping:
                due = self._due()
                limit = self._period if due is None else min(due, self._period)
                came = wait_for_any([*self._fds(), self._stop.fileno()], limit) or due == limit
                if came and not self._stopping:
                    self._work()
                    time.sleep(0)  # let whoever waits for the lock have it
        except Exception as error:
            self.error = error

    def close(self) -> None:
        """End the thread and wait for it; a second call does nothing.  Raise what ended the thread before."""
        if not self._stopping:
            self._stopping = True
            self._stop.signal()
            if threading.current_thread() is not self._thread:
                self._thread.join()
            self._stop.close()
            if self.error is not None:
                raise self.error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
