"""The checker and the software channel agree, whatever the program: both are run on random ones."""

from __future__ import annotations

import pytest
from channel_programs import LISTS, ORIGIN, Obedient, image, programs
from css_rig import SCHID, Bench, Memory
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css import Ccw, Cstat, Irb, Limits, Orb, Presented, Rule, check

MACHINE = Limits(mida=False)  # the software machine has no MIDAWs


class ReadOnly(Memory):
    """Storage that nothing changes, so that no program modifies itself."""

    def write(self, address: int, data: bytes) -> None:
        self._piece(address, len(data), "write")

    def put(self, address: int, data: bytes) -> None:
        super().write(address, data)


def load(orb: Orb, program: list[Ccw], idaws: list[int]) -> ReadOnly:
    memory = ReadOnly()
    memory.put(ORIGIN, b"".join(ccw.to_bytes() for ccw in program))
    memory.put(LISTS, image(orb, idaws))
    return memory


def run(orb: Orb, memory: ReadOnly, device: Obedient, slices: int = 1) -> Irb | None:
    """The status of the program's end; None when it has not ended after `slices` slices of the channel's work."""
    bench = Bench(device, memory=memory)
    assert bench.ssch(orb) == 0
    for _ in range(slices):
        bench.clock.advance(1.0)
    cc, irb = bench.css.tsch(SCHID)
    return irb if cc == 0 else None


@settings(max_examples=250, deadline=None)
@given(programs())
def test_the_channel_does_what_the_checker_says(case: tuple[Orb, list[Ccw], list[int]]) -> None:
    orb, program, idaws = case
    memory = load(orb, program, idaws)
    found = [one for one in check(orb, memory, MACHINE) if not one.skipped]
    wrong = [one for one in found if one.presented == Presented.PROGRAM_CHECK]
    device = Obedient()
    irb = run(orb, memory, device)
    if device.full:
        return  # a ring of chained data, which this device leaves
    if wrong:
        assert irb is not None
        assert irb.scsw.cstat == Cstat.PROGRAM_CHECK, wrong
        assert irb.scsw.cpa == (wrong[0].address + 8) % (1 << 32), wrong
    elif irb is not None:
        assert irb.scsw.cstat & Cstat.PROGRAM_CHECK == 0
        assert Rule.ENDLESS not in [one.rule for one in found]


@settings(max_examples=200, deadline=None)
@given(programs(), st.integers(0, 3))
def test_what_the_checker_passes_gets_no_program_check_with_searches_either(
    case: tuple[Orb, list[Ccw], list[int]], seed: int
) -> None:
    orb, program, idaws = case
    memory = load(orb, program, idaws)
    if not any(one.presented == Presented.PROGRAM_CHECK for one in check(orb, memory, MACHINE)):
        irb = run(orb, memory, Obedient(seed))
        assert irb is None or irb.scsw.cstat & Cstat.PROGRAM_CHECK == 0


@pytest.mark.parametrize("orb", [Orb(cpa=4), Orb(cpa=1 << 31), Orb(cpa=8, tm=True), Orb(cpa=8, zero=2)])
def test_an_orb_that_ssch_refuses(orb: Orb) -> None:
    (found,) = check(orb, Memory())
    assert (found.index, found.rule, found.presented) == (-1, Rule.ORB, Presented.OPERAND_EXCEPTION)
    assert str(found).startswith("ORB: orb: ")
