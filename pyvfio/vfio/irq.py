"""Interrupts: an index of a device with one or more vectors, each delivered through an eventfd.

`Irq.disable` is a call of its own: it sends DATA_NONE, ACTION_TRIGGER and count 0, the only form that tears an index
down; DATA_NONE with another count *fires* the vectors (`Irq.trigger`).  Source: ``vfio.h``, the text on
``VFIO_DEVICE_SET_IRQS``; ``drivers/vfio/pci/vfio_pci_intrs.c``.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable, Sequence
from typing import Self

from pyvfio.abi import vfio as abi
from pyvfio.call import Call
from pyvfio.errors import Misuse, Timeout, explained
from pyvfio.process import EventFd

__all__ = ["Irq"]

_FLAG = abi.IrqSetFlags


class Irq:
    """Interrupt `index` of a device with `count` vectors.  Made by `Device.irq`; a context manager that disables it."""

    def __init__(self, call: Call, name: str, info: abi.IrqInfo) -> None:
        self._call = call
        self._name = name
        self.index = int(info.index)
        self.count = int(info.count)
        self.flags = abi.IrqInfoFlags(info.flags)
        self.eventfds: list[EventFd] = []
        self._awaited: dict[int, asyncio.Future[None]] = {}
        self.on_disable: list[Callable[[], None]] = []
        """Called when it is disabled, while its eventfds are open still: for those who wait for them elsewhere."""

    @property
    def eventfd(self) -> bool:
        """Whether it can be delivered through eventfds."""
        return bool(self.flags & abi.IrqInfoFlags.EVENTFD)

    @property
    def maskable(self) -> bool:
        """Whether `mask` and `unmask` work."""
        return bool(self.flags & abi.IrqInfoFlags.MASKABLE)

    @property
    def automasked(self) -> bool:
        """Whether the kernel masks it at each interrupt, until `unmask` (a level-triggered line)."""
        return bool(self.flags & abi.IrqInfoFlags.AUTOMASKED)

    @property
    def noresize(self) -> bool:
        """Whether the number of vectors can only be changed by `disable` and a new `enable`."""
        return bool(self.flags & abi.IrqInfoFlags.NORESIZE)

    @property
    def enabled(self) -> bool:
        """Whether `enable` was called and `disable` was not."""
        return bool(self.eventfds)

    def enable(self, count: int | None = None) -> list[EventFd]:
        """Deliver vectors 0 to `count` - 1 (None: all) through new eventfds, and return these; they belong to the Irq.

        All vectors are named in one call, because an index with `noresize` takes no more later.  Raise `Misuse` when it
        is enabled or has no such vectors, else the class for the errno.
        """
        wanted = self.count if count is None else count
        if self.eventfds:
            raise Misuse("enable interrupt", self._name, cause="it is enabled", next_step="disable it first")
        if not 0 < wanted <= self.count:
            raise Misuse("enable interrupt", self._name, cause=f"it has {self.count} vectors, {wanted} were asked for")
        made: list[EventFd] = []
        try:
            for _ in range(wanted):
                made.append(EventFd())
            data = array("i", (event.fileno() for event in made)).tobytes()
            self._set("enable interrupt", _FLAG.DATA_EVENTFD | _FLAG.ACTION_TRIGGER, 0, wanted, data)
        except BaseException:
            for event in made:
                event.close()
            raise
        self.eventfds = made
        return list(made)

    def disable(self) -> None:
        """Tear the index down, all vectors at once, and close the eventfds.  Nothing happens when it is not enabled."""
        if not self.eventfds:
            return
        events, self.eventfds = self.eventfds, []
        for notice in self.on_disable:
            notice()
        try:
            self._set("disable interrupt", _FLAG.DATA_NONE | _FLAG.ACTION_TRIGGER, 0, 0)
        finally:
            for event in events:
                event.close()
            for ready in self._awaited.values():
                ready.get_loop().call_soon_threadsafe(_resolve, ready)

    def renew(self) -> None:
        """Set it up in the device again, with the same eventfds: after a reset, which clears MSI and MSI-X.

        What is masked is not, afterwards.  Nothing happens when it is not enabled.  Raise the class for the errno; it
        is not delivered then, until this succeeds.
        """
        if not self.eventfds:
            return
        self._set("disable interrupt", _FLAG.DATA_NONE | _FLAG.ACTION_TRIGGER, 0, 0)
        data = array("i", (event.fileno() for event in self.eventfds)).tobytes()
        self._set("enable interrupt", _FLAG.DATA_EVENTFD | _FLAG.ACTION_TRIGGER, 0, len(self.eventfds), data)

    def mask(self, vector: int = 0) -> None:
        """Hold back a vector.  Raise the class for the errno (ENOTTY where it cannot be masked)."""
        self._one("mask interrupt", _FLAG.DATA_NONE | _FLAG.ACTION_MASK, vector)

    def unmask(self, vector: int = 0) -> None:
        """Let a vector through again; an automasked line that is still raised fires at once."""
        self._one("unmask interrupt", _FLAG.DATA_NONE | _FLAG.ACTION_UNMASK, vector)

    def trigger(self, vector: int = 0) -> None:
        """Fire a vector from here, as a test: the kernel signals its eventfd as if the device had."""
        self._one("trigger interrupt", _FLAG.DATA_NONE | _FLAG.ACTION_TRIGGER, vector)

    def trigger_bool(self, vectors: Sequence[bool], start: int = 0) -> None:
        """Fire those vectors from `start` on whose element is true, in one call (DATA_BOOL)."""
        data = bytes(1 if fire else 0 for fire in vectors)
        self._set("trigger interrupt", _FLAG.DATA_BOOL | _FLAG.ACTION_TRIGGER, start, len(data), data)

    # waiting

    def fileno(self, vector: int = 0) -> int:
        """The eventfd of a vector, readable when it fired: for `select`, `selectors` and `asyncio`.  Raise `Misuse`."""
        return self._event(vector).fileno()

    def poll(self, vector: int = 0) -> int:
        """Take the number of times a vector fired since the last look; never blocks.  Raise `Misuse`."""
        return self._event(vector).read()

    def wait(self, timeout: float | None = None, vector: int = 0) -> int:
        """Wait up to `timeout` seconds (None: for ever) and take the count.

        Raise `Timeout`, or `Misuse`: it is not enabled, or another thread disables it meanwhile.
        """
        event = self._event(vector)
        try:
            with explained("wait for interrupt", self._name):
                return event.wait(timeout)
        except Timeout as error:
            raise Timeout("wait for interrupt", self._name, cause=error.cause) from None
        except Misuse as error:
            raise Misuse("wait for interrupt", self._name, cause=error.cause) from None

    async def wait_async(self, timeout: float | None = None, vector: int = 0) -> int:
        """As `wait`, without blocking the event loop; one task at a time may await a vector.

        Raise `Timeout`, or `Misuse`: another task awaits it, or it was disabled meanwhile.
        """
        event = self._event(vector)
        if vector in self._awaited:
            raise Misuse("wait for interrupt", self._name, cause=f"another task awaits vector {vector}")
        loop, fd = asyncio.get_running_loop(), event.fileno()
        try:
            async with asyncio.timeout(timeout):
                while not (count := event.read()):
                    ready = self._awaited[vector] = loop.create_future()
                    loop.add_reader(fd, _resolve, ready)
                    try:
                        await ready
                    finally:
                        del self._awaited[vector]
                        loop.remove_reader(fd)
                    if event.fileno() < 0:
                        raise Misuse("wait for interrupt", self._name, cause="it was disabled meanwhile")
                return count
        except TimeoutError:
            raise Timeout("wait for interrupt", self._name, cause=f"nothing came within {timeout} s") from None

    def close(self) -> None:
        """The same as `disable`; the descriptors are closed even when the kernel refuses."""
        self.disable()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Irq {self.index} count={self.count} {self.flags!r}{' enabled' if self.enabled else ''}>"

    # inside

    def _event(self, vector: int) -> EventFd:
        if not 0 <= vector < len(self.eventfds):
            cause = f"{len(self.eventfds)} vectors are enabled, {vector} was named"
            raise Misuse("wait for interrupt", self._name, cause=cause, next_step="enable it first")
        return self.eventfds[vector]

    def _one(self, operation: str, flags: abi.IrqSetFlags, vector: int) -> None:
        if not 0 <= vector < self.count:
            raise Misuse(operation, self._name, cause=f"it has {self.count} vectors, {vector} was named")
        self._set(operation, flags, vector, 1)

    def _set(self, operation: str, flags: abi.IrqSetFlags, start: int, count: int, data: bytes = b"") -> None:
        size = abi.PACK_IRQ_SET.size + len(data)
        head = abi.PACK_IRQ_SET.pack(size, int(flags), self.index, start, count)
        self._call(f"{operation} ({self._name})", abi.VFIO_DEVICE_SET_IRQS, bytearray(head + data))


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
