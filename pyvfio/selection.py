"""Many devices at once: names, patterns, ranges and filters.

A name is any that `pyvfio.lookup` reads, a shell pattern that is compared with addresses (``0011:00:*``,
``0.0.01[0-3]*``), a range of channel addresses as s390-tools write it (``0.0.1000-0.0.1010``, both ends included), or
several of these with commas between.  Filters keep the devices with one of the given drivers, ids or groups; without
a name they choose among all devices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pyvfio.address import Address, DeviceNumber, SubchannelId
from pyvfio.devices import ChannelDevice, PciFunction, Subchannel, device_at, devices_on
from pyvfio.errors import BadAddress, Misuse, NoSuchDevice
from pyvfio.host import Host
from pyvfio.inventory import Entry
from pyvfio.lookup import addresses_of, group_members
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["NO_DRIVER", "Selection", "named", "nothing_matches", "passes", "select"]

NO_DRIVER = "none"
"""The name that stands for having no driver."""

_CHANNEL = r"(?:(?:0x)?[0-9a-fA-F]{1,2}\.[0-9a-fA-F]\.)?(?:0x)?[0-9a-fA-F]{1,4}"
_RANGE = re.compile(rf"({_CHANNEL})-({_CHANNEL})\Z")
_ID = re.compile(r"(?:0x)?([0-9a-fA-F]{0,4}|\*)([:/])(?:0x)?([0-9a-fA-F]{0,4}|\*)\Z")
_SEARCHED = ("pci", "ccw", "mdev")


@dataclass(frozen=True, slots=True)
class Selection:
    """What was asked for: `names` with the `bus` that they are of (None: as their form says), and the filters.

    `drivers` are names or patterns, or `NO_DRIVER`; `ids` are ``VENDOR:DEVICE`` of PCI or ``TYPE/MODEL`` of a channel
    device or its control unit, hexadecimal, where an empty part or ``*`` is any; `groups` are numbers of IOMMU groups.
    """

    names: tuple[str, ...] = ()
    bus: str | None = None
    drivers: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    groups: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names or self.drivers or self.ids or self.groups)

    def __str__(self) -> str:
        parts = [" ".join(self.names)] if self.names else []
        parts += [f"driver {' or '.join(self.drivers)}"] if self.drivers else []
        parts += [f"id {' or '.join(self.ids)}"] if self.ids else []
        parts += [f"group {' or '.join(map(str, self.groups))}"] if self.groups else []
        return ", ".join(parts)


def select(host: Host, selection: Selection) -> list[SysfsDevice]:
    """The devices of a selection, at least one, in the order they were named, each once.

    Raise `Misuse` for an empty selection or an id that cannot be read, `BadAddress`, `NoSuchDevice` when a name or the
    whole selection matches nothing, `WrongBus`.
    """
    if not selection:
        raise Misuse("select devices", cause="nothing is named", next_step="name a device, or give --driver or --id")
    ids = [_read_id(text) for text in selection.ids]
    chosen = _named(host, selection) if selection.names else _all(host, selection)
    found: dict[str, SysfsDevice] = {}
    for device in chosen:
        if device.link_path not in found and _passes(device, selection, ids):
            found[device.link_path] = device
    if not found:
        used = (
            {device.driver for bus in _SEARCHED for device in devices_on(host.sysfs, bus)} if selection.drivers else ()
        )
        raise _empty(selection, {driver for driver in used if driver})
    return list(found.values())


# by name


def _named(host: Host, selection: Selection) -> Iterator[SysfsDevice]:
    for name in selection.names:
        for address in named(host, name, selection.bus):
            yield host.device(address, bus=selection.bus)


def named(host: Host, name: str, bus: str | None = None) -> Iterator[Address]:
    """The addresses that a name, a pattern, a range or several with commas between stand for, in that order.

    Those of a pattern or a range are there; an address that is written out may not be.  Raise `BadAddress`,
    `NoSuchDevice`.
    """
    for text in (part.strip() for part in name.split(",")):
        span = _RANGE.match(text)
        if span is not None:
            yield from _in_range(host, text, span[1], span[2], bus)
        elif not text.startswith("/") and any(letter in text for letter in "*?["):
            yield from _matching(host, text, bus)
        else:
            yield from addresses_of(host.sysfs, text, bus)


def _in_range(host: Host, text: str, first: str, last: str, bus: str | None) -> list[DeviceNumber | SubchannelId]:
    low, high = DeviceNumber.parse(first), DeviceNumber.parse(last)
    if (low.cssid, low.ssid) != (high.cssid, high.ssid):
        raise BadAddress(text, "a range stays within one channel subsystem and one subchannel set")
    if low > high:
        raise BadAddress(text, f"it begins behind its end; is {last}-{first} meant?")
    inside = [
        address
        for address in _channel_addresses(host, bus)
        if (address.cssid, address.ssid) == (low.cssid, low.ssid) and low.number <= address.number <= high.number
    ]
    if not inside:
        raise NoSuchDevice(
            "find devices", text, cause="no device is in this range", next_step="pyvfio list shows what there is"
        )
    return inside


def _channel_addresses(host: Host, bus: str | None) -> list[DeviceNumber] | list[SubchannelId]:
    """Subchannels, or device numbers: of the registered devices and of those that vfio_ccw has."""
    if bus == "css":
        return [device.address for device in host.subchannels()]
    found = {device.address for device in host.ccw_devices()}
    for name in host.sysfs.names("/sys/bus/css/drivers/vfio_ccw"):
        text = host.sysfs.attribute(f"/sys/bus/css/drivers/vfio_ccw/{name}/dev_busid")
        if text and text[0].isalnum() and text != "none":
            found.add(DeviceNumber.parse(text))
    return sorted(found)


def _matching(host: Host, pattern: str, bus: str | None) -> Iterator[Address]:
    prefix, slash, rest = pattern.partition("/")
    if slash and prefix in ("pci", "css", "ccw", "mdev"):
        pattern, bus = rest, prefix
    lower = pattern.lower()
    any_found = False
    for address in _addresses(host, bus):
        name = str(address)
        # without a domain a PCI pattern is one of domain 0, as an address is
        if fnmatchcase(name, lower) or (name.count(":") == 2 and fnmatchcase(name, f"{0:04x}:{lower}")):
            any_found = True
            yield address
    if not any_found:
        raise NoSuchDevice(
            "find devices",
            pattern,
            cause="no address matches this pattern" + (f" on bus {bus}" if bus else ""),
            next_step="pyvfio list shows what there is; quote the pattern, so that the shell leaves it alone",
        )


def _addresses(host: Host, bus: str | None) -> Iterator[Address]:
    for one in (bus,) if bus else _SEARCHED:
        if one in ("css", "ccw"):
            yield from _channel_addresses(host, one)
        else:
            yield from (device.address for device in devices_on(host.sysfs, one))


# by filter


def _all(host: Host, selection: Selection) -> Iterator[SysfsDevice]:
    """The devices among which the filters choose; a driver or a group names them without a search."""
    sysfs = host.sysfs
    if selection.groups:
        for number in selection.groups:
            for address in group_members(sysfs, number):
                yield host.device(address)
    elif selection.drivers and NO_DRIVER not in selection.drivers:
        for bus in (selection.bus,) if selection.bus else ("pci", "css", "ccw", "mdev"):
            for name in sysfs.names(f"/sys/bus/{bus}/drivers"):
                if any(_is_driver(name, wanted) for wanted in selection.drivers):
                    yield from _driven(host, bus, name)
    else:
        for bus in (selection.bus,) if selection.bus else _SEARCHED:
            yield from devices_on(sysfs, bus)


def _driven(host: Host, bus: str, driver: str) -> list[SysfsDevice]:
    """The devices of a driver, by the links in its directory."""
    folder = f"/sys/bus/{bus}/drivers/{driver}"
    found = []
    for name in host.sysfs.names(folder):
        path = host.sysfs.link(f"{folder}/{name}")
        if path is not None and name != "module":
            try:
                found.append(device_at(host.sysfs, path))
            except (BadAddress, NoSuchDevice):
                continue  # a device of another form
    return sorted(found, key=lambda device: device.address)


def _is_driver(name: str, wanted: str) -> bool:
    # a driver and its module spell the same name with "-" and "_"
    return fnmatchcase(name.replace("-", "_"), wanted.replace("-", "_"))


def passes(entry: Entry, selection: Selection) -> bool:
    """Whether the filters of `selection` keep a device of an inventory.  Raise `Misuse` for an id that is none."""
    ids = [_read_id(text) for text in selection.ids]
    return (
        (not selection.drivers or _has_driver(entry.driver, selection))
        and (not selection.groups or entry.group in selection.groups)
        and (not ids or any(_same(pair, *one) for one in ids for pair in entry.ids))
    )


def _passes(device: SysfsDevice, selection: Selection, ids: list[tuple[str, str, str]]) -> bool:
    if selection.bus is not None and device.bus != selection.bus:
        return False
    if selection.drivers and not _has_driver(device.driver, selection):
        return False
    if selection.groups:
        group = device.group
        if group is None or group.number not in selection.groups:
            return False
    return not ids or any(_same(pair, *one) for one in ids for pair in _ids(device))


def _has_driver(driver: str | None, selection: Selection) -> bool:
    return any(_is_driver(driver or NO_DRIVER, wanted) for wanted in selection.drivers)


def _read_id(text: str) -> tuple[str, str, str]:
    match = _ID.match(text.strip())
    if match is None:
        raise Misuse(
            "read id",
            text,
            cause="an id is written VENDOR:DEVICE (8086:1572), or TYPE/MODEL for a channel device (3390/0c)",
            next_step="an empty part or * stands for any: 8086:*",
        )
    return match[1].lower(), match[2], match[3].lower()


def _ids(device: SysfsDevice) -> list[str]:
    if isinstance(device, PciFunction):
        return [device.uevent().get("PCI_ID", "")]
    channel = device.ccw_device if isinstance(device, Subchannel) else device
    return [channel.devtype, channel.cutype] if isinstance(channel, ChannelDevice) else []


def _same(pair: str, first: str, separator: str, second: str) -> bool:
    left, found, right = pair.partition(separator)
    try:
        return bool(found) and all(
            wanted in ("", "*") or int(wanted, 16) == int(have, 16) for wanted, have in ((first, left), (second, right))
        )
    except ValueError:
        return False  # n/a: a control unit without a device


def nothing_matches(selection: Selection, among: Iterable[Entry]) -> NoSuchDevice:
    """The error for filters that keep none of the devices of an inventory."""
    return _empty(selection, {entry.driver for entry in among if entry.driver})


def _empty(selection: Selection, drivers: set[str]) -> NoSuchDevice:
    cause = f"no device matches: {selection}"
    if selection.bus:
        cause += f" (on bus {selection.bus})"
    if selection.drivers:
        cause += f"; drivers that have devices: {', '.join(sorted(drivers)) or 'none'}"
    return NoSuchDevice("select devices", str(selection), cause=cause, next_step="pyvfio list shows what there is")
