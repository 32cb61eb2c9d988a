"""The examples of docs/zpci.md give what the page shows, its commands print what it shows when they are given in a
sandbox, and its table names every module of `pyvfio.zpci`.
"""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

import pyvfio.zpci
from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.cli import run

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
    for name in ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv(VARIABLE, str(Sandbox.create(tmp_path / "box", "z15-lpar").directory))
    shown = "".join(re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)).splitlines()
    commands = [line[9:] for line in shown if line.startswith("$ pyvfio ")]
    assert len(commands) >= 4
    happened: list[str] = []
    for command in commands:
        happened.append(f"$ pyvfio {command}")
        assert run(shlex.split(command)) == 0
        told = capsys.readouterr()
        happened += (line.rstrip() for line in (told.out + told.err).splitlines())
    assert happened == shown
