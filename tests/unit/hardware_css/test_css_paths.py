"""Channel paths: which one a function takes, what happens when it is lost, who configures it, and who is told.

Rules: z/Architecture Principles of Operation, "Channel-Path Management" and "Path Selection"; response codes of the
service call in ``drivers/s390/char/sclp_cmd.c``; channel reports as ``drivers/s390/cio/chp.c`` and ``css.c`` take them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from css_rig import PROGRAM, SCHID, Bench

from pyvfio.address import SubchannelId
from pyvfio.css import Actl, Configure, Crw, Cstat, Dstat, Fctl, OperandException, Orb, Stctl
from pyvfio.css.chsc_machine import Facility
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css import MAINFRAME, VIRTUAL, ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.css.paths import SCLP_ALREADY, SCLP_DONE, SCLP_NO_SUCH_PATH, PathInformation
from pyvfio_backends.software.hardware.devices.echo import Echo

SENSE_ID = "e420000700020000"
ENDLESS = "0360000100020000 0800000000011000"
SUSPENDING = "0000000008c2ff0000011000"


def make(paths: int = 2) -> Bench:
    chpids = tuple(0x40 + at for at in range(paths)) + (0,) * (8 - paths)
    mask = 0xFF00 >> paths & 0xFF
    bench = Bench(Echo(), chpids=chpids, pim=mask, pam=mask)
    for at in range(paths):
        bench.css.add_path(ChannelPath(0x40 + at))
    return bench


def used(bench: Bench, times: int, lpm: int = 0xFF) -> list[int]:
    return [bench.start(SENSE_ID, Orb(cpa=PROGRAM, pfch=True, lpm=lpm)).lpum for _ in range(times)]


# -- which one -------------------------------------------------------------------------------------------------------


def test_paths_that_are_not_there() -> None:
    bench = make()
    for act in (bench.css.break_path, bench.css.repair_path, bench.css.request_path):
        with pytest.raises(Misuse):
            act(0, 0x99)
    with pytest.raises(Misuse):
        bench.css.set_path_online(1, 0x40, False)
    with pytest.raises(Misuse):
        bench.css.add_path(ChannelPath(0x100))
    with pytest.raises(Misuse):
        bench.css.remove_device(SubchannelId(0, 0, 0x77))


def test_paths_are_taken_in_turn() -> None:
    bench = make(8)
    assert used(bench, 9) == [0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01, 0x80]
    assert used(bench, 3, 0x41) == [0x40, 0x01, 0x40]
    assert used(bench, 2, 0x04) == [0x04, 0x04]


def test_no_path_of_those_that_the_program_allows_is_available() -> None:
    bench = make()
    assert bench.ssch(Orb(cpa=PROGRAM, lpm=0x3F)) == 3
    bench.css.set_path_online(0, 0x40, False)
    assert bench.ssch(Orb(cpa=PROGRAM, lpm=0x80)) == 3
    assert used(bench, 2, 0xC0) == [0x40, 0x40]


def test_a_path_on_which_nobody_answers_is_passed_over_and_noted() -> None:
    bench = make()
    bench.css.break_path(0, 0x40)
    assert bench.css.stcrw() is None
    assert bench.schib().pmcw.pam == 0xC0
    irb = bench.start(SENSE_ID)
    assert (irb.lpum, irb.scsw.cc, irb.scsw.pno, irb.scsw.ok) == (0x40, 0, True, True)
    pmcw = bench.schib().pmcw
    assert (pmcw.pnom, pmcw.pom) == (0x80, 0x7F)
    assert not bench.start(SENSE_ID, Orb(cpa=PROGRAM, lpm=0x40)).scsw.pno
    assert bench.schib().pmcw.pnom == 0
    bench.css.repair_path(0, 0x40)
    assert used(bench, 1) == [0x80]
    assert bench.schib().pmcw.pom == 0xFF


def test_nobody_answers_on_any_path() -> None:
    bench = make()
    bench.css.remove_device(SCHID)
    irb = bench.start(SENSE_ID)
    assert (irb.scsw.cc, irb.scsw.pno, irb.scsw.fctl) == (3, True, Fctl.START)
    assert irb.scsw.stctl == Stctl.ALERT | Stctl.PENDING
    pmcw = bench.schib().pmcw
    assert (pmcw.pnom, pmcw.pom) == (0xC0, 0x3F)
    bench.css.restore_device(SCHID)
    assert bench.start(SENSE_ID).scsw.ok


def test_a_halt_signal_that_reaches_nobody() -> None:
    bench = make()
    bench.css.remove_device(SCHID)
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert (scsw.fctl, scsw.cc, scsw.pno) == (Fctl.HALT, 3, True)
    assert bench.schib().pmcw.pnom == 0xC0
    bench.css.restore_device(SCHID)
    bench.css.break_path(0, 0x40)
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.cc == 0  # over the other path


def test_a_clear_signal_that_reaches_nobody() -> None:
    bench = make()
    bench.css.break_path(0, 0x40)
    bench.css.break_path(0, 0x41)
    assert bench.css.csch(SCHID) == 0
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert (scsw.fctl, scsw.cc, scsw.pno) == (Fctl.CLEAR, 0, True)
    assert bench.schib().pmcw.pnom == 0xC0
    assert not bench.schib().scsw.pno


# -- lost under a program --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["offline", "broken", "deconfigured", "reset", "device"])
def test_a_program_loses_its_path(what: str) -> None:
    bench = make()
    bench.put(PROGRAM, ENDLESS)
    assert bench.ssch() == 0
    bench.clock.settle()
    assert bench.schib().scsw.actl & Actl.SUBCHANNEL_ACTIVE
    css = bench.css
    if what == "offline":
        css.set_path_online(0, 0x40, False)
    elif what == "broken":
        css.break_path(0, 0x40)
    elif what == "deconfigured":
        assert css.sclp_deconfigure_path(0, 0x40) == SCLP_DONE
    elif what == "reset":
        assert css.rchp(0, 0x40) == 0
        bench.clock.settle()
    else:
        css.remove_device(SCHID)
    assert bench.interrupts == [SCHID]
    irb = bench.irb()
    assert irb.scsw.cstat == Cstat.INTERFACE_CONTROL_CHECK
    assert irb.scsw.dstat == Dstat(0)
    assert irb.scsw.stctl & (Stctl.ALERT | Stctl.PRIMARY | Stctl.PENDING) == Stctl.ALERT | Stctl.PRIMARY | Stctl.PENDING
    assert irb.lpum == 0x80
    bench.clock.advance(10)
    assert bench.interrupts == [SCHID]  # nothing of the program goes on
    css.restore_device(SCHID)
    irb = bench.start(SENSE_ID)
    assert irb.scsw.ok
    assert irb.lpum == 0x40


def test_a_program_on_another_path_does_not_notice() -> None:
    bench = make()
    bench.put(PROGRAM, ENDLESS)
    assert bench.ssch(Orb(cpa=PROGRAM, lpm=0x40)) == 0
    bench.clock.settle()
    bench.css.set_path_online(0, 0x40, False)
    bench.clock.advance(0.1)
    assert bench.interrupts == []
    assert bench.css.csch(SCHID) == 0


def test_a_path_that_is_lost_before_the_first_command_is_replaced() -> None:
    bench = make()
    bench.put(PROGRAM, SENSE_ID)
    assert bench.ssch() == 0
    bench.css.set_path_online(0, 0x40, False)
    bench.clock.settle()
    irb = bench.irb()
    assert (irb.scsw.ok, irb.lpum) == (True, 0x40)


@pytest.mark.parametrize("multipath", [False, True])
def test_a_suspended_program_whose_path_was_lost(multipath: bool) -> None:
    """It keeps its path, unless the subchannel is in multipath mode."""
    bench = make()
    pmcw = bench.schib().pmcw
    assert bench.css.msch(SCHID, replace(bench.schib(), pmcw=replace(pmcw, mp=multipath))) == 0
    bench.put(PROGRAM, "0362000100020000 e420000700020000")
    assert bench.ssch(SUSPENDING) == 0
    bench.clock.settle()
    assert bench.irb().lpum == 0x80
    bench.put(PROGRAM, "0360000100020000")
    bench.css.break_path(0, 0x40)
    assert bench.css.rsch(SCHID) == 0
    bench.clock.settle()
    irb = bench.irb()
    assert (irb.scsw.cc, irb.scsw.ok) == ((0, True) if multipath else (3, False))


# -- configured ------------------------------------------------------------------------------------------------------


def test_the_service_call_configures_paths() -> None:
    bench = make()
    css = bench.css
    css.add_path(ChannelPath(0x77, online=False))
    assert css.sclp_read_paths() == PathInformation(
        frozenset((0x40, 0x41, 0x77)), frozenset((0x77,)), frozenset((0x40, 0x41))
    )
    assert css.sclp_configure_path(0, 0x99) == SCLP_NO_SUCH_PATH
    assert css.sclp_configure_path(0, 0x40) == SCLP_ALREADY
    assert css.sclp_deconfigure_path(0, 0x40) == SCLP_DONE
    assert css.sclp_deconfigure_path(0, 0x40) == SCLP_ALREADY
    assert bench.schib().pmcw.pam == 0x40
    assert css.sclp_configure_path(0, 0x40) == SCLP_DONE
    assert bench.schib().pmcw.pam == 0xC0
    assert css.stcrw() is None  # the program knows, as it asked for it


def test_a_virtual_machine_has_no_such_service_call() -> None:
    css = Bench(Echo(), VIRTUAL).css
    assert css.sclp_read_paths() is None
    assert css.sclp_configure_path(0, 0) is None
    assert css.sclp_deconfigure_path(0, 0) is None


def test_a_path_that_comes_is_reported() -> None:
    bench = make()
    bench.css.add_path(ChannelPath(0x50), report=True)
    assert bench.css.stcrw() == Crw(rsc=4, erc=2, rsid=0x50)
    bench.css.add_path(ChannelPath(0x50, cssid=2), report=True)
    assert bench.css.stcrw() is None  # this image is not enabled
    bench.css.enable(Facility.IMAGES)
    bench.css.add_path(ChannelPath(0x50, cssid=2), report=True)
    assert [bench.css.stcrw(), bench.css.stcrw()] == [Crw(4, 2, 0x50, chn=True), Crw(4, 2, 0x200)]


def test_all_256_paths_of_an_image_and_the_same_ids_in_another() -> None:
    bench = make()
    for cssid in range(4):
        for chpid in range(256):
            bench.css.add_path(ChannelPath(chpid, cssid=cssid))
    assert len(bench.css.paths()) == 1024
    bench.css.set_path_online(1, 0x40, False)
    assert bench.schib().pmcw.pam == 0xC0


def test_subchannels_built_later_follow() -> None:
    bench = make()
    bench.css.set_path_online(0, 0x41, False)
    config = bench.css.config(SCHID)
    bench.css.add_range(SubchannelId(0, 1, 0), 9, lambda schid: replace(config, schid=schid))
    late = bench.css.stsch(SubchannelId(0, 1, 3))[1]
    assert late is not None
    assert late.pmcw.pam == 0x80
    bench.css.set_path_online(0, 0x41, True)
    later = bench.css.stsch(SubchannelId(0, 1, 3))[1]
    assert later is not None
    assert later.pmcw.pam == 0xC0


# -- reset channel path ----------------------------------------------------------------------------------------------


def test_reset_channel_path() -> None:
    bench = make()
    css = bench.css
    with pytest.raises(OperandException):
        css.rchp(1, 0x40)
    assert css.rchp(0, 0x99) == 3
    css.set_path_online(0, 0x41, False)
    assert css.stcrw() == Crw(rsc=4, erc=6, rsid=0x41)
    assert css.rchp(0, 0x41) == 3
    assert css.rchp(0, 0x40) == 0
    assert css.rchp(0, 0x40) == 2
    bench.clock.settle()
    assert css.stcrw() == Crw(rsc=4, erc=2, rsid=0x40, slct=True)
    css.break_path(0, 0x40)
    assert css.rchp(0, 0x40) == 0
    bench.clock.settle()
    assert css.stcrw() == Crw(rsc=4, erc=6, rsid=0x40, slct=True)


# -- reports ---------------------------------------------------------------------------------------------------------


def test_reports_that_are_lost() -> None:
    """PoP, "Channel-Report Word": the overflow bit is on in the last report before those that were lost."""
    bench = make()
    for number in range(600):
        bench.css.inject_report(Crw(rsc=4, erc=2, rsid=number & 0xFF))
    words = []
    while (word := bench.css.stcrw()) is not None:
        words.append(word)
    assert len(words) == 512
    assert [word.oflw for word in words] == [False] * 511 + [True]
    bench.css.inject_report(Crw(rsc=4, erc=2, rsid=1))
    assert bench.css.stcrw() == Crw(rsc=4, erc=2, rsid=1)


def test_a_chain_is_queued_whole_or_not_at_all() -> None:
    bench = make()
    for number in range(511):
        bench.css.inject_report(Crw(rsc=4, erc=2, rsid=number & 0xFF))
    bench.css.remove_subchannel(SCHID)
    words = []
    while (word := bench.css.stcrw()) is not None:
        words.append(word)
    assert len(words) == 511
    assert (words[-1].oflw, words[-1].rsid) == (True, 510 & 0xFF)


def test_an_operator_asks() -> None:
    bench = make()
    bench.css.request_path(0, 0x40, Configure.DECONFIGURE)
    bench.css.request_path(0, 0x40, Configure.CANCEL_DECONFIGURE)
    assert bench.css.stcrw() == Crw(rsc=0xB)
    assert bench.css.stcrw() is None
    assert bench.schib().pmcw.pam == 0xC0


# -- where there is none ---------------------------------------------------------------------------------------------


def test_numbers_between_subchannels() -> None:
    """Linux stops at the first number for which STSCH has no answer (``for_each_subchannel``)."""
    bench = Bench(Echo(), MAINFRAME)
    for number in range(SCHID.number):
        cc, schib = bench.css.stsch(SubchannelId(0, 0, number))
        assert cc == 0
        assert schib is not None
        assert (schib.pmcw.dnv, schib.pmcw.st) == (False, 0)
    hole = SubchannelId(0, 0, 1)
    assert bench.css.msch(hole, bench.schib()) == 3
    assert bench.css.tsch(hole)[0] == 3
    assert bench.css.stsch(SubchannelId(0, 0, 6)) == (3, None)
    bench.css.add_subchannel(SubchannelConfig(SubchannelId(0, 0, 8), 8))
    assert bench.css.stsch(SubchannelId(0, 0, 6))[0] == 0
    bench.css.remove_subchannel(SubchannelId(0, 0, 8))
    assert bench.css.stsch(SubchannelId(0, 0, 6)) == (3, None)
