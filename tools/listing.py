"""``pyvfio list``: the devices that VFIO can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from pyvfio.abi.pci_ids import PCI_BASE_CLASS_BRIDGE
from pyvfio.host import Host
from pyvfio.inventory import Entry, inventory
from pyvfio_tools.device_table import as_data, table
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.selection import filter_options

if TYPE_CHECKING:
    from pyvfio.pci.names import PciNames

__all__ = ["list_"]

BUSES = ("pci", "css", "ccw", "mdev")
_DEFAULT = "pci, ccw and mdev, and the subchannels that VFIO has"
_NOT_UNIQUE = "note: this machine does not check UIDs: UID and PCI domain may differ after the next IPL"
_SORTS: dict[str, Callable[[Any], tuple[bool, Any]]] = {
    # those without a value come last
    "driver": lambda entry: (entry.driver is None, entry.driver or ""),
    "group": lambda entry: (entry.group is None, entry.group or 0),
    "class": lambda entry: (entry.bus != "pci", getattr(entry, "code", 0)),
    "node": lambda entry: (getattr(entry, "node", None) is None, getattr(entry, "node", None) or 0),
    "use": lambda entry: (not entry.in_use, not entry.uses),
}


def _entries(host: Host, names: tuple[str, ...], buses: tuple[str, ...]) -> Iterable[Entry]:
    """All devices of the buses, or those that are named."""
    if not names:
        wanted: dict[str, list[str] | None] = dict.fromkeys(buses or ("pci", "ccw", "mdev"))
        if not buses:
            taken = host.sysfs.names("/sys/bus/css/drivers/vfio_ccw")
            wanted["css"] = sorted(name for name in taken if name.count(".") == 2)
        return inventory(host.sysfs, wanted)
    from pyvfio.devices import ChannelDevice
    from pyvfio.selection import Selection, select

    chosen: dict[str, list[str] | None] = {}
    for device in select(host, Selection(names, buses[0] if len(buses) == 1 else None)):
        if isinstance(device, ChannelDevice) and not device.exists:  # vfio_ccw has it
            device = device.subchannel
        place = chosen.setdefault(device.bus, [])
        if place is not None and (not buses or device.bus in buses):
            place.append(device.name)
    return inventory(host.sysfs, chosen)


def _is_free(entry: Any) -> bool:
    bridge = entry.bus == "pci" and entry.code >> 16 == PCI_BASE_CLASS_BRIDGE
    return not (entry.in_use or entry.has_vfio_driver or bridge)


@click.command("list")
@device_argument("devices", metavar="[DEV...]", nargs=-1)
@click.option(
    "--bus",
    "buses",
    type=click.Choice(BUSES),
    multiple=True,
    help=f"Only this bus; may be given more than once. Default: {_DEFAULT}.",
)
@filter_options
@click.option(
    "--free", is_flag=True, help="Only devices that nothing is seen to use: no bridge, not VFIO's, not in use."
)
@click.option("--sort", type=click.Choice(["address", *_SORTS]), default="address", help="The order. Default: address.")
@click.option("--names", "only_names", is_flag=True, help="Only addresses, one a line, for pyvfio bind - and others.")
@click.option("-v", "--verbose", is_flag=True, help="Also vendor and device names, where the host has pci.ids.")
@host_options
def list_(
    host: Host,
    as_json: bool,
    devices: tuple[str, ...],
    buses: tuple[str, ...],
    drivers: tuple[str, ...],
    ids: tuple[str, ...],
    groups: tuple[int, ...],
    free: bool,
    sort: str,
    only_names: bool,
    verbose: bool,
) -> None:
    """List the devices that VFIO can take: what they are, their drivers, IOMMU groups, and what stands on them.

    USED BY shows what a list can tell cheaply: interfaces (and whether they are up), disks with what is mounted from
    them, online channel devices, VFIO's devices. What an action relies on, pyvfio plan shows.

    \b
    Examples:
      pyvfio list
      pyvfio list --driver nvme --sort group
      pyvfio list '0011:*' 0.0.1000-0.0.1010 --json
      pyvfio list --free --names
      pyvfio list --machine z15-lpar --bus css
    """
    found = list(_entries(host, devices, buses))
    if drivers or ids or groups:
        from pyvfio.selection import Selection, nothing_matches, passes

        selection = Selection((), None, drivers, ids, groups)
        kept = [entry for entry in found if passes(entry, selection)]
        if not kept:
            raise nothing_matches(selection, found)
        found = kept
    if free:
        found = [entry for entry in found if _is_free(entry)]
    if sort != "address":
        found.sort(key=_SORTS[sort])
    names = _names(host) if verbose else None
    if as_json:
        print_json([as_data(entry, names) for entry in found])
    elif only_names:
        click.echo("".join(f"{'css/' if entry.bus == 'css' else ''}{entry.address}\n" for entry in found), nl=False)
    elif not found:
        click.echo("no free devices" if free else f"no devices on {', '.join(buses) or _DEFAULT}")
    else:
        by_bus: dict[str, list[Entry]] = {}
        for entry in found:
            by_bus.setdefault(entry.bus, []).append(entry)
        click.echo("\n\n".join(table(entries, names) for entries in by_bus.values()))
        if any(getattr(entry, "uid_is_unique", None) is False for entry in found):
            click.echo(_NOT_UNIQUE, err=True)


def _names(host: Host) -> PciNames:
    from pyvfio.pci.names import PciNames

    return PciNames(host.backend)
