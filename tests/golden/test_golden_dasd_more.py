"""Several hundred more ECKD programs on an emulated 3390: a real kernel's vfio_ccw against the software machine.

`_EXCLUDED` says what is Hercules' own and not a 3990's (see README.md).
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from replay.dasd_more import Line, load_lines, replay

REQUIRED = 0.98
AT_LEAST = 800
_PROGRAM_OR_PROTECTION_CHECK = 0x30
_PROGRAM_AT, _PROGRAM_END = 0x11000, 0x12000
_CHAINED = "Hercules: data of sense-type commands cannot be chained (command reject)"
_LIMIT = "Hercules looks at the image's track length, not at how much a 3390's track holds"
_REFUSED = "Hercules counts the data of a refused order as not taken"
_EXCLUDED = {
    "PERFORM SUBSYSTEM FUNCTION 18 05": _REFUSED,
    "PERFORM SUBSYSTEM FUNCTION short": _REFUSED,
    "RDC in pieces": _CHAINED,
    "RDC in pieces, too long": _CHAINED,
    "RDC in pieces, too short": _CHAINED,
    "RDC in pieces, too short, SLI": _CHAINED,
    "SET SECTOR 224, READ COUNT": "Hercules takes any sector number; a 3390 has 224 of them",
    "SPACE COUNT, READ DATA": "Hercules does not know SPACE COUNT",
    "READ SECTOR after READ": "Hercules always says sector 0",
    "DX (3, 0) to (3, 15)": "Hercules does not check the head of an extent's end",
    "DX, LR 06, WRITE DATA": "Hercules looks at the length of the data before it looks at the operation",
    "format a record of 65535 that is given 100 bytes": _LIMIT,
    "format a record of 56665 that is given 100 bytes": _LIMIT,
    "format more than a track holds": _LIMIT,
    "the whole track 1000.9 (2)": _LIMIT,
}
_LINES = load_lines()


@functools.cache
def _answers() -> dict[str, Line]:
    return replay(_LINES)


def _compared(line: Line) -> dict[str, Any]:
    """What is compared of a line: after a program or protection check there is no residual count, and an address behind
    the program is the kernel's own.
    """
    result = {key: line[key] for key in ("irb", "data", "error") if key in line}
    irb = bytearray.fromhex(result.get("irb", "").ljust(24, "0"))
    if irb[9] & _PROGRAM_OR_PROTECTION_CHECK:
        irb[10:12] = bytes(2)
        if not _PROGRAM_AT <= int.from_bytes(irb[4:8], "big") <= _PROGRAM_END:
            irb[4:8] = bytes(4)
    return result | {"irb": irb.hex()}


def _agree(name: str) -> bool:
    return _compared(_LINES[name]) == _compared(_answers()[name])


@pytest.mark.parametrize("name", _LINES)
def test_program(name: str) -> None:
    reason = _EXCLUDED.get(name)
    if reason is None:
        assert _compared(_answers()[name]) == _compared(_LINES[name])
    elif _agree(name):
        pytest.fail(f"{name} agrees: take it out of the list ({reason})")
    else:
        pytest.skip(reason)


def test_listed_programs_exist() -> None:
    assert [name for name in _EXCLUDED if name not in _LINES] == []


def test_agreement() -> None:
    compared = [name for name in _LINES if name not in _EXCLUDED]
    agreeing = [name for name in compared if _agree(name)]
    assert len(compared) >= AT_LEAST
    assert len(agreeing) >= REQUIRED * len(compared)


def test_a_corrupted_answer_is_found_out() -> None:
    """Another last byte of the IRB or of any data makes a program disagree."""
    missed = []
    for name in _LINES:
        answer = _compared(_answers()[name])
        for key, value in (("irb", answer["irb"]), *answer.get("data", {}).items()):
            wrong = value[:-1] + ("0" if value[-1:] != "0" else "1")
            changed = answer | ({"irb": wrong} if key == "irb" else {"data": answer["data"] | {key: wrong}})
            if _compared(changed) == answer and not int(answer["irb"][18:20], 16) & _PROGRAM_OR_PROTECTION_CHECK:
                missed.append((name, key))
    assert missed == []
