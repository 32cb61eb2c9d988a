"""The page on drivers shows what its commands print on its machine, and its programs run."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from page_commands import said_and_shown

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
    happened, shown = said_and_shown(PAGE, 8, capsys)
    assert (tmp_path / "copy.txt").read_bytes() == (tmp_path / "words.txt").read_bytes()
    assert happened == shown


@pytest.mark.parametrize("program", blocks("python"), ids=["sync", "async"])
def test_the_programs_run(program: str) -> None:
    exec(compile(program, str(PAGE), "exec"), {"__name__": "page"})
