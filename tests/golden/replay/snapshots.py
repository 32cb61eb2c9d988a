"""Compare snapshots of the tree: the first one area by area, then what each step changed and its uevents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyvfio_fixtures import golden

from .compare import Verdict
from .facts import load_patterns
from .sysfs import Entry, Step, Tree

__all__ = ["Snapshots", "load_snapshots", "snapshot_verdicts"]

_VIRTIO_CHILD = re.compile(r"/virtio\d+(/|$)")
_MODULE_PATH = re.compile(
    r"/sys/module/.*"
    r"|/sys/bus/pci/drivers/vfio-pci(/(bind|unbind|module|new_id|remove_id|uevent))?"
    r"|/sys/class/vfio(-dev)?"
    r"|/dev/vfio(/vfio)?"
)
_MODULES_STEP = "modules loaded"


@dataclass
class Snapshots:
    """The first tree and the steps of a recording, or of the machine; `unknown` paths were seen too late."""

    first: Tree
    steps: list[Step]
    unknown: set[str] = field(default_factory=set)


def load_snapshots(file: str) -> Snapshots:
    """``fixtures/golden/s390x/sysfs-FILE.json``.

    The machine has its modules from the start, so what a recording got by loading modules counts as there before.
    """
    document = json.loads(golden(f"s390x/sysfs-{file}.json").read_text(encoding="utf-8"))
    snapshots = Snapshots(dict(document["first"]), [])
    for raw in document["steps"]:
        diff = raw["diff"]
        step = Step(raw["step"], diff["gone"], dict(diff["new"]), diff["changed"], raw["uevents"])
        for path in [path for path in step.new if _MODULE_PATH.fullmatch(path)]:
            snapshots.first[path] = step.new.pop(path)
            if path.endswith("/refcnt") and step.name != _MODULES_STEP:
                snapshots.unknown.add(path)  # loaded and used in one step
        snapshots.steps.append(step)
    return snapshots


def area(path: str) -> str:
    """The part of the tree that a path belongs to; below a virtio device, that of its parent."""
    parts = path.split("/")
    if child := _VIRTIO_CHILD.search(path):
        return "/".join(path[: child.start()].split("/")[:5]) + "/virtio*"
    return "/".join(parts[: 4 if parts[1] == "dev" else 5 if parts[2] == "devices" else 4])


def _kept(table: dict[str, Any]) -> dict[str, Any]:
    patterns = load_patterns()
    return {path: entry for path, entry in table.items() if not any(rule.fullmatch(path) for rule, _ in patterns)}


def _by_area(table: dict[str, Any]) -> dict[str, dict[str, Any]]:
    areas: dict[str, dict[str, Any]] = {}
    for path, entry in _kept(table).items():
        areas.setdefault(area(path), {})[path] = entry
    return areas


def _verdicts(prefix: str, expected: dict[str, Any], actual: dict[str, Any]) -> Iterator[Verdict]:
    wanted, found = _by_area(expected), _by_area(actual)
    for name in sorted({*wanted, *found}):
        ours, theirs = wanted.get(name, {}), found.get(name, {})
        differing = [path for path in sorted({*ours, *theirs}) if ours.get(path) != theirs.get(path)]
        yield Verdict(
            f"{prefix}::{name}",
            not differing,
            {path: ours.get(path) for path in differing},
            {path: theirs.get(path) for path in differing},
        )


def _flat(step: Step) -> dict[str, list[Entry | None]]:
    """Path to [before, after]."""
    return {
        **{path: [entry, None] for path, entry in step.gone.items()},
        **{path: [None, entry] for path, entry in step.new.items()},
        **{path: list(pair) for path, pair in step.changed.items()},
    }


def _numbered(events: list[list[str]]) -> list[list[str]]:
    """Events with SEQNUM counted from the step's first one."""
    base: int | None = None
    listing = []
    for lines in events:
        copy = []
        for line in lines:
            key, equals, value = line.partition("=")
            if equals and key == "SEQNUM":
                base = int(value) if base is None else base
                line = f"SEQNUM=+{int(value) - base}"
            copy.append(line)
        listing.append(copy)
    return listing


def snapshot_verdicts(file: str, expected: Snapshots, actual: Snapshots) -> list[Verdict]:
    """One verdict for each area of the first tree, and for each area and the uevents of each step."""
    name = f"sysfs-{file}"

    def known(table: dict[str, Any]) -> dict[str, Any]:
        return {path: entry for path, entry in table.items() if path not in expected.unknown}

    verdicts = list(_verdicts(f"{name}::first", known(expected.first), known(actual.first)))
    for number, step in enumerate(expected.steps):
        mine = actual.steps[number] if number < len(actual.steps) else Step("missing")
        prefix = f"{name}::{number} {step.name}"
        if mine.name != step.name:
            verdicts.append(Verdict(f"{prefix}::name", False, step.name, mine.name))
        verdicts.extend(_verdicts(prefix, known(_flat(step)), known(_flat(mine))))
        if step.name != _MODULES_STEP:
            wanted, found = _numbered(step.uevents), _numbered(mine.uevents)
            verdicts.append(Verdict(f"{prefix}::uevents", wanted == found, wanted, found))
    return verdicts
