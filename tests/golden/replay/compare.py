"""Compare an answer with a recorded result, after rules that say what may differ and why."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .facts import Fact, Question

__all__ = ["RULES", "Rule", "Verdict", "normalise", "verdict"]

_CC = 3
_ODD_CC_FROM = "SENSE ID, orb.lpm=0x40 (no such path)"
_SETS = {"children", "files", "dev_vfio", "vfio_dev", "nodes", "names", "group_files", "group_devices"}


@dataclass(frozen=True)
class Rule:
    """What is rewritten before comparing: `applies` to a question, `rewrite` of a result; `golden_only`: a device
    oddity is taken out of the recording and the machine must show the architecture's value.  `with_question`, if given,
    is done in place of `rewrite`.
    """

    name: str
    reason: str
    applies: Callable[[Question], bool]
    rewrite: Callable[[Any], Any]
    golden_only: bool = False
    with_question: Callable[[Question, Any], Any] | None = None


@dataclass(frozen=True)
class Verdict:
    """`expected` and `actual` after the rules, and whether they agree."""

    id: str
    agrees: bool
    expected: Any
    actual: Any


def _file(name: str) -> Callable[[Question], bool]:
    return lambda question: question.file == name


def _sort_sets(result: Any) -> Any:
    if not isinstance(result, dict):
        return result
    for key, value in result.items():
        if key in _SETS and isinstance(value, list):
            inner = value[0] if value and isinstance(value[0], list) else value
            inner.sort(key=str)
        elif isinstance(value, dict):
            _sort_sets(value)
    return result


def _drop(*names: str) -> Callable[[Any], Any]:
    def rewrite(result: Any) -> Any:
        if isinstance(result, dict):
            for name in names:
                result.pop(name, None)
        return result

    return rewrite


def _mask(result: dict[str, Any], key: str, at: int, length: int) -> None:
    text = result.get(key)
    if isinstance(text, str) and len(text) >= 2 * (at + length):
        result[key] = text[: 2 * at] + "~" * 2 * length + text[2 * (at + length) :]


def _host_cpa(result: Any) -> Any:
    if isinstance(result, dict) and "irb" in result:
        _mask(result, "irb", 4, 4)
        result.get("scsw", {}).pop("cpa", None)
    return result


_VIRTIO_FILE = "ccw-virtio"
#: NOP, SET_VQ, READ_CONF, VDEV_RESET, SET_VIRTIO_REV.
_COUNTLESS = (0x03, 0x13, 0x22, 0x33, 0x83)
_UNIT_CHECK, _PROGRAM_CHECK = 0x02, 0x20
_CCW_SIZE = 8


def _last_command(question: Question, cpa: int) -> int | None:
    """The command of the last CCW used, if the request has it where the status says; format 1 or 0."""
    for address, content in question.request.get("memory", {}).items():
        at = 2 * (cpa - _CCW_SIZE - int(address, 16))
        if 0 <= at < len(content):
            return int(content[at : at + 2], 16)
    return None


def _stale_count(question: Question, result: Any) -> Any:
    if isinstance(result, dict) and "irb" in result:
        irb = bytes.fromhex(result["irb"].replace("~", "0").ljust(24, "0"))
        if question.what.startswith(("HSCH", "CSCH")):
            _mask(result, "irb", 10, 2)
        checked = irb[8] & _UNIT_CHECK or irb[9] & _PROGRAM_CHECK
        if checked or _last_command(question, int.from_bytes(irb[4:8], "big")) in _COUNTLESS:
            _mask(result, "irb", 10, 2)
    return result


def _odd_esw(result: Any) -> Any:
    """Clear the ESW format bit and put the count of sense bytes where the extended-report word has it."""
    if (
        isinstance(result, dict)
        and "irb" in result
        and result["irb"][1:2] == "4"
        and result["irb"][32:40] == "01002000"
    ):
        irb = result["irb"]
        result["irb"] = irb[0] + "0" + irb[2:32] + "01200000" + irb[40:]
    return result


def _schib(result: Any) -> Any:
    if isinstance(result, dict):
        _mask(result, "value", 0, 4)
        _mask(result, "value", 32, 4)
    return result


def _clear_cc(result: Any) -> Any:
    """Condition code 3 becomes 0 in byte 0 of the IRB's SCSW, or in that of a SCHIB (offset 28)."""
    if isinstance(result, dict):
        for key, at in (("irb", 0), ("value", 28)):
            text = result.get(key)
            if isinstance(text, str) and len(text) > 2 * at + 2:
                byte = int(text[2 * at : 2 * at + 2], 16)
                byte &= ~_CC if byte & _CC == _CC else ~0
                result[key] = f"{text[: 2 * at]}{byte:02x}{text[2 * at + 2 :]}"
        if "scsw" in result and result["scsw"]["cc"] == _CC:
            result["scsw"]["cc"] = 0
    return result


def _race_burst(result: Any) -> Any:
    if not isinstance(result, dict) or "ok" not in result:
        return result
    known = set(result["errors"]) <= {"EBUSY", "EAGAIN"}
    return {"some ok": result["ok"] > 0, "an interrupt each": result["ok"] == result["eventfd"], "known errors": known}


