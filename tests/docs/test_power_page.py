"""The examples of docs/power.md, and its commands, give what the page shows."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.cli import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "power.md"


def test_the_examples() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", PAGE.read_text(), re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 40
    said: list[str] = []
    doctest.DocTestRunner(verbose=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL).run(test, out=said.append)
    assert said == []


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv(VARIABLE, str(Sandbox.create(tmp_path / "box", "power9-phb4").directory))
    shown = "".join(re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)).splitlines()
    commands = [line[9:] for line in shown if line.startswith("$ pyvfio ")]
    assert len(commands) >= 6
    happened: list[str] = []
    for command in commands:
        happened.append(f"$ pyvfio {command}")
        status = run(shlex.split(command))
        told = capsys.readouterr()
        happened += (line.rstrip() for line in (told.out + told.err).splitlines())
        happened += [f"[exit code {status}]"] if status else []
    (tmp_path / "happened").write_text("\n".join(happened))
    assert happened == shown
