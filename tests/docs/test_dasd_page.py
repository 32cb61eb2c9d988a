"""The page on DASDs shows what its commands print in a sandbox, one after another, and its program runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_commands import in_sandbox, said_and_shown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "dasd.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_it_is_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_sandbox("hercules-lab", tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    happened, shown = said_and_shown(PAGE, 10, capsys)
    assert happened == shown


def test_the_program_runs() -> None:
    (program,) = blocks("python")
    exec(compile(program, str(PAGE), "exec"), {})
