"""The checker, rule by rule: what breaks it, where, and what the channel would answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pyvfio.css import Ccw, CcwFlag, Image, Limits, Midaw, MidawFlag, Orb, Presented, Rule, Violation, check

AT = 0x11000
LIST = 0x12000
DATA = 0x20000
CC, CD, IDA, MIDA, SLI = CcwFlag.CC, CcwFlag.CD, CcwFlag.IDA, CcwFlag.MIDA, CcwFlag.SLI
SUSPEND = CcwFlag.SUSPEND
PLAIN = Orb(cpa=AT)
TIC_BACK = Ccw(0x08, cda=AT)


def storage(*ccws: Ccw, words: bytes = b"") -> Image:
    image = Image([(AT, b"".join(ccw.to_bytes() for ccw in ccws)), (LIST, words)])
    image.room(DATA, 0x4000)
    return image


def idaws(*words: int, size: int = 4) -> bytes:
    return b"".join(word.to_bytes(size, "big") for word in words)


def midaws(*words: Midaw) -> bytes:
    return b"".join(word.to_bytes() for word in words)


READ = Ccw(0x02, SLI, 16, DATA)
READ_ON = replace(READ, flags=SLI | CC)


@pytest.mark.parametrize(
    ("ccws", "rule", "index"),
    [
        ([Ccw(0x00, SLI, 16, DATA)], Rule.COMMAND_CODE, 0),
        ([READ_ON, Ccw(0x18, SLI, 16, DATA)], Rule.COMMAND_CODE, 1),
        ([Ccw(0x02, CD, 0, DATA), READ], Rule.COUNT, 0),
        ([Ccw(0x02, CD, 16, DATA), Ccw(0x02, SLI, 0, DATA)], Rule.COUNT, 1),
        ([Ccw(0x08, cda=AT + 8), READ], Rule.TIC_FIRST, 0),
        ([READ_ON, Ccw(0x08, cda=AT + 16), Ccw(0x08, cda=AT)], Rule.TIC_TO_TIC, 2),
        ([READ_ON, Ccw(0x08, cda=AT + 12)], Rule.TIC_BOUNDARY, 1),
        ([READ_ON, Ccw(0x08, cda=0x80000000)], Rule.TIC_ADDRESS, 1),
        ([READ_ON, Ccw(0x08, SLI, 0, AT)], Rule.TIC_RESERVED, 1),
        ([READ_ON, Ccw(0x08, count=1, cda=AT)], Rule.TIC_RESERVED, 1),
        ([READ_ON], Rule.CCW_STORAGE, 1),
        ([READ_ON, Ccw(0x08, cda=0x50000)], Rule.CCW_STORAGE, 1),
        ([replace(READ, flags=SUSPEND)], Rule.SUSPEND_CONTROL, 0),
        ([Ccw(0x02, CD, 16, DATA), replace(READ, flags=SUSPEND)], Rule.SUSPEND_CHAINED_DATA, 1),
        ([Ccw(0x02, SLI, 16, 0x80000000 | DATA)], Rule.DATA_ADDRESS, 0),
        ([Ccw(0x02, SLI, 16, 0x7FFFFFF8)], Rule.DATA_ADDRESS, 0),
        ([Ccw(0x02, SLI, 16, DATA - 1)], Rule.DATA_STORAGE, 0),
        ([Ccw(0x01, CcwFlag.SKIP, 16, DATA - 1)], Rule.DATA_STORAGE, 0),
        ([Ccw(0x0C, SLI, 16, DATA + 14)], Rule.DATA_STORAGE, 0),
        ([replace(READ, flags=MIDA, cda=LIST)], Rule.MIDA_CONTROL, 0),
    ],
)
def test_a_rule_of_format_1(ccws: list[Ccw], rule: Rule, index: int) -> None:
    found = check(PLAIN, storage(*ccws))
    assert (found[0].rule, found[0].index, found[0].presented) == (rule, index, Presented.PROGRAM_CHECK)
    assert str(found[0]).startswith(f"CCW {index} at {found[0].address:#x}: {rule}: ")


@pytest.mark.parametrize(
    ("ccws", "rule"),
    [
        ([Ccw(0x02, SLI, 0, DATA, 0)], Rule.COUNT),
        ([Ccw(0x10, SLI, 1, DATA, 0)], Rule.COMMAND_CODE),
        ([Ccw(0x18, cda=AT + 8, fmt=0)], Rule.TIC_FIRST),
        ([Ccw(0x02, SLI, 0x100, 0xFFFF80, 0)], Rule.DATA_ADDRESS),
    ],
)
def test_a_rule_of_format_0(ccws: list[Ccw], rule: Rule) -> None:
    assert check(replace(PLAIN, fmt=0), storage(*ccws))[0].rule == rule


def test_the_end_of_the_addresses() -> None:
    top = (1 << 24) - 8
    image = Image([(top, Ccw(0x03, CC, 1, 0, 0).to_bytes())])
    (found,) = check(Orb(fmt=0, cpa=top), image)
    assert (found.rule, found.address) == (Rule.CCW_ADDRESS, 1 << 24)


@pytest.mark.parametrize(
    ("orb", "ccw", "words", "rule"),
    [
        (PLAIN, Ccw(0x02, IDA, 16, LIST + 2), b"", Rule.IDAL_BOUNDARY),
        (replace(PLAIN, c64=True), Ccw(0x02, IDA, 16, LIST + 4), b"", Rule.IDAL_BOUNDARY),
        (PLAIN, Ccw(0x02, IDA, 16, LIST), b"", Rule.IDAL_STORAGE),
        (PLAIN, Ccw(0x02, IDA, 16, LIST), idaws(DATA + 0x7F8), Rule.IDAL_STORAGE),
        (PLAIN, Ccw(0x02, IDA, 16, LIST), idaws(DATA + 0x7F8, DATA + 0x801), Rule.IDAW_BOUNDARY),
        (PLAIN, Ccw(0x0C, IDA, 16, LIST), idaws(DATA + 0x807, DATA), Rule.IDAW_BOUNDARY),
        (PLAIN, Ccw(0x02, IDA, 16, LIST), idaws(0x80000000 | DATA), Rule.IDAW_ADDRESS),
        (PLAIN, Ccw(0x02, IDA, 16, LIST), idaws(0x50000), Rule.DATA_STORAGE),
        (replace(PLAIN, c64=True), Ccw(0x02, IDA, 16, LIST), idaws(1 << 40, size=8), Rule.DATA_STORAGE),
    ],
)
def test_a_rule_of_idaws(orb: Orb, ccw: Ccw, words: bytes, rule: Rule) -> None:
    found = check(orb, storage(ccw, words=words))
    assert found[0].rule == rule
    assert found[0].with_data
    assert "when data get there" in str(found[0])


@pytest.mark.parametrize(
    ("ccw", "words", "rule"),
    [
        (Ccw(0x02, MIDA | IDA, 16, LIST), b"", Rule.MIDA_WITH_IDA),
        (Ccw(0x02, MIDA, 16, LIST + 8), b"", Rule.MIDAL_BOUNDARY),
        (Ccw(0x02, MIDA, 16, LIST), b"", Rule.MIDAL_STORAGE),
        (Ccw(0x02, MIDA, 16, LIST), midaws(Midaw(DATA, 8), Midaw(DATA, 9)), Rule.MIDAL_COUNT),
        (Ccw(0x02, MIDA, 16, LIST), midaws(Midaw(DATA, 8, MidawFlag.LAST)), Rule.MIDAL_COUNT),
        (Ccw(0x02, MIDA, 16, LIST), midaws(Midaw(DATA, 0)), Rule.MIDAW),
        (Ccw(0x02, MIDA, 16, LIST), midaws(Midaw(DATA + 0xFF8, 16)), Rule.MIDAW),
        (Ccw(0x0C, MIDA, 16, LIST), midaws(Midaw(DATA + 7, 16)), Rule.MIDAW),
        (Ccw(0x02, MIDA, 16, LIST), midaws(Midaw(0x50000, 16, MidawFlag.LAST)), Rule.DATA_STORAGE),
        (Ccw(0x02, MIDA, 512, LIST + 0xFF0), bytes(0xFF0) + midaws(Midaw(DATA, 256)), Rule.MIDAL_PAGE),
    ],
)
def test_a_rule_of_midaws(ccw: Ccw, words: bytes, rule: Rule) -> None:
    orb = replace(PLAIN, mida=True)
    assert rule in [one.rule for one in check(orb, storage(ccw, words=words))]
    assert check(orb, storage(ccw, words=words), Limits(mida=False))[0].rule == Rule.MIDA_CONTROL


@pytest.mark.parametrize(("mode", "wrong"), [(0, False), (1, False), (2, True), (3, False)])
def test_the_address_limit(mode: int, wrong: bool) -> None:
    limits = Limits(address_limit=DATA + 8, limit_mode=mode)
    over = Ccw(0x02, SLI, 16, DATA + 8)
    found = check(replace(PLAIN, alcc=True), storage(over), limits)
    assert [one.rule for one in found] == ([Rule.DATA_LIMIT] if wrong else [])
    assert check(PLAIN, storage(over), limits) == []


def test_below_the_address_limit() -> None:
    limits = Limits(address_limit=DATA + 8, limit_mode=1)
    (found,) = check(replace(PLAIN, alcc=True), storage(READ), limits)
    assert "below" in found.words


def test_a_loop_without_a_way_out() -> None:
    (found,) = check(PLAIN, storage(READ_ON, Ccw(0x03, CC, 1), Ccw(0x08, cda=AT)))
    assert (found.index, found.rule, found.presented) == (2, Rule.ENDLESS, Presented.NOTHING)
    assert "goes back to 0x11000" in found.words


def test_a_loop_behind_a_search() -> None:
    search = [Ccw(0x31, CC, 5, DATA), TIC_BACK]
    found = check(PLAIN, storage(*search, READ_ON, Ccw(0x08, cda=AT + 16)))
    assert [(one.rule, one.skipped) for one in found] == [(Rule.ENDLESS, True)]
    assert check(PLAIN, storage(*search, READ_ON, TIC_BACK)) == []


def test_a_ring_of_chained_data_ends_with_the_data() -> None:
    assert check(PLAIN, storage(Ccw(0x02, CD, 16, DATA), TIC_BACK)) == []


def test_too_long_to_be_looked_at() -> None:
    (found,) = check(PLAIN, storage(*[READ_ON] * 4, READ), Limits(ccws=4))
    assert (found.rule, found.index, found.presented) == (Rule.LENGTH, 4, Presented.NOTHING)


def test_all_violations_come_and_in_their_order() -> None:
    ccws = [
        Ccw(0x02, SLI | CC, 16, 0x50000),
        Ccw(0x31, SLI | CC, 5, DATA),
        Ccw(0x08, cda=AT + 8),
        Ccw(0x00, SLI, 1, DATA),
    ]
    found = check(PLAIN, storage(*ccws))
    assert [(one.index, one.rule, one.skipped) for one in found] == [
        (0, Rule.DATA_STORAGE, False),
        (3, Rule.COMMAND_CODE, True),
    ]


@pytest.mark.parametrize(
    "ccws",
    [
        [READ],
        [Ccw(0x03, SLI, 1, 0)],
        [Ccw(0x03, SLI, 0, 0)],
        [Ccw(0x02, SLI | CcwFlag.SKIP, 16, 0x50000)],
        [Ccw(0x0C, SLI, 16, DATA + 15)],
        [Ccw(0x31, SLI | CC, 5, DATA), TIC_BACK, READ],
        [Ccw(0x02, CD, 16, DATA), Ccw(0x08, cda=AT + 16), Ccw(0x00, SLI, 16, DATA)],
        [Ccw(0x03, CD, 1, 0)],
    ],
)
def test_a_program_that_breaks_no_rule(ccws: list[Ccw]) -> None:
    assert check(PLAIN, storage(*ccws)) == []


def test_suspension_with_its_control() -> None:
    assert check(replace(PLAIN, spnd=True), storage(replace(READ, flags=SUSPEND))) == []


def test_a_violation_is_a_value() -> None:
    one = Violation(0, AT, Rule.COUNT, "a count of zero")
    assert one == Violation(0, AT, Rule.COUNT, "a count of zero")
    assert {one} == {one}
