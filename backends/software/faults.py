"""Faults of the seam: any verb can be told to fail the n-th time with an errno, or to hang."""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass, field

from pyvfio_backends.software.clock import Clock
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["Fault", "Faults", "Hang"]

_INTERVAL = 0.2
"""Real seconds after which a call that hangs looks whether the program has ended."""


@dataclass(slots=True)
class _Planned:
    """Which calls: of `verb` on paths like `path` (a shell pattern; ``*`` for both is any).

    The first `skip` matching calls pass, then `times` of them are hit (-1: all); `hits` counts them.
    """

    verb: str
    path: str = "*"
    skip: int = 0
    times: int = 1
    hits: int = 0

    def hit(self, verb: str, path: str) -> bool:
        """Count a call; whether it is one of those."""
        if self.verb not in (verb, "*") or not fnmatch.fnmatchcase(path, self.path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times == 0:
            return False
        self.times -= 1
        self.hits += 1
        return True


@dataclass(slots=True)
class Fault(_Planned):
    """A planned failure with `errno`."""

    errno: int = 0


@dataclass(slots=True)
class Hang(_Planned):
    """A planned call that blocks until `release`, and then does what it was to do.

    It blocks as a write to ``unbind`` does in the kernel while somebody uses the device: others can work with the
    machine meanwhile.  `entered` is set when a call hangs.
    """

    clock: Clock = field(kw_only=True)
    entered: threading.Event = field(default_factory=threading.Event)
    released: bool = False

    def release(self) -> None:
        """Let the calls go on, those that come later too; return when those that hung are done or wait elsewhere."""
        with self.clock.condition:
            self.released = True
            self.clock.notify()
            self.clock.settle()

    def wait(self) -> None:
        """Hang the calling thread, which has the machine's lock; the end of the program ends it."""
        if not self.released:
            self.entered.set()
            main = threading.main_thread()
            self.clock.wait(lambda: self.released or not main.is_alive(), interval=_INTERVAL)


class Faults:
    """The planned failures of a machine; `log`, when set to a list, collects (verb, path) of every call."""

    def __init__(self, clock: Clock) -> None:
        self.planned: list[Fault | Hang] = []
        self.log: list[tuple[str, str]] | None = None
        self._clock = clock

    @property
    def active(self) -> bool:
        """Whether calls must be looked at at all."""
        return bool(self.planned) or self.log is not None

    def fail(self, verb: str, errno: int, *, path: str = "*", nth: int = 1, times: int = 1) -> Fault:
        """Let the `nth` call of `verb` on a path like `path`, and `times` of them (-1: all), fail with `errno`."""
        fault = Fault(verb, path, nth - 1, times, errno=errno)
        self.planned.append(fault)
        return fault

    def hang(self, verb: str, *, path: str = "*", nth: int = 1, times: int = 1) -> Hang:
        """Let the `nth` call of `verb` on a path like `path`, and `times` of them (-1: all), hang until released."""
        hang = Hang(verb, path, nth - 1, times, clock=self._clock)
        self.planned.append(hang)
        return hang

    def release_all(self) -> None:
        """Release every planned hang."""
        for fault in tuple(self.planned):
            if isinstance(fault, Hang):
                fault.release()

    def clear(self) -> None:
        """Forget all planned failures; what hangs is released."""
        planned, self.planned = self.planned, []
        for fault in planned:
            if isinstance(fault, Hang):
                fault.release()

    def check(self, verb: str, path: str) -> None:
        """Called by the backend, with the machine's lock, before each verb.  Raise the planned OSError, or hang."""
        if self.log is not None:
            self.log.append((verb, path))
        for fault in tuple(self.planned):
            if not fault.hit(verb, path):
                continue
            if isinstance(fault, Hang):
                fault.wait()
            else:
                raise fail(fault.errno, path)
