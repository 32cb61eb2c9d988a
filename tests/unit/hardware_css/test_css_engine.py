"""The channel-program engine: first everything that is refused or cut short, then what works."""

from __future__ import annotations

import pytest
from css_rig import DATA, PROGRAM, SCHID, Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css import Cstat, Dstat, Stctl
from pyvfio_backends.software.hardware.css import Channel, ControlUnit, Ending
from pyvfio_backends.software.hardware.devices.echo import Echo

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
F2 = "0000000000c2ff0000011000"  # format-1 CCWs, format-2 IDAWs of 4 KiB
F2_2K = "0000000000c3ff0000011000"
F1 = "0000000000c0ff0000011000"  # format-1 IDAWs
CCW0 = "000000000042ff0000011000"
CCW0_F1 = "000000000040ff0000011000"


@pytest.fixture
def bench() -> Bench:
    return Bench(Echo())


@pytest.mark.parametrize(
    ("program", "cpa"),
    [
        ("0800000000011008", 0x11008),  # TIC first
        ("0360000100020000 0800000000011010 0800000000011018", 0x11018),  # TIC to TIC
        ("0360000100020000 0840000000012000", 0x11010),  # flags in a TIC
        ("0360000100020000 0800000100012000", 0x11010),  # count in a TIC
        ("0360000100020000 0800000000012004", 0x11010),  # TIC off a doubleword
        ("0360000100020000 08000000 80012000", 0x11010),  # TIC beyond 31 bits
        ("0360000100020000 0800000007000000", 0x11010),  # TIC to where nothing is
        ("0020000100020000", 0x11008),  # command 00
        ("1020000100020000", 0x11008),  # command x0
        ("1820000100020000", 0x11008),  # command x8 which is not 08
        ("e420004080020000", 0x11008),  # bit 32 on
        ("e480000000020000", 0x11008),  # data chaining without a count
        ("e422004000020000", 0x11008),  # suspend flag without suspend control
        ("e421004000012000", 0x11008),  # MIDAW flag, but the ORB does not allow it
    ],
)
def test_program_check_before_the_command(bench: Bench, program: str, cpa: int) -> None:
    scsw = bench.start(program).scsw
    assert (scsw.cstat, scsw.dstat, scsw.count) == (Cstat.PROGRAM_CHECK, 0, 0)
    assert scsw.cpa == cpa
    assert scsw.stctl == Stctl.PENDING | Stctl.SECONDARY | Stctl.PRIMARY | Stctl.ALERT


@pytest.mark.parametrize("program", ["e402000020000000", "0002000020000001"])
def test_program_check_in_format_0(bench: Bench, program: str) -> None:
    assert bench.start(program, CCW0).scsw.cstat == Cstat.PROGRAM_CHECK


@pytest.mark.parametrize(
    ("idaws", "orb"),
    [
        ("0000000007000000", F2),  # nothing there
        ("0000000000020ffe 0000000000021001", F2),  # the second is off its block
        ("0000000000020ffe 0000000000021800", F2),
        ("00020ffe 00021001", F1),
        ("80020000", F1),  # beyond 31 bits
    ],
)
def test_program_check_in_an_idaw(bench: Bench, idaws: str, orb: str) -> None:
    bench.put(0x12000, idaws)
    scsw = bench.start("e424000700012000", orb).scsw
    assert (scsw.cstat, scsw.dstat) == (Cstat.PROGRAM_CHECK, ENDED)


@pytest.mark.parametrize("address", ["00012004", "00012002", "07000000"])
def test_program_check_for_the_list_of_idaws(bench: Bench, address: str) -> None:
    assert bench.start("e4240007" + address).scsw.cstat == Cstat.PROGRAM_CHECK


@pytest.mark.parametrize(
    "second",
    ["0000000000020100", "0000000880020100", "0800000007000000", "0800000000011009", "0880000000011018"],
)
def test_program_check_in_a_data_chain(bench: Bench, second: str) -> None:
    scsw = bench.start("e480000300020000" + second).scsw
    assert scsw.cstat == Cstat.PROGRAM_CHECK
    assert bench.data(3) == "ffec40"


