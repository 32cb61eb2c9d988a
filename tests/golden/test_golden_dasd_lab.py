"""What a real kernel's vfio_ccw brought from an emulated 3390, against the software machine with the same disk.

`_EXCLUDED` and `_DISAGREEING` are this recording's lists (see README.md).
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
from replay.dasd import DasdReplay, load_dasd_facts

REQUIRED = 0.98
_PROGRAM_OR_PROTECTION_CHECK = 0x30

_ABSENT = "a device that only the recorded guest had"
_HALT = "Hercules: a halted program stays active and the device busy, until CSCH (lab README)"
_EXCLUDED = {
    **{f"dasd-3390::{what}::0.0.{number}{again}": _ABSENT
       for what, numbers in (("subchannel", ("0000", "0002")), ("ccw_device", ("0a01", "0009")))
       for number in numbers for again in ("", " (2)", " (3)")},
    "dasd-3390::write::/sys/bus/ccw/devices/0.0.0a01/online": _ABSENT,
    "dasd-3390::async::HSCH active": _HALT,
    "dasd-3390::schib::after it (2)": _HALT,
    "dasd-3390::ccw::SENSE ID after it (2)": _HALT,
}  # fmt: skip
_DISAGREEING = {
    "dasd-3390::schib::end": "Hercules shows no residual count after TSCH; architecture: it stays until the next start",
}
_FACTS = load_dasd_facts()


@functools.cache
def _replay() -> dict[str, Any]:
    return DasdReplay().answers


def _masked(text: str, *places: slice) -> str:
    for place in places:
        text = text[: place.start] + "~" * (place.stop - place.start) + text[place.stop :]
    return text


def _compared(name: str, result: dict[str, Any], wanted: set[str]) -> dict[str, Any]:
    """A line reduced to what both sides have, without addresses of the kernel and left-over residual counts."""
    line = {key: value for key, value in result.items() if key in wanted}
    if "schib" in line:
        line["schib"] = _masked(line["schib"], slice(0, 8), slice(64, 72))
    if "irb" in line:
        irb = line["irb"]
        if int(irb[18:20], 16) & _PROGRAM_OR_PROTECTION_CHECK:
            irb = _masked(irb, slice(20, 24))
        if "idle" in name:
            irb = _masked(irb, slice(8, 16))
        if "format-0" in name:
            irb = _masked(irb, slice(2, 3))
        line["irb"] = irb
    return line


def _verdict(name: str) -> tuple[Any, Any]:
    golden, answer = _FACTS[name], _replay()[name]
    if answer is None:
        return golden, None
    keys = golden.keys() & answer.keys()
    return _compared(name, golden, keys), _compared(name, answer, keys)


@pytest.mark.parametrize("name", _FACTS)
def test_fact(name: str) -> None:
    golden, answer = _verdict(name)
    reason = _EXCLUDED.get(name) or _DISAGREEING.get(name)
    if reason is None:
        assert answer == golden
    elif answer == golden:
        pytest.fail(f"{name} agrees: take it out of the list ({reason})")
    elif name in _EXCLUDED:
        pytest.skip(reason)
    else:
        pytest.xfail(reason)


def test_listed_facts_exist() -> None:
    assert [name for name in (*_EXCLUDED, *_DISAGREEING) if name not in _FACTS] == []


def test_agreement() -> None:
    compared = [name for name in _FACTS if name not in _EXCLUDED]
    agreeing = [name for name in compared if _verdict(name)[0] == _verdict(name)[1]]
    assert len(agreeing) >= REQUIRED * len(compared)
    programs = [name for name in compared if "::ccw::" in name]
    assert len(programs) >= 68
