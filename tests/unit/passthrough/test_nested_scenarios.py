"""Scenarios of the channel subsystem for a guest of a guest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import test_css_engine
import test_css_subsystem
from css_rig import DATA, PROGRAM
from differences import close_benches, expect_difference
from nested_rig import INNER, NestedBench
from test_css_engine import (  # noqa: F401
    bench,
    test_a_key_protects_all_storage,
    test_data_beyond_storage_is_a_program_check,
    test_format_0,
    test_incorrect_length_ends_the_chain,
    test_length,
    test_program_check_before_the_command,
    test_program_check_in_a_data_chain,
    test_unit_check_with_concurrent_sense,
    test_unit_check_without_concurrent_sense,
)
from test_css_subsystem import (  # noqa: F401
    test_a_disabled_subchannel_can_only_be_looked_at_and_modified,
    test_clear_takes_a_pending_status_back,
    test_halt_and_clear_when_idle,
    test_msch_changes_only_what_it_may,
    test_no_such_subchannel,
    test_status_pending_and_busy,
)

from pyvfio.css.trace import Step
from pyvfio_backends.software.hardware.devices.echo import Echo


@pytest.fixture(autouse=True)
def _for_a_guest_of_a_guest(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    expect_difference(request)
    for module in (test_css_engine, test_css_subsystem):
        monkeypatch.setattr(module, "Bench", NestedBench)
    yield from close_benches()


def test_both_kernels_translate_the_program() -> None:
    nested = NestedBench(Echo())
    steps: list[tuple[str, Step]] = []
    for storey, linux in (("host", nested.host), ("guest", nested.linux)):
        linux.machine.ccw_trace.append(lambda step, storey=storey: steps.append((storey, step)))  # type: ignore[misc]
    assert nested.start("e420000700020000").scsw.ok
    assert nested.data(4) == "ffec4001"
    assert [(storey, step.name) for storey, step in steps if step.name in ("K1", "K3", "K6")] == [
        ("guest", "K1"),
        ("host", "K1"),
        ("host", "K3"),
        ("host", "K6"),  # the host works inside the call that caused it
        ("guest", "K3"),
        ("guest", "K6"),
    ]
    (first, second) = [step for _, step in steps if step.name == "K1"]
    assert first.orb is not None
    assert first.orb.cpa == PROGRAM
    assert [line.ccw.cda for line in first.program] == [DATA]
    (idaw,) = second.program[0].idaws or (0,)
    assert idaw in (0, INNER + DATA)
