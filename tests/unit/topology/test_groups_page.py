"""``docs/groups.md`` shows what the program prints on the golden host."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "groups.md"
EXAMPLES = re.findall(r"^    \$ pyvfio (.+)\n((?:    .*\n)+)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_has_examples() -> None:
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_an_example(pyvfio: Callable[..., str], command: str, shown: str) -> None:
    assert pyvfio(*command.split()).splitlines() == [line.removeprefix("    ") for line in shown.splitlines()]
