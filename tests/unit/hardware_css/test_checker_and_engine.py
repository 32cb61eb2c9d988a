"""The checker and the software channel agree, whatever the program: both are run on random ones."""

from __future__ import annotations

import pytest
from channel_programs import Case, Obedient, programs
from css_rig import SCHID, Bench, Memory
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css import Actl, Ccw, CcwFlag, Cstat, Irb, Orb, Presented, Rule, Stctl, check
from pyvfio.css.rules import Violation


class ReadOnly(Memory):
    """Storage that nothing changes, so that no program modifies itself."""

    def write(self, address: int, data: bytes) -> None:
        self._piece(address, len(data), "write")

    def put(self, address: int, data: bytes) -> None:
        super().write(address, data)


def load(case: Case) -> ReadOnly:
    memory = ReadOnly()
    for address, content in case.parts():
        memory.put(address, content)
    return memory


def run(case: Case, memory: ReadOnly, device: Obedient, resumes: int = 20) -> Irb | None:
    """The status of the program's end; None when it has not ended after some slices of the channel's work.

    A program that suspends itself is resumed, with the flag of that CCW turned off.
    """
    bench = Bench(device, memory=memory)
    assert bench.ssch(case.orb) == 0
    bench.clock.advance(1.0)
    for _ in range(resumes):
        cc, irb = bench.css.tsch(SCHID)
        if cc:
            return None
        if irb.scsw.stctl != Stctl.INTERMEDIATE | Stctl.PENDING:
            return irb
        if irb.scsw.actl & Actl.SUSPENDED:
            suspending = irb.scsw.cpa - 8
            ccw = Ccw.from_bytes(memory.read(suspending, 8), case.orb.fmt)
            assert ccw.flags & CcwFlag.SUSPEND
            raw = bytearray(ccw.to_bytes())
            raw[1 if case.orb.fmt else 4] &= ~CcwFlag.SUSPEND
            memory.put(suspending, bytes(raw))
            assert bench.css.rsch(SCHID) == 0
        bench.clock.advance(1.0)
    return None


def program_checks(case: Case, memory: ReadOnly) -> list[Violation]:
    return [one for one in check(case.orb, memory) if one.presented == Presented.PROGRAM_CHECK]


@settings(max_examples=400, deadline=None)
@given(programs())
def test_the_channel_does_what_the_checker_says(case: Case) -> None:
    memory = load(case)
    found = [one for one in check(case.orb, memory) if not one.skipped]
    wrong = [one for one in found if one.presented == Presented.PROGRAM_CHECK]
    device = Obedient()
    irb = run(case, memory, device)
    if device.full:
        return  # a ring of chained data, which this device leaves
    if wrong:
        assert irb is not None, wrong
        assert irb.scsw.cstat & ~Cstat.PCI == Cstat.PROGRAM_CHECK, wrong
        assert irb.scsw.cpa == (wrong[0].address + 8) % (1 << 32), wrong
    elif irb is not None:
        assert irb.scsw.cstat & Cstat.PROGRAM_CHECK == 0
        assert Rule.ENDLESS not in [one.rule for one in found]


@settings(max_examples=200, deadline=None)
@given(programs(), st.integers(0, 3))
def test_what_the_checker_passes_gets_no_program_check_with_searches_either(case: Case, seed: int) -> None:
    memory = load(case)
    if not program_checks(case, memory):
        irb = run(case, memory, Obedient(seed))
        assert irb is None or irb.scsw.cstat & Cstat.PROGRAM_CHECK == 0


@pytest.mark.parametrize("orb", [Orb(cpa=4), Orb(cpa=1 << 31), Orb(cpa=8, tm=True), Orb(cpa=8, zero=2)])
def test_an_orb_that_ssch_refuses(orb: Orb) -> None:
    (found,) = check(orb, Memory())
    assert (found.index, found.rule, found.presented) == (-1, Rule.ORB, Presented.OPERAND_EXCEPTION)
    assert str(found).startswith("ORB: orb: ")
