"""The examples of docs/zpci.md give what the page shows, and its table names every module of `pyvfio.zpci`."""

from __future__ import annotations

import doctest
from pathlib import Path

import pyvfio.zpci

PAGE = Path(__file__).resolve().parents[2] / "docs" / "zpci.md"
INSIDE = (
    *("__init__", "access", "block", "controls", "event_code", "facts", "function", "logical"),
    *("measurement", "node", "service"),
)


def test_the_examples() -> None:
    text = PAGE.read_text().replace("```pycon", "").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 10
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert said == []


def test_every_module_is_named() -> None:
    (folder,) = pyvfio.zpci.__path__
    modules = {path.stem for path in Path(folder).glob("*.py")} - set(INSIDE)
    text = PAGE.read_text()
    assert [name for name in sorted(modules) if f"`{name}`" not in text] == []
