"""The commands that a page shows, given in turn, and what they print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.cli import run

__all__ = ["in_sandbox", "said_and_shown"]

_PROMPT = "$ pyvfio "


def in_sandbox(machine: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands work on a new sandbox of a machine below `folder`."""
    for name in ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv(VARIABLE, str(Sandbox.create(folder / "box", machine).directory))


def said_and_shown(page: Path, least: int, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """What the commands of a page's console blocks say, and what the page shows; they are `least` or more."""
    shown = "".join(re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)).splitlines()
    commands = [line.removeprefix(_PROMPT) for line in shown if line.startswith(_PROMPT)]
    assert len(commands) >= least
    said: list[str] = []
    for command in commands:
        said.append(f"{_PROMPT}{command}")
        status = run(shlex.split(command))
        told = capsys.readouterr()
        said += (line.rstrip() for line in (told.out + told.err).splitlines())
        said += [f"[exit code {status}]"] if status else []
    return said, shown
