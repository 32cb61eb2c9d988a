"""The instructions: who gets which condition code, what the SCHIB says, what stays after TSCH."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from css_rig import PROGRAM, SCHID, Bench

from pyvfio.address import SubchannelId
from pyvfio.css import Actl, Crw, Fctl, OperandException, Orb, Schib, Stctl, SubchannelType
from pyvfio.css.interruption import IoInterruption, subclass_mask
from pyvfio.errors import Misuse, NotModelled
from pyvfio_backends.software.hardware.css import MAINFRAME, VIRTUAL, ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

OTHER = SubchannelId(0, 0, 0x99)
SENSE_ID = "e420000700020000"
SUSPENDING = "0000000008c2ff0000011000"


@pytest.fixture
def bench() -> Bench:
    return Bench(Echo())


def test_no_such_subchannel(bench: Bench) -> None:
    css = bench.css
    assert css.stsch(OTHER) == (3, None)
    assert css.msch(OTHER, Schib()) == 3
    assert css.ssch(OTHER, Orb(cpa=8)) == 3
    assert css.tsch(OTHER)[0] == 3
    assert [css.hsch(OTHER), css.csch(OTHER), css.rsch(OTHER), css.xsch(OTHER)] == [3, 3, 3, 3]


def test_a_disabled_subchannel_can_only_be_looked_at_and_modified(bench: Bench) -> None:
    css = bench.css
    assert bench.enable(False) == 0
    assert not bench.schib().pmcw.ena
    assert css.ssch(SCHID, Orb(cpa=8)) == 3
    assert css.tsch(SCHID)[0] == 3
    assert [css.hsch(SCHID), css.csch(SCHID), css.rsch(SCHID), css.xsch(SCHID)] == [3, 3, 3, 3]


@pytest.mark.parametrize("orb", [Orb(cpa=4), Orb(cpa=1 << 31), Orb(cpa=8, tm=True), Orb(cpa=8, zero=2)])
def test_an_orb_with_a_wrong_bit(bench: Bench, orb: Orb) -> None:
    with pytest.raises(OperandException, match=r"0\.0\.0005"):
        bench.css.ssch(SCHID, orb)


def test_a_schib_with_a_wrong_bit(bench: Bench) -> None:
    schib = bench.schib()
    with pytest.raises(OperandException):
        bench.css.msch(SCHID, replace(schib, pmcw=replace(schib.pmcw, res5=1)))


def test_msch_changes_only_what_it_may(bench: Bench) -> None:
    before = bench.schib().pmcw
    wish = replace(before, intparm=7, isc=2, lpm=0x40, mp=True, pim=1, pam=1, devno=9, qf=True, csense=False)
    assert bench.css.msch(SCHID, Schib(wish)) == 0
    assert bench.schib().pmcw == replace(before, intparm=7, isc=2, lpm=0x40, mp=True, csense=False)


def test_status_pending_and_busy(bench: Bench) -> None:
    css = bench.css
    bench.put(PROGRAM, SENSE_ID)
    assert bench.ssch() == 0
    assert bench.ssch() == 2
    assert css.msch(SCHID, bench.schib()) == 2
    assert bench.schib().scsw.actl == Actl.START_PENDING
    assert bench.interrupts == []
    assert css.tsch(SCHID)[0] == 1
    bench.clock.settle()
    assert bench.interrupts == [SCHID]
    assert [bench.ssch(), css.hsch(SCHID), css.rsch(SCHID), css.xsch(SCHID)] == [1, 1, 1, 1]
    assert css.msch(SCHID, bench.schib()) == 1
    assert css.tsch(SCHID)[0] == 0
    assert css.tsch(SCHID)[0] == 1
    assert [css.rsch(SCHID), css.xsch(SCHID)] == [2, 2]


def test_no_available_path() -> None:
    """Condition code 3 at once on a mainframe, later in the status of a virtual channel subsystem."""
    assert Bench(Echo()).ssch(Orb(lpm=0x40, cpa=PROGRAM)) == 3
    bench = Bench(Echo(), VIRTUAL)
    assert bench.ssch(Orb(lpm=0x40, cpa=PROGRAM)) == 0
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert (scsw.cc, scsw.stctl, scsw.fctl) == (3, Stctl.ALERT | Stctl.PENDING, Fctl.START)
    assert bench.start(SENSE_ID).scsw.cc == 0


def test_no_device_behind_the_path() -> None:
    bench = Bench(None)
    bench.put(PROGRAM, SENSE_ID)
    assert bench.ssch() == 0
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert (scsw.cc, scsw.pno) == (3, True)
    pmcw = bench.schib().pmcw
    assert (pmcw.pnom, pmcw.pom) == (0x80, 0x7F)


def test_starting_a_chsc_subchannel_is_not_modelled(bench: Bench) -> None:
    bench.css.add_subchannel(SubchannelConfig(OTHER, 0, type=SubchannelType.CHSC))
    schib = bench.css.stsch(OTHER)[1]
    assert schib is not None
    assert (schib.pmcw.dnv, schib.pmcw.st) == (False, 1)
    bench.css.msch(OTHER, replace(schib, pmcw=replace(schib.pmcw, ena=True)))
    with pytest.raises(NotModelled):
        bench.css.ssch(OTHER, Orb(cpa=8))


def test_bad_configurations(bench: Bench) -> None:
    with pytest.raises(Misuse):
        SubchannelConfig(SCHID, 0x10000)
    with pytest.raises(Misuse):
        SubchannelConfig(SCHID, 0, chpids=(1,))
    with pytest.raises(Misuse):
        bench.css.add_subchannel(SubchannelConfig(SCHID, 1))
    with pytest.raises(Misuse):
        bench.css.remove_subchannel(OTHER)
    with pytest.raises(Misuse):
        bench.css.config(OTHER)
    with pytest.raises(Misuse):
        bench.css.set_path_online(0, 0x77, False)
    with pytest.raises(Misuse):
        bench.css.add_range(SubchannelId(0, 0, 0xFFFF), 2, lambda schid: SubchannelConfig(schid, 0))
    bench.css.add_range(SubchannelId(0, 1, 0), 9, lambda schid: SubchannelConfig(schid, 0))
    with pytest.raises(Misuse):
        bench.css.add_range(SubchannelId(0, 1, 8), 9, lambda schid: SubchannelConfig(schid, 0))


def test_halt_and_clear_when_idle(bench: Bench) -> None:
    """Golden: 2001 with the old address and count left, 1001 with all zero."""
    bench.start("e420001000020000")
    assert bench.css.hsch(SCHID) == 0
    assert bench.css.hsch(SCHID) == 2
    bench.clock.settle()
    irb = bench.irb()
    assert irb.to_bytes()[2:8].hex() == "200100011008"
    assert irb.scsw.count == 8
    assert bench.css.csch(SCHID) == 0
    bench.clock.settle()
    irb = bench.irb()
    assert irb.to_bytes().hex() == "000010010000000000000000" + "00800000" + "00" * 80
    schib = bench.schib()
    assert schib.pmcw.lpum == 0
    assert schib.scsw.to_bytes() == bytes(12)


def test_halt_before_the_start_happened(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    bench.ssch()
    bench.css.hsch(SCHID)
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert (scsw.fctl, scsw.stctl, scsw.dstat) == (Fctl.START | Fctl.HALT, Stctl.PENDING, 0)
    assert bench.data(7) == "00" * 7
    assert bench.interrupts == [SCHID]


def test_cancel_before_the_start_happened(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    bench.ssch()
    assert bench.css.xsch(SCHID) == 0
    bench.clock.settle()
    assert bench.interrupts == []
    assert bench.css.tsch(SCHID)[0] == 1
    assert bench.start(SENSE_ID).scsw.ok


def test_clear_takes_a_pending_status_back(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    bench.ssch()
    bench.clock.settle()
    assert bench.css.csch(SCHID) == 0
    assert bench.css.tpi() is None
    bench.clock.settle()
    assert bench.css.tpi() == IoInterruption(SCHID, 0, 3)
    assert bench.irb().scsw.fctl == Fctl.CLEAR


def test_suspend_and_resume(bench: Bench) -> None:
    """Golden: intermediate status 4029, the SCHIB keeps 4020 until the program is resumed or cleared."""
    bench.put(PROGRAM, "0360000100020000 0362000100020000 e420000700020000")
    assert bench.ssch(SUSPENDING) == 0
    bench.clock.settle()
    irb = bench.irb()
    assert irb.to_bytes()[:12].hex() == "08c040290001101000000001"
    assert bench.schib().scsw.to_bytes()[:4].hex() == "08c04020"
    assert bench.ssch() == 2
    bench.put(0x11008, "0360000100020000")
    assert bench.css.rsch(SCHID) == 0
    assert bench.css.rsch(SCHID) == 2
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert scsw.ok
    assert scsw.cpa == 0x11018


def test_resume_of_a_program_that_still_says_suspend(bench: Bench) -> None:
    bench.put(PROGRAM, "0362000100020000")
    bench.ssch(SUSPENDING)
    bench.clock.settle()
    assert bench.irb().scsw.actl == Actl.SUSPENDED
    assert bench.css.rsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.actl == Actl.SUSPENDED
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.fctl == Fctl.START | Fctl.HALT
    assert bench.start(SENSE_ID).scsw.ok


def test_suspend_without_interruption(bench: Bench) -> None:
    bench.put(PROGRAM, "0362000100020000")
    bench.ssch("0000000008caff0000011000")
    bench.clock.settle()
    assert bench.interrupts == []
    assert bench.css.tsch(SCHID)[0] == 1
    assert bench.css.xsch(SCHID) == 0
    assert bench.start(SENSE_ID).scsw.ok


def test_program_controlled_interruption(bench: Bench) -> None:
    bench.put(PROGRAM, "0368000100020000 e420000700020000")
    statuses = []
    seen = bench.interrupts.append
    bench.css._on_io_interrupt = lambda schid: (seen(schid), statuses.append(bench.irb().scsw))  # type: ignore[func-returns-value,assignment]
    bench.ssch()
    bench.clock.settle()
    assert [(int(s.stctl), int(s.cstat), int(s.dstat)) for s in statuses] == [(9, 0x80, 0), (7, 0, 0x0C)]


def test_a_pci_which_nobody_took_is_in_the_ending_status(bench: Bench) -> None:
    scsw = bench.start("0368000100020000 e420000700020000").scsw
    assert (int(scsw.stctl), int(scsw.cstat), int(scsw.dstat)) == (0x0F, 0x80, 0x0C)


def test_unsolicited_status_waits_for_the_subchannel(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    bench.ssch()
    bench.css.present_status(SCHID, 0x80)
    bench.clock.settle()
    assert bench.irb().scsw.is_solicited
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert not scsw.is_solicited
    assert int(scsw.dstat) == 0x80


def test_tpi_takes_the_lowest_subclass_first(bench: Bench) -> None:
    css = bench.css
    css.add_subchannel(SubchannelConfig(OTHER, 0x2000, device=Echo()))
    schib = css.stsch(OTHER)[1]
    assert schib is not None
    css.msch(OTHER, replace(schib, pmcw=replace(schib.pmcw, ena=True, isc=1)))
    bench.put(PROGRAM, SENSE_ID)
    bench.ssch()
    css.ssch(OTHER, Orb(cpa=PROGRAM))
    bench.clock.settle()
    assert bench.interrupts == [SCHID, OTHER]
    assert css.tpi(subclass_mask(0, 2, 4)) is None
    assert css.tpi() == IoInterruption(OTHER, 0, 1)
    assert css.tpi(subclass_mask(3)) == IoInterruption(SCHID, 0, 3)
    assert css.tpi() is None
    assert css.tsch(SCHID)[0] == 0


def test_removal(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    bench.ssch()
    bench.css.remove_subchannel(SCHID)
    bench.clock.settle()
    assert bench.interrupts == []
    assert bench.css.stsch(SCHID) == (3, None)
    assert bench.crw_calls == 1
    report = bench.css.stcrw()
    assert report is not None
    assert replace(report, chn=False) == Crw(rsc=3, erc=4, rsid=5)
    if report.chn:  # where several sets are enabled, a second word says which
        assert bench.css.stcrw() == Crw(rsc=3, erc=4, rsid=0)
    assert bench.css.stcrw() is None
    assert list(bench.css.schids()) == []


def test_removal_in_another_set_has_a_chained_report(bench: Bench) -> None:
    far = SubchannelId(0, 2, 0x10)
    bench.css.add_subchannel(SubchannelConfig(far, 1), report=True)
    first, second = bench.css.stcrw(), bench.css.stcrw()
    assert first == Crw(rsc=3, erc=4, rsid=0x10, chn=True)
    assert second == Crw(rsc=3, erc=4, rsid=0x20)


def test_a_path_goes_and_comes() -> None:
    bench = Bench(Echo(), chpids=(0x44, 0x45, 0, 0, 0, 0, 0, 0), pim=0xC0, pam=0xC0)
    for chpid in (0x44, 0x45):
        bench.css.add_path(ChannelPath(chpid))
    bench.css.set_path_online(0, 0x44, False)
    assert bench.schib().pmcw.pam == 0x40
    assert bench.css.stcrw() == Crw(rsc=4, erc=6, rsid=0x44)
    bench.css.add_range(SubchannelId(0, 1, 0), 2, lambda schid: replace(bench.css.config(SCHID), schid=schid))
    late = bench.css.stsch(SubchannelId(0, 1, 1))[1]
    assert late is not None
    assert late.pmcw.pam == 0x40
    assert bench.start(SENSE_ID).lpum == 0x40
    bench.css.set_path_online(0, 0x44, True)
    assert bench.schib().pmcw.pam == 0xC0
    assert bench.start(SENSE_ID).lpum == 0x80
    assert [str(path) for path in bench.css.paths()] == ["chpid 0.44 type 1b online", "chpid 0.45 type 1b online"]


def test_the_path_mask_of_the_orb_in_the_schib() -> None:
    for model, lpm in ((MAINFRAME, 0xFF), (VIRTUAL, 0x80)):
        bench = Bench(Echo(), model)
        bench.start(SENSE_ID)
        assert bench.schib().pmcw.lpm == lpm


def test_many_subchannels_cost_nothing_until_looked_at(bench: Bench) -> None:
    built: list[SubchannelId] = []

    def factory(schid: SubchannelId) -> SubchannelConfig:
        built.append(schid)
        return SubchannelConfig(schid, schid.number, device=Echo())

    begin = time.perf_counter()
    bench.css.add_range(SubchannelId(0, 1, 0), 65536, factory)
    assert sum(1 for _ in bench.css.schids()) == 65537
    assert time.perf_counter() - begin < 2
    assert built == []
    schib = bench.css.stsch(SubchannelId(0, 1, 0xABCD))[1]
    assert schib is not None
    assert schib.pmcw.devno == 0xABCD
    assert len(built) == 1
    assert "65537 subchannels" in str(bench.css)
