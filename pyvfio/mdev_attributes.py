"""The attributes of a mediated device: what its driver offers below its directory, beside what every device has.

Source: ``Documentation/driver-api/vfio-mediated-device.rst`` (a driver adds attribute groups to its mediated devices);
``Documentation/arch/s390/vfio-ap.rst`` (``assign_adapter`` and the like can only be written).
"""

from __future__ import annotations

import stat
from dataclasses import dataclass

from pyvfio.devices import MediatedDevice
from pyvfio.errors import NoSuchDevice, from_oserror
from pyvfio.sysfs import Sysfs

__all__ = ["MdevAttribute", "attribute_of", "attributes_of"]

_COMMON = frozenset(
    (
        "driver",
        "driver_override",
        "iommu_group",
        "iommufd",
        "mdev_type",
        "modalias",
        "power",
        "remove",
        "subsystem",
        "uevent",
        "vfio-dev",
        "waiting_for_supplier",
    )
)
_READ, _WRITE = 0o444, 0o222


@dataclass(frozen=True, slots=True)
class MdevAttribute:
    """One attribute: its `name` (``vgpu_params``, or below a directory ``nvidia/vgpu_params``), the `value` that is
    read from it (None: it cannot be read, or has none), and whether it is `readable` and `writable` by its mode.
    """

    name: str
    value: str | None
    readable: bool
    writable: bool

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {"name": self.name, "value": self.value, "readable": self.readable, "writable": self.writable}


def attributes_of(device: MediatedDevice) -> list[MdevAttribute]:
    """The attributes of a device, by name.  Raise `NoSuchDevice` when it is gone."""
    sysfs, base = device.sysfs, device.path
    found: list[MdevAttribute] = []
    for name in sysfs.names(base):
        if name in _COMMON or sysfs.link(f"{base}/{name}") is not None:
            continue
        below = sysfs.names(f"{base}/{name}") if _is_directory(sysfs, f"{base}/{name}") else None
        for attribute in [name] if below is None else [f"{name}/{one}" for one in below]:
            found += [one] if (one := _attribute(sysfs, base, attribute)) else []
    return found


def attribute_of(device: MediatedDevice, name: str) -> MdevAttribute:
    """The attribute called `name`.  Raise `NoSuchDevice` when the device has none of this name, or is gone."""
    known = {one.name: one for one in attributes_of(device)}
    if name in known:
        return known[name]
    raise NoSuchDevice(
        "find attribute",
        f"{device}: {name}",
        path=f"{device.path}/{name}",
        cause=f"the device has these attributes: {', '.join(known) or 'none'}",
        next_step="the driver of its parent says which attributes a type has",
    )


def _mode(sysfs: Sysfs, path: str) -> int:
    try:
        return sysfs.backend.stat(path).st_mode
    except OSError as error:
        raise from_oserror(error, "look up", path=path) from error


def _is_directory(sysfs: Sysfs, path: str) -> bool:
    return stat.S_ISDIR(_mode(sysfs, path))


def _attribute(sysfs: Sysfs, base: str, name: str) -> MdevAttribute | None:
    mode = _mode(sysfs, f"{base}/{name}")
    if not stat.S_ISREG(mode):
        return None
    readable = bool(mode & _READ)
    value = sysfs.attribute(f"{base}/{name}") if readable else None
    return MdevAttribute(name, value, readable, bool(mode & _WRITE))
