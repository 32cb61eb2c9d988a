"""The tables notice a probe that sees nothing and one that sees ghosts; every probe is in them both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from probe_machines import ROWS, Row
from probe_tree import Tree
from probe_trees import TREES, Case

import pyvfio
from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes import PROBES, look
from pyvfio.binding.probes.subject import Subject

PACKAGE = Path(pyvfio.__file__).parent / "binding" / "probes"
FREE = {
    "session": "a serial port that is no console",
    "boot": "a disk behind an adapter, free",
    "mounted": "a disk behind an adapter, free",
    "swap": "a disk behind an adapter, free",
    "holders": "a disk behind an adapter, free",
    "network": "a port that is up and has only what IPv6 gives",
    "bond": "a port that is up and has only what IPv6 gives",
    "console": "a serial port that is no console",
    "keyboard": "a USB controller with a headset that has a volume key",
    "vfio": "a group of VFIO that nobody has open",
    "mdev": "a graphics card that offers shares",
    "sriov": "a physical function whose virtual functions are not enabled",
    "online": "loaded from another DASD",
    "open": "a disk behind an adapter, free",
    "signature": "a disk behind an adapter, free",
}
"""A tree on which each probe looks at something that it might take for use."""


def sees_nothing(subject: Subject) -> Iterator[Evidence]:
    return iter(())


def sees_ghosts(subject: Subject) -> Iterator[Evidence]:
    yield Evidence("a ghost")


def agrees(row: Case, root: Path) -> bool:
    tree = Tree(root)
    row.build(tree)
    bus, _, address = row.device.rpartition(" ")
    findings = look(pyvfio.Host(tree.backend).device(address, bus=bus or None)).findings
    return {one.probe: [str(evidence) for evidence in one.evidence] for one in findings} == row.found


def test_every_module_is_a_probe_or_a_part_of_one() -> None:
    modules = {path.stem for path in PACKAGE.glob("*.py") if "SUMMARY =" in path.read_text()}
    assert modules == set(PROBES)
    assert all(PROBES[name].name == name for name in PROBES)


@pytest.mark.parametrize("name", PROBES)
def test_in_use_rows(name: str) -> None:
    rows: list[Row | Case] = [*ROWS, *TREES]
    assert any(row.found.get(name) for row in rows)
    assert len({row.name for row in rows}) == len(rows)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_that_sees_nothing_is_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(row for row in TREES if name in row.found)
    assert agrees(row, tmp_path / "sound")
    monkeypatch.setattr(PROBES[name].load(), "look", sees_nothing)
    assert not agrees(row, tmp_path / "blind")


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_that_sees_ghosts_is_noticed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = next(row for row in TREES if row.name == FREE[name])
    assert agrees(row, tmp_path / "sound")
    monkeypatch.setattr(PROBES[name].load(), "look", sees_ghosts)
    assert not agrees(row, tmp_path / "haunted")
