"""The channel programs that a real vfio_ccw gave to an emulated 3390, given to the engine and the DASD directly.

The recorded volume was writable and had another size, model and serial; the device here is built to match it.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from css_rig import SCHID, Bench

from pyvfio.css import Cstat, Irb, Orb
from pyvfio_backends.software.hardware.devices.dasd import Dasd3390, make_dasd

_LINES = (files("pyvfio_fixtures") / "golden/s390x/dasd-3390.jsonl").read_text().splitlines()
_PROGRAMS = [fact for fact in map(json.loads, _LINES) if fact["what"] == "ccw" and fact["rc"] == 124]

#: Facts that do not apply, each with the reason.
EXCLUDED = {
    "RDC, format-2 IDAL across a page": "the probe's IDAWs are not recorded",
}
_REPLAYED = [fact for fact in _PROGRAMS if fact["name"] not in EXCLUDED]


def _data_address(text: str, fmt: int) -> int:
    return int(text[8:], 16) if fmt else int(text[2:8], 16)


def _replay(bench: Bench, fact: dict[str, Any]) -> tuple[Irb, dict[str, str]]:
    orb = Orb.from_bytes(bytes.fromhex(fact["orb"]))
    if orb.lpm == 0:
        raw = bytearray(orb.to_bytes())
        raw[6] = 0x80  # cp_get_orb() replaces it with the subchannel's mask
        orb = Orb.from_bytes(raw)
    places = [_data_address(ccw, orb.fmt) for ccw in fact["ccws"]]
    bench.put(0x100000, "".join(fact["ccws"]))
    for index, content in fact["data"].items():
        bench.put(places[int(index)], "ee" * (len(content) // 2))
    for index, content in fact["write_data"].items():
        bench.put(places[int(index)], content)
    assert bench.ssch(orb) == 0
    bench.clock.settle()
    irb = bench.irb()
    return irb, {index: bench.data(len(text) // 2, places[int(index)]) for index, text in fact["data"].items()}


@pytest.fixture(scope="module")
def answers() -> list[tuple[Irb, dict[str, str]]]:
    disk = make_dasd(
        volser="LAB001",
        model="3390-1",
        owner="HERCULES",
        control_unit="3990-2",
        serial="HRCZZ000000000001",
        readonly=False,
    )
    disk.chain.position.seek(0, 1)  # where the kernel's driver had read the VTOC
    bench = Bench(disk, chpids=(0x0A, 0, 0, 0, 0, 0, 0, 0))
    bench.memory.add(0x100000, 0x10000)
    return [_replay(bench, fact) for fact in _REPLAYED]


@pytest.mark.parametrize("number", range(len(_REPLAYED)), ids=[fact["name"] for fact in _REPLAYED])
def test_program(number: int, answers: list[tuple[Irb, dict[str, str]]]) -> None:
    fact = _REPLAYED[number]
    irb, stored = answers[number]
    golden = bytearray(bytes.fromhex(fact["irb"]))
    if irb.scsw.cstat & (Cstat.PROGRAM_CHECK | Cstat.PROTECTION_CHECK):
        golden[10:12] = bytes(2)  # the recorded residual count is a left-over of the program before
    if fact["name"] == "RDC, format-0 CCW":
        golden[1] &= 0x7F  # the kernel turns the program into format 1
    assert irb.to_bytes().hex() == golden.hex()
    assert stored == fact["data"]


def test_asynchronous_functions() -> None:
    bench = Bench(Dasd3390())
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().to_bytes()[2:4].hex() == "2001"


def test_schibs() -> None:
    """The recorded SCHIBs, but for the kernel's addresses (interruption parameter and CCW address)."""
    golden = {fact["when"]: fact["schib"] for fact in map(json.loads, _LINES) if fact["what"] == "schib"}
    bench = Bench(Dasd3390(), chpids=(0x0A, 0, 0, 0, 0, 0, 0, 0), devno=0x0A00)

    def same(when: str) -> None:
        ours, theirs = bytearray(bench.schib().to_bytes()), bytearray(bytes.fromhex(golden[when]))
        for block in (ours, theirs):
            block[0:4] = block[32:36] = bytes(4)
        assert ours.hex() == theirs.hex()

    orb = "0000000000c0ff0000011000"
    bench.start("e420000c00020000", orb)
    same("end")
    assert bench.css.csch(SCHID) == 0
    bench.clock.settle()
    bench.irb()
    same("after all")
    bench.put(0x11000, "0360000100020000 0362000100020000")
    bench.ssch("0000000008c0ff0000011000")
    bench.clock.settle()
    bench.irb()
    same("suspended")
    bench.css.csch(SCHID)
    bench.clock.settle()
    bench.irb()
    bench.put(0x11000, "0360000000020000 0800000000011000")
    bench.ssch(orb)
    bench.clock.settle()
    same("while it runs")
