"""Definitions: what a host shall be after every boot, as the files of driverctl and mdevctl say it.

=====================  ======================================  =============================================
value                  file                                    says
=====================  ======================================  =============================================
`PersistentDriver`     ``/etc/driverctl.d/BUS-ADDRESS``        which driver a device gets
`PersistentMdev`       ``/etc/mdevctl.d/PARENT/UUID``          a mediated device of a parent, its attributes
`Unreadable`           either                                  nothing: the file is malformed
=====================  ======================================  =============================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pyvfio.address import MdevUuid
from pyvfio.errors import Misuse, PyvfioError

__all__ = [
    "NO_DRIVER",
    "BadDefinition",
    "Definition",
    "PersistentDriver",
    "PersistentMdev",
    "Start",
    "Unreadable",
    "check_attribute",
    "check_driver",
    "pairs_of",
    "unreadable",
]

Start = Literal["auto", "manual"]
"""Whether a mediated device is made as soon as its parent is there."""

NO_DRIVER = "none"
"""The driver that driverctl writes for a device which no driver shall take."""


class BadDefinition(PyvfioError):
    """A file with a definition cannot be read; `path` names it and the cause says why."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class PersistentDriver:
    """The device `address` on `bus` (as sysfs spells it) gets `driver` (``none``: no driver at all)."""

    bus: str
    address: str
    driver: str

    @property
    def name(self) -> str:
        """``BUS/ADDRESS``, which driverctl and `pyvfio apply` take too."""
        return f"{self.bus}/{self.address}"

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {"kind": "driver", "bus": self.bus, "address": self.address, "driver": self.driver}


@dataclass(frozen=True, slots=True)
class PersistentMdev:
    """The mediated device `uuid` of `type` on `parent`, with what is written to its attributes, in this order.

    An attribute may occur more than once (``assign_adapter``).  `unknown` are the keys of the file that this library
    does not know; they are kept when the definition is changed.
    """

    uuid: MdevUuid
    parent: str
    type: str
    start: Start = "manual"
    attrs: tuple[tuple[str, str], ...] = ()
    unknown: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def name(self) -> str:
        """The UUID."""
        return str(self.uuid)

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "kind": "mdev",
            "uuid": str(self.uuid),
            "parent": self.parent,
            "type": self.type,
            "start": self.start,
            "attributes": [{name: value} for name, value in self.attrs],
            "unknown": dict(self.unknown),
        }


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that ought to be the definition of `name`, and why it is none."""

    name: str
    path: str
    why: str

    def error(self) -> BadDefinition:
        """The same as an error to raise."""
        return BadDefinition(
            "read definition", self.name, path=self.path, cause=self.why, next_step="correct the file, or remove it"
        )

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {"kind": "unreadable", "name": self.name, "path": self.path, "why": self.why}


def unreadable(name: str, path: str, error: PyvfioError) -> Unreadable:
    """What stands for a file that could not be read at all."""
    return Unreadable(name, path, f"it cannot be read: {error.errno_name or error.operation}")


Definition = PersistentDriver | PersistentMdev


def check_driver(name: str) -> str:
    """Why `name` cannot be a driver's name; an empty string when it can."""
    if not name:
        return "the file is empty: driverctl takes that for no definition"
    if len(name.split()) != 1:
        return "more than one word where the name of one driver is expected"
    if "/" in name or name in (".", ".."):
        return f"{name!r} is not the name of a driver, as in /sys/bus/pci/drivers"
    return ""


def check_attribute(name: str) -> str:
    """Why `name` cannot be an attribute of a mediated device; an empty string when it can.

    Some drivers keep theirs in a directory (``nvidia/vgpu_params``); none is outside the device's own.
    """
    parts = name.split("/")
    if not name or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        return f"{name!r} does not name an attribute below the device's directory"
    return ""


def pairs_of(pairs: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The pairs of ``NAME=VALUE`` texts.  Raise `Misuse` for what is none."""
    found = []
    for text in pairs:
        name, equals, value = text.partition("=")
        why = check_attribute(name) if equals else f"{text!r} is not of the form NAME=VALUE"
        if why:
            raise Misuse("read attribute", text, cause=why, next_step="write it as in assign_adapter=5")
        found.append((name, value))
    return tuple(found)
