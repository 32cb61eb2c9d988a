"""SID, IDAL, MIDAW, ESW, SEI and CRW pairs: what does not fit, round trips, what an engineer reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.address import SubchannelId
from pyvfio.css import (
    Configure,
    Crw,
    Erw,
    Esw,
    EventContent,
    Idal,
    Irb,
    LogoutFlag,
    Midaw,
    MidawFlag,
    Orb,
    PathConfiguration,
    Scsw,
    Sei,
    Sid,
    Stctl,
    midal_over,
)
from pyvfio.errors import Misuse

SUBCHANNELS = st.builds(SubchannelId, st.integers(0, 255), st.integers(0, 3), st.integers(0, 0xFFFF))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Sid(ssid=4).to_bytes(),
        lambda: Sid.from_bytes(bytes(3)),
        lambda: Idal((0,), fmt=3),
        lambda: Idal((0,), fmt=1, block=4 * 1024),
        lambda: Idal((1 << 32,), fmt=1, block=2048),
        lambda: Idal.from_bytes(bytes(7)),
        lambda: Midaw(0, 0x10000).to_bytes(),
        lambda: Esw(fvf=32, fmt=0).to_bytes(),
        lambda: Erw(scnt=64).to_word(),
        lambda: Sei.from_bytes(bytes(19)),
        lambda: Sei(0x100).to_bytes(),
        lambda: Sei(1, reserved=b"").to_bytes(),
        lambda: PathConfiguration.from_bytes(bytes(33)),
        lambda: PathConfiguration((256,), 0).to_bytes(),
    ],
)
def test_what_does_not_fit_is_refused(build: Any) -> None:
    with pytest.raises(Misuse):
        build()


@given(st.binary(min_size=4, max_size=4))
def test_sid_round_trip(raw: bytes) -> None:
    sid = Sid.from_bytes(raw)
    assert sid.to_bytes() == raw
    assert str(sid)


@given(SUBCHANNELS)
def test_every_subchannel_of_every_image_has_a_sid(schid: SubchannelId) -> None:
    sid = Sid.of(schid)
    assert sid.problem == ""
    assert sid.schid == schid
    assert Sid.from_bytes(sid.to_bytes()) == sid
    assert sid.is_virtual == (schid.cssid in (0xFD, 0xFE))


@pytest.mark.parametrize(
    ("word", "problem"), [("00000005", "bit 15"), ("00110005", "bits 8 to 11"), ("fe010005", "m bit off")]
)
def test_a_sid_that_is_not_valid(word: str, problem: str) -> None:
    sid = Sid.from_bytes(bytes.fromhex(word))
    assert problem in sid.problem
    assert "not valid" in str(sid)


@given(st.integers(0, (1 << 31) - 0x20000), st.integers(1, 0xFFFF), st.sampled_from([(1, 2048), (2, 2048), (2, 4096)]))
def test_an_idal_covers_its_bytes(address: int, count: int, kind: tuple[int, int]) -> None:
    idal = Idal.over(address, count, *kind)
    assert len(idal.words) == idal.words_for(count)
    assert all(word % idal.block == 0 for word in idal.words[1:])
    at = address
    for start, step in idal.pieces(count):
        assert start == at
        at += step
    assert at == address + count
    assert Idal.from_bytes(idal.to_bytes(), *kind) == idal


def test_an_idal_of_an_orb() -> None:
    assert Idal.for_orb(Orb(), (0,)) == Idal((0,), 1, 2048)
    assert Idal.for_orb(Orb(c64=True, i2k=True), (0,)).block == 2048
    assert Idal((), 2).pieces(5) == []
    assert Idal((), 2).words_for(5) == 0
    assert str(Idal(())) == "IDAL format 2, 4 KiB: empty"


@given(st.binary(min_size=16, max_size=16))
def test_midaw_round_trip(raw: bytes) -> None:
    midaw = Midaw.from_bytes(raw)
    assert midaw.to_bytes() == raw
    assert str(midaw)


@given(st.integers(0, 1 << 40), st.integers(1, 0xFFFF))
def test_a_midal_covers_its_bytes(address: int, count: int) -> None:
    words = midal_over(address, count)
    assert sum(word.count for word in words) == count
    assert [word.problem for word in words] == [""] * len(words)
    assert [bool(word.flags & MidawFlag.LAST) for word in words] == [False] * (len(words) - 1) + [True]


@pytest.mark.parametrize(
    ("midaw", "problem"),
    [
        (Midaw(0, 0), "zero"),
        (Midaw(0, 1, MidawFlag(0x10)), "reserved"),
        (Midaw(0, 1, reserved=1), "reserved"),
        (Midaw(0xFFF, 2), "boundary"),
        (Midaw(0xFFF, 2, MidawFlag.SKIP), ""),
    ],
)
def test_a_midaw_that_is_not_valid(midaw: Midaw, problem: str) -> None:
    assert problem in midaw.problem
    assert bool(problem) == bool(midaw.problem)


@given(st.binary(min_size=20, max_size=20), st.integers(0, 3))
def test_esw_round_trip(raw: bytes, fmt: int) -> None:
    esw = Esw.from_bytes(raw, fmt)
    assert esw.to_bytes() == raw
    assert str(esw)


@given(st.integers(0, (1 << 32) - 1))
def test_erw_round_trip(word: int) -> None:
    assert Erw.from_word(word).to_word() == word


@pytest.mark.parametrize(
    ("scsw", "measured", "fmt"),
    [
        (Scsw(eswf=True), True, 0),
        (Scsw(stctl=Stctl.PRIMARY | Stctl.PENDING), False, 1),
        (Scsw(stctl=Stctl.PRIMARY | Stctl.PENDING), True, 2),
        (Scsw(stctl=Stctl.SECONDARY | Stctl.PENDING), True, 3),
    ],
)
def test_which_format_an_esw_has(scsw: Scsw, measured: bool, fmt: int) -> None:
    assert Esw.format_for(scsw, measured=measured) == fmt


def test_a_logout_as_an_engineer_reads_it() -> None:
    erw = Erw(fsavf=True, scavf=True)
    esw = Esw(0, 0x80, erw, LogoutFlag.IDAW_CHECK, fvf=0x1F, fsa=0x12345678 << 32, sca=0x1000)
    assert esw.failing_address == 0x12345678
    text = str(esw)
    for words in ("format 0 lpum=80", "idaw check", "failing storage 0x12345678", "secondary CCW 0x1000"):
        assert words in text
    assert Irb(Scsw(eswf=True), esw.to_bytes()).status == esw
    assert "connected 256 us" in str(Esw(2, dcti=2))


@given(st.binary(min_size=20, max_size=80))
def test_sei_round_trip(raw: bytes) -> None:
    event = Sei.from_bytes(raw)
    assert event.to_bytes() == raw
    assert str(event)


def test_an_event_of_a_pci_function() -> None:
    event = Sei(1, rs=4, rsid=3, vf=0xC0, nt=2, ccdf=bytes(40) + b"event")
    assert event.function_event == b"event"
    assert (event.chpids, event.link, event.link_class) == ((), None, None)
    assert Sei(1, ccdf=bytes(50)).function_event == b""


@given(st.sets(st.integers(0, 255)), st.integers(0, 255), st.integers(0, 255))
def test_path_configuration_round_trip(chpids: set[int], op: int, pc: int) -> None:
    value = PathConfiguration(tuple(sorted(chpids)), op, pc)
    assert PathConfiguration.from_bytes(value.to_bytes()) == value
    assert str(value)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            Sei(EventContent.RESOURCE_ACCESSIBILITY, 4, 0x42, vf=0x80, fla=0x6100),
            "path 42, link address 6100/ff00",
        ),
        (
            Sei(EventContent.LINK_INCIDENT, 4, 0x42, 0xC0, ccdf=b"\x04"),
            "degraded, events were lost, more is pending",
        ),
        (
            Sei(8, ccdf=PathConfiguration((0x40,), Configure.CONFIGURE).to_bytes()),
            "path configuration: configure paths 40",
        ),
        (Sei(7, ccdf=b"\x80" + bytes(31)), "path availability: channel path 00"),
        (Sei(99), "content 99"),
        (Sei(1, nt=2), "PCI function error"),
    ],
)
def test_an_event_as_an_engineer_reads_it(event: Sei, text: str) -> None:
    assert text in str(event)


@given(SUBCHANNELS)
def test_a_pair_of_crws_names_any_subchannel(schid: SubchannelId) -> None:
    first, second = Crw.for_subchannel(schid, 4)
    assert first.chn
    assert first.subchannel(second) == schid
    assert Crw(rsc=4).subchannel() is None
    assert Crw(rsc=3, rsid=7).subchannel() == SubchannelId(0, 0, 7)
