"""Runs the replays of the x86 lab's recordings, each once, and compares."""

from __future__ import annotations

import fnmatch
import functools
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from .address_spaces import iommufd
from .binding import bind_semantics, group_viability
from .edu_replay import edu_end_to_end, mmap_holds_device
from .errors import aer
from .facts import MISSING, Keys, flatten, keys, load
from .lab import Answers, Lab
from .mappings import type1_dma
from .mediated import mdev
from .plugging import hotplug
from .resets import resets
from .rules import ruled
from .trees import iommu_groups, sysfs_topology
from .virtual_functions import sriov
from .windows import config_virtualisation, regions

__all__ = ["REPLAYS", "Verdict", "answers", "extra", "listed", "patterns", "verdicts"]

Replay: TypeAlias = Callable[[Lab, Keys], Answers]

REPLAYS: dict[str, Replay] = {
    "iommu_groups": iommu_groups,
    "sysfs_topology": sysfs_topology,
    "bind_semantics": bind_semantics,
    "group_viability": group_viability,
    "regions": regions,
    "config_virtualisation": config_virtualisation,
    "resets": resets,
    "sriov": sriov,
    "type1_dma": type1_dma,
    "iommufd": iommufd,
    "edu_end_to_end": edu_end_to_end,
    "mmap_holds_device": mmap_holds_device,
    "hotplug": hotplug,
    "aer": aer,
    "mdev": mdev,
}
_LISTS = Path(__file__).resolve().parents[2]


class Verdict(NamedTuple):
    """What the kernel answered and what the machine did, as far as it is compared."""

    expected: Any
    actual: Any

    @property
    def agrees(self) -> bool:
        """Whether they are the same, the types of values included."""
        return repr(self.expected) == repr(self.actual)


@functools.cache
def answers(file: str) -> dict[str, Any]:
    """The answers to a recording's questions by id, from a machine of their own."""
    lab = Lab()
    try:
        return dict(flatten((file,), REPLAYS[file](lab, keys(file))))
    finally:
        lab.close()


@functools.cache
def verdicts(file: str) -> dict[str, Verdict]:
    """A verdict for each fact of a recording; all disagree where there is no replay."""
    found = answers(file) if file in REPLAYS else {}
    return {
        name: Verdict(_plain(ruled(name, value)), _plain(ruled(name, found.get(name, MISSING))))
        for name, value in flatten((file,), load(file))
    }


def _plain(value: Any) -> Any:
    """JSON's own types, tables in the order of their keys."""
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


def extra(file: str) -> list[str]:
    """What the machine shows and the recording does not."""
    return [name for name in answers(file) if name not in verdicts(file)] if file in REPLAYS else []


@functools.cache
def patterns(name: str) -> dict[str, str]:
    """``x86-NAME.toml``: patterns of ids with the reason of each; its tables only group them."""
    document = tomllib.loads((_LISTS / f"x86-{name}.toml").read_text(encoding="utf-8"))
    return {pattern: reason for table in document.values() for pattern, reason in table.items()}


def listed(name: str) -> str | None:
    """Why a fact is in one of the lists."""
    for which in ("excluded", "disagreeing"):
        for pattern, reason in patterns(which).items():
            if fnmatch.fnmatchcase(name, pattern):
                return reason
    return None
