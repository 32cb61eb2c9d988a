"""The scenarios of the channel subsystem's own tests (`test_css_statuses`) at guest level."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import test_css_statuses
from differences import close_benches, expect_difference
from guest_rig import GuestBench
from test_css_statuses import *  # noqa: F403

pytestmark = pytest.mark.filterwarnings("ignore::pyvfio.passthrough.PassthroughWarning")


@pytest.fixture(autouse=True)
def _at_guest_level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    expect_difference(request)
    monkeypatch.setattr(test_css_statuses, "Bench", GuestBench)
    yield from close_benches()
