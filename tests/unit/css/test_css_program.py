"""The builder, the listing and names of commands."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.css import (
    Ccw,
    CcwFlag,
    Image,
    Language,
    Orb,
    Program,
    Rule,
    StorageError,
    command_name,
    disassemble,
    listing,
)
from pyvfio.errors import Misuse

AT, DATA = 0x11000, 0x20000


class Memory:
    iova = DATA
    length = 4096


@pytest.mark.parametrize(
    "build",
    [
        lambda: Program(4),
        lambda: Program().then,
        lambda: Program().sli,
        lambda: Program().data((DATA, 1)),
        lambda: Program().read((DATA, 0x10000)),
        lambda: Program().read((DATA, 1)).by_idaws(AT).then.read((DATA, 1)).by_idaws(AT, fmt=1),
        lambda: Program(fmt=0).read((1 << 24, 1)),
    ],
)
def test_what_cannot_be_built(build: Any) -> None:
    with pytest.raises(Misuse):
        build()


def test_a_program_is_written_as_it_is_said() -> None:
    program = Program(AT).sense_id((DATA, 64)).sli.then.read(Memory()).skip.pci.then.control(0x0B).sli
    assert [(ccw.cmd, ccw.flags, ccw.count) for ccw in program] == [
        (0xE4, CcwFlag.CC | CcwFlag.SLI, 64),
        (0x02, CcwFlag.CC | CcwFlag.SKIP | CcwFlag.PCI, 4096),
        (0x0B, CcwFlag.SLI, 0),
    ]
    assert program.check() == []
    assert program.parts == [(AT, program.to_bytes())]


def test_data_chaining() -> None:
    program = Program(AT).write((DATA, 8)).data((DATA + 64, 8)).then.nop()
    assert [ccw.flags for ccw in program] == [CcwFlag.CD, CcwFlag.CC, CcwFlag(0)]
    assert program.check() == []


def test_a_search_loops_to_itself() -> None:
    program = Program(AT).control(0x07, (DATA, 6)).then.search((DATA + 2, 5)).read((DATA + 64, 80), 0x06)
    assert [ccw.cmd for ccw in program] == [0x07, 0x31, 0x08, 0x06]
    assert program.check() == []
    assert [line.split()[1] for line in listing(program.orb(), program.image())[1:]] == ["SEEK", ">", "TIC", "+"]


def test_suspension() -> None:
    program = Program(AT).nop().then.read((DATA, 8)).suspend
    assert program.orb().spnd
    assert program.check() == []


@pytest.mark.parametrize(("fmt", "block"), [(1, 2048), (2, 2048), (2, 4096)])
def test_idaws(fmt: int, block: int) -> None:
    program = Program(AT).read((DATA + 5, 0x2000)).by_idaws(0x12000, fmt, block)
    assert (program.orb().c64, program.orb().idaw_block) == (fmt == 2, block)
    assert len(program.parts) == 2
    assert program.check() == []
    assert "IDAW 1: " in "\n".join(listing(program.orb(), program.image()))


def test_midaws() -> None:
    program = Program(AT).read((DATA + 5, 0x2000)).by_midaws(0x12000)
    assert program.orb().mida
    assert program.check() == []
    assert "MIDAW 2: MIDAW LAST" in "\n".join(listing(program.orb(), program.image()))


def test_a_listing_shows_what_is_wrong_and_where_it_goes_on() -> None:
    image = Image([(AT, Program(AT).read((DATA, 8)).tic(0x13000).to_bytes())])
    image.put(0x13000, Ccw(0x10, CcwFlag.CC, 1, DATA).to_bytes() + Ccw(0x02, count=1, cda=DATA).to_bytes())
    lines = listing(Orb(cpa=AT), image)
    assert any("!! data-storage" in line for line in lines)
    assert "..." in lines
    assert any("!! command-code" in line for line in lines)
    assert any(line.startswith("0x13000 >") for line in lines)
    assert listing(Orb(cpa=4), image)[1].startswith("!! ")
    assert listing(Orb(cpa=8, tm=True), image)[1].startswith("!! ")
    assert any("(nothing)" in line for line in listing(Orb(cpa=0x30000), image))
    chained = Program(AT).read((DATA, 8)).data((DATA, 8))
    assert any("| " in line and "(data)" in line for line in listing(chained.orb(), chained.image()))


@given(st.binary(min_size=8, max_size=80), st.sampled_from([0, 1]), st.sampled_from(list(Language)))
def test_anything_can_be_listed(raw: bytes, fmt: int, language: Language) -> None:
    image = Image([(AT, raw)])
    assert listing(Orb(fmt=fmt, cpa=AT, mida=True), image, language)
    assert disassemble(raw, AT, fmt, language)


@given(st.integers(0, 255), st.sampled_from(list(Language)))
def test_every_code_has_a_name(code: int, language: Language) -> None:
    assert command_name(code, language)


def test_names_depend_on_the_language() -> None:
    assert command_name(0x05, Language.DISPLAY) == "ERASE/WRITE"
    assert command_name(0x07, Language.of(0x3490)) == "REWIND"
    assert command_name(0x07, Language.of(0x3990)) == "SEEK"
    assert Language.of(0x3274) is Language.DISPLAY
    assert command_name(0xE4, Language.TAPE) == "SENSE ID"


def test_an_image_is_storage() -> None:
    image = Image([(0, b"abcd"), (4, b"efgh"), (2, b"XY")])
    assert image.read(0, 8) == b"abXYefgh"
    image.write(3, b"__")
    assert image.read(0, 8) == b"abX__fgh"
    for call in (lambda: image.read(7, 2), lambda: image.write(7, b"ab")):
        with pytest.raises(StorageError):
            call()
    assert image.read(0, 8) == b"abX__fgh"


def test_a_wrong_program_says_so_before_it_is_started() -> None:
    (found,) = Program(AT).nop().tic(AT + 4).check()
    assert found.rule == Rule.TIC_BOUNDARY