def test_data_beyond_storage_is_a_program_check(bench: Bench) -> None:
    assert bench.start("e420000707000000").scsw.cstat == Cstat.PROGRAM_CHECK
    assert bench.start("0120000707000000").scsw.cstat == Cstat.PROGRAM_CHECK


def test_a_key_protects_all_storage(bench: Bench) -> None:
    scsw = bench.start("e420000700020000", "00000000f0c2ff0000011000").scsw
    assert (scsw.cstat, scsw.dstat, scsw.key) == (Cstat.PROTECTION_CHECK, ENDED, 15)
    assert bench.data(7) == "00" * 7
    assert bench.start("0120000700020000", "00000000f0c2ff0000011000").scsw.cstat == 0


@pytest.mark.parametrize(
    ("program", "cstat", "residual"),
    [
        ("e400000700020000", Cstat.INCORRECT_LENGTH, 0),  # too short
        ("e420000700020000", 0, 0),
        ("e400001000020000", Cstat.INCORRECT_LENGTH, 8),  # too long
        ("e420001000020000", 0, 8),
        ("e400000800020000", 0, 0),  # exact
        ("e420000000020000", 0, 0),  # no data at all
        ("e400000000020000", Cstat.INCORRECT_LENGTH, 0),
        ("0300000900020000", 0, 9),  # immediate
        ("e480000300020000 0000000500020100", 0, 0),
        ("e480000300020000 0000000400020100", Cstat.INCORRECT_LENGTH, 0),
        ("e480000300020000 0020000400020100", 0, 0),
        ("e480000600020000 00a0000600020100 0020000600020200", Cstat.INCORRECT_LENGTH, 4),  # a CCW too many
        ("e480000800020000 0000000600020100", Cstat.INCORRECT_LENGTH, 6),
    ],
)
def test_length(bench: Bench, program: str, cstat: int, residual: int) -> None:
    scsw = bench.start(program).scsw
    assert (scsw.cstat, scsw.count, scsw.dstat) == (cstat, residual, ENDED)
    assert bool(scsw.stctl & Stctl.ALERT) == bool(cstat)


def test_incorrect_length_ends_the_chain(bench: Bench) -> None:
    scsw = bench.start("e440000400020000 e420000400020100").scsw
    assert (scsw.cstat, scsw.cpa) == (Cstat.INCORRECT_LENGTH, 0x11008)
    assert bench.data(4, 0x20100) == "00000000"


def test_unit_check_with_concurrent_sense(bench: Bench) -> None:
    irb = bench.start("0360000100020000 6f60000800020000 e420000700020000")
    assert (irb.scsw.dstat, irb.scsw.cstat, irb.scsw.count) == (ENDED | Dstat.UNIT_CHECK, 0, 8)
    assert irb.scsw.cpa == 0x11010
    assert irb.scsw.ectl
    assert irb.erw == 0x01200000
    assert irb.sense == b"\x80".ljust(32, b"\0")
    irb = bench.start("0420002000020000")
    assert irb.sense == b""
    assert bench.data(32) == "00" * 32


def test_unit_check_without_concurrent_sense() -> None:
    bench = Bench(Echo())
    bench.enable(csense=False)
    irb = bench.start("6f20000800020000")
    assert (irb.scsw.ectl, irb.erw, irb.sense) == (False, 0, b"")
    bench.start("0420002000020000")
    assert bench.data(2) == "8000"
    bench.start("0420002000020000")
    assert bench.data(2) == "0000"


def test_a_loop_for_ever_gives_the_machine_its_turn(bench: Bench) -> None:
    bench.put(PROGRAM, "0360000100020000 0800000000011000")
    assert bench.ssch(F2) == 0
    bench.clock.settle()
    assert bench.interrupts == []
    bench.clock.advance(0.01)
    assert bench.ssch(F2) == 2
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert (scsw.fctl, scsw.dstat, scsw.cstat) == (6, ENDED, 0)
    assert bench.start("e420000700020000").scsw.ok


