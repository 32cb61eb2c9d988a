"""The present state of devices, as the journal keeps it for people beside what the inverses need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pyvfio.address import MdevUuid
from pyvfio.devices import BUSES
from pyvfio.errors import BadAddress
from pyvfio.sysfs import Sysfs

__all__ = ["present_state"]

_ATTRIBUTES = ("driver_override", "online", "sriov_numvfs", "enable")


def present_state(sysfs: Sysfs, objects: Sequence[str]) -> list[tuple[str, str, str]]:
    """(device, what, value) of the `objects` that are devices: driver, override, online, numvfs, enable and mdevs.

    A device is named with its bus (``css 0.0.0005``).  Raise the class of a failing read.
    """
    return [fact for name in objects if "/" not in name for bus in BUSES for fact in _state(sysfs, bus, name)]


def _state(sysfs: Sysfs, bus: str, name: str) -> Iterator[tuple[str, str, str]]:
    path = f"/sys/bus/{bus}/devices/{name}"
    if not sysfs.exists(path):
        return
    device = f"{bus} {name}"
    yield device, "driver", sysfs.link_name(f"{path}/driver") or "none"
    for attribute in _ATTRIBUTES:
        value = sysfs.attribute(f"{path}/{attribute}")
        if value is not None:
            yield device, attribute, value
    for below in sysfs.names(path):
        if _is_uuid(below):
            yield device, "mdev", below


def _is_uuid(name: str) -> bool:
    try:
        MdevUuid.parse(name)
    except BadAddress:
        return False
    return True
