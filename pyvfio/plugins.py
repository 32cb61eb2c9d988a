"""Entry points of installed packages, found without `importlib.metadata`.

Importing `importlib.metadata` costs about 25 ms, a sixth of what ``pyvfio list`` may take, and all that is wanted is a
few lines of ``entry_points.txt``.  Where a name is not found in this way (a package in a zip file, an import hook),
`importlib.metadata` is asked.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__all__ = ["load", "load_all", "names"]


def _read(group: str) -> dict[str, str]:
    """name -> ``module:attribute`` in every ``*.dist-info/entry_points.txt`` on the path; the first one wins."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            continue
        for entry in sorted(entries):
            if entry.endswith(".dist-info"):
                for name, value in _section(os.path.join(folder, entry, "entry_points.txt"), group):
                    found.setdefault(name, value)
    return found


def _section(path: str, group: str) -> list[tuple[str, str]]:
    """The lines ``name = value`` of one section; nothing when there is no such file."""
    pairs: list[tuple[str, str]] = []
    inside = False
    try:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                text = line.strip()
                if text.startswith("["):
                    inside = text == f"[{group}]"
                elif inside and "=" in text and not text.startswith(("#", ";")):
                    name, _, value = text.partition("=")
                    pairs.append((name.strip(), value.split("[")[0].strip()))
    except (OSError, UnicodeDecodeError):
        return []
    return pairs


def _by_metadata(group: str) -> dict[str, str]:
    from importlib.metadata import entry_points  # slow to import, see above

    return {point.name: point.value for point in entry_points(group=group)}


def names(group: str) -> list[str]:
    """The names of all entry points of a group, sorted."""
    return sorted(_by_metadata(group))


def load(group: str, name: str) -> Any:
    """Import what an entry point names.  Raise `KeyError` when no installed package has it."""
    value = _read(group).get(name) or _by_metadata(group)[name]
    module, _, attribute = value.partition(":")
    loaded: Any = importlib.import_module(module)
    for part in attribute.split(".") if attribute else ():
        loaded = getattr(loaded, part)
    return loaded


def load_all(group: str) -> list[Any]:
    """Import everything that a group names, in the order of the names."""
    found = _read(group) or _by_metadata(group)
    return [load(group, name) for name in sorted(found)]
