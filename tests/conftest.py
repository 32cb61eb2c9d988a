"""What all tests share: the public contract suite runs with them, from where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import pyvfio.testing.contract

HERE = Path(__file__).resolve().parent
CONTRACT = Path(pyvfio.testing.contract.__file__).resolve().parent


def pytest_configure(config: pytest.Config) -> None:
    """Add ``pyvfio.testing.contract`` to a run of all tests, and to one of ``tests/contract``."""
    asked = {(config.invocation_params.dir / word).resolve() for word in config.args}
    if asked & {HERE, HERE.parent, HERE / "contract"}:
        config.args.append(str(CONTRACT))
