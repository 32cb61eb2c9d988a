"""Each recording is replayed once; all tests look at what came out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from replay.results import Outcome, outcome


@pytest.fixture(scope="session")
def replays() -> Callable[[str], Outcome]:
    """The outcome of replaying a recording, by its name."""
    return outcome
