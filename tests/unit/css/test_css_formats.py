"""The channel formats: what does not fit is refused, whatever fits survives bytes and back, golden blocks decode."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.css import (
    Actl,
    Ccw,
    CcwFlag,
    Ciw,
    Crw,
    Cstat,
    Dstat,
    Fctl,
    Irb,
    Orb,
    Pmcw,
    Program,
    Schib,
    Scsw,
    SenseId,
    Stctl,
    disassemble,
)
from pyvfio.errors import Misuse

SIZES: list[tuple[Any, int]] = [(Ccw, 8), (Orb, 12), (Scsw, 12), (Irb, 96), (Pmcw, 28), (Schib, 52), (Crw, 4)]


@pytest.mark.parametrize(("kind", "size"), SIZES)
@pytest.mark.parametrize("wrong", [-1, 1])
def test_another_length_is_refused(kind: Any, size: int, wrong: int) -> None:
    with pytest.raises(Misuse, match=f"{size} bytes, not {size + wrong}"):
        kind.from_bytes(bytes(size + wrong))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Ccw(0x100),
        lambda: Ccw(2, count=0x10000),
        lambda: Ccw(2, cda=1 << 24, fmt=0),
        lambda: Ccw(2, cda=-1),
        lambda: Ccw.from_bytes(bytes(8), fmt=2),
        lambda: Orb(lpm=0x100).to_bytes(),
        lambda: Orb(key=16).to_bytes(),
        lambda: Scsw(count=1 << 16).to_bytes(),
        lambda: Irb(ecw=b"").to_bytes(),
        lambda: Pmcw(isc=8).to_bytes(),
        lambda: Pmcw(chpid=b"\x01").to_bytes(),
        lambda: Schib(mba=1 << 64).to_bytes(),
        lambda: Crw(rsc=16).to_bytes(),
        lambda: SenseId(0x10000).to_bytes(),
        lambda: SenseId.from_bytes(b"\xff\x39\x90"),
        lambda: SenseId.from_bytes(bytes(7)),
        lambda: Program(0x11004),
    ],
)
def test_what_does_not_fit_is_refused(build: Any) -> None:
    with pytest.raises(Misuse):
        build()


@pytest.mark.parametrize(
    ("orb", "words"),
    [
        (Orb(cpa=0x11004), "doubleword"),
        (Orb(cpa=1 << 31), "too large for format 1"),
        (Orb(cpa=1 << 24, fmt=0), "too large for format 0"),
        (Orb(cpa=8, zero=1), "must be zero"),
        (Orb(cpa=8), ""),
    ],
)
def test_what_an_orb_may_not_say(orb: Orb, words: str) -> None:
    assert words in orb.problem
    assert bool(orb.problem) == bool(words)


@pytest.mark.parametrize(("kind", "size"), SIZES)
def test_every_block_survives_a_round_trip(kind: Any, size: int) -> None:
    @given(st.binary(min_size=size, max_size=size))
    def check(raw: bytes) -> None:
        value = kind.from_bytes(raw)
        assert value.to_bytes() == raw
        assert kind.from_bytes(bytearray(raw)) == value
        assert str(value)

    check()


@given(st.binary(min_size=8, max_size=8))
def test_a_format_0_ccw_loses_only_its_ignored_byte(raw: bytes) -> None:
    ccw = Ccw.from_bytes(raw, fmt=0)
    assert ccw.to_bytes() == raw[:5] + b"\0" + raw[6:]
    assert ccw.is_tic == (raw[0] & 0x0F == 8)
    assert str(ccw)


@given(
    st.builds(
        SenseId,
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFF),
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFF),
        st.lists(st.builds(Ciw, st.integers(0, 15), st.integers(0, 255), st.integers(0, 0xFFFF)), max_size=8).map(
            tuple
        ),
    )
)
def test_sense_id_round_trip(value: SenseId) -> None:
    assert SenseId.from_bytes(value.to_bytes()) == value
    assert SenseId.from_bytes(value.to_bytes().ljust(256, b"\0")) == value


@given(st.binary(max_size=80), st.integers(0, 1 << 24), st.sampled_from([0, 1]))
def test_anything_can_be_disassembled(raw: bytes, address: int, fmt: int) -> None:
    assert len(disassemble(raw, address, fmt)) <= (len(raw) + 7) // 8


def test_scsw_of_a_3390() -> None:
    scsw = Scsw.from_bytes(bytes.fromhex("00c04007001000080c000034"))
    assert (scsw.fmt, scsw.pfch, scsw.cc) == (1, True, 0)
    assert scsw.fctl == Fctl.START
    assert scsw.actl == Actl(0)
    assert scsw.stctl == Stctl.PENDING | Stctl.PRIMARY | Stctl.SECONDARY
    assert (scsw.cpa, scsw.count) == (0x100008, 52)
    assert scsw.dstat == Dstat.CHANNEL_END | Dstat.DEVICE_END
    assert scsw.cstat == Cstat(0)
    assert scsw.ok
    assert scsw.is_solicited


def test_irb_with_concurrent_sense() -> None:
    irb = Irb.from_bytes(
        bytes.fromhex("00c24017001000100e00000000800000" + "01200000" + "00" * 12 + "0008" + "00" * 30 + "00" * 32)
    )
    assert irb.lpum == 0x80
    assert irb.sense == bytes.fromhex("0008").ljust(32, b"\0")
    assert "unit check" in str(irb)
    assert "sense 0008" in str(irb)
    assert Irb().sense == b""


def test_schib_of_a_virtio_disk() -> None:
    schib = Schib.from_bytes(
        bytes.fromhex(
            "0126540018811001800080800000ff80000000000000000000000001038000000208a7f80c000000000000000000000000000000"
        )
    )
    pmcw = schib.pmcw
    assert (pmcw.intparm, pmcw.isc, pmcw.ena, pmcw.dnv, pmcw.devno) == (0x01265400, 3, True, True, 0x1001)
    assert (pmcw.lpm, pmcw.lpum, pmcw.pim, pmcw.pom, pmcw.pam, pmcw.csense) == (0x80, 0x80, 0x80, 0xFF, 0x80, True)
    assert "device 1001 enabled" in str(schib)


def test_sense_id_of_a_3390() -> None:
    value = SenseId.from_bytes(bytes.fromhex("ff3990c23390020040fa0100"))
    assert str(value) == "3390/02 (3990/c2)"
    assert value.ciws == (Ciw(0, 0xFA, 0x100),)


def test_a_program_as_an_engineer_writes_it() -> None:
    program = Program(0x100000)
    program.add(0x07, CcwFlag.CC, 6, 0x101000).add(0x31, CcwFlag(0), 5, 0x101008).tic(0x100008)
    program.add(0x06, CcwFlag.SLI, 80, 0x102000)
    assert len(program) == 4
    assert program.next_address == 0x100020
    assert str(program).splitlines() == [
        "0x100000: SEEK  07 CC count=6 @0x101000",
        "0x100008: SEARCH ID EQ  31 CC count=5 @0x101008",
        "0x100010: TIC  08 -> 0x100008",
        "0x100018: READ DATA  06 SLI count=80 @0x102000",
    ]
    assert program.orb().to_bytes().hex() == "0000000000c2ff0000100000"


def test_a_crw_in_its_region() -> None:
    assert Crw(rsc=4, erc=6, rsid=0x44).to_region().hex() == "0406004400000000"