def _race_threads(result: Any) -> Any:
    if not isinstance(result, dict) or "counts" not in result:
        return result
    counts = result["counts"]
    return {"some ok": counts.get("None", 0) > 0, "known errors": set(counts) <= {"EBUSY", "EAGAIN", "None"}}


def _untimed(result: Any) -> Any:
    if isinstance(result, dict):
        for key in ("remover", "unbind"):
            if isinstance(result.get(key), str):
                result[key] = re.sub(r"\), [0-9.]+\)", "), t)", result[key])
    return result


def _soft_limit(result: Any) -> Any:
    return {"value": result["value"][:1]} if isinstance(result, dict) and result.get("value") else result


def _what(*names: str) -> Callable[[Question], bool]:
    return lambda question: question.what in names


class _AfterNoPath:
    """Facts of ccw-blk from the start without a path on: what comes later carries the stuck condition code."""

    def __init__(self) -> None:
        self.later: set[str] | None = None

    def __call__(self, question: Question) -> bool:
        if question.file != "ccw-blk":
            return False
        if self.later is None:
            from .facts import load_facts

            ids = [fact.question for fact in load_facts("ccw-blk")]
            start = next(number for number, one in enumerate(ids) if one.what == _ODD_CC_FROM)
            self.later = {one.id for one in ids[start + 1 :]}
        return question.id in self.later


RULES: tuple[Rule, ...] = (
    Rule("directory order", "the order of names in a directory is the file system's", lambda q: True, _sort_sets),
    Rule("prose", "a note of the recorder, not an answer", lambda q: True, _drop("note")),
    Rule(
        "host cpa",
        "HALT and CLEAR of an idle subchannel show the kernel's own channel program address",
        _what("HSCH when idle", "CSCH when idle"),
        _host_cpa,
    ),
    Rule(
        "kernel addresses in the SCHIB",
        "the interruption parameter and the last program's address are addresses of the kernel",
        _what("pread schib", "schib", "schib after reset"),
        _schib,
    ),
    Rule(
        "stuck condition code",
        "QEMU keeps condition code 3 in all SCSWs after one start without an operational path; expected is 0",
        _AfterNoPath(),
        _clear_cc,
        golden_only=True,
    ),
    Rule(
        "host cpa of halt and clear",
        "as above; CLEAR forgets the channel program",
        lambda q: q.file == _VIRTIO_FILE and q.what in ("HSCH when idle", "CSCH when idle", "CSCH while suspended"),
        _host_cpa,
    ),
    Rule(
        "odd ESW",
        "QEMU sets the ESW format bit and puts the sense count into the wrong byte of the ERW",
        _file(_VIRTIO_FILE),
        _odd_esw,
        golden_only=True,
    ),
    Rule(
        "stale residual count",
        "QEMU leaves the count of an earlier program after checks and after commands that move no data of their own; "
        "it means nothing after halt and clear",
        _file(_VIRTIO_FILE),
        lambda result: result,
        with_question=_stale_count,
    ),
    Rule("racing starts", "how many get EBUSY differs", _what("50 SSCH without waiting"), _race_burst),
    Rule(
        "racing threads", "how many get EBUSY or EAGAIN differs", _what("SSCH from four threads for 2 s"), _race_threads
    ),
    Rule("timing", "how long a call was blocked differs", lambda q: True, _untimed),
    Rule("time to the request", "as above", _what("the request eventfd"), _drop("after_s")),
    Rule(
        "hard limit",
        "the seam answers the soft limit only",
        _what("RLIMIT_MEMLOCK of root"),
        _soft_limit,
    ),
    Rule(
        "field never filled",
        "the recorder left it empty",
        lambda q: q.section == "interrupts" and q.what == "sysfs",
        _drop("msix_control"),
    ),
    Rule(
        "QEMU's monitor",
        "the answers and events of QEMU's own monitor are not the kernel's",
        lambda q: q.what.startswith(("device_add", "device_del")) and q.section.startswith("device_add"),
        _drop("value"),
    ),
    Rule(
        "QEMU's events",
        "as above",
        _what("after device_del", "after close"),
        _drop("qmp_events"),
    ),
)


def normalise(question: Question, result: Any, *, golden: bool) -> Any:
    """Apply the rules to a result (`golden`: a recorded one)."""
    result = copy.deepcopy(result)
    for rule in RULES:
        if rule.applies(question) and (golden or not rule.golden_only):
            result = rule.with_question(question, result) if rule.with_question else rule.rewrite(result)
    return result


def verdict(fact: Fact, answer: Any) -> Verdict:
    """Compare a machine's answer with a recorded one."""
    expected = normalise(fact.question, fact.result, golden=True)
    actual = normalise(fact.question, answer, golden=False)
    # as JSON, where true is not 1
    agrees = json.dumps(expected, sort_keys=True) == json.dumps(actual, sort_keys=True)
    return Verdict(fact.id, agrees, expected, actual)
