"""Each instruction's condition codes and operand exceptions, one rule after the other.

Source: z/Architecture Principles of Operation, chapter "I/O Instructions": the section of each instruction, and for
TEST SUBCHANNEL the table of what it clears.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
from css_rig import PROGRAM, SCHID, Bench

from pyvfio.address import SubchannelId
from pyvfio.css import Actl, ChannelSubsystem, Cstat, Dstat, Fctl, OperandException, Orb, Pmcw, Schib, Stctl
from pyvfio.css.interruption import subclass_mask
from pyvfio_backends.software.hardware.css import MAINFRAME, VIRTUAL, CssModel, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

NOWHERE = SubchannelId(0, 0, 0x99)
SENSE_ID = "e420000700020000"
ENDLESS = "0360000100020000 0800000000011000"
SUSPENDED = "0362000100020000 e420000700020000"
SUSPENDING = Orb(cpa=PROGRAM, spnd=True, pfch=True)

#: Which fields of the PMCW a program may modify ("MODIFY SUBCHANNEL", "Path-Management-Control Word").
MODIFIABLE = {"intparm", "isc", "ena", "lm", "mme", "mp", "lpm", "mbi", "pom", "mbfc", "xmwme", "csense"}
FIXED = {"qf", "w", "tf", "dnv", "devno", "pnom", "lpum", "pim", "pam", "chpid", "st"}
RESERVED = {"res5", "res_hi", "res_lo"}


@pytest.fixture
def bench() -> Bench:
    return Bench(Echo())


# -- states to try instructions in -----------------------------------------------------------------------------------


def idle(bench: Bench) -> None:
    pass


def start_pending(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    assert bench.ssch() == 0


def active(bench: Bench) -> None:
    bench.put(PROGRAM, ENDLESS)
    assert bench.ssch() == 0
    bench.clock.settle()


def resume_pending_and_active(bench: Bench) -> None:
    bench.put(PROGRAM, ENDLESS)
    assert bench.ssch(SUSPENDING) == 0
    bench.clock.settle()
    assert bench.css.rsch(SCHID) == 0


def suspended_status_pending(bench: Bench) -> None:
    bench.put(PROGRAM, SUSPENDED)
    assert bench.ssch(SUSPENDING) == 0
    bench.clock.settle()


def suspended(bench: Bench) -> None:
    suspended_status_pending(bench)
    bench.irb()


def resume_pending(bench: Bench) -> None:
    suspended(bench)
    assert bench.css.rsch(SCHID) == 0


def pci_pending(bench: Bench) -> None:
    """An intermediate status, while the program goes on (for ever)."""
    bench.put(PROGRAM, "0368000100020000 0360000100020000 0800000000011008")
    assert bench.ssch() == 0
    bench.clock.settle()
    scsw = bench.schib().scsw
    assert scsw.stctl == Stctl.INTERMEDIATE | Stctl.PENDING
    assert scsw.actl & Actl.SUBCHANNEL_ACTIVE


def ended(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    assert bench.ssch() == 0
    bench.clock.settle()


def alert(bench: Bench) -> None:
    bench.css.present_status(SCHID, int(Dstat.ATTENTION))
    bench.clock.settle()


def halt_pending(bench: Bench) -> None:
    assert bench.css.hsch(SCHID) == 0


def halted(bench: Bench) -> None:
    halt_pending(bench)
    bench.clock.settle()


def clear_pending(bench: Bench) -> None:
    assert bench.css.csch(SCHID) == 0


def cleared(bench: Bench) -> None:
    clear_pending(bench)
    bench.clock.settle()


State = Callable[[Bench], None]
CODES: dict[State, tuple[int, int, int, int, int, int, int]] = {
    #                          msch ssch hsch csch rsch xsch tsch
    idle:                     (0,   0,   0,   0,   2,   2,   1),
    start_pending:            (2,   2,   0,   0,   2,   0,   1),
    active:                   (2,   2,   0,   0,   2,   2,   1),
    resume_pending_and_active: (2,  2,   0,   0,   2,   2,   1),
    suspended_status_pending: (1,   1,   0,   0,   1,   1,   0),
    suspended:                (2,   2,   0,   0,   0,   0,   1),
    resume_pending:           (2,   2,   0,   0,   2,   0,   1),
    pci_pending:              (1,   1,   0,   0,   1,   1,   0),
    ended:                    (1,   1,   1,   0,   1,   1,   0),
    alert:                    (1,   1,   1,   0,   1,   1,   0),
    halt_pending:             (2,   2,   2,   0,   2,   2,   1),
    halted:                   (1,   1,   1,   0,   1,   1,   0),
    clear_pending:            (2,   2,   2,   0,   2,   2,   1),
    cleared:                  (1,   1,   1,   0,   1,   1,   0),
}  # fmt: skip
INSTRUCTIONS = ("msch", "ssch", "hsch", "csch", "rsch", "xsch", "tsch")


def execute(css: ChannelSubsystem, name: str, schid: SubchannelId = SCHID) -> int:
    if name == "msch":
        return css.msch(schid, Schib(Pmcw(ena=True)))
    if name == "ssch":
        return css.ssch(schid, Orb(cpa=PROGRAM))
    if name == "tsch":
        return css.tsch(schid)[0]
    if name == "stsch":
        return css.stsch(schid)[0]
    code: int = getattr(css, name)(schid)
    return code


@pytest.mark.parametrize("at", range(len(INSTRUCTIONS)), ids=INSTRUCTIONS)
@pytest.mark.parametrize("state", CODES, ids=lambda state: state.__name__)
def test_condition_codes(bench: Bench, state: State, at: int) -> None:
    state(bench)
    assert execute(bench.css, INSTRUCTIONS[at]) == CODES[state][at]


@pytest.mark.parametrize("name", [*INSTRUCTIONS, "stsch"])
def test_no_such_subchannel(bench: Bench, name: str) -> None:
    assert execute(bench.css, name, NOWHERE) == 3


@pytest.mark.parametrize("name", [*INSTRUCTIONS, "stsch"])
def test_disabled(bench: Bench, name: str) -> None:
    assert bench.enable(False) == 0
    assert execute(bench.css, name) == (0 if name in ("msch", "stsch") else 3)


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_without_a_device_number(bench: Bench, name: str) -> None:
    """STSCH stores it, MSCH changes nothing, the others find it not operational."""
    subchannel = bench.css.looked_at(SCHID)
    assert subchannel is not None
    subchannel.pmcw = replace(subchannel.pmcw, dnv=False)
    before = bench.schib()
    assert execute(bench.css, name) == (0 if name == "msch" else 3)
    assert bench.schib() == before


# -- MSCH ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schid", [SCHID, NOWHERE])
@pytest.mark.parametrize("wrong", [{"res5": 1}, {"res_hi": 1}, {"res_lo": 1}, {"lm": 3}])
def test_operand_exceptions_of_msch_come_first(bench: Bench, schid: SubchannelId, wrong: dict[str, int]) -> None:
    ended(bench)
    with pytest.raises(OperandException):
        bench.css.msch(schid, Schib(replace(Pmcw(ena=True), **wrong)))


def test_what_msch_modifies(bench: Bench) -> None:
    assert {field.name for field in fields(Pmcw)} == MODIFIABLE | FIXED | RESERVED
    before = bench.schib().pmcw
    wish = Pmcw(
        intparm=7, qf=True, w=True, isc=6, ena=True, lm=2, mme=3, mp=True, tf=True, dnv=False, devno=0x9999, lpm=0x55,
        pnom=0x33, lpum=0x44, pim=0x66, mbi=0x1111, pom=0x77, pam=0x88, chpid=bytes(range(8)), st=1, mbfc=True,
        xmwme=True, csense=False,
    )  # fmt: skip
    assert bench.css.msch(SCHID, Schib(wish, mba=0x40000)) == 0
    after = bench.schib()
    for name in MODIFIABLE:
        assert getattr(after.pmcw, name) == getattr(wish, name), name
    for name in FIXED:
        assert getattr(after.pmcw, name) == getattr(before, name), name
    assert after.mba == 0x40000


# -- SSCH ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schid", [SCHID, NOWHERE])
@pytest.mark.parametrize(
    "orb", [Orb(cpa=4), Orb(cpa=1 << 31), Orb(cpa=1 << 24, fmt=0), Orb(cpa=8, zero=1), Orb(tm=True)]
)
def test_operand_exceptions_of_ssch_come_first(bench: Bench, schid: SubchannelId, orb: Orb) -> None:
    with pytest.raises(OperandException):
        bench.css.ssch(schid, orb)


def test_a_start_forgets_the_path_trouble_of_the_one_before(bench: Bench) -> None:
    bench.css.remove_device(SCHID)
    assert bench.start(SENSE_ID).scsw.pno
    assert bench.schib().pmcw.pnom == 0x80
    bench.css.restore_device(SCHID)
    assert bench.ssch() == 0
    assert (bench.schib().pmcw.pnom, bench.schib().scsw.pno) == (0, False)


# -- HSCH, CSCH, XSCH ------------------------------------------------------------------------------------------------


def test_halting_a_program_takes_its_intermediate_status_along(bench: Bench) -> None:
    pci_pending(bench)
    assert bench.css.hsch(SCHID) == 0
    assert not bench.schib().scsw.stctl & Stctl.PENDING
    assert bench.css.tpi() is None
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert scsw.fctl == Fctl.START | Fctl.HALT
    assert scsw.stctl & Stctl.PENDING


@pytest.mark.parametrize("state", [ended, alert, halted, suspended_status_pending, pci_pending])
def test_clearing_takes_a_status_and_its_interruption_back(bench: Bench, state: State) -> None:
    state(bench)
    assert bench.css.csch(SCHID) == 0
    assert not bench.schib().scsw.stctl
    assert bench.css.tpi() is None
    bench.clock.settle()
    irb = bench.irb()
    assert (irb.scsw.fctl, irb.scsw.stctl) == (Fctl.CLEAR, Stctl.PENDING)
    assert (irb.scsw.dstat, irb.scsw.cstat) == (Dstat(0), Cstat(0))


@pytest.mark.parametrize("state", [start_pending, suspended, resume_pending])
def test_cancelling_leaves_nothing(bench: Bench, state: State) -> None:
    state(bench)
    bench.interrupts.clear()
    assert bench.css.xsch(SCHID) == 0
    scsw = bench.schib().scsw
    assert (scsw.fctl, scsw.actl, scsw.stctl) == (0, 0, 0)
    bench.clock.advance(1)
    assert bench.interrupts == []


# -- TSCH ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "fctl", "actl"),
    [
        (ended, 0, 0),
        (alert, 0, 0),
        (halted, 0, 0),
        (cleared, 0, 0),
        (suspended_status_pending, Fctl.START, Actl.SUSPENDED),
        (pci_pending, Fctl.START, Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_tsch_clears(bench: Bench, state: State, fctl: int, actl: int) -> None:
    state(bench)
    assert bench.css.tsch(SCHID)[0] == 0
    scsw = bench.schib().scsw
    assert (scsw.fctl, scsw.actl, scsw.stctl) == (fctl, actl, 0)
    assert not scsw.pno
    assert bench.css.tpi() is None
    assert bench.css.tsch(SCHID)[0] == 1


def test_halting_a_suspended_program_ends_it(bench: Bench) -> None:
    suspended(bench)
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.fctl == Fctl.START | Fctl.HALT
    scsw = bench.schib().scsw
    assert (scsw.fctl, scsw.actl) == (0, 0)
    assert bench.start(SENSE_ID).scsw.ok


# -- TPI -------------------------------------------------------------------------------------------------------------


def test_tpi_leaves_the_status_at_the_subchannel(bench: Bench) -> None:
    ended(bench)
    assert bench.css.tpi(subclass_mask(0, 1, 2, 4, 5, 6, 7)) is None
    pending = bench.css.tpi(subclass_mask(3))
    assert pending is not None
    assert (pending.schid, pending.isc) == (SCHID, 3)
    assert bench.css.tpi() is None
    assert bench.schib().scsw.stctl & Stctl.PENDING
    assert bench.irb().scsw.ok


def test_the_interruption_code_has_the_parameter_of_the_start(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    assert bench.ssch(Orb(cpa=PROGRAM, intparm=0x12345678)) == 0
    bench.clock.settle()
    pending = bench.css.tpi()
    assert pending is not None
    assert pending.intparm == 0x12345678
    assert pending.to_bytes().hex() == "00010005" + "12345678" + "18000000"


def test_a_status_taken_early_needs_no_interruption(bench: Bench) -> None:
    ended(bench)
    bench.irb()
    assert bench.css.tpi() is None


# -- both models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MAINFRAME, VIRTUAL], ids=str)
def test_a_message_subchannel_is_valid_without_a_device_number(model: CssModel) -> None:
    bench = Bench(Echo(), model)
    bench.css.add_subchannel(SubchannelConfig(NOWHERE, 0, type=2))  # type: ignore[arg-type]
    assert bench.css.msch(NOWHERE, Schib(Pmcw(ena=True))) == 0
    assert bench.css.tsch(NOWHERE)[0] == 1
