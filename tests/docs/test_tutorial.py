"""The README's tutorials are what their commands print in a sandbox, one after another."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from pyvfio.sandbox import VARIABLE, Sandbox
from pyvfio_tools.cli import run

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
BLOCK = re.compile(r"<!-- tutorial (\S+) -->\n```\n(.*?)```\n<!-- /tutorial \1 -->", re.DOTALL)
TUTORIALS = {machine: text.splitlines() for machine, text in BLOCK.findall(README)}
LEFT_OUT = "..."
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _commands(machine: str, lines: list[str]) -> list[tuple[str, list[str]]]:
    """Each command with the lines below it."""
    found: list[tuple[str, list[str]]] = []
    for line in lines:
        if line.startswith(f"(sandbox {machine}) $ "):
            found.append((line.partition(" $ ")[2], []))
        else:
            found[-1][1].append(line)
    return found


def _same(line: str) -> str:
    return UUID.sub("UUID", line.rstrip())


def _check(command: str, shown: list[str], real: list[str]) -> None:
    """All lines in order, and between two `LEFT_OUT` none is missing."""
    at = 0
    free = False
    for line in shown:
        if line == LEFT_OUT:
            free = True
            continue
        rest = [_same(other) for other in real[at:]]
        assert _same(line) in rest, f"{command}: {line!r} is not in\n" + "\n".join(real)
        if not free:
            assert rest[0] == _same(line), f"{command}: before {line!r} comes {real[at]!r}"
        at += rest.index(_same(line)) + 1
        free = False
    assert free or not real[at:], f"{command}: {real[at]!r} comes after that"


def test_there_is_one() -> None:
    assert TUTORIALS


@pytest.mark.parametrize("machine", TUTORIALS)
def test_a_tutorial(
    machine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opening, *lines = TUTORIALS[machine]
    assert opening == f"$ pyvfio sandbox --machine {machine}"
    for name in ("PYVFIO_BACKEND", "PYVFIO_MACHINE", "PYVFIO_JOURNAL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv(VARIABLE, str(Sandbox.create(tmp_path / "box", machine).directory))
    commands = _commands(machine, lines)
    assert len(commands) >= 4
    for command, shown in commands:
        words = shlex.split(command)
        assert words[0] == "pyvfio"
        status = run(words[1:])
        told = capsys.readouterr()
        assert (status == 0) is ("nothing was changed" not in told.err), command
        _check(command, shown, (told.out + told.err).splitlines())
