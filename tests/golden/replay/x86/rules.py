"""What may differ from run to run, each with its reason; everything else is compared as it stands."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["RULES", "Rule", "ruled"]


class Rule(NamedTuple):
    """For facts whose id matches `pattern`, `keep` gives what is compared."""

    pattern: str
    keep: Callable[[Any], Any]
    reason: str


def _sort(value: Any) -> Any:
    """A list without its order; other values as they are."""
    return sorted(value, key=str) if isinstance(value, list) else value


def _kind(value: Any) -> Any:
    """Only that it is a number."""
    return "a number" if type(value) is int else value


def _seconds(value: Any) -> Any:
    """Only that it is a time."""
    return "a time" if type(value) in (int, float) else value


def _two(value: Any) -> Any:
    """A list without its third entry, the kernel's messages."""
    return value[:2] if isinstance(value, list) else value


def _events(value: Any) -> Any:
    """Events without their numbers, and without the numbers of character devices, which other drivers take too."""
    if not isinstance(value, list):
        return value
    return [
        {key: text for key, text in one.items() if key not in ("SEQNUM", "MAJOR")} if isinstance(one, dict) else one
        for one in value
    ]


def _rounded(value: Any) -> Any:
    """Times as whole seconds."""
    return [[round(at), count] for at, count in value] if isinstance(value, list) else value


RULES = (
    Rule("hotplug::*_s", _seconds, "how long it takes depends on the host that runs the emulator"),
    Rule("hotplug::*_uevents", _events, "how many events came before, and who else takes numbers"),
    Rule("mdev::*_uevents", _events, "how many events came before, and who else takes numbers"),
    Rule("hotplug::req_eventfd_fired", _rounded, "tenths of a second depend on the host that runs the emulator"),
    Rule(
        "group_viability::*::bind_*_while_group_owned",
        _two,
        "the kernel's messages, most of which the machine does not write",
    ),
    Rule("*::get_device_fd", _kind, "the number of a descriptor"),
    Rule("resets::*_s", _seconds, "how long a reset takes is the device's own"),
    Rule("type1_dma::memlock::as_user_open_container", _kind, "the number of a descriptor"),
    Rule("sriov::pf_open_*", _kind, "the number of a descriptor"),
    Rule("sriov::vf_open_right_token", _kind, "the number of a descriptor"),
    Rule("iommufd::second_open", _kind, "the number of a descriptor"),
    Rule("bind_semantics::vfio_devs", _sort, "the order of a directory"),
)


def ruled(name: str, value: Any) -> Any:
    """The part of a fact that is compared."""
    for rule in RULES:
        if fnmatch.fnmatchcase(name, rule.pattern):
            value = rule.keep(value)
    return value
