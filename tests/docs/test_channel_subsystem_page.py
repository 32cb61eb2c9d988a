"""The examples of docs/channel-subsystem.md give what the page shows, and its table is the models'."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

from pyvfio_backends.software.hardware.css import MAINFRAME, VIRTUAL

PAGE = Path(__file__).resolve().parents[2] / "docs" / "channel-subsystem.md"


def test_the_examples() -> None:
    blocks = re.findall(r"```pycon\n(.*?)```", PAGE.read_text(), re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 15
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert said == []


def test_the_commands() -> None:
    provided: dict[str, set[int]] = {"mainframe": set(), "virtual": set()}
    row = re.compile(r"^\| ([0-9a-f, ]{4,}) \|.*\| (yes)? ?\| ?(yes)? ?\|$", re.MULTILINE)
    for codes, mainframe, virtual in row.findall(PAGE.read_text()):
        numbers = {int(code, 16) for code in codes.split(", ")}
        provided["mainframe"] |= numbers if mainframe else set()
        provided["virtual"] |= numbers if virtual else set()
    assert provided["mainframe"] == set(MAINFRAME.commands)
    assert provided["virtual"] == set(VIRTUAL.commands)
