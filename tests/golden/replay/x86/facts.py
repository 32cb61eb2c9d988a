"""A recording of the x86 lab as facts: one JSON document per subject, tables in tables.

A fact is what stands at one path of the document: a value, a list, an errno (``{"errno": "EINVAL"}``), an empty table.
A replay is given the tables' keys, which are the questions, never a value; nor the keys of a table whose keys are
themselves an answer (`WHOLE`).
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator
from typing import Any, TypeAlias

from pyvfio_fixtures import golden

__all__ = ["FILES", "MISSING", "WHOLE", "Keys", "flatten", "keys", "load", "name_of"]

FILES = (
    *("iommu_groups", "sysfs_topology", "bind_semantics", "group_viability", "regions", "config_virtualisation"),
    *("resets", "sriov", "type1_dma", "iommufd", "edu_end_to_end", "mmap_holds_device", "hotplug", "aer", "mdev"),
)
#: Tables whose keys the kernel chose.
WHOLE = (
    "aer::*::counters::*",
    "sriov::attrs",
    "config_virtualisation::*::differs_at",
    "config_virtualisation::*::writable",
    "iommu_groups::*::acs",
    "iommu_groups::iommu_class",
    "bind_semantics::new_id_bound_at_once",
    "bind_semantics::remove_id_does_not_unbind",
    "group_viability::*::members",
    "group_viability::*::members_before",
    "mdev::*::type_modes",
)
#: Not facts: where the recorder noted that it had asked nothing.
NO_FACTS = (
    "type1_dma::*::map_without_device_open",
    "type1_dma::*::dma_entry_limit",
    "iommufd::unbind_by_closing",
)
#: What stands where there is no answer.
MISSING = {"exception": "no answer"}

Keys: TypeAlias = "dict[str, Keys | None]"


def name_of(path: tuple[str, ...]) -> str:
    """``file::key::key``."""
    return "::".join(path)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and value.keys() not in ({"errno"}, {"exception"})


def flatten(path: tuple[str, ...], value: Any) -> Iterator[tuple[str, Any]]:
    """The facts of a document or of a replay's answers, as (id, value)."""
    if not _is_table(value):
        yield name_of(path), value
        return
    for key, inner in value.items():
        yield from flatten((*path, key), inner)


def load(file: str) -> dict[str, Any]:
    """The recording of a subject, without what says which kernel answered."""
    document: dict[str, Any] = json.loads(golden(f"x86/lab/{file}.json").read_text(encoding="utf-8"))
    document.pop("_kernel")
    return _facts((file,), document)


def _facts(path: tuple[str, ...], table: dict[str, Any]) -> dict[str, Any]:
    """The table without what is no fact."""
    return {
        key: _facts((*path, key), value) if isinstance(value, dict) else value
        for key, value in table.items()
        if not any(fnmatch.fnmatchcase(name_of((*path, key)), pattern) for pattern in NO_FACTS)
    }


def keys(file: str) -> Keys:
    """The questions of a recording: its tables' keys in their order; None where an answer stands."""

    def strip(path: tuple[str, ...], value: Any) -> Keys | None:
        if not _is_table(value) or any(fnmatch.fnmatchcase(name_of(path), pattern) for pattern in WHOLE):
            return None
        return {key: strip((*path, key), inner) for key, inner in value.items()}

    return strip((file,), load(file)) or {}
