"""What all measurements share: a row of the table, and the best of several rounds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Line", "best", "left_out", "processes"]


@dataclass(frozen=True)
class Line:
    """One row: a figure, what it is held against, and their ratio (above 1 is better than the target)."""

    what: str
    figure: str
    against: str
    ratio: float


def left_out(what: str, why: str) -> Line:
    """A row that could not be measured, and why."""
    return Line(what, f"left out: {why}", "", float("nan"))


def best(work: Callable[[], object], count: int, rounds: int = 5) -> float:
    """Seconds for one `work`, in the best of `rounds` rounds of `count`."""
    work()
    fastest = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(count):
            work()
        fastest = min(fastest, (time.perf_counter() - start) / count)
    return fastest


def processes(
    commands: Mapping[str, Sequence[str]], rounds: Mapping[str, int], environment: Mapping[str, str]
) -> dict[str, float]:
    """Seconds that each command takes as a process, the best of its `rounds`, one after the other in turns.

    The turns let a busy moment of the machine hit all of them.  Raise CalledProcessError when one fails.
    """
    fastest = dict.fromkeys(commands, float("inf"))
    for turn in range(max(rounds.values())):
        for name, command in commands.items():
            if turn < rounds[name]:
                start = time.perf_counter()
                subprocess.run(
                    command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
                )
                fastest[name] = min(fastest[name], time.perf_counter() - start)
    return fastest
