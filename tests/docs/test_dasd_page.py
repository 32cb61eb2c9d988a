"""The page on DASDs shows what its commands print in a sandbox, one after another, and its program runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.cli import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dasd.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_it_is_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv(VARIABLE, str(Sandbox.create(tmp_path / "box", "hercules-lab").directory))
    monkeypatch.chdir(tmp_path)
    shown = [line for block in blocks("console") for line in block.splitlines()]
    commands = [line[9:] for line in shown if line.startswith("$ pyvfio ")]
    assert len(commands) >= 10
    happened: list[str] = []
    for command in commands:
        happened.append(f"$ pyvfio {command}")
        status = run(shlex.split(command))
        told = capsys.readouterr()
        happened += (line.rstrip() for line in (told.out + told.err).splitlines())
        happened += [f"[exit code {status}]"] if status else []
    assert happened == shown


def test_the_program_runs() -> None:
    (program,) = blocks("python")
    exec(compile(program, str(PAGE), "exec"), {})
