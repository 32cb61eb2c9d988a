"""Runs the replays of the POWER lab's recordings, each once, and compares."""

from __future__ import annotations

import fnmatch
import functools
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from replay.x86.facts import MISSING, Keys, flatten
from replay.x86.lab import Answers
from replay.x86.results import Verdict

from .containers import spapr_tce
from .lab import PowerLab, keys, load
from .platform import platform

__all__ = ["KEPT", "REPLAYS", "answers", "disagreeing", "extra", "kept", "listed", "verdicts"]

Replay: TypeAlias = Callable[[PowerLab, Keys], Answers]
REPLAYS: dict[str, Replay] = {"platform": platform, "spapr_tce": spapr_tce}
_LIST = Path(__file__).resolve().parents[2] / "ppc64-disagreeing.toml"


def _of_devices(value: Any) -> Any:
    """Of the files of ``powerpc`` in debugfs those of EEH and of host bridges."""
    return [name for name in value if name.startswith(("PCI", "eeh_"))] if isinstance(value, list) else value


KEPT: dict[str, Callable[[Any], Any]] = {"platform::debugfs": _of_devices}
"""What of a fact is compared: switches against speculation, locks and the debugger have nothing to do with devices."""


@functools.cache
def answers(file: str) -> dict[str, Any]:
    """The answers to a recording's questions by id, from a machine of their own."""
    lab = PowerLab()
    try:
        return dict(flatten((file,), REPLAYS[file](lab, keys(file))))
    finally:
        lab.close()


def kept(name: str, value: Any) -> Any:
    """The part of a fact that is compared, in JSON's own types."""
    return _plain(KEPT.get(name, lambda one: one)(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


@functools.cache
def verdicts(file: str) -> dict[str, Verdict]:
    """A verdict for each fact of a recording."""
    found = answers(file)
    return {
        name: Verdict(kept(name, value), kept(name, found.get(name, MISSING)))
        for name, value in flatten((file,), load(file))
    }


def extra(file: str) -> list[str]:
    """What the machine shows and the recording does not."""
    return [name for name in answers(file) if name not in verdicts(file)]


@functools.cache
def disagreeing() -> dict[str, str]:
    """``ppc64-disagreeing.toml``: patterns of ids with the reason of each; its tables only group them."""
    document = tomllib.loads(_LIST.read_text(encoding="utf-8"))
    return {pattern: reason for table in document.values() for pattern, reason in table.items()}


def listed(name: str) -> str | None:
    """Why a fact is in the list."""
    return next((reason for pattern, reason in disagreeing().items() if fnmatch.fnmatchcase(name, pattern)), None)
