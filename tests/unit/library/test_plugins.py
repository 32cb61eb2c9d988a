"""Entry points: what the quick look finds is what `importlib.metadata` finds."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from pyvfio import plugins
from pyvfio.backend import open_backend
from pyvfio.errors import Misuse


def test_unknown_names() -> None:
    with pytest.raises(KeyError):
        plugins.load("pyvfio.backends", "no-such-backend")
    with pytest.raises(KeyError):
        plugins.load("no.such.group", "kernel")
    assert plugins.names("no.such.group") == []
    assert plugins.load_all("no.such.group") == []
    with pytest.raises(Misuse):
        open_backend("no-such-backend")


@pytest.mark.parametrize("group", ["pyvfio.backends", "pyvfio.machines", "console_scripts"])
def test_the_quick_look_agrees_with_importlib(group: str) -> None:
    known = {point.name: point.value for point in entry_points(group=group)}
    assert known
    quick = plugins._read(group)
    assert {name: value.partition("[")[0].strip() for name, value in known.items() if name in quick} == quick


def test_a_third_party_can_add_a_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "third_party_backend.py").write_text("def open_it(*, colour='blue'):\n    return colour\n")
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "# a comment\n[console_scripts]\nx = y:z\n\n[pyvfio.backends]\nthird = third_party_backend:open_it [extra]\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path, str(tmp_path / "missing")])
    assert open_backend("third", colour="green") == "green"
    with pytest.raises(Misuse, match="unexpected keyword"):
        open_backend("third", size=1)


def test_a_damaged_file_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "damaged-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_bytes(b"[pyvfio.backends]\n\xff\xfe = x\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert "software" in plugins._read("pyvfio.backends") or "software" in plugins.names("pyvfio.backends")
