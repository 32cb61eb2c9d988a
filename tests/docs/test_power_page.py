"""The examples of docs/power.md, and its commands, give what the page shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
from page_commands import in_sandbox, said_and_shown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "power.md"


def test_the_examples() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", PAGE.read_text(), re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 40
    said: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(test, out=said.append)
    assert said == []


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    in_sandbox("power9-phb4", tmp_path, monkeypatch)
    happened, shown = said_and_shown(PAGE, 6, capsys)
    assert happened == shown
