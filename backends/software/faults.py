"""Faults of the seam: any verb can be told to fail the n-th time with an errno."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from pyvfio_backends.software.linux.vfs import fail

__all__ = ["Fault", "Faults"]


@dataclass(slots=True)
class Fault:
    """A planned failure: of `verb`, on paths like `path` (a shell pattern), with `errno`.

    The first `skip` matching calls pass, then `times` of them fail (-1: all).
    """

    verb: str
    errno: int
    path: str = "*"
    skip: int = 0
    times: int = 1
    hits: int = 0


class Faults:
    """The planned failures of a machine; `log`, when set to a list, collects (verb, path) of every call."""

    def __init__(self) -> None:
        self.planned: list[Fault] = []
        self.log: list[tuple[str, str]] | None = None

    @property
    def active(self) -> bool:
        """Whether calls must be looked at at all."""
        return bool(self.planned) or self.log is not None

    def fail(self, verb: str, errno: int, *, path: str = "*", nth: int = 1, times: int = 1) -> Fault:
        """Let the `nth` call of `verb` on a path like `path`, and `times` of them (-1: all), fail with `errno`."""
        fault = Fault(verb, errno, path, skip=nth - 1, times=times)
        self.planned.append(fault)
        return fault

    def clear(self) -> None:
        """Forget all planned failures."""
        self.planned.clear()

    def check(self, verb: str, path: str) -> None:
        """Called by the backend before each verb.  Raise the planned OSError."""
        if self.log is not None:
            self.log.append((verb, path))
        for fault in self.planned:
            if fault.verb not in (verb, "*") or not fnmatch.fnmatchcase(path, fault.path):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.times == 0:
                continue
            fault.times -= 1
            fault.hits += 1
            raise fail(fault.errno, path)
