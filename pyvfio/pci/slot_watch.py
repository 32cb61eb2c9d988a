"""What happens at slots, as it happens: indicators, presence, power, latch, link, and functions that come and go.

A software machine tells what its hardware does, at the moment of its time.  A host tells by uevents of functions, and
its slots are looked at every so often: what is over before the next look is missed, and of a button nothing is seen.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from pyvfio.backend import beyond
from pyvfio.pci.slot import Slot, slots
from pyvfio.pci.slot_state import SlotEvent, SlotState, changes
from pyvfio.uevent import Uevent

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["HardwareEvents", "SlotChange", "SlotWatch"]

_INTERVAL = 0.25
_SUBSYSTEMS = ("pci",)


@dataclass(frozen=True, slots=True)
class SlotChange:
    """An event of the slot called `slot`; `seconds` is when, of the machine's own time or since the watch began.

    A function that came is ``function`` with its address as `SlotEvent.after`, one that went has it as `before`.
    """

    slot: str
    seconds: float
    event: SlotEvent

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        event = self.event
        what = {"slot": self.slot, "seconds": round(self.seconds, 3), "what": event.what}
        return {**what, "before": event.before, "after": event.after}

    def __str__(self) -> str:
        event = self.event
        if event.what == "function":
            return f"function {event.after or event.before} {'added' if event.after else 'removed'}"
        return str(event)


class HardwareEvents(Protocol):
    """What a software machine gives: `read` lets its time pass, up to `timeout` seconds, until something happens."""

    def read(self, timeout: float) -> list[tuple[float, str, SlotEvent]]:
        """Time, name of the slot, and event of what has happened."""

    def close(self) -> None:
        """Listen no more."""


class SlotWatch:
    """Changes of some slots (none: of all), from now on.  A context manager.

    `options` are those of the software machine's ``slot_events``.
    """

    def __init__(
        self, host: Host, watched: Sequence[Slot] = (), *, interval: float = _INTERVAL, **options: bool
    ) -> None:
        self._slots = list(watched) or slots(host.sysfs)
        self._names = {one.name for one in self._slots}
        self._interval = interval
        self._began = time.monotonic()
        self._ready: collections.deque[SlotChange] = collections.deque()
        self._hardware: HardwareEvents | None = None
        self._states: dict[str, SlotState | None] = {}
        self._uevents = host.uevents(_SUBSYSTEMS)
        try:
            self._buses = {one.name: one.address for one in self._slots}
            begin: Callable[..., HardwareEvents] | None = beyond(host.backend, "slot_events")
            if begin is not None:
                self._hardware = begin(**options)
            else:
                self._states = {one.name: one.state() for one in self._slots}
        except BaseException:
            self.close()
            raise

    def read(self, timeout: float | None = 0.0) -> SlotChange | None:
        """The next change; wait up to `timeout` seconds (None: for ever).  None when none came.

        They are seconds of the software machine's time, where there is one.
        """
        left = timeout
        while not self._ready:
            step = self._interval if left is None else min(self._interval, left)
            began = time.monotonic()
            self._look(step)
            if left is not None:
                # events of other functions end a wait for uevents early; a machine lets all of the time pass
                left -= step if self._hardware is not None else time.monotonic() - began
                if left <= 0:
                    break
        return self._ready.popleft() if self._ready else None

    def _look(self, seconds: float) -> None:
        if self._hardware is not None:
            for moment, name, event in self._hardware.read(seconds):
                self._add(name, moment, event)
            while (uevent := self._uevents.read(0)) is not None:
                self._take(uevent)
            return
        uevent = self._uevents.read(seconds)
        while uevent is not None:
            self._take(uevent)
            uevent = self._uevents.read(0)
        now = time.monotonic() - self._began
        for one in self._slots:
            before, after = self._states[one.name], one.state()
            self._states[one.name] = after
            for event in changes(before, after) if before is not None and after is not None else ():
                self._add(one.name, now, event)

    def _take(self, uevent: Uevent) -> None:
        if uevent.action not in ("add", "remove") or uevent.subsystem != "pci":
            return
        address = uevent.name
        for name, place in self._buses.items():
            if address.rpartition(".")[0] == place:
                came = uevent.action == "add"
                event = SlotEvent("function", "" if came else address, address if came else "")
                last = self._ready[-1].seconds if self._ready else 0.0
                now = last if self._hardware is not None else time.monotonic() - self._began
                self._add(name, now, event)

    def _add(self, name: str, moment: float, event: SlotEvent) -> None:
        if name in self._names:
            self._ready.append(SlotChange(name, moment, event))

    def close(self) -> None:
        """Listen no more."""
        self._uevents.close()
        if self._hardware is not None:
            self._hardware.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
