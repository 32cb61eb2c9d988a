"""The source of uevents: numbers them and gives each listener its own queue (``lib/kobject_uevent.c``)."""

from __future__ import annotations

import collections
import errno
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from pyvfio.errors import Timeout
from pyvfio.process import EventFd
from pyvfio.uevent import Uevent
from pyvfio_backends.software.linux.vfs import Attribute, fail

__all__ = ["UeventQueue", "UeventSource", "parse_synthetic", "synthetic_uevents"]

_SYNTHETIC = re.compile(
    rb"(add|remove|change|move|online|offline|bind|unbind)"
    rb"(?: ([0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})((?: [0-9A-Za-z]+=[0-9A-Za-z]+)*))?[\n\0]?\Z"
)


def parse_synthetic(data: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Read what was written to a ``uevent`` file, ``ACTION [UUID [KEY=VALUE ...]]``: the action and its variables.

    Raise OSError EINVAL (``kobject_synth_uevent``).
    """
    match = _SYNTHETIC.match(data)
    if match is None:
        raise fail(errno.EINVAL)
    action, uuid, arguments = (part.decode() if part is not None else "" for part in match.groups())
    pairs = [("SYNTH_UUID", uuid or "0")]
    for argument in arguments.split():
        key, _, value = argument.partition("=")
        pairs.append((f"SYNTH_ARG_{key}", value))
    return action, pairs


def synthetic_uevents(source: UeventSource, path: str, subsystem: str) -> Attribute:
    """The ``uevent`` file of a bus, a driver or a module, which have no variables of their own to add."""

    def store(data: bytes) -> None:
        action, pairs = parse_synthetic(data)
        source.send(action, path, [("SUBSYSTEM", subsystem), *pairs])

    return Attribute(store=store)


class UeventSource:
    """Sends events; `seqnum` is the number of the last one sent."""

    def __init__(self, seqnum: int = 0) -> None:
        self.seqnum = seqnum
        self._listeners: list[UeventQueue] = []

    def send(self, action: str, devpath: str, pairs: Iterable[tuple[str, str]]) -> None:
        """Number and deliver one event."""
        self.seqnum += 1
        event = Uevent(
            action, devpath, {"ACTION": action, "DEVPATH": devpath, **dict(pairs), "SEQNUM": str(self.seqnum)}
        )
        for listener in self._listeners:
            listener.put(event)

    def listen(self, subsystems: Sequence[str]) -> UeventQueue:
        """A new queue that gets the events from now on."""
        queue = UeventQueue(self, frozenset(subsystems))
        self._listeners.append(queue)
        return queue

    def forget(self, queue: UeventQueue) -> None:
        """Stop delivering to a queue."""
        if queue in self._listeners:
            self._listeners.remove(queue)

    def close(self) -> None:
        """Close all queues."""
        for queue in tuple(self._listeners):
            queue.close()


class UeventQueue:
    """A `pyvfio.uevent.UeventStream` of the software machine; an eventfd makes it selectable."""

    def __init__(self, source: UeventSource, subsystems: frozenset[str]) -> None:
        self._source = source
        self._subsystems = subsystems
        self._events: collections.deque[Uevent] = collections.deque()
        self._ready = EventFd()

    def put(self, event: Uevent) -> None:
        """Add an event if its subsystem is wanted."""
        if not self._subsystems or event.subsystem in self._subsystems:
            self._events.append(event)
            self._ready.signal()

    def read(self, timeout: float | None = 0.0) -> Uevent | None:
        """See `pyvfio.uevent.UeventStream.read`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._events:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            try:
                self._ready.wait(left)
            except Timeout:
                return None
        event = self._events.popleft()
        if not self._events:
            self._ready.read()
        return event

    def fileno(self) -> int:
        """Readable while an event waits."""
        return self._ready.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._source.forget(self)
        self._ready.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Uevent]:
        while self._events:
            event = self.read(0)
            if event is None:
                return
            yield event
