"""Commands on the golden host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from golden_tree import golden_tree

from pyvfio.host import Host
from pyvfio_tools import options
from pyvfio_tools.cli import run

Command = Callable[..., str]


@pytest.fixture
def on_tree(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Command]:
    """Given a tree, a function that runs a command on it and returns what it prints; it must succeed or have `code`."""

    def choose(root: Path) -> Command:
        monkeypatch.setattr(options, "open_host", lambda *words: Host("kernel", sysfs=str(root)))

        def call(*arguments: str, code: int = 0) -> str:
            assert run(list(arguments)) == code
            captured = capsys.readouterr()
            return captured.out if code == 0 else captured.err

        return call

    return choose


@pytest.fixture
def pyvfio(tmp_path: Path, on_tree: Callable[[Path], Command]) -> Command:
    """Run a command on the golden host."""
    return on_tree(golden_tree(tmp_path).root)
