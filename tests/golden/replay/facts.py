"""The recorded facts, split into the question (what was done) and the result (what the kernel answered).

A replay gets questions only.  The one thing taken over from a result is where the recording looked: the addresses and
lengths of the data that it read back after a channel program, which the recorder also filled with 0xEE beforehand.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyvfio_fixtures import golden

__all__ = ["FILES", "Fact", "Question", "load_facts", "load_list", "load_patterns", "split"]

FILES = ("ccw-blk", "ccw-virtio", "zpci-vfio", "zpci-hotplug")
_HERE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Question:
    """What was done: `section`, `what` (in words), `request` (data); `looks` are (address, length) read back."""

    id: str
    file: str
    section: str
    what: str
    request: Any = None
    looks: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Fact:
    """A question and what the kernel answered."""

    question: Question
    result: dict[str, Any] = field(hash=False)

    @property
    def id(self) -> str:
        """``file::section::what``, with a number when a recording did the same thing again."""
        return self.question.id


def _looks(result: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    data = result.get("data")
    if not isinstance(data, dict):
        return ()
    return tuple((int(address, 16), len(text) // 2) for address, text in data.items())


def split(file: str, entries: list[dict[str, Any]]) -> list[Fact]:
    """The facts of a recording in its order, with unique ids."""
    seen: Counter[str] = Counter()
    facts: list[Fact] = []
    for entry in entries:
        section, what = entry["section"] or "start", entry["what"]
        name = f"{file}::{section}::{what}"
        seen[name] += 1
        if seen[name] > 1:
            name += f" ({seen[name]})"
        question = Question(name, file, section, what, entry.get("request"), _looks(entry["result"]))
        facts.append(Fact(question, entry["result"]))
    return facts


def load_facts(file: str) -> list[Fact]:
    """The facts of ``fixtures/golden/s390x/FILE.json``."""
    document = json.loads(golden(f"s390x/{file}.json").read_text(encoding="utf-8"))
    return split(file, document["facts"])


def load_list(name: str) -> dict[str, str]:
    """``NAME.toml``: tables of ``id = "reason"``, whose headers only group them.  Returns id -> reason."""
    document = tomllib.loads((_HERE / f"{name}.toml").read_text(encoding="utf-8"))
    reasons: dict[str, str] = {}
    for table in document.values():
        if isinstance(table, dict):
            reasons.update(table)
    return reasons


def load_patterns() -> list[tuple[re.Pattern[str], str]]:
    """The ``[[path]]`` tables of ``excluded.toml``: paths of snapshots that are left out, with the reason."""
    document = tomllib.loads((_HERE / "excluded.toml").read_text(encoding="utf-8"))
    return [(re.compile(entry["pattern"]), entry["reason"]) for entry in document["path"]]
