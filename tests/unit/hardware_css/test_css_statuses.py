"""When statuses become pending, of what kind they are, and what the device still owes: first what goes wrong."""

from __future__ import annotations

import pytest
from css_rig import DATA, PROGRAM, SCHID, Bench

from pyvfio.css import Actl, Cstat, Dstat, Esw, Fctl, Irb, Scsw, Stctl
from pyvfio_backends.software.hardware.css import VIRTUAL, Channel, ControlUnit, Ending
from pyvfio_backends.software.hardware.css.controlunit import DONE, RETRY, WORKING
from pyvfio_backends.software.hardware.devices.echo import Echo

CE, DE, UC, SM = Dstat.CHANNEL_END, Dstat.DEVICE_END, Dstat.UNIT_CHECK, Dstat.STATUS_MODIFIER
ENDED = CE | DE
WRITE = f"01200004{DATA:08x}"
WRITE_ON = f"01600004{DATA:08x}"
SENSE_ID = f"e4200007{DATA + 0x100:08x}"
NOP = "0320000100000000"
NOP_ON = "0360000100000000"
INITIAL = "0000000000e2ff0000011000"  # format 1, prefetch, initial-status interruption
SUSPENDING = "0000000008c2ff0000011000"
SILENT = "0000000008caff0000011000"  # suspend control, no suspended interruption


class Unit(ControlUnit):
    """Takes what a WRITE or a control command brings and answers with what is in `answers`, then with `DONE`."""

    def __init__(self, *answers: Ending) -> None:
        super().__init__(Echo().sense_id)
        self.answers = list(answers)
        self.written: list[bytes] = []
        self.halts = 0

    def command(self, code: int, channel: Channel) -> Ending:
        answer = self.answers.pop(0) if self.answers else DONE
        if code == 0x01 and not answer.dstat & Dstat.BUSY:
            self.written.append(channel.read_from_memory(channel.left))
        return answer

    def halted(self) -> None:
        self.halts += 1


def begun(bench: Bench, program: str, orb: str = "0000000000c2ff0000011000") -> Bench:
    bench.put(PROGRAM, program)
    assert bench.ssch(orb) == 0
    bench.clock.settle()
    return bench


def bits(irb: Irb | Scsw) -> tuple[int, int, int]:
    """Status control, device status, subchannel status."""
    scsw = irb.scsw if isinstance(irb, Irb) else irb
    return int(scsw.stctl), int(scsw.dstat), int(scsw.cstat)


# -- checks of the channel -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cstat", "address"),
    [
        (Cstat.CHANNEL_DATA_CHECK, 0x1_2345_6789),
        (Cstat.CHANNEL_CONTROL_CHECK, None),
        (Cstat.INTERFACE_CONTROL_CHECK, None),
    ],
)
def test_a_check_of_the_channel_has_a_logout(cstat: Cstat, address: int | None) -> None:
    bench = Bench(Unit(Ending(Dstat(0), cstat=cstat, failing_address=address)))
    irb = bench.start(WRITE)
    assert irb.scsw.eswf
    assert irb.scsw.cstat == cstat
    assert irb.scsw.stctl == Stctl.ALERT | Stctl.PRIMARY | Stctl.SECONDARY | Stctl.PENDING
    logout = irb.status
    assert (logout.fmt, logout.lpum, logout.fvf, logout.sacc, logout.seqc) == (0, 0x80, 0x1F, 2, 4)
    assert logout.failing_address == address
    assert not bench.start(SENSE_ID).scsw.eswf


@pytest.mark.parametrize("program", ["0020000100000000", "e420000707000000", "e400000700020000"])
def test_other_checks_have_none(program: str) -> None:
    irb = Bench(Echo()).start(program)
    assert not irb.scsw.eswf
    assert irb.status == Esw(fmt=1, lpum=0x80)


def test_a_chaining_check_ends_the_program() -> None:
    bench = Bench(Unit(Ending(ENDED, cstat=Cstat.CHAINING_CHECK)))
    irb = bench.start(WRITE_ON + SENSE_ID)
    assert (irb.scsw.cstat, irb.scsw.cpa, irb.scsw.count) == (Cstat.CHAINING_CHECK, PROGRAM + 8, 0)
    assert not irb.scsw.eswf


# -- devices that answer later -------------------------------------------------------------------------------------


