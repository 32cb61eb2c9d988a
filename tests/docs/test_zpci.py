"""The examples of docs/zpci.md give what the page shows, its commands print what it shows when they are given in a
sandbox, and its table names every module of `pyvfio.zpci`.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from page_commands import in_sandbox, said_and_shown

import pyvfio.zpci

PAGE = Path(__file__).resolve().parents[2] / "docs" / "zpci.md"
INSIDE = (
    *("__init__", "access", "block", "controls", "event_code", "facts", "function", "logical"),
    *("measurement", "node", "service"),
)


def test_the_examples() -> None:
    text = re.sub(r"```console\n.*?```", "", PAGE.read_text(), flags=re.DOTALL)
    text = text.replace("```pycon", "").replace("```", "")
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


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    in_sandbox("z15-lpar", tmp_path, monkeypatch)
    happened, shown = said_and_shown(PAGE, 4, capsys)
    assert happened == shown
