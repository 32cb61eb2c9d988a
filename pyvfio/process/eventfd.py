"""Eventfds: a counter that an interrupt adds to and a program reads (``eventfd(2)``)."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import select
import sys
import time
from collections.abc import Sequence
from typing import Self

from pyvfio.errors import Misuse, Timeout

__all__ = ["EventFd", "EventFdReference", "wait_for_any"]

_ONE = (1).to_bytes(8, sys.byteorder)


class EventFd:
    """An eventfd of this program, for a VFIO interrupt.  Non-blocking and close-on-exec; a context manager."""

    def __init__(self, initial: int = 0) -> None:
        self._fd = os.eventfd(initial, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting = 0

    def fileno(self) -> int:
        """The descriptor (-1 after `close`), for `select`, `selectors` and `asyncio`."""
        return self._fd

    def read(self) -> int:
        """Take the count since the last read, 0 when nothing came.  Never blocks."""
        try:
            return os.eventfd_read(self._fd)
        except BlockingIOError:
            return 0

    def wait(self, timeout: float | None = None) -> int:
        """Wait up to `timeout` seconds (None: for ever) and take the count.

        Raise `Timeout`, or `Misuse` when another thread closes it meanwhile, and for what is no number of seconds.
        """
        if timeout is not None and math.isnan(timeout):
            raise Misuse("wait for interrupt", cause="the timeout is not a number")
        deadline = None if timeout is None else time.monotonic() + timeout
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            self._waiting += 1
            try:
                poller.poll(None if left is None else left * 1000)
            finally:
                self._waiting -= 1
            if self._fd < 0:
                raise Misuse("wait for interrupt", cause="it was disabled meanwhile")
            count = self.read()
            if count:
                return count
            if deadline is not None and time.monotonic() >= deadline:
                raise Timeout("wait for interrupt", f"eventfd {self._fd}", cause=f"nothing came within {timeout} s")

    def signal(self, count: int = 1) -> None:
        """Add to the counter, as a device would."""
        os.eventfd_write(self._fd, count)

    def close(self) -> None:
        """Free the descriptor; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._waiting:
                os.eventfd_write(fd, 1)  # whoever waits on another thread is woken before the descriptor is gone
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def wait_for_any(events: Sequence[EventFd], timeout: float | None = None) -> None:
    """Wait up to `timeout` seconds (None: for ever) until one of them can be read or is closed.  Nothing is read."""
    poller = select.poll()
    for event in events:
        event._waiting += 1
    try:
        for event in events:
            if event.fileno() < 0:
                return
            poller.register(event.fileno(), select.POLLIN)
        poller.poll(None if timeout is None else max(0.0, timeout) * 1000)
    finally:
        for event in events:
            event._waiting -= 1


class EventFdReference:
    """A second reference to somebody's eventfd, as the kernel takes with ``eventfd_ctx_fdget``.

    The errors are the kernel's: EBADF for a closed number, EINVAL for a descriptor that is no eventfd.
    """

    __slots__ = ("_fd", "_room")

    def __init__(self, fd: int) -> None:
        self._fd = -1
        if fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            link = os.readlink(f"/proc/self/fd/{fd}")
        except FileNotFoundError:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from None
        if link != "anon_inode:[eventfd]":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
        self._room = select.poll()
        self._room.register(self._fd, select.POLLOUT)

    def signal(self) -> None:
        """Add one; a counter that is full stays full, as in the kernel."""
        if self._room.poll(0):
            os.write(self._fd, _ONE)

    def fileno(self) -> int:
        """The descriptor of the reference (-1 after `close`)."""
        return self._fd

    def take(self) -> int:
        """Take the count as a read does, 0 when nothing came.  Never blocks."""
        counter = bytearray(8)
        try:
            os.preadv(self._fd, [counter], -1, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        return int.from_bytes(counter, sys.byteorder)

    def close(self) -> None:
        """Drop the reference; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
