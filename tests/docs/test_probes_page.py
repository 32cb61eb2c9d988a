"""The page on in-use probes has a row for each, and its example is what they say."""

from __future__ import annotations

import re
from pathlib import Path

from pyvfio.binding.probes import PROBES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "probes.md").read_text()


def _rows() -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")
    ]


def test_every_probe_has_its_row_in_order() -> None:
    assert [row[0].strip("`") for row in _rows()] == list(PROBES)


def test_rows_say_what_is_looked_at_and_what_counts() -> None:
    for row in _rows():
        assert len(row) == 4, row[0]
        assert all(row[1:3]), row[0]


def test_what_is_forced_is_a_probe() -> None:
    named = re.findall(r"--force=(\w+)", PAGE)
    assert set(named) - {"PROBE"} <= set(PROBES)
    assert "signature" in named


def test_the_example_uses_the_probe_s_own_words() -> None:
    assert f"mounted: {PROBES['mounted'].load().SUMMARY}" in PAGE
