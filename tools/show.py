"""``pyvfio show``: all facts of one device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pyvfio.binding import Finding, facts
from pyvfio.binding.inspection import in_use
from pyvfio.binding.probes import Surroundings
from pyvfio.binding.probes.subject import Subject
from pyvfio.devices import ChannelDevice, MediatedDevice, PciFunction, Subchannel
from pyvfio.errors import MalformedAnswer, NotAvailable, PyvfioError
from pyvfio.host import Host
from pyvfio.pci.classes import class_name
from pyvfio.sysfs_device import SysfsDevice
from pyvfio_tools.options import bus_option, device_argument, host_options
from pyvfio_tools.output import print_json, print_pairs

if TYPE_CHECKING:
    from pyvfio.pci.product_data import ProductData
    from pyvfio.vfio.ways import Way

__all__ = ["show"]


def _hex(value: int | None, digits: int = 4) -> str | None:
    return None if value is None else f"0x{value:0{digits}x}"


def _capabilities(device: PciFunction) -> list[str] | None:
    """None where sysfs shows only the first 64 bytes of configuration space, as it does without CAP_SYS_ADMIN."""
    try:
        config = device.config
        return [str(one) for one in (*config.capabilities(), *config.extended_capabilities())]
    except MalformedAnswer:
        return None


def _product(device: PciFunction) -> ProductData | str | None:
    """None where it has none, or this user may not read it; a sentence for what is none."""
    from pyvfio.pci.product_data import ProductData  # few functions have any

    try:
        return ProductData.parse(device.sysfs.read_bytes(f"{device.path}/vpd"), str(device.address))
    except MalformedAnswer as error:
        return f"malformed: {error.cause}"
    except PyvfioError:
        return None


def _numa_node(device: SysfsDevice) -> int | None:
    """None where it is near all memory alike (``-1``), or unknown."""
    node = device.read_number("numa_node")
    return None if node is None or node < 0 else node


def _names(device: SysfsDevice) -> list[str]:
    """What the interfaces, controllers and disks of a device are called."""
    below = Subject(device, Surroundings(device.sysfs)).of("net", "nvme", "block")
    return [one.name for one in below if one.value("DEVTYPE") != "partition"]


def _specific(device: SysfsDevice) -> list[tuple[str, object]]:
    if isinstance(device, PciFunction):
        return [
            ("vendor id", _hex(device.vendor_id)),
            ("device id", _hex(device.device_id)),
            ("subsystem", f"{device.subsystem_vendor:04x}:{device.subsystem_device:04x}"),
            ("class", _hex(device.class_code, 6)),
            ("class name", class_name(device.class_code)),
            ("numa node", _numa_node(device)),
            ("uid", _hex(device.uid)),
            ("fid", _hex(device.fid, 8)),
            ("function handle", _hex(device.fh, 8)),
            ("pchid", _hex(device.pchid)),
            ("function group", _hex(device.pfgid, 2)),
            ("product", _product(device)),
            ("capabilities", _capabilities(device)),
        ]
    if isinstance(device, Subchannel):
        return [
            ("type", device.type),
            ("device number", device.device_number),
            ("paths", f"pim {device.pim:02x} pam {device.pam:02x} pom {device.pom:02x}"),
            ("chpids", " ".join(f"{chpid:02x}" for chpid in device.chpids)),
            ("mediated devices", [str(mdev.address) for mdev in device.mdevs]),
        ]
    if isinstance(device, ChannelDevice):
        return [
            ("control unit", device.cutype),
            ("device type", device.devtype),
            ("online", device.online),
            ("availability", device.availability),
            ("subchannel", device.subchannel.address),
        ]
    if isinstance(device, MediatedDevice):
        return [("type", device.type.id), ("parent", device.parent.address), ("name", device.type.name)]
    return []


@click.command()
@device_argument()
@bus_option
@host_options
def show(host: Host, as_json: bool, device: str, bus: str | None) -> None:
    """Show all facts of one device: what it is, who drives it, what uses it, its group, and who blocks it.

    The ways in are those by which a program can open it, the one that is taken first first, with the reason why another
    one is closed.

    Nothing is changed; disks are looked into for what is on them, as a bind does before it begins.

    \b
    Examples:
      pyvfio show 0011:00:00.0
      pyvfio show 0.0.013f --machine z15-lpar --json
      pyvfio show 0.0.0000 --bus css --machine z15-lpar
    """
    found = host.device(device, bus=bus)
    known = facts(found)
    group = None if known.group is None else known.group.number
    pairs: list[tuple[str, object]] = [
        ("device", found.address),
        ("bus", found.bus),
        ("path", found.path),
        ("driver", known.driver),
        ("override", known.override),
        ("names", _names(found)),
        *_specific(found),
        ("iommu group", group),
        ("vfio node", known.vfio_node),
    ]
    members = [{"address": m.name, "driver": m.driver, "blocks": m.blocks, "reason": m.reason} for m in known.members]
    holders = [str(holder) for holder in known.holders]
    findings = in_use(found)
    entries = _ways_in(found)
    if as_json:
        document: dict[str, object] = {name.replace(" ", "_"): _plain(value) for name, value in pairs}
        print_json(
            {
                **document,
                "ways_in": [way.as_dict() for way in entries],
                "group_members": members,
                "held_by": holders,
                "in_use": [f.as_dict() for f in findings],
            }
        )
        return
    pairs.append(("ways in", "\n".join(map(str, entries)) or None))
    if members:
        lines = [f"{m['address']} driver {m['driver'] or 'none'}: {m['reason']}" for m in members]
        pairs.append(("group members", "\n".join(lines)))
    pairs.append(("held by", "\n".join(holders)))
    pairs.append(("in use", "\n".join(_evidence(findings)) or "nothing was found that uses it"))
    print_pairs((name, _words(name, value)) for name, value in pairs)


def _ways_in(device: SysfsDevice) -> list[Way]:
    """Those of the device itself; of a channel device or a subchannel, those of its mediated device."""
    from pyvfio.vfio.opening import vfio_target  # what opens devices is much, and only `show` asks for it
    from pyvfio.vfio.ways import ways

    try:
        return ways(vfio_target(device))
    except NotAvailable:
        return []


def _evidence(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding, and one for each thing that was seen."""
    lines = []
    for finding in findings:
        lines += [f"{finding.summary} ({finding.probe})", *(f"  {seen}" for seen in finding.evidence)]
    return lines


def _plain(value: object) -> object:
    return value if value is None or isinstance(value, int | bool | list) else str(value)


def _words(name: str, value: object) -> object:
    """For people: what is not there is said where its absence matters."""
    if value is None and name == "capabilities":
        return "unknown (only root may read all of configuration space)"
    if value is None and name in ("driver", "iommu group"):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else value
