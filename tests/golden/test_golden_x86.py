"""What the x86 lab's kernel answered (``fixtures/golden/x86/lab``) against what ``lab-x86`` answers to that.

``pytest tests/golden/test_golden_x86.py -k "facts and regions"`` shows the facts of one recording, ``-k share -s`` how
much of each agrees.
"""

from __future__ import annotations

import copy
import fnmatch
from typing import Any

import pytest
from replay.x86.facts import FILES, flatten, keys, load
from replay.x86.results import REPLAYS, extra, listed, patterns, verdicts
from replay.x86.rules import RULES, ruled

#: Excluded facts count as not agreeing.
REQUIRED = 0.98
_SUBJECTS = [(file, key) for file in FILES for key in load(file)]


@pytest.mark.parametrize(("file", "key"), _SUBJECTS, ids=lambda text: text)
def test_facts(file: str, key: str) -> None:
    """Every fact of a subject agrees or is in a list."""
    prefix = f"{file}::{key}"
    disagreeing = {
        name: verdict
        for name, verdict in verdicts(file).items()
        if (name == prefix or name.startswith(f"{prefix}::")) and not verdict.agrees and listed(name) is None
    }
    shown = "\n".join(
        f"{name}\n    kernel  {one.expected}\n    machine {one.actual}" for name, one in disagreeing.items()
    )
    assert not disagreeing, f"{len(disagreeing)} facts disagree:\n{shown}"


@pytest.mark.parametrize("file", REPLAYS)
def test_the_machine_shows_nothing_else(file: str) -> None:
    assert [name for name in extra(file) if listed(name) is None] == []


@pytest.mark.parametrize("name", ["excluded", "disagreeing"])
def test_every_listed_pattern_has_a_reason_and_is_needed(name: str) -> None:
    """A pattern of facts that all agree is to be taken out."""
    wrong = [one for file in FILES for one, verdict in verdicts(file).items() if not verdict.agrees]
    wrong += [one for file in FILES for one in extra(file)]
    assert [pattern for pattern, reason in patterns(name).items() if len(reason) < 10] == []
    assert [pattern for pattern in patterns(name) if not fnmatch.filter(wrong, pattern)] == []


def test_the_share_that_agrees_of_all_that_was_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {}
    with capsys.disabled():
        print()
        for file in FILES:
            found = verdicts(file)
            agreeing = sum(one.agrees for one in found.values())
            shares[file] = agreeing, len(found)
            print(f"x86 {file:<24}{agreeing:>6} of {len(found):>5} agree ({agreeing / len(found):.1%})")
        agreeing, facts = (sum(column) for column in zip(*shares.values(), strict=True))
        print(f"x86 {'all':<24}{agreeing:>6} of {facts:>5} agree ({agreeing / facts:.2%})")
    assert agreeing >= REQUIRED * facts


def test_every_recording_is_there() -> None:
    assert [file for file in REPLAYS if file not in FILES] == []
    assert sum(1 for file in FILES for _ in flatten((file,), load(file))) >= 5500


# the comparison itself


def _corrupted(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 7
    if isinstance(value, str):
        return value[:-1] + ("0" if value[-1:] != "0" else "1")
    if isinstance(value, dict):
        return {**value, "corrupted": 1}
    return [*value, "corrupted"] if isinstance(value, list) else "corrupted"


@pytest.mark.parametrize("file", REPLAYS)
def test_a_corrupted_fact_is_found_out(file: str) -> None:
    ruled_out = [rule.pattern for rule in RULES]
    missed = [
        name
        for name, value in flatten((file,), load(file))
        if verdicts(file)[name].agrees
        and not any(fnmatch.fnmatchcase(name, pattern) for pattern in ruled_out)
        and repr(ruled(name, _corrupted(copy.deepcopy(value)))) == repr(ruled(name, value))
    ]
    assert missed == []


@pytest.mark.parametrize("file", FILES)
def test_a_replay_is_given_no_answers(file: str) -> None:
    """The questions are keys of tables; where an answer stands, there is nothing."""

    def leaves(value: Any) -> list[Any]:
        return [leaf for inner in value.values() for leaf in leaves(inner)] if isinstance(value, dict) else [value]

    assert set(leaves(keys(file))) == {None}
