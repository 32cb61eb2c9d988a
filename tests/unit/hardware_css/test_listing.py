"""What the disassembler prints says all: random programs are read back from its lines, and every violation is there."""

from __future__ import annotations

import re

from channel_programs import ORIGIN, Case, programs
from css_rig import Memory
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css import Ccw, CcwFlag, check, disassemble, listing
from pyvfio.css.checker import walk
from pyvfio.css.rules import Presented

_COMMAND = re.compile(r"  ([0-9a-f]{2})((?: [A-Z]+)*) count=(\d+) @(0x[0-9a-f]+)$")
_TIC = re.compile(r"TIC  ([0-9a-f]{2}) -> (0x[0-9a-f]+)(?: flags=([0-9a-f]{2}))?$")


def parsed(line: str, fmt: int) -> Ccw:
    """The CCW that a line shows; a TIC's count is not shown, nor are its flags in format 0, as they mean nothing."""
    if tic := _TIC.search(line):
        return Ccw(int(tic[1], 16), CcwFlag(int(tic[3] or "0", 16)), 0, int(tic[2], 16), fmt)
    found = _COMMAND.search(line)
    assert found is not None, line
    flags = CcwFlag(0)
    for name in found[2].split():
        flags |= CcwFlag[name]
    return Ccw(int(found[1], 16), flags, int(found[3]), int(found[4], 16), fmt)


@given(st.binary(min_size=8, max_size=160), st.sampled_from([0, 1]))
def test_any_bytes_are_disassembled_and_can_be_read_back(raw: bytes, fmt: int) -> None:
    lines = disassemble(raw, ORIGIN, fmt)
    for number, line in enumerate(lines):
        piece = raw[8 * number : 8 * number + 8]
        if len(piece) < 8:
            assert line.endswith(piece.hex())
            continue
        ccw = Ccw.from_bytes(piece, fmt)
        again = parsed(line, fmt)
        assert line.startswith(f"{ORIGIN + 8 * number:#x}: ")
        assert (again.cmd, again.cda) == (ccw.cmd, ccw.cda)
        if not ccw.is_tic:
            assert again == ccw


@settings(max_examples=150, deadline=None)
@given(programs())
def test_a_listing_has_every_ccw_that_is_reached_and_every_violation(case: Case) -> None:
    memory = Memory()
    for address, content in case.parts():
        memory.write(address, content)
    text = "\n".join(listing(case.orb, memory))
    reached: dict[int, Ccw] = {}
    for one in walk(case.orb, memory):
        if one.ccw is not None and one.address not in reached:
            reached[one.address] = one.ccw
            assert f"{one.address:#x}" in text
            assert one.ccw.text() in text
    first = {one.address: one for one in check(case.orb, memory)}
    for violation in first.values():
        if violation.presented == Presented.PROGRAM_CHECK and violation.address in reached:
            assert f"!! {violation.rule}" in text