def test_a_unit_that_never_answers_can_be_halted() -> None:
    unit = Unit(WORKING)
    bench = begun(Bench(unit), WRITE)
    bench.clock.advance(100.0)
    assert bench.interrupts == []
    assert bench.schib().scsw.actl == Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE
    assert bench.ssch() == 2
    assert bench.css.xsch(SCHID) == 2
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert bits(bench.irb()) == (7, ENDED, 0)
    assert unit.halts == 1
    assert bench.start(SENSE_ID).scsw.ok
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert unit.halts == 1, "there was nothing to halt"


def test_a_unit_that_never_answers_can_be_cleared() -> None:
    bench = begun(Bench(Unit(Ending(Dstat(0), later=ENDED, after=5.0))), WRITE)
    assert bench.css.csch(SCHID) == 0
    bench.clock.advance(10.0)
    assert bench.irb().scsw.fctl == Fctl.CLEAR
    bench.clock.advance(10.0)
    assert bench.css.tsch(SCHID)[0] == 1, "what it would have answered does not come any more"
    assert bench.start(SENSE_ID).scsw.ok


def test_an_answer_that_comes_later() -> None:
    bench = begun(Bench(Unit(Ending(Dstat(0), later=ENDED, after=5.0))), WRITE_ON + SENSE_ID)
    bench.clock.advance(4.0)
    assert bench.interrupts == []
    bench.clock.advance(1.0)
    irb = bench.irb()
    assert irb.scsw.ok
    assert irb.scsw.cpa == PROGRAM + 16


def test_a_unit_check_that_comes_later() -> None:
    bench = begun(Bench(Unit(WORKING)), WRITE_ON + SENSE_ID)
    bench.css.present_status(SCHID, int(ENDED | UC), b"\x40")
    bench.clock.settle()
    irb = bench.irb()
    assert bits(irb) == (0x17, ENDED | UC, 0)
    assert irb.sense[:2] == b"\x40\0"


def test_channel_end_first_and_device_end_later() -> None:
    unit = Unit(Ending(CE, later=DE, after=1.0))
    bench = begun(Bench(unit), WRITE)
    scsw = bench.irb().scsw
    assert bits(scsw) == (5, CE, 0)
    assert scsw.actl == Actl.DEVICE_ACTIVE
    assert bench.schib().scsw.actl == Actl.DEVICE_ACTIVE
    assert bench.schib().scsw.fctl == 0
    bench.clock.advance(1.0)
    scsw = bench.irb().scsw
    assert bits(scsw) == (3, DE, 0)
    assert scsw.is_solicited
    assert scsw.actl == 0
    assert bench.start(SENSE_ID).scsw.ok


def test_device_end_before_the_primary_status_was_taken() -> None:
    bench = begun(Bench(Unit(Ending(CE, later=DE, after=1.0))), WRITE)
    bench.clock.advance(1.0)
    irb = bench.irb()
    assert bits(irb) == (7, ENDED, 0)
    assert irb.scsw.actl == 0
    assert bench.css.tpi() is None
    assert bench.css.tsch(SCHID)[0] == 1


def test_device_end_with_unit_check() -> None:
    bench = begun(Bench(Unit(Ending(CE, later=DE | UC, after=1.0, later_sense=b"\x10"))), WRITE)
    assert bits(bench.irb()) == (5, CE, 0)
    bench.clock.advance(1.0)
    irb = bench.irb()
    assert bits(irb) == (0x13, DE | UC, 0)
    assert irb.sense[:1] == b"\x10"


def test_a_chain_goes_on_with_device_end() -> None:
    unit = Unit(Ending(CE), Ending(CE | SM, later=DE, after=1.0))
    bench = begun(Bench(unit), WRITE_ON + WRITE_ON + SENSE_ID)
    assert bench.schib().scsw.actl == Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE
    assert bench.interrupts == []
    bench.css.present_status(SCHID, int(DE))
    bench.clock.settle()
    assert len(unit.written) == 2
    irb = bench.irb()
    assert bits(irb) == (5, CE | SM, 0), "only with device end does status modifier mean anything"


def test_status_modifier_with_the_later_device_end() -> None:
    bench = begun(Bench(Unit(Ending(CE, later=DE | SM))), WRITE_ON + "0020000100000000" + SENSE_ID)
    irb = bench.irb()
    assert irb.scsw.ok
    assert irb.scsw.cpa == PROGRAM + 24


