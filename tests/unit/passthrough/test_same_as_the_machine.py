"""Random programs that break no rule do the same for a guest as on the machine itself: status, count and every byte."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from channel_programs import END, LISTS, ORIGIN, Case, Obedient, image, programs
from css_rig import SCHID, Bench
from guest_rig import OPEN, GuestBench
from hypothesis import given, settings

from pyvfio.css import Ccw, Dstat, Irb, Orb, check


class Both:
    """A machine and a guest with the same kind of device; `compared` counts programs."""

    def __init__(self) -> None:
        self.machine = Bench(Obedient())
        self.guest = GuestBench(Obedient())
        self.compared = 0


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    made = Both()
    with OPEN.pop():
        yield made
    assert made.compared > 2


def load(bench: Bench, orb: Orb, program: list[Ccw], idaws: list[int]) -> None:
    bench.memory.write(0, bytes(END))
    bench.memory.write(ORIGIN, b"".join(ccw.to_bytes() for ccw in program))
    bench.memory.write(LISTS, image(orb, idaws))


def run(bench: Bench, orb: Orb, program: list[Ccw], idaws: list[int]) -> tuple[Irb | None, bytes]:
    """The status, None for a program that does not end, which is cleared then; and all of storage."""
    load(bench, orb, program, idaws)
    assert bench.ssch(orb) == 0
    bench.clock.advance(1.0)
    cc, irb = bench.css.tsch(SCHID)
    if cc:
        assert bench.css.csch(SCHID) == 0
        bench.clock.settle()
        assert bench.css.tsch(SCHID)[0] == 0
    return (irb if cc == 0 else None), bench.memory.read(0, END)


@pytest.mark.filterwarnings("ignore::pyvfio.passthrough.PassthroughWarning")
@settings(max_examples=120, deadline=None)
@given(programs(plain=True))
def test_the_same_status_and_the_same_bytes(both: Both, case: Case) -> None:
    orb, program, idaws = case.orb, case.ccws, case.idaws
    load(both.machine, orb, program, idaws)
    if check(orb, both.machine.memory):
        return
    expected, stored = run(both.machine, orb, program, idaws)
    found, seen = run(both.guest, orb, program, idaws)
    both.compared += 1
    if expected is None and found is not None:
        # vfio-ccw translates what stands behind a jump back, though nothing reaches it (docs/passthrough.md)
        assert found.scsw.dstat == Dstat.UNIT_EXCEPTION
        return
    assert str(found) == str(expected)
    if found is not None and expected is not None:
        assert found.scsw == expected.scsw
        assert seen == stored
