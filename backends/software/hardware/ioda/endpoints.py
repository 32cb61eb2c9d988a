"""Partitionable endpoints: which are frozen, by what, and which others an error takes along.

An error of endpoint n freezes it, and those that its vector of the PELT-V names: Linux puts itself and all endpoints
behind its bridges there, so that an error of a bridge stops everything below.  What stands in the log is the error
that froze an endpoint first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from pyvfio.abi.opal import OpalFreezeState
from pyvfio.ioda.pest import Cause, PestEntry, Transfer

__all__ = ["Endpoint", "Endpoints"]

_SET_BY_SOFTWARE: Final = PestEntry(Transfer.OTHER, Cause.NONE)
_MOST_LOGGED = 256


class Endpoint:
    """An endpoint: loads and stores are `frozen`, DMA and messages `stopped`.

    `entry` is what did it (None: software), `freezes` how often an error froze it.
    """

    __slots__ = ("entry", "freezes", "frozen", "number", "stopped")

    def __init__(self, number: int) -> None:
        self.number = number
        self.frozen = False
        self.stopped = False
        self.entry: PestEntry | None = None
        self.freezes = 0

    @property
    def state(self) -> OpalFreezeState:
        """What of it is frozen."""
        return OpalFreezeState(
            (OpalFreezeState.MMIO_FREEZE if self.frozen else 0) | (OpalFreezeState.DMA_FREEZE if self.stopped else 0)
        )

    @property
    def pest(self) -> tuple[int, int]:
        """A and B of its state (`pyvfio.ioda.pest`)."""
        entry = self.entry or _SET_BY_SOFTWARE
        return entry.encode(frozen=self.frozen, stopped=self.stopped)


class Endpoints:
    """The endpoints of a host bridge, numbered from 0.

    `frozen` and `stopped` are the numbers of those whose loads and stores, or DMA, are off.  `log` has the last errors,
    each with the endpoint that it struck, oldest first.  `changed` is called whenever `frozen` or `stopped` changed.
    """

    def __init__(self, count: int, changed: Callable[[], None]) -> None:
        self._every = [Endpoint(number) for number in range(count)]
        self._takes: dict[int, set[int]] = {}
        self._changed = changed
        self.frozen: set[int] = set()
        self.stopped: set[int] = set()
        self.log: deque[tuple[int, PestEntry]] = deque(maxlen=_MOST_LOGGED)

    def __getitem__(self, number: int) -> Endpoint:
        return self._every[number]

    def __len__(self) -> int:
        return len(self._every)

    def troubled(self) -> list[Endpoint]:
        """Those of which anything is frozen, ascending."""
        return [self._every[number] for number in sorted(self.frozen | self.stopped)]

    # which go together

    def take_along(self, number: int, other: int, *, add: bool) -> None:
        """Have errors of an endpoint freeze another one too, or no longer."""
        others = self._takes.setdefault(number, set())
        (others.add if add else others.discard)(other)

    def taken_along(self, number: int) -> frozenset[int]:
        """Those that errors of an endpoint freeze."""
        return frozenset(self._takes.get(number, ()))

    # freezing

    def strike(self, number: int, entry: PestEntry) -> None:
        """An error: freeze the endpoint and those that go with it, and log it."""
        self.log.append((number, entry))
        for one in (number, *sorted(self._takes.get(number, ()))):
            self._freeze(self._every[one], entry)
        self._changed()

    def _freeze(self, endpoint: Endpoint, entry: PestEntry) -> None:
        if not endpoint.frozen and not endpoint.stopped:
            endpoint.entry = entry
            endpoint.freezes += 1
        endpoint.frozen = endpoint.stopped = True
        self.frozen.add(endpoint.number)
        self.stopped.add(endpoint.number)

    def set(self, number: int, *, frozen: bool = False, stopped: bool = False) -> None:
        """Freeze by software, without an error."""
        endpoint = self._every[number]
        if not endpoint.frozen and not endpoint.stopped and (frozen or stopped):
            endpoint.entry = None
        if frozen:
            endpoint.frozen = True
            self.frozen.add(number)
        if stopped:
            endpoint.stopped = True
            self.stopped.add(number)
        self._changed()

    def clear(self, number: int, *, frozen: bool = True, stopped: bool = True) -> None:
        """Let loads and stores, or DMA, go again."""
        endpoint = self._every[number]
        if frozen:
            endpoint.frozen = False
            self.frozen.discard(number)
        if stopped:
            endpoint.stopped = False
            self.stopped.discard(number)
        self._changed()

    def clear_all(self) -> None:
        """Let everything go again."""
        for endpoint in self.troubled():
            endpoint.frozen = endpoint.stopped = False
        self.frozen.clear()
        self.stopped.clear()
        self._changed()

    def reset(self) -> None:
        """`clear_all`, and no endpoint takes another along."""
        self._takes.clear()
        self.clear_all()

    def pest(self, numbers: Iterable[int] | None = None) -> dict[int, tuple[int, int]]:
        """A and B of those of which anything is frozen."""
        chosen = self.troubled() if numbers is None else [self._every[number] for number in numbers]
        return {one.number: one.pest for one in chosen if one.frozen or one.stopped}
