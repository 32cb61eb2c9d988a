"""The channel programs that a real vfio_ccw gave to a virtio-blk device, given to the engine directly.

The IOVA of a fact is taken for the absolute address; what the kernel does to the program on its way (path mask 0
replaced by the real one, format 0 turned into format 1, programs copied to aligned places) is named where it matters.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from css_rig import SCHID, Bench

from pyvfio.css import Irb, Orb
from pyvfio_backends.software.hardware.css import VIRTUAL
from pyvfio_backends.software.hardware.devices.virtio_models import virtio_blk

_FACTS = json.loads((files("pyvfio_fixtures") / "golden/s390x/ccw-blk.json").read_text())["facts"]

#: What only the kernel can answer or change: the engine never sees such a program as it stands.
KERNEL = {
    "TIC to an odd address": "the kernel copies the target to an aligned place; on a machine it is a program check",
    "program at an unaligned address": "the kernel copies the program to an aligned place",
    "SENSE ID, orb.intparm and key set": "the kernel puts its own interruption parameter",
    "fctl = start|halt|clear": "the start bit is looked at first; the program is the one before",
}

#: Device answers of QEMU that a machine does not give.
ODD = {
    "SENSE ID, exact count 7": "QEMU: program check unless the count is 256; architecture: incorrect length",
    "SENSE ID, count 4, no SLI (too short)": "the same",
    "SENSE ID, count 64, no SLI (too long)": "the same",
    "SENSE ID, data chained 3+61": "QEMU: program check on every data chain",
    "SENSE ID, data chained 3+61, SLI in both": "the same",
    "SENSE ID, unaligned data, crosses a page": "QEMU begins its buffer anew at each IDAW after the first",
    "IDAL format 2 (c64), 4K idaws, two words": "the same",
    "IDAL format 2, 2K idaws (i2k)": "the same",
    "IDAL format 1 (31 bit)": "the same",
    "TIC first": "QEMU runs it; architecture (and Hercules): program check",
    "invalid command 0x6F": "QEMU: ESW format bit on, sense count in the wrong byte of the ERW, residual count 0",
    "NOP cc 0x6F cc SENSE ID": "the same",
    "SET_VIRTIO_REV 99": "the same, but for the residual count",
    "SET_VIRTIO_REV 1": "the same",
    "SET_VIRTIO_REV 1 after reset": "the same",
    "READ_STATUS": "QEMU stores the status byte over the IDAW",
    "READ_STATUS after reset": "the same",
}

_PROGRAMS = [
    fact
    for fact in _FACTS
    if fact["section"] in ("channel programs", "virtio-ccw commands")
    and isinstance(fact.get("request"), dict)
    and fact["request"].get("orb")
    and fact["request"].get("fctl")
    and fact["result"].get("pwrite") == 124
]


def _replay(bench: Bench, fact: dict[str, Any]) -> tuple[Irb | None, dict[str, str]]:
    """Start the fact's program with its storage as the probe had prepared it."""
    request, result = fact["request"], fact["result"]
    for address in result.get("data", {}):
        bench.put(int(address, 16), "ee" * (len(result["data"][address]) // 2))
    for address, content in request["memory"].items():
        bench.put(int(address, 16), content)
    orb = Orb.from_bytes(bytes.fromhex(request["orb"]))
    if orb.lpm == 0:
        raw = bytearray(orb.to_bytes())
        raw[6] = 0x80  # cp_get_orb() replaces it with the subchannel's mask
        orb = Orb.from_bytes(raw)
    assert bench.ssch(orb) == 0
    bench.clock.settle()
    cc, irb = bench.css.tsch(SCHID)
    if cc:
        bench.css.csch(SCHID)
        bench.clock.settle()
        bench.irb()
        return None, {}
    stored = {at: bench.data(len(text) // 2, int(at, 16)) for at, text in result.get("data", {}).items()}
    if "data_after" in result:
        stored["data_after"] = bench.data(len(result["data_after"]) // 2)
    return irb, stored


@pytest.fixture(scope="module")
def answers() -> dict[int, tuple[Irb | None, dict[str, str]]]:
    """All programs in the order of the probe (they leave state behind), as answered by the engine."""
    bench = Bench(virtio_blk(), VIRTUAL)
    out: dict[int, tuple[Irb | None, dict[str, str]]] = {}
    section = ""
    for number, fact in enumerate(_PROGRAMS):
        if fact["section"] != section:
            section = fact["section"]
            bench.enable(False)  # VFIO_DEVICE_RESET between the sections
            bench.enable()
        if fact["what"] in KERNEL:
            continue
        out[number] = _replay(bench, fact)
    return out


@pytest.mark.parametrize(
    "number", [n for n, fact in enumerate(_PROGRAMS) if fact["what"] not in KERNEL and fact["what"] not in ODD]
)
def test_program(number: int, answers: dict[int, tuple[Irb | None, dict[str, str]]]) -> None:
    fact = _PROGRAMS[number]
    irb, stored = answers[number]
    expected = fact["result"].get("irb")
    if expected is None:
        assert irb is None or fact["result"]["eventfd"]
        return
    assert irb is not None
    golden = bytearray(bytes.fromhex(expected))
    if "no such path" not in fact["what"]:
        golden[0] &= 0xFC  # QEMU keeps condition code 3 in the SCSW for ever after one start without a path
    if fact["what"] == "SENSE ID, format-0 CCW":
        irb_bytes = bytearray(irb.to_bytes())
        irb_bytes[1] |= 0x80  # the kernel turns the program into format 1
        assert bytes(irb_bytes).hex() == golden.hex()
    else:
        assert irb.to_bytes().hex() == golden.hex()
    data = dict(fact["result"].get("data", {}))
    if "data_after" in fact["result"]:
        data["data_after"] = fact["result"]["data_after"]
    assert stored == data


@pytest.mark.parametrize("number", [n for n, fact in enumerate(_PROGRAMS) if fact["what"] in ODD])
def test_the_odd_ones_differ(number: int, answers: dict[int, tuple[Irb | None, dict[str, str]]]) -> None:
    """A fact leaves the list of oddities when the engine agrees with it."""
    fact = _PROGRAMS[number]
    irb, stored = answers[number]
    assert irb is not None
    golden = bytearray(bytes.fromhex(fact["result"]["irb"]))
    golden[0] &= 0xFC
    assert irb.to_bytes() != bytes(golden) or stored != fact["result"].get("data", {})


def test_schibs_and_asynchronous_functions() -> None:
    """The recorded SCHIBs and the IRBs of HSCH and CSCH, but for the kernel's addresses and the kept cc."""
    facts = {(fact["section"], fact["what"]): fact["result"] for fact in _FACTS}
    bench = Bench(virtio_blk(), VIRTUAL)
    program = "e420004000020000", "0000000000c0ff0000011000"

    def same(ours: bytes, text: str, addresses: tuple[int, ...], status: int) -> None:
        left, right = bytearray(ours), bytearray(bytes.fromhex(text))
        right[status] &= 0xFC
        for block in (left, right):
            for address in addresses:
                block[address : address + 4] = bytes(4)
        assert left.hex() == right.hex()

    bench.start(*program)
    same(bench.schib().to_bytes(), facts["region reads and writes", "pread schib"]["value"], (0, 32), 28)
    for what, function in (("HSCH when idle", bench.css.hsch), ("CSCH when idle", bench.css.csch)):
        assert function(SCHID) == 0
        bench.clock.settle()
        same(bench.irb().to_bytes(), facts["halt, clear, busy", what]["irb"], (4,), 0)
    bench.start(*program)
    same(bench.schib().to_bytes(), facts["schib and reset", "schib"]["value"], (0, 32), 28)
    bench.enable(False)
    bench.enable()
    same(bench.schib().to_bytes(), facts["schib and reset", "schib after reset"]["value"], (0, 32), 28)
