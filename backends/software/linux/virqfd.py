"""Eventfds of programs that the kernel listens to (``drivers/vfio/virqfd.c``, 6.12).

A program signals one with ``write``, which the machine does not see: a thread waits for it, and every call of the seam
looks first, so that what a program does afterwards finds the work done.  The thread exists while anything is watched.

The kernel notices that an eventfd is closed; the machine does not, since it has a reference of its own.
"""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from pyvfio.process import EventFd, EventFdReference

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["EventWatch", "Watched", "event_watch"]


class Watched:
    """An eventfd and what happens when it is signalled (``struct virqfd``), until `close`."""

    def __init__(self, watch: EventWatch, fd: int, handler: Callable[[], None]) -> None:
        self._watch = watch
        self.reference = EventFdReference(fd)
        self.handler = handler

    def close(self) -> None:
        """Listen no more; a second call does nothing."""
        self._watch.remove(self)


class EventWatch:
    """All that is watched.  Its methods are called under the machine's lock."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._all: dict[int, Watched] = {}
        self._epoll = select.epoll()
        self._stop: EventFd | None = None
        self._thread: threading.Thread | None = None

    def add(self, fd: int, handler: Callable[[], None]) -> Watched:
        """Have `handler` called when an eventfd is signalled, and now if its counter is not 0.

        Raise OSError EBADF, EINVAL (no eventfd).
        """
        watched = Watched(self, fd, handler)
        number = watched.reference.fileno()
        self._all[number] = watched
        # Edge triggered: the kernel does not read a counter that was not 0 before, and calls once.
        self._epoll.register(number, select.EPOLLIN | select.EPOLLET)
        if self._epoll_has(number):
            handler()
        if self._thread is None:
            stop = self._stop = EventFd()
            self._thread = threading.Thread(target=self._run, args=(stop,), name="pyvfio-virqfd", daemon=True)
            self._thread.start()
        return watched

    def _epoll_has(self, number: int) -> bool:
        """Look at what came; whether the one just added had been signalled before."""
        came = self._came()
        for fd in came:
            if fd != number:
                self._signalled(fd)
        return number in came

    def _came(self) -> list[int]:
        """Which were signalled; what was added last is called first, as with the kernel's wait queues."""
        came = {fd for fd, _ in self._epoll.poll(0, len(self._all) + 1)}
        return [fd for fd in reversed(self._all) if fd in came]

    def remove(self, watched: Watched) -> None:
        """See `Watched.close`.  What was signalled before has its effect."""
        number = watched.reference.fileno()
        if number < 0:
            return
        self.look()
        del self._all[number]
        self._epoll.unregister(number)
        watched.reference.close()
        if not self._all:
            self._end()

    def look(self) -> None:
        """Call the handlers of all that were signalled since the last look."""
        for fd in self._came():
            self._signalled(fd)

    def _signalled(self, fd: int) -> None:
        watched = self._all.get(fd)
        if watched is not None:
            watched.reference.take()
            watched.handler()

    def _run(self, stop: EventFd) -> None:
        poller = select.poll()
        poller.register(self._epoll.fileno(), select.POLLIN)  # it tells that something came, and takes nothing
        poller.register(stop.fileno(), select.POLLIN)
        while True:
            poller.poll()
            if stop.read():
                break
            with self._kernel.lock:
                with contextlib.suppress(OSError):  # it is no call of a program that could fail
                    self.look()
                self._kernel.clock.settle()
        stop.close()

    def _end(self) -> None:
        if self._stop is not None:
            self._stop.signal()
        self._stop = self._thread = None


def event_watch(kernel: Kernel) -> EventWatch:
    """The kernel's, made when it is first asked for."""
    if kernel.event_watch is None:
        kernel.event_watch = EventWatch(kernel)
        kernel.clock.look = kernel.event_watch.look
    return kernel.event_watch
