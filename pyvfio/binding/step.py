"""Steps of a plan: each knows how to do, to check and to undo itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Event", "Phase", "Progress", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """One change to the host.

    `text` and `undo_text` say in words what it and its inverse do; `paths` are the files that are written.  `do` makes
    the change; `verify` reads it back and says what is wrong (an empty string when it is right); `undo` restores what
    was before and may be called whether or not `do` got to its end.  All three raise `PyvfioError`.
    """

    text: str
    undo_text: str
    paths: tuple[str, ...]
    do: Callable[[], None]
    verify: Callable[[], str]
    undo: Callable[[], None]

    def __str__(self) -> str:
        return self.text


class Phase(Enum):
    """Where a step is."""

    START = "start"
    DONE = "done"
    FAILED = "failed"
    UNDOING = "undoing"
    UNDONE = "undone"
    UNDO_FAILED = "undo failed"


@dataclass(frozen=True, slots=True)
class Event:
    """Progress of a plan: `step` number `index` (from 0) of `total` entered `phase`; `error` says why it failed."""

    step: Step
    phase: Phase
    index: int
    total: int
    error: str = ""


Progress = Callable[[Event], None]
