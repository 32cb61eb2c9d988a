"""The examples of docs/machines.md give what the page shows, and its tables can be put into a machine file."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from pyvfio.errors import BadMachine
from pyvfio_backends.software.loader import load_machine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "machines.md"


def test_the_examples() -> None:
    text = "".join(re.findall(r"```pycon\n(.*?)```", PAGE.read_text(), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 10
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    assert said == []


@pytest.mark.parametrize("place", range(5))
def test_the_tables(place: int, tmp_path: Path) -> None:
    """Each with what it speaks of: the paths of a subchannel, a function that comes."""
    tables = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(tables) == 5
    file = tmp_path / "m.toml"
    rest = """
[[css.path]]
chpid = 0x44
[[css.subchannel]]
schid = "0.0.0003"
device = "0.0.1000"
unit = "echo"
chpids = [0x44]
[[zpci.function]]
uid = 1
fid = 0x60
model = "virtio-bell"
state = "reserved"
"""
    pcie = "[[pcie" in tables[place]
    power = "[[pcie.phb]]" in tables[place]
    head = '[machine]\nname = "m"\n'
    head += f'architecture = "{"ppc64le" if power else "x86_64"}"\n' if pcie else ""
    file.write_text(f"{head}{rest if place < 2 else ''}\n{tables[place]}")
    assert load_machine(file).name == "m"
    file.write_text(file.read_text() + "\nnonsense = 1\n")
    with pytest.raises(BadMachine, match="nonsense"):
        load_machine(file)
