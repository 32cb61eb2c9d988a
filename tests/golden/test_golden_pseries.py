"""What sysfs showed of functions in the pseries guest against what ``contract-pseries`` shows: every file, one by one.

`replay.record_pseries` made the recording, with the walk that is done here.  What does not agree is listed below.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from typing import Any

import pytest
from replay.ppc64.tree import Tree, read_tree

from pyvfio.backend import open_backend
from pyvfio_fixtures import golden

REQUIRED = 0.98
DISAGREEING = {
    "*/pci_bus/????:00::entries": "not modelled: legacy_io and legacy_mem of root buses",
}
"""Patterns of facts, with why."""
NOT_THERE = {
    "*/pci_bus/????:00/legacy_*::mode": "not modelled: ports and memory of old devices through the bus",
}
"""Facts that the machine has no answer to."""


@pytest.fixture(scope="module")
def recorded() -> Tree:
    document: dict[str, Any] = json.loads(golden("ppc64/pseries-sysfs.json").read_text(encoding="utf-8"))
    document.pop("_kernel")
    return document


@pytest.fixture(scope="module")
def shown() -> Iterator[Tree]:
    with open_backend("software", machine="contract-pseries") as host:
        yield read_tree(host)


def _listed(name: str, patterns: dict[str, str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def test_facts(recorded: Tree, shown: Tree) -> None:
    wrong = [
        f"{name}\n    kernel  {value}\n    machine {shown[name]}"
        for name, value in recorded.items()
        if name in shown and shown[name] != value and not _listed(name, DISAGREEING)
    ]
    assert not wrong, f"{len(wrong)} facts disagree:\n" + "\n".join(wrong)


def test_the_same_is_there(recorded: Tree, shown: Tree) -> None:
    assert [name for name in recorded if name not in shown and not _listed(name, NOT_THERE)] == []
    assert [name for name in shown if name not in recorded] == []


def test_each_listed_pattern_is_needed(recorded: Tree, shown: Tree) -> None:
    wrong = [name for name, value in recorded.items() if name in shown and shown[name] != value]
    missing = [name for name in recorded if name not in shown]
    assert [pattern for pattern in DISAGREEING if not fnmatch.filter(wrong, pattern)] == []
    assert [pattern for pattern in NOT_THERE if not fnmatch.filter(missing, pattern)] == []


def test_the_share_that_agrees(recorded: Tree, shown: Tree, capsys: pytest.CaptureFixture[str]) -> None:
    agreeing = sum(name in shown and shown[name] == value for name, value in recorded.items())
    with capsys.disabled():
        print(f"\nppc64 pseries sysfs {agreeing} of {len(recorded)} agree ({agreeing / len(recorded):.1%})")
    assert len(recorded) >= 1000
    assert agreeing >= REQUIRED * len(recorded)
