"""The page on channel devices shows what its commands print in a sandbox, one after another."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_commands import in_sandbox, said_and_shown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "channel-devices.md"


def test_it_is_what_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    in_sandbox("s390x-server", tmp_path, monkeypatch)
    happened, shown = said_and_shown(PAGE, 10, capsys)
    assert happened == shown
