"""The machine that answers, in the notation of the lab's recorder."""

from __future__ import annotations

import json
from typing import Any

from pyvfio_backends.software.loader import find_machine, load_machine
from pyvfio_fixtures import golden
from replay.seam import Seam
from replay.x86.facts import Keys, flatten
from replay.x86.lab import MEMLOCK, Lab

__all__ = ["FILES", "PowerLab", "flatten", "keys", "load"]

FILES = ("platform", "spapr_tce")
"""The recordings; those about EEH have a replay of their own (``test_golden_ppc64_eeh.py``)."""


class PowerLab(Lab):
    """``lab-ppc64`` behind the seam, with the host's drivers that the recorder had."""

    def __init__(self) -> None:
        spec = load_machine(find_machine("lab-ppc64"))
        spec.memlock = MEMLOCK
        self.seam = Seam(spec)
        self.host = self.seam.host


def load(file: str) -> dict[str, Any]:
    """A recording, without what says which kernel answered."""
    document: dict[str, Any] = json.loads(golden(f"ppc64/lab/{file}.json").read_text(encoding="utf-8"))
    document.pop("_kernel")
    return document


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and value.keys() != {"errno"}


def keys(file: str) -> Keys:
    """The questions: the keys of its tables, None where an answer stands."""

    def strip(value: Any) -> Keys | None:
        return {key: strip(inner) for key, inner in value.items()} if _is_table(value) else None

    return strip(load(file)) or {}
