"""The lists of exceptions are in order, enough facts agree, and a wrong fact is found out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from replay.compare import verdict
from replay.facts import FILES, Fact, load_facts, load_list, load_patterns
from replay.results import Outcome, fact_verdicts, run, snapshot_ids, tally
from replay.snapshots import Snapshots, load_snapshots, snapshot_verdicts
from replay.sysfs import Step

from pyvfio_fixtures import golden

REQUIRED = 0.95


def all_ids() -> list[str]:
    return [
        *(fact.id for file in FILES for fact in load_facts(file)),
        *(name for file in FILES for name in snapshot_ids(file)),
    ]


def test_ids_are_unique() -> None:
    ids = all_ids()
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["excluded", "disagreeing"])
def test_listed_facts_exist_and_have_a_reason(name: str) -> None:
    known = {*all_ids(), *(path.name for path in golden("s390x").iterdir())}
    entries = load_list(name)
    assert [entry for entry in entries if entry not in known] == []
    assert [entry for entry, reason in entries.items() if len(reason) < 10] == []


def test_no_fact_is_in_both_lists() -> None:
    assert load_list("excluded").keys() & load_list("disagreeing").keys() == set()


def test_every_pattern_has_a_reason_and_is_needed() -> None:
    recorded = [load_snapshots(file) for file in FILES]
    paths = {path for one in recorded for tree in (one.first, *(step.new for step in one.steps)) for path in tree}
    assert all(reason for _, reason in load_patterns())
    assert [rule.pattern for rule, _ in load_patterns() if not any(map(rule.fullmatch, paths))] == []


def test_every_recording_is_replayed_or_excluded() -> None:
    replayed = {f"{prefix}{file}.json" for file in FILES for prefix in ("", "sysfs-")}
    replayed |= {"dasd-3390.jsonl", "dasd-3390-more.jsonl"}
    recorded = {Path(path).name for path in golden("s390x").iterdir()}
    assert recorded - replayed == {name for name in load_list("excluded") if "::" not in name}


@pytest.mark.parametrize("file", FILES)
def test_nothing_failed_between_the_facts(file: str, replays: Callable[[str], Outcome]) -> None:
    assert replays(file).problems == []


def test_agreement(capsys: pytest.CaptureFixture[str]) -> None:
    rows = tally()
    with capsys.disabled():
        print(f"\n{'section':<72}{'facts':>6}{'excluded':>10}{'agreeing':>10}{'':>9}")
        for row in rows:
            print(row)
    assert [row.section for row in rows if row.section.startswith("all ") and row.share < REQUIRED] == []


# the comparison itself


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all plain values in a result."""
    if isinstance(value, dict | list) and value:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, key))
    else:
        yield path


def corrupted(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 7
    if isinstance(value, str) and value:
        return value[:-1] + ("0" if value[-1] != "0" else "1")
    return "corrupted"


def corrupt(fact: Fact, path: tuple[Any, ...]) -> Fact:
    """The fact with one value of its result changed."""
    result = copy.deepcopy(fact.result)
    at: Any = result
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = corrupted(at[path[-1]])
    return Fact(fact.question, result)


# values that a rule takes out of the comparison: (end of the fact's id, path of the value)
_RULED_OUT: set[tuple[str, tuple[Any, ...]]] = {
    ("program in the last 8 bytes of the mapping", ("note",)),
    ("HSCH when idle", ("scsw", "cpa")),
    ("CSCH when idle", ("scsw", "cpa")),
    *(("SSCH from four threads for 2 s", ("counts", key)) for key in ("EAGAIN", "EBUSY", "None")),
    ("the request eventfd", ("after_s",)),
    ("RLIMIT_MEMLOCK of root", ("value", 1)),
    ("sysfs", ("msix_control",)),
    ("device_add zpci + virtio-rng-pci (uid 0x77 fid 0x88)", ("value", 0)),
    ("device_add zpci + virtio-rng-pci (uid 0x77 fid 0x88)", ("value", 1)),
    ("device_add without a zpci device", ("value",)),
    ("device_del while vfio-pci has it open", ("value",)),
    ("device_del of a boot-time function (rng)", ("value",)),
    ("after device_del", ("qmp_events",)),
    ("after close", ("qmp_events",)),
}


@pytest.mark.parametrize("file", FILES)
def test_a_corrupted_fact_is_found_out(file: str, replays: Callable[[str], Outcome]) -> None:
    """Every fact that agrees disagrees when any one value of its result is changed."""
    answers = replays(file).answers
    missed = []
    for fact in load_facts(file):
        if not fact_verdicts(file)[fact.id].agrees:
            continue
        paths = list(leaves(fact.result))
        seen = [path for path in paths if not verdict(corrupt(fact, path), answers[fact.id]).agrees]
        blind = [path for path in paths if path not in seen and (fact.question.what, path) not in _RULED_OUT]
        if blind or (not seen and "four threads" not in fact.question.what):
            missed.append((fact.id, blind))
    assert missed == []


@pytest.mark.parametrize("file", FILES)
def test_answers_do_not_come_from_the_results(file: str, replays: Callable[[str], Outcome]) -> None:
    """A replay of facts with every result corrupted gives the same answers as before."""
    facts = []
    for fact in load_facts(file):
        changed = fact
        for path in leaves(fact.result):
            changed = corrupt(changed, path)
        facts.append(changed)
    again = run(file, facts)
    before, after = replays(file).answers, again.answers
    differing = [name for name in before if before[name] != after[name]]
    assert [name for name in differing if "SSCH from four threads" not in name] == []


@pytest.mark.parametrize("file", FILES)
def test_a_corrupted_snapshot_is_found_out(file: str, replays: Callable[[str], Outcome]) -> None:
    """Every part of the snapshots that says something disagrees when all its values are changed."""
    recorded = load_snapshots(file)

    def changed(table: dict[str, Any]) -> dict[str, Any]:
        return {path: ["corrupted", *entry] for path, entry in table.items()}

    wrong = Snapshots(changed(recorded.first), [], recorded.unknown)
    silent = set()
    for number, step in enumerate(recorded.steps):
        events = [[*lines[:-1], "corrupted"] for lines in step.uevents]
        wrong.steps.append(Step(step.name, changed(step.gone), changed(step.new), changed(step.changed), events))
        if not events:
            silent.add(f"sysfs-{file}::{number} {step.name}::uevents")
    verdicts = snapshot_verdicts(file, wrong, replays(file).snapshots)
    assert {one.id for one in verdicts if one.agrees} == silent
