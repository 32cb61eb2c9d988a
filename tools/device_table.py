"""How devices look in a list: a table for each bus, and the same as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from pyvfio.inventory import Entry
from pyvfio.pci.classes import class_name
from pyvfio.pci.names import PciNames

__all__ = ["as_data", "description", "table"]

_SUBCHANNELS = ("I/O subchannel", "chsc subchannel", "message subchannel", "adm subchannel")
_GAP = "  "
_NOTHING = "-"
Getter = Callable[[Any], object]
"""From an entry to what a cell shows; None and an empty text for nothing."""


def _hex(digits: int) -> Callable[[int | None], str | None]:
    return lambda value: None if value is None else f"0x{value:0{digits}x}"


_hex4, _hex6, _hex8 = _hex(4), _hex(6), _hex(8)


def _chpids(entry: Any) -> str:
    return " ".join(f"{chpid:02x}" for chpid in entry.chpids)


def _uses(entry: Entry) -> str:
    return ", ".join(map(str, entry.uses))


_DRIVER: tuple[str, Getter] = ("DRIVER", lambda entry: entry.driver)
_GROUP: tuple[str, Getter] = ("GROUP", lambda entry: entry.group)
_USED: tuple[str, Getter] = ("USED BY", _uses)
_COLUMNS: dict[str, list[tuple[str, Getter]]] = {
    "pci": [
        ("PCI FUNCTION", lambda entry: entry.address),
        ("CLASS", lambda entry: class_name(entry.code)),
        ("ID", lambda entry: f"{entry.vendor:04x}:{entry.device:04x}"),
        _DRIVER,
        _GROUP,
        ("NODE", lambda entry: entry.node),
        ("UID", lambda entry: _hex4(entry.uid)),
        ("FID", lambda entry: _hex8(entry.fid)),
        _USED,
    ],
    "css": [
        ("SUBCHANNEL", lambda entry: entry.address),
        ("TYPE", lambda entry: description(entry).removesuffix(" subchannel")),
        ("DEVICE", lambda entry: entry.device),
        _DRIVER,
        ("CHPIDS", _chpids),
        _USED,
    ],
    "ccw": [
        ("CCW DEVICE", lambda entry: entry.address),
        ("TYPE", lambda entry: entry.devtype),
        ("CU TYPE", lambda entry: entry.cutype),
        _DRIVER,
        ("SUBCHANNEL", lambda entry: entry.subchannel),
        ("CHPIDS", _chpids),
        _USED,
    ],
    "mdev": [
        ("MEDIATED DEVICE", lambda entry: entry.address),
        ("TYPE", lambda entry: entry.type),
        ("PARENT", lambda entry: entry.parent),
        _DRIVER,
        _GROUP,
        _USED,
    ],
}
_NUMBERS = ("GROUP", "NODE")
_ALWAYS = ("DRIVER", "USED BY")


def description(entry: Any) -> str:
    """What a device is, in a few words."""
    if entry.bus == "pci":
        return class_name(entry.code)
    if entry.bus == "ccw":
        return f"{entry.devtype} behind {entry.cutype}" if entry.devtype else str(entry.cutype)
    if entry.bus == "css":
        return _SUBCHANNELS[entry.type] if entry.type < len(_SUBCHANNELS) else f"subchannel of type {entry.type}"
    return str(entry.type)


def _name(names: PciNames) -> Getter:
    def name(entry: Any) -> str:
        vendor, device = names.vendor(entry.vendor), names.device(entry.vendor, entry.device)
        return f"{vendor} {device}" if vendor and device else vendor or ""

    return name


def table(entries: Sequence[Entry], names: PciNames | None = None) -> str:
    """The table of devices of one bus, at least one; `names` adds their names.

    A column in which no device has anything is left out, but for the driver and the use, where that is what people
    look for.  Nothing is cut off: a line is as long as it must be.
    """
    columns = list(_COLUMNS[entries[0].bus])
    if names is not None and entries[0].bus == "pci":
        columns.insert(2, ("NAME", _name(names)))
    heads, padded = [], []
    for heading, getter in columns:
        cells = ["" if value is None else str(value) for value in map(getter, entries)]
        if not any(cells) and heading not in _ALWAYS:
            continue
        cells = [cell or _NOTHING for cell in cells]
        width = max(len(heading), *map(len, cells))
        number = heading in _NUMBERS
        heads.append(heading.rjust(width) if number else heading.ljust(width))
        cells = [cell.rjust(width) if number else cell.ljust(width) for cell in cells]
        padded.append(_styled(heading, cells, entries))
    lines = [line.rstrip() for line in map(_GAP.join, zip(*padded, strict=True))]
    return "\n".join([click.style(_GAP.join(heads).rstrip(), bold=True), *lines])


def _styled(heading: str, cells: list[str], entries: Sequence[Entry]) -> list[str]:
    """Yellow for what would be felt if it were taken away, green for what VFIO has."""
    if heading == "USED BY":
        return [_coloured(cell, "yellow" if entry.in_use else None) for cell, entry in zip(cells, entries, strict=True)]
    if heading == "DRIVER":
        return [
            _coloured(cell, "green" if entry.has_vfio_driver else None)
            for cell, entry in zip(cells, entries, strict=True)
        ]
    return cells


def _coloured(cell: str, colour: str | None) -> str:
    text = cell.rstrip()
    return cell if colour is None else click.style(text, fg=colour) + cell[len(text) :]


# for programs


def as_data(entry: Any, names: PciNames | None = None) -> dict[str, object]:
    """A device as plain data, as ``docs/list.schema.json`` describes it."""
    data: dict[str, object] = {
        "bus": entry.bus,
        "address": entry.address,
        "description": description(entry),
        "driver": entry.driver,
        "group": entry.group,
        "vfio": entry.has_vfio_driver,
        "in_use": entry.in_use,
        "uses": [{"kind": use.kind, "name": use.name, "how": use.how, "active": use.active} for use in entry.uses],
    }
    if entry.bus == "pci":
        data |= {
            "vendor_id": _hex4(entry.vendor),
            "device_id": _hex4(entry.device),
            "class": _hex6(entry.code),
            "node": entry.node,
            "uid": _hex4(entry.uid),
            "fid": _hex8(entry.fid),
            "uid_is_unique": entry.uid_is_unique,
        }
        if names is not None:
            data |= {
                "vendor_name": names.vendor(entry.vendor),
                "device_name": names.device(entry.vendor, entry.device),
            }
    elif entry.bus == "ccw":
        data |= {
            "devtype": entry.devtype or None,
            "cutype": entry.cutype,
            "online": entry.online,
            "subchannel": entry.subchannel,
        }
    elif entry.bus == "css":
        data |= {"type": entry.type, "device": entry.device}
    else:
        data |= {"type": entry.type, "parent": entry.parent}
    if entry.bus in ("ccw", "css"):
        data["chpids"] = [f"{chpid:02x}" for chpid in entry.chpids]
    return data
