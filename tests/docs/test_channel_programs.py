"""The examples of docs/channel-programs.md give what the page shows, and it names every rule of the checker."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from pyvfio.css import Rule

PAGE = Path(__file__).resolve().parents[2] / "docs" / "channel-programs.md"


def test_the_examples() -> None:
    text = PAGE.read_text().replace("```pycon", "").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 10
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert said == []


@pytest.mark.parametrize("rule", list(Rule))
def test_every_rule_is_named(rule: Rule) -> None:
    assert f"`{rule}`" in PAGE.read_text()
