"""The page on channel devices shows what its commands print in a sandbox, one after another."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.cli import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "channel-devices.md"


def test_it_is_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv(VARIABLE, str(Sandbox.create(tmp_path / "box", "s390x-server").directory))
    shown = [
        line
        for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
        for line in block.splitlines()
    ]
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
