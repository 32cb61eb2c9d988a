"""Asynchronous events: commands that end when something happens.  Source: NVM Express 1.4, 5.2.

After an event of a type no other one of it is reported until the log page that it names was read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pyvfio.nvme.features import EventType, event_result
from pyvfio.nvme.logs import LogPage
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.prp import CommandError

__all__ = ["Event", "Events"]

_KEPT = 16


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, and the log page that tells more."""

    kind: EventType
    info: int
    page: LogPage


class Events:
    """Requests under way, at most `limit`, and events that nobody has asked for yet.

    `complete` ends a command: its id, the status, and the result.
    """

    def __init__(self, limit: int, complete: Callable[[int, Status, int], None]) -> None:
        self._limit = limit
        self._complete = complete
        self._requests: list[int] = []
        self._events: deque[Event] = deque(maxlen=_KEPT)
        self._reported: dict[EventType, LogPage] = {}

    def reset(self) -> None:
        """Forget everything."""
        self._requests.clear()
        self._events.clear()
        self._reported.clear()

    def request(self, command: int) -> None:
        """Take a request.  Raise `CommandError` when there are too many."""
        if len(self._requests) >= self._limit:
            raise CommandError(Status.ASYNC_EVENT_LIMIT)
        self._requests.append(command)
        self._report()

    def abort(self, command: int) -> bool:
        """End a request without an event; whether there was one."""
        if command not in self._requests:
            return False
        self._requests.remove(command)
        self._complete(command, Status.ABORT_REQUESTED, 0)
        return True

    def add(self, event: Event) -> None:
        """Something happened; one that waits to be told already is told once."""
        if event not in self._events:
            self._events.append(event)
        self._report()

    def page_read(self, page: LogPage) -> None:
        """A log page was read: events of the types that named it may be reported again."""
        self._reported = {kind: named for kind, named in self._reported.items() if named is not page}
        self._report()

    def _report(self) -> None:
        for event in list(self._events):
            if not self._requests:
                return
            if event.kind not in self._reported:
                self._events.remove(event)
                self._reported[event.kind] = event.page
                result = event_result(event.kind, event.info, event.page)
                self._complete(self._requests.pop(0), Status.SUCCESS, result)
