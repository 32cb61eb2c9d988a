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


RULES = (
    Rule("*::get_device_fd", _kind, "the number of a descriptor"),
    Rule("bind_semantics::vfio_devs", _sort, "the order of a directory"),
)


def ruled(name: str, value: Any) -> Any:
    """The part of a fact that is compared."""
    for rule in RULES:
        if fnmatch.fnmatchcase(name, rule.pattern):
            value = rule.keep(value)
    return value
