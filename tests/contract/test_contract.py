"""The contract suite itself: it is there, it is large enough, and it treats all backends alike.

Its tests are collected with these by ``tests/conftest.py``, from the installed package.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pyvfio.testing.contract

FOLDER = Path(pyvfio.testing.contract.__file__).parent
MODULES = sorted(FOLDER.glob("test_*.py"))


def test_it_is_installed() -> None:
    assert len(MODULES) >= 30
    assert (FOLDER / "conftest.py").exists()


def test_it_is_collected_with_the_other_tests(request: pytest.FixtureRequest) -> None:
    config = request.config
    if str(FOLDER.resolve()) not in config.args or config.getoption("keyword") or config.getoption("markexpr"):
        pytest.skip("some tests were chosen, not all")
    assert sum(item.path.parent == FOLDER.resolve() for item in request.session.items) >= 220


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_test_asks_which_backend_it_runs_on(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"backend_name", "machine", "disk_machine"}
    assert not any(
        isinstance(node, ast.Attribute) and node.attr == "name" and ast.unparse(node.value) == "backend"
        for node in ast.walk(tree)
    )
