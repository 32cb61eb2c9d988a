"""The page on drivers shows what its commands print on its machine, and its programs run."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from pyvfio_tools.cli import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "drivers.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_it_is_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PYVFIO_BACKEND", "PYVFIO_SANDBOX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "machine.toml").write_text(blocks("toml")[0])
    (tmp_path / "disk.img").write_bytes(b"")
    os.truncate(tmp_path / "disk.img", 16 << 20)
    (tmp_path / "words.txt").write_bytes(b"what is written".ljust(512, b"."))
    monkeypatch.setenv("PYVFIO_JOURNAL", str(tmp_path / "journal"))
    monkeypatch.setenv("PYVFIO_MACHINE", "machine.toml")
    shown = [line for block in blocks("console") for line in block.splitlines()]
    commands = [line[9:] for line in shown if line.startswith("$ pyvfio ")]
    assert len(commands) >= 8
    happened: list[str] = []
    for command in commands:
        happened.append(f"$ pyvfio {command}")
        status = run(shlex.split(command))
        told = capsys.readouterr()
        happened += (line.rstrip() for line in (told.out + told.err).splitlines())
        happened += [f"[exit code {status}]"] if status else []
    assert (tmp_path / "copy.txt").read_bytes() == (tmp_path / "words.txt").read_bytes()
    assert happened == shown


@pytest.mark.parametrize("program", blocks("python"), ids=["sync", "async"])
def test_the_programs_run(program: str) -> None:
    exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})
