"""Every recorded fact, by name, against what the machine answered in the replay of its recording."""

from __future__ import annotations

import pytest
from replay.compare import Verdict
from replay.facts import FILES, load_facts, load_list
from replay.results import fact_verdicts, snapshot_ids, tree_verdicts

_EXCLUDED, _DISAGREEING = load_list("excluded"), load_list("disagreeing")


def check(one: Verdict) -> None:
    """Pass, skip with the reason of the list, or fail with both answers."""
    reason = _EXCLUDED.get(one.id) or _DISAGREEING.get(one.id)
    if reason is None:
        assert one.actual == one.expected
        assert one.agrees, "values of different types (true is not 1)"
    elif one.agrees:
        pytest.fail(f"{one.id} agrees: take it out of the list ({reason})")
    elif one.id in _EXCLUDED:
        pytest.skip(reason)
    else:
        pytest.xfail(reason)


@pytest.mark.parametrize(
    ("file", "name"), [pytest.param(file, fact.id, id=fact.id) for file in FILES for fact in load_facts(file)]
)
def test_fact(file: str, name: str) -> None:
    check(fact_verdicts(file)[name])


@pytest.mark.parametrize(
    ("file", "name"), [pytest.param(file, name, id=name) for file in FILES for name in snapshot_ids(file)]
)
def test_snapshot(file: str, name: str) -> None:
    check(tree_verdicts(file)[name])


@pytest.mark.parametrize("file", FILES)
def test_nothing_else_is_in_the_tree(file: str) -> None:
    """Areas and changes that only the machine has."""
    known = set(snapshot_ids(file))
    extra = [one.id for name, one in tree_verdicts(file).items() if name not in known]
    assert [name for name in extra if name not in _EXCLUDED and name not in _DISAGREEING] == []