def test_a_start_while_device_end_is_owed_ends_with_deferred_condition_code_1() -> None:
    unit = Unit(Ending(CE, later=DE, after=1.0))
    bench = begun(Bench(unit), WRITE)
    bench.irb()
    begun(bench, WRITE)
    assert bench.schib().scsw.actl & Actl.START_PENDING
    bench.clock.advance(1.0)
    irb = bench.irb()
    assert (irb.scsw.cc, irb.scsw.fctl) == (1, Fctl.START)
    assert bits(irb) == (0x13, DE, 0)
    assert len(unit.written) == 1, "the second program did not begin"
    assert bench.start(WRITE).scsw.ok
    assert len(unit.written) == 2


def test_halt_while_device_end_is_owed() -> None:
    bench = begun(Bench(Unit(Ending(CE, later=DE, after=1.0))), WRITE)
    bench.irb()
    assert bench.css.hsch(SCHID) == 0
    bench.clock.advance(2.0)
    assert bench.irb().scsw.fctl == Fctl.HALT
    bench.clock.advance(2.0)
    assert bench.css.tsch(SCHID)[0] == 1
    assert bench.start(SENSE_ID).scsw.ok


def test_removal_while_the_device_works() -> None:
    bench = begun(Bench(Unit(Ending(Dstat(0), later=ENDED, after=1.0))), WRITE)
    bench.css.remove_subchannel(SCHID)
    bench.clock.advance(2.0)
    assert bench.interrupts == []


# -- command retry and busy ----------------------------------------------------------------------------------------


def test_command_retry_at_once() -> None:
    unit = Unit(RETRY, RETRY)
    bench = Bench(unit)
    bench.put(DATA, "c1c2c3c4")
    irb = bench.start(WRITE_ON + SENSE_ID)
    assert irb.scsw.ok
    assert unit.written == [b"\xc1\xc2\xc3\xc4"] * 3


def test_command_retry_after_device_end() -> None:
    unit = Unit(Ending(CE | UC | SM, later=DE, after=1.0))
    bench = begun(Bench(unit), f"01800002{DATA:08x} 00200002{DATA + 8:08x}")
    assert bench.interrupts == []
    bench.clock.advance(1.0)
    assert bench.irb().scsw.ok
    assert len(unit.written) == 2


def test_a_command_that_is_retried_for_ever_can_be_halted() -> None:
    bench = Bench(Unit(*[RETRY] * 100_000))
    begun(bench, WRITE)
    bench.clock.advance(0.003)
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert bits(bench.irb()) == (7, ENDED, 0)


@pytest.mark.parametrize(("busy", "end"), [(Dstat.BUSY, DE), (Dstat.BUSY | SM, Dstat.CONTROL_UNIT_END)])
def test_a_busy_device_keeps_the_start_pending(busy: Dstat, end: Dstat) -> None:
    unit = Unit(Ending(busy, later=end, after=1.0))
    bench = begun(Bench(unit), WRITE)
    assert bench.schib().scsw.actl == Actl.START_PENDING
    assert bench.interrupts == []
    bench.clock.advance(1.0)
    assert bench.irb().scsw.ok
    bench.clock.advance(10.0)
    assert bench.css.tsch(SCHID)[0] == 1
    assert len(unit.written) == 1


def test_a_device_that_is_busy_again() -> None:
    bench = begun(Bench(Unit(*[Ending(Dstat.BUSY, later=DE, after=1.0)] * 3)), WRITE)
    for _ in range(2):
        bench.clock.advance(1.0)
        assert bench.interrupts == []
    bench.clock.advance(1.0)
    assert bench.irb().scsw.ok


@pytest.mark.parametrize("busy", [Dstat.BUSY, Dstat.BUSY | SM])
def test_busy_for_nobody_knows_how_long(busy: Dstat) -> None:
    assert bits(Bench(Unit(Ending(busy))).start(WRITE)) == (0x17, busy, 0)


def test_a_busy_device_with_another_status() -> None:
    bench = begun(Bench(Unit(Ending(Dstat.BUSY, later=DE, after=1.0))), WRITE)
    bench.css.present_status(SCHID, int(Dstat.ATTENTION))
    bench.clock.settle()
    irb = bench.irb()
    assert (irb.scsw.cc, *bits(irb)) == (1, 0x11, Dstat.ATTENTION, 0)
    bench.clock.advance(10.0)
    assert bits(bench.irb()) == (0x11, DE, 0), "that it no longer is busy is a status of its own then"


