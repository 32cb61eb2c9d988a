"""mdevctl's files: ``/etc/mdevctl.d/PARENT/UUID``, a JSON object each.

::

    {
      "mdev_type": "vfio_ap-passthrough",
      "start": "auto",                        auto | manual
      "attrs": [                              written in this order once the device is made; may be left out
        {"assign_adapter": "5"},
        {"assign_domain": "0xab"}
      ]
    }

One UUID may be defined below several parents; only one of them can be active.  ``scripts.d`` holds mdevctl's call-outs
and is no parent.  Source: mdevctl(8), "Configuration file format"; ``src/mdev.rs`` and ``src/environment.rs`` of
mdevctl (which file names count, what is an error).
"""

from __future__ import annotations

import json
import math
import posixpath

from pyvfio.address import MdevUuid
from pyvfio.errors import BadAddress, Misuse, PyvfioError
from pyvfio.files import HostFiles
from pyvfio.persistence.definition import PersistentMdev, Start, Unreadable, check_attribute, unreadable

__all__ = ["DIRECTORY", "MdevFiles", "check_parent", "mdev_text", "parse_mdev"]

DIRECTORY = "/etc/mdevctl.d"
_SCRIPTS = "scripts.d"
_KNOWN = ("mdev_type", "start", "attrs")


def check_parent(name: str) -> str:
    """Raise `Misuse` for what cannot be the name of a parent device; return it otherwise."""
    if not name or "/" in name or name in (".", "..", _SCRIPTS):
        raise Misuse("read the parent's name", name, cause="it is not the name of a device, as in /sys/class/mdev_bus")
    return name


def _no_constant(text: str) -> float:
    raise ValueError(f"not JSON: {text}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} is too large")
    return number


def parse_mdev(parent: str, uuid: MdevUuid, text: str) -> PersistentMdev:
    """Read the text of a file.  Raise `ValueError` which says what is wrong."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not UTF-8") from None
    try:
        document = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        old = "; it looks like the format of mdevctl before 0.50" if "mdev_type=" in text else ""
        raise ValueError(f"not JSON: {error.msg} at line {error.lineno}, column {error.colno}{old}") from None
    except RecursionError:
        raise ValueError("not JSON: it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("the JSON is not an object")
    kind = document.get("mdev_type")
    if not isinstance(kind, str) or not kind or "/" in kind or kind in (".", ".."):
        raise ValueError("mdev_type is missing" if kind is None else f"mdev_type is {kind!r}, not the name of a type")
    if document.get("start") is None:
        raise ValueError("start is missing")
    start: Start = "auto" if document["start"] == "auto" else "manual"  # mdevctl takes any other word for manual
    unknown = {key: value for key, value in document.items() if key not in _KNOWN}
    return PersistentMdev(uuid, parent, kind, start, _attributes(document.get("attrs")), unknown)


def _attributes(value: object) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError("attrs is not an array")
    found = []
    for number, entry in enumerate(value):
        if not isinstance(entry, dict) or len(entry) != 1:
            raise ValueError(f"attrs[{number}] is not an object with one key")
        ((name, content),) = entry.items()
        if not isinstance(content, str):
            raise ValueError(f"attrs[{number}]: the value of {name} is not a string")
        if why := check_attribute(name):
            raise ValueError(f"attrs[{number}]: {why}")
        found.append((name, content))
    return tuple(found)


def mdev_text(definition: PersistentMdev) -> str:
    """The text of a file: what mdevctl itself writes, byte for byte, then the unknown keys."""
    document = {
        "mdev_type": definition.type,
        "start": definition.start,
        "attrs": [{name: value} for name, value in definition.attrs],
        **definition.unknown,
    }
    text = json.dumps(document, indent=2, ensure_ascii=False)
    lone = any("\ud800" <= character <= "\udfff" for character in text)  # written as \uXXXX, and only so
    return json.dumps(document, indent=2) if lone else text


class MdevFiles:
    """The definitions below ``ROOT/etc/mdevctl.d``; `root` is the top of a file system (empty: the host's own)."""

    def __init__(self, files: HostFiles, root: str = "") -> None:
        self.files = files
        self.directory = f"{root.rstrip('/')}{DIRECTORY}"

    def path(self, parent: str, uuid: MdevUuid) -> str:
        """The file of a definition.  Raise `Misuse` for what is no parent's name."""
        return f"{self.directory}/{check_parent(parent)}/{uuid}"

    def parents(self) -> list[str]:
        """The parents with a directory, by name."""
        return [name for name in self.files.names(self.directory) if name != _SCRIPTS]

    def all(self, parent: str | None = None) -> list[PersistentMdev | Unreadable]:
        """All definitions, or those of one parent, by parent and UUID; what is not named by a UUID is left out."""
        found: list[PersistentMdev | Unreadable] = []
        for name in self.parents() if parent is None else [check_parent(parent)]:
            for entry in self.files.names(f"{self.directory}/{name}"):
                try:
                    uuid = MdevUuid(entry)
                except BadAddress:
                    continue
                if (read := self._read(name, uuid, entry)) is not None:
                    found.append(read)
        return found

    def of(self, uuid: MdevUuid, parent: str | None = None) -> list[PersistentMdev | Unreadable]:
        """The definitions of one UUID: at most one below each parent."""
        return [one for one in self.all(parent) if one.name == str(uuid)]

    def get(self, uuid: MdevUuid, parent: str | None = None) -> PersistentMdev | None:
        """The definition of a UUID, None without one.

        Raise `BadDefinition` when its file is malformed, `Misuse` when several parents have one and none is named.
        """
        found = self.of(uuid, parent)
        if len(found) > 1:
            parents = ", ".join(one.parent if isinstance(one, PersistentMdev) else one.path for one in found)
            raise Misuse(
                "find definition",
                str(uuid),
                path=self.directory,
                cause=f"it is defined more than once: {parents}",
                next_step="name the parent: --parent NAME",
            )
        if found and isinstance(found[0], Unreadable):
            raise found[0].error()
        return found[0] if found and isinstance(found[0], PersistentMdev) else None

    def file_of(self, definition: PersistentMdev) -> str:
        """The file that has a definition: mdevctl reads a name in capitals too."""
        directory = f"{self.directory}/{check_parent(definition.parent)}"
        names = self.files.names(directory)
        return next((f"{directory}/{name}" for name in names if name.lower() == definition.name), self.path(
            definition.parent, definition.uuid
        ))  # fmt: skip

    def _read(self, parent: str, uuid: MdevUuid, entry: str) -> PersistentMdev | Unreadable | None:
        path = posixpath.join(self.directory, parent, entry)
        try:
            text = self.files.read(path)
            return None if text is None else parse_mdev(parent, uuid, text)  # None: removed meanwhile
        except PyvfioError as error:
            return unreadable(str(uuid), path, error)
        except ValueError as error:
            return Unreadable(str(uuid), path, str(error))