def test_data_goes_through_write_and_back(bench: Bench) -> None:
    bench.put(DATA, "00112233445566778899")
    scsw = bench.start("0140000a00020000 0200000a00020100").scsw
    assert scsw.ok
    assert bench.data(10, 0x20100) == "00112233445566778899"


def test_write_gathers_and_read_scatters(bench: Bench) -> None:
    bench.put(DATA, "00112233445566778899")
    bench.put(0x12000, "0000000000021ffd 0000000000022000")
    scsw = bench.start("0180000400020000 0040000600020004 0280000200020200 0024000800012000").scsw
    assert scsw.ok
    assert bench.data(2, 0x20200) == "0011"
    assert bench.data(8, 0x21FFD) == "2233445566778899"


def test_a_tic_inside_a_data_chain(bench: Bench) -> None:
    bench.put(0x13000, "0000000500020100")
    scsw = bench.start("e480000300020000 0800000000013000").scsw
    assert scsw.ok
    assert scsw.cpa == 0x13008
    assert bench.data(5, 0x20100) == "01ec400100"


@pytest.mark.parametrize(
    ("idaws", "orb", "block"),
    [
        ("0000000000020ffd 0000000000041000", F2, 0x41000),
        ("00000000000207fd 0000000000041800", F2_2K, 0x41800),
        ("000207fd 00041800", F1, 0x41800),
        ("0000000000020ffd 000000ab00041000", F2, 0xAB00041000),
    ],
)
def test_indirect_addresses(bench: Bench, idaws: str, orb: str, block: int) -> None:
    bench.memory.add(0xAB00000000, 0x50000)
    bench.put(0x12000, idaws)
    assert bench.start("e424000800012000", orb).scsw.ok
    assert bench.data(5, block) == "01ec400100"


def test_skip_stores_nothing_and_needs_no_storage(bench: Bench) -> None:
    assert bench.start("e490000307000000 0000000500020000").scsw.ok
    assert bench.data(5) == "01ec400100"


def test_format_0(bench: Bench) -> None:
    bench.put(0x12000, "0002010000000000")
    scsw = bench.start("03020000 60000001 f801102000000000".replace(" ", "").ljust(64, "0"), CCW0).scsw
    assert scsw.cstat == Cstat.PROGRAM_CHECK
    bench.put(0x11020, "e402000020000007")
    scsw = bench.start("0302000060000001 f801102000000000", CCW0).scsw
    assert (scsw.ok, scsw.fmt, scsw.cpa) == (True, 0, 0x11028)
    assert bench.data(7) == "ffec4001ec4001"
    assert bench.start("e401200024000008", CCW0_F1).scsw.ok
    assert bench.data(4, 0x20100) == "ffec4001"


class Modifier(ControlUnit):
    """Answers 0x31 with status modifier."""

    def command(self, code: int, channel: Channel) -> Ending:
        return Ending(ENDED | Dstat.STATUS_MODIFIER) if code == 0x31 else super().command(code, channel)

    def __init__(self) -> None:
        super().__init__(Echo().sense_id)


def test_status_modifier_skips_a_ccw() -> None:
    bench = Bench(Modifier())
    scsw = bench.start("3160000100020000 6f60000100020000 e420000700020000").scsw
    assert scsw.ok
    assert scsw.cpa == 0x11018


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=64, max_size=64), st.sampled_from([F1, F2, F2_2K, CCW0, CCW0_F1]))
def test_no_program_hurts_the_machine(program: bytes, orb: str) -> None:
    """Whatever lies in storage, the subchannel ends with a status or can be cleared."""
    bench = Bench(Echo())
    bench.put(0x13000, "00020ffe 00021000")
    bench.memory.write(PROGRAM, program)
    assert bench.ssch(orb) == 0
    bench.clock.settle()
    assert bench.css.csch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.fctl == 1
    assert bench.start("e420000700020000").scsw.ok
