"""What the POWER lab's kernel answered (``fixtures/golden/ppc64/lab``) against what ``lab-ppc64`` answers to that.

``pytest tests/golden/test_golden_ppc64.py -k share -s`` shows how much of each recording agrees.  Those about EEH are
in `test_golden_ppc64_eeh`.
"""

from __future__ import annotations

import copy
import fnmatch
from typing import Any

import pytest
from replay.ppc64.lab import FILES, flatten, keys, load
from replay.ppc64.results import KEPT, REPLAYS, disagreeing, extra, kept, listed, verdicts

#: Of all facts, those in the list counted as not agreeing.
REQUIRED = 0.98


@pytest.mark.parametrize("file", FILES)
def test_facts(file: str) -> None:
    """Every fact of a recording agrees or is in the list."""
    wrong = {name: one for name, one in verdicts(file).items() if not one.agrees and listed(name) is None}
    shown = "\n".join(f"{name}\n    kernel  {one.expected}\n    machine {one.actual}" for name, one in wrong.items())
    assert not wrong, f"{len(wrong)} facts disagree:\n{shown}"


@pytest.mark.parametrize("file", FILES)
def test_the_machine_shows_nothing_else(file: str) -> None:
    assert extra(file) == []


def test_every_listed_pattern_has_a_reason_and_is_needed() -> None:
    wrong = [name for file in FILES for name, one in verdicts(file).items() if not one.agrees]
    assert [pattern for pattern, reason in disagreeing().items() if len(reason) < 10] == []
    assert [pattern for pattern in disagreeing() if not fnmatch.filter(wrong, pattern)] == []


def test_the_share_that_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    agreeing = facts = 0
    with capsys.disabled():
        print()
        for file in FILES:
            found = verdicts(file)
            own = sum(one.agrees for one in found.values())
            agreeing, facts = agreeing + own, facts + len(found)
            print(f"ppc64 {file:<12}{own:>5} of {len(found):>5} agree ({own / len(found):.1%})")
        print(f"ppc64 {'all':<12}{agreeing:>5} of {facts:>5} agree ({agreeing / facts:.2%})")
    assert facts >= 520
    assert agreeing >= REQUIRED * facts


def test_every_recording_is_replayed() -> None:
    assert tuple(REPLAYS) == FILES


def _corrupted(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 7
    if isinstance(value, dict):
        return {**value, "corrupted": 1}
    return [*value, "eeh_corrupted"] if isinstance(value, list) else f"{value}0"


@pytest.mark.parametrize("file", FILES)
def test_a_corrupted_fact_is_found_out(file: str) -> None:
    missed = [
        name
        for name, value in flatten((file,), load(file))
        if repr(kept(name, _corrupted(copy.deepcopy(value)))) == repr(kept(name, value))
    ]
    assert missed == []
    assert set(KEPT) <= {name for name, _ in flatten(("platform",), load("platform"))}


@pytest.mark.parametrize("file", FILES)
def test_a_replay_is_given_no_answers(file: str) -> None:
    """The questions are keys of tables; where an answer stands, there is nothing."""

    def leaves(value: Any) -> list[Any]:
        return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]

    assert set(leaves(keys(file))) == {None}
