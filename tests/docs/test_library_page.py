"""The page of the library by task names what is there."""

from __future__ import annotations

import pkgutil
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs/library.md").read_text()
NAMES = sorted(set(re.findall(r"`(pyvfio[\w.]+)`", PAGE)))


def test_there_are_names() -> None:
    assert len(NAMES) > 30


@pytest.mark.parametrize("name", NAMES)
def test_it_is_there(name: str) -> None:
    assert (pkgutil.resolve_name(name).__doc__ or "").strip()
