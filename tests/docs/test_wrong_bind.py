"""The page on wrong binds shows what really happens: each command is run, and each line compared."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pyvfio_tools.cli import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "wrong-bind.md"


def _runs() -> list[tuple[str, list[str]]]:
    """The command lines of the page with the lines shown after them."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ pyvfio "):
                found.append((line[9:], []))
            else:
                found[-1][1].append(line)
    return found


def test_there_are_refusals_to_see() -> None:
    assert sum(lines[-1] == "[exit code 5]" for _, lines in _runs()) >= 3


@pytest.mark.parametrize(("command", "shown"), _runs(), ids=[command for command, _ in _runs()])
def test_it_is_what_happens(
    command: str, shown: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYVFIO_MACHINE", "s390x-server")
    status = run(shlex.split(command))
    captured = capsys.readouterr()
    assert [*captured.out.splitlines(), *captured.err.splitlines(), f"[exit code {status}]"] == shown
