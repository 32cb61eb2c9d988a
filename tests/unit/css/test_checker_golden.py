"""The checker on the programs that a real vfio_ccw gave to an emulated 3390: it reports what the channel refused there.

The recorded channel is Hercules', not QEMU's; `golden/s390x/dasd-3390.jsonl`.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from pyvfio.css import Cstat, Image, Irb, Orb, Presented, check, disassemble

_LINES = (files("pyvfio_fixtures") / "golden/s390x/dasd-3390.jsonl").read_text().splitlines()
_PROGRAMS = [fact for fact in map(json.loads, _LINES) if fact["what"] == "ccw" and fact["rc"] == 124]
AT, DATA = 0x100000, 0x101000
_IDAWS = (0x102FE0, 0x103000)


@pytest.mark.parametrize("fact", _PROGRAMS, ids=[fact["name"] for fact in _PROGRAMS])
def test_program(fact: dict[str, Any]) -> None:
    orb = Orb.from_bytes(bytes.fromhex(fact["orb"]))
    ccws = bytes.fromhex("".join(fact["ccws"]))
    image = Image([(AT, ccws), (DATA, b"".join(word.to_bytes(8, "big") for word in _IDAWS))])
    image.room(AT, 0x20000)
    wrong = [one for one in check(orb, image) if one.presented == Presented.PROGRAM_CHECK]
    scsw = Irb.from_bytes(bytes.fromhex(fact["irb"])).scsw
    assert bool(scsw.cstat & Cstat.PROGRAM_CHECK) == bool(wrong)
    if wrong:
        assert scsw.cpa == wrong[0].address + 8
    assert disassemble(ccws, AT, orb.fmt)
