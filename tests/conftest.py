"""What all tests share: the public contract suite runs with them, from where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import pyvfio.testing.contract

HERE = Path(__file__).resolve().parent
CONTRACT = Path(pyvfio.testing.contract.__file__).resolve().parent

# A busy machine is no fault of what is tested: no test looks at the clock.
settings.register_profile("pyvfio", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pyvfio")


def pytest_configure(config: pytest.Config) -> None:
    """Add ``pyvfio.testing.contract`` to a run of all tests, and to one of ``tests/contract``."""
    asked = {(config.invocation_params.dir / word).resolve() for word in config.args}
    if asked & {HERE, HERE.parent, HERE / "contract"}:
        config.args.append(str(CONTRACT))
