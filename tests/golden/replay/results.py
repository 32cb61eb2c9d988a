"""Runs the replays, each once, and sums up how far they agree."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .base import Replay
from .ccw import CcwReplay
from .ccw_virtio import CcwVirtioReplay
from .compare import Verdict, verdict
from .facts import FILES, Fact, load_facts, load_list
from .hotplug import HotplugReplay
from .snapshots import Snapshots, load_snapshots, snapshot_verdicts
from .zpci import ZpciReplay

__all__ = ["REPLAYS", "Outcome", "Tally", "outcome", "snapshot_ids", "tally"]

REPLAYS: dict[str, type[Replay]] = {
    replay.file: replay for replay in (CcwReplay, CcwVirtioReplay, ZpciReplay, HotplugReplay)
}


@dataclass(frozen=True)
class Outcome:
    """A replay's answers by id, its snapshots, and `problems` in what it did between facts."""

    answers: dict[str, Any]
    snapshots: Snapshots
    problems: list[str]


def run(file: str, facts: Iterable[Fact]) -> Outcome:
    """Replay the questions of `facts` on a new machine."""
    replay = REPLAYS[file]()
    answers = replay.run(fact.question for fact in facts)
    return Outcome(answers, Snapshots(replay.recorder.first, replay.steps), replay.problems)


@functools.cache
def outcome(file: str) -> Outcome:
    """The outcome of a recording's replay, done when it is first asked for."""
    return run(file, load_facts(file))


@functools.cache
def fact_verdicts(file: str) -> dict[str, Verdict]:
    """A verdict for each fact of a recording."""
    answers = outcome(file).answers
    return {fact.id: verdict(fact, answers[fact.id]) for fact in load_facts(file)}


@functools.cache
def tree_verdicts(file: str) -> dict[str, Verdict]:
    """A verdict for each part of a recording's snapshots."""
    found = snapshot_verdicts(file, load_snapshots(file), outcome(file).snapshots)
    return {one.id: one for one in found}


def snapshot_ids(file: str) -> list[str]:
    """The parts of a recording's snapshots, without running anything."""
    recorded = load_snapshots(file)
    return [one.id for one in snapshot_verdicts(file, recorded, recorded)]


@dataclass
class Tally:
    """How many facts of a section there are, are excluded, agree."""

    section: str
    facts: int = 0
    excluded: int = 0
    agreeing: int = 0

    @property
    def compared(self) -> int:
        """All but the excluded ones."""
        return self.facts - self.excluded

    @property
    def share(self) -> float:
        """The agreeing part of the compared ones (1 when there are none)."""
        return self.agreeing / self.compared if self.compared else 1.0

    def __str__(self) -> str:
        return f"{self.section:<72}{self.facts:>6}{self.excluded:>10}{self.agreeing:>10}{self.share:>9.1%}"


def tally() -> list[Tally]:
    """One row for each section of each recording and each step of its snapshots, and the sums at the end."""
    excluded = load_list("excluded")
    rows: dict[str, Tally] = {}
    sums = {name: Tally(f"all {name}") for name in ("facts", "snapshots")}
    for kind, source in (("facts", fact_verdicts), ("snapshots", tree_verdicts)):
        for file in FILES:
            for name, one in source(file).items():
                section = name.rsplit("::", 1)[0] if kind == "snapshots" else "::".join(name.split("::")[:2])
                for row in (rows.setdefault(section, Tally(section)), sums[kind]):
                    row.facts += 1
                    if name in excluded:
                        row.excluded += 1
                    elif one.agrees:
                        row.agreeing += 1
    return [*rows.values(), *sums.values()]