def test_a_start_that_waits_for_a_busy_device_can_be_cancelled() -> None:
    bench = begun(Bench(Unit(Ending(Dstat.BUSY, later=DE, after=1.0))), WRITE)
    assert bench.css.xsch(SCHID) == 0
    bench.clock.settle()
    assert bench.css.tsch(SCHID)[0] == 1
    bench.clock.advance(1.0)
    assert not bench.irb().scsw.is_solicited


class Restless(ControlUnit):
    """Says at once that it will answer at once, for ever."""

    def __init__(self, answer: Ending) -> None:
        super().__init__(Echo().sense_id)
        self.answer = answer
        self.asked = 0

    def command(self, code: int, channel: Channel) -> Ending:
        self.asked += 1
        return self.answer


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        ("0348000100000000", DONE),  # NOP with the PCI flag
        ("0740000000000000", Ending(CE, later=DE)),
        ("0740000000000000", Ending(Dstat(0), later=ENDED)),
        ("0740000000000000", Ending(CE | UC | SM, later=DE)),
        ("0740000000000000", Ending(Dstat.BUSY, later=DE)),
    ],
)
def test_a_program_without_end_gives_the_machine_its_turns(first: str, answer: Ending) -> None:
    unit = Restless(answer)
    bench = Bench(unit)
    if first.startswith("03"):
        bench.css._on_io_interrupt = lambda schid: (bench.css.tpi(), bench.css.tsch(schid))  # type: ignore[assignment]
    begun(bench, first + f"08000000{PROGRAM:08x}", SUSPENDING)
    asked = unit.asked
    assert asked < 5_000
    bench.clock.advance(0.001)
    assert asked <= unit.asked < 10_000
    assert bench.css.csch(SCHID) == 0
    bench.clock.advance(1.0)
    assert bench.css.tsch(SCHID)[1].scsw.fctl in (Fctl.CLEAR, Fctl(0))


def test_busy_in_a_chain_ends_it() -> None:
    irb = Bench(Unit(DONE, Ending(Dstat.BUSY))).start(WRITE_ON + WRITE)
    assert bits(irb) == (0x17, Dstat.BUSY, 0)


# -- unsolicited ---------------------------------------------------------------------------------------------------


def test_an_unsolicited_unit_check_brings_its_sense_bytes() -> None:
    bench = Bench(Echo())
    bench.css.present_status(SCHID, int(Dstat.ATTENTION | UC), b"\x02")
    bench.clock.settle()
    irb = bench.irb()
    assert bits(irb) == (0x11, Dstat.ATTENTION | UC, 0)
    assert not irb.scsw.is_solicited
    assert irb.sense[:1] == b"\x02"


def test_several_unsolicited_statuses_come_one_by_one() -> None:
    bench = Bench(Echo())
    for dstat in (Dstat.ATTENTION, DE):
        bench.css.present_status(SCHID, int(dstat))
    bench.clock.settle()
    assert bits(bench.irb()) == (0x11, Dstat.ATTENTION, 0)
    bench.clock.settle()
    assert bits(bench.irb()) == (0x11, DE, 0)


# -- intermediate statuses -----------------------------------------------------------------------------------------


def in_order(bench: Bench, program: str, orb: str) -> list[Scsw]:
    """The statuses of a program whose interruptions are taken at once."""
    statuses: list[Scsw] = []
    bench.css._on_io_interrupt = lambda schid: statuses.append(bench.irb().scsw)
    begun(bench, program, orb)
    return statuses


def test_the_initial_status_interruption() -> None:
    bench = Bench(Unit())
    first, last = in_order(bench, WRITE_ON + SENSE_ID, INITIAL)
    assert (first.zcc, *bits(first)) == (True, 9, 0, 0)
    assert first.actl == Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE
    assert (last.zcc, *bits(last)) == (False, 7, ENDED, 0)


def test_the_initial_status_is_part_of_the_ending_one() -> None:
    irb = Bench(Unit()).start(WRITE, INITIAL)
    assert (irb.scsw.zcc, *bits(irb)) == (True, 0xF, ENDED, 0)


def test_the_initial_status_of_a_device_that_answers_later() -> None:
    bench = Bench(Unit(Ending(Dstat(0), later=ENDED, after=1.0)))
    statuses = in_order(bench, WRITE, INITIAL)
    assert [bits(one) for one in statuses] == [(9, 0, 0)]
    bench.clock.advance(1.0)
    assert [bits(one) for one in statuses] == [(9, 0, 0), (7, ENDED, 0)]


