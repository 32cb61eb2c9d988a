"""What is persistent beside what is active, device by device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from pyvfio.devices import MediatedDevice
from pyvfio.errors import NoSuchDevice
from pyvfio.mdev_attributes import attributes_of
from pyvfio.persistence.definition import NO_DRIVER, PersistentDriver, PersistentMdev, Unreadable
from pyvfio.sysfs_device import is_vfio_name

if TYPE_CHECKING:
    from pyvfio.host import Host
    from pyvfio.persistence.definitions import Definitions

__all__ = ["Agreement", "Comparison", "compare"]

_BUSES = ("pci", "css")


class Agreement(StrEnum):
    """How a device's persistent and active settings go together."""

    SAME = "same"
    DIFFERENT = "different"
    INACTIVE = "not active"
    TRANSIENT = "not persistent"
    ABSENT = "absent"
    UNREADABLE = "malformed"
    OFFLINE = "not compared"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line: the device `name` (``BUS/ADDRESS`` or a UUID) of `kind` ``driver``, ``mdev`` or ``file``.

    `persistent` and `active` say in words what each side has (empty: nothing); `note` what people should know.
    """

    kind: str
    name: str
    persistent: str
    active: str
    agreement: Agreement
    note: str = ""

    def as_dict(self) -> dict[str, object]:
        """As plain data."""
        return {
            "kind": self.kind,
            "name": self.name,
            "persistent": self.persistent or None,
            "active": self.active or None,
            "agreement": str(self.agreement),
            "note": self.note,
        }


def compare(definitions: Definitions) -> list[Comparison]:
    """All that is persistent, and what VFIO's drivers and mediated devices are active without being so.

    The definitions of another file system are not compared: it is not this host that they are for.
    """
    known = definitions.all()
    if definitions.root:
        return [_offline(one) for one in known]
    host = definitions.host
    drivers = [one for one in known if isinstance(one, PersistentDriver)]
    mdevs = [one for one in known if isinstance(one, PersistentMdev)]
    rows = [_driver(host, one) for one in drivers]
    rows += _bound(host, {one.name for one in known})
    rows += [_mdev(host, one) for one in mdevs]
    defined = {(one.uuid, one.parent) for one in mdevs}
    for device in host.mdevs():
        if (device.address, device.parent.name) not in defined:
            active = f"{device.type.id} on {device.parent}"
            rows.append(Comparison("mdev", device.name, "", active, Agreement.TRANSIENT))
    return rows + [_unreadable(one) for one in known if isinstance(one, Unreadable)]


def _unreadable(one: Unreadable) -> Comparison:
    return Comparison("file", one.name, one.path, "", Agreement.UNREADABLE, one.why)


def _offline(one: PersistentDriver | PersistentMdev | Unreadable) -> Comparison:
    if isinstance(one, Unreadable):
        return _unreadable(one)
    if isinstance(one, PersistentDriver):
        return Comparison("driver", one.name, one.driver, "", Agreement.OFFLINE)
    return Comparison("mdev", one.name, _words(one), "", Agreement.OFFLINE, _attributes(one))


def _words(one: PersistentMdev) -> str:
    return f"{one.type} on {one.parent}, {one.start}"


def _attributes(one: PersistentMdev) -> str:
    return ", ".join(f"{name}={value}" for name, value in one.attrs)


def _driver(host: Host, one: PersistentDriver) -> Comparison:
    # any bus, also one that this library has no type for: only three files are read
    path = f"/sys/bus/{one.bus}/devices/{one.address}"
    if not host.sysfs.exists(path):
        return Comparison("driver", one.name, one.driver, "", Agreement.ABSENT, "the device is not there")
    driver = host.sysfs.link_name(f"{path}/driver")
    override = host.sysfs.attribute(f"{path}/driver_override")
    override = None if override in (None, "", "(null)") else override
    active = (driver or "no driver") + (f" (override {override})" if override not in (None, driver) else "")
    wanted = None if one.driver == NO_DRIVER else one.driver
    if driver == wanted:
        note = "" if override is not None or wanted is None else "without an override"
        return Comparison("driver", one.name, one.driver, active, Agreement.SAME, note)
    note = "" if wanted is None or host.sysfs.exists(f"/sys/bus/{one.bus}/drivers/{wanted}") else "no such driver now"
    return Comparison("driver", one.name, one.driver, active, Agreement.DIFFERENT, note)


def _bound(host: Host, defined: set[str]) -> Iterator[Comparison]:
    """The devices that a driver of VFIO has and no definition names."""
    for bus in _BUSES:
        for driver in host.sysfs.names(f"/sys/bus/{bus}/drivers"):
            if not is_vfio_name(driver):
                continue
            for name in host.sysfs.names(f"/sys/bus/{bus}/drivers/{driver}"):
                if f"{bus}/{name}" not in defined and host.sysfs.exists(f"/sys/bus/{bus}/devices/{name}"):
                    yield Comparison("driver", f"{bus}/{name}", "", driver, Agreement.TRANSIENT)


def _mdev(host: Host, one: PersistentMdev) -> Comparison:
    device = MediatedDevice(host.sysfs, one.uuid)
    if not device.exists:
        there = host.sysfs.exists(f"/sys/class/mdev_bus/{one.parent}")
        note = "" if there else "its parent is not there, or makes no mediated devices now"
        return Comparison("mdev", one.name, _words(one), "", Agreement.INACTIVE, note)
    try:
        parent, kind = device.parent.name, device.type.id
        differing = _differing(device, one)
    except NoSuchDevice:
        return Comparison("mdev", one.name, _words(one), "", Agreement.INACTIVE, "it is being removed")
    if (parent, kind) != (one.parent, one.type):
        return Comparison("mdev", one.name, _words(one), f"{kind} on {parent}", Agreement.DIFFERENT)
    agreement = Agreement.DIFFERENT if differing else Agreement.SAME
    return Comparison("mdev", one.name, _words(one), f"{kind} on {parent}", agreement, differing)


def _differing(device: MediatedDevice, one: PersistentMdev) -> str:
    """The attributes that can be read and say something else; each is defined once (others are commands)."""
    last = dict(one.attrs)
    now = {each.name: each.value for each in attributes_of(device) if each.value is not None}
    changed = [name for name, value in last.items() if name in now and now[name] != value]
    return "; ".join(f"{name} is {now[name]}, defined as {last[name]}" for name in changed)