def test_no_initial_status_interruption_for_an_immediate_command() -> None:
    irb = Bench(Unit()).start(NOP, INITIAL)
    assert (irb.scsw.zcc, *bits(irb)) == (False, 7, ENDED, 0)


def test_a_virtual_channel_subsystem_makes_no_intermediate_status() -> None:
    assert bits(Bench(Unit(), VIRTUAL).start("0368000100000000" + WRITE, INITIAL)) == (7, ENDED, 0)


def test_several_program_controlled_interruptions_are_one_if_none_was_taken() -> None:
    bench = begun(Bench(Unit()), "0368000100000000" * 3 + SENSE_ID)
    assert bench.css.tpi() is not None
    assert bench.css.tpi() is None
    assert bits(bench.irb()) == (0xF, ENDED, Cstat.PCI)


def test_each_program_controlled_interruption_that_is_taken_is_one() -> None:
    statuses = in_order(Bench(Unit()), "0368000100000000" * 3 + SENSE_ID, SUSPENDING)
    assert [bits(one) for one in statuses] == [(9, 0, 0x80)] * 3 + [(7, ENDED, 0)]
    assert [one.cpa for one in statuses] == [PROGRAM + 8, PROGRAM + 16, PROGRAM + 24, PROGRAM + 32]


def test_the_pci_flag_in_a_data_chain() -> None:
    chain = f"01800002{DATA:08x} 00280002{DATA + 8:08x}"
    assert bits(Bench(Unit()).start(chain)) == (0xF, ENDED, Cstat.PCI)
    first, last = in_order(Bench(Unit()), chain.replace("0028", "0068") + SENSE_ID, SUSPENDING)
    assert bits(first) == (9, 0, 0x80)
    assert bits(last) == (7, ENDED, 0)


def test_the_pci_flag_of_a_ccw_that_is_wrong() -> None:
    irb = Bench(Unit()).start("0368000100000000" + "0028000100000000")
    assert bits(irb) == (0x1F, 0, Cstat.PROGRAM_CHECK | Cstat.PCI)


def test_a_ccw_whose_pci_is_reported_is_not_fetched_again() -> None:
    bench = Bench(Unit())
    bench.css._on_io_interrupt = lambda schid: bench.put(PROGRAM, "00" * 8)
    assert bits(begun(bench, "0368000100000000" + SENSE_ID).irb()) == (0xF, ENDED, Cstat.PCI)


# -- suspension ----------------------------------------------------------------------------------------------------


def test_pci_and_suspend_in_one_ccw() -> None:
    """The interruption comes with the suspension, even where that alone would not interrupt."""
    scsw = begun(Bench(Unit()), "036a000100000000", SILENT).irb().scsw
    assert (scsw.actl, *bits(scsw)) == (Actl.SUSPENDED, 9, 0, Cstat.PCI)


def test_resume_fetches_the_ccw_anew() -> None:
    bench = begun(Bench(Unit()), NOP_ON + "0362000100000000", SUSPENDING)
    assert bench.irb().scsw.actl == Actl.SUSPENDED
    bench.put(PROGRAM + 8, SENSE_ID)
    assert bench.css.rsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.ok
    assert bench.data(1, DATA + 0x100) == "ff"


@pytest.mark.parametrize("first", ["", NOP_ON])
def test_what_is_resumed_may_begin_with_a_tic(first: str) -> None:
    bench = begun(Bench(Unit()), first + "0362000100000000", SUSPENDING)
    bench.irb()
    bench.put(PROGRAM + 0x80, SENSE_ID)
    bench.put(PROGRAM + len(first) // 2, f"08000000{PROGRAM + 0x80:08x}")
    assert bench.css.rsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.ok


def test_resume_before_the_suspension() -> None:
    """RSCH while the program runs: it is suspended, and resumed at once."""
    bench = Bench(Unit(Ending(Dstat(0), later=ENDED, after=1.0)))
    begun(bench, WRITE_ON + "0362000100000000", SILENT)
    assert bench.css.rsch(SCHID) == 0
    assert bench.css.rsch(SCHID) == 2
    bench.put(PROGRAM + 8, NOP)
    bench.clock.advance(1.0)
    assert bench.irb().scsw.ok


def test_a_suspended_program_that_is_halted() -> None:
    bench = begun(Bench(Unit()), "0362000100000000", SILENT)
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.fctl == Fctl.START | Fctl.HALT
    assert bench.css.rsch(SCHID) == 2
