"""``pyvfio topology``: the tree of the host's devices, on the terminal, as JSON or as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from pyvfio.css.topology import channel_branches, channel_topology
from pyvfio.devices import ChannelDevice, MediatedDevice, PciFunction, Subchannel
from pyvfio.errors import explained
from pyvfio.host import Host
from pyvfio.pci.topology import branches, topology
from pyvfio.selection import Selection, select
from pyvfio.sysfs_device import SysfsDevice
from pyvfio_tools.branches import css_branch, mdevs_by_parent, parents_branch, pci_branch
from pyvfio_tools.dot import dot_text
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json
from pyvfio_tools.tree import Branch, draw, plain, svg_text

__all__ = ["topology_"]

_BUSES = ("pci", "css")
_TITLE = "pyvfio topology"
_FILE = click.Path(dir_okay=False, allow_dash=True)


@click.command("topology")
@device_argument("devices", metavar="[DEV...]", nargs=-1)
@click.option("--bus", type=click.Choice(_BUSES), default=None, help="Only this tree. With DEV: the bus of DEV.")
@click.option("--svg", type=_FILE, metavar="FILE", default=None, help="Write a picture (SVG); - is stdout.")
@click.option("--dot", type=_FILE, metavar="FILE", default=None, help="Write Graphviz text; - is stdout.")
@host_options
def topology_(
    host: Host,
    as_json: bool,
    devices: tuple[str, ...],
    bus: str | None,
    svg: str | None,
    dot: str | None,
) -> None:
    """Draw how devices hang together: PCI root buses, ports, bridges and functions; channel paths, subchannels, devices
    and mediated devices.

    With DEV, only the way from the root to that device. Green is what a VFIO driver has. An ordinary user cannot read
    what kind of port a bridge is; the tree then says so.

    \b
    Examples:
      pyvfio topology
      pyvfio topology 3b:00.0
      pyvfio topology --bus css --machine z15-lpar
      pyvfio topology --svg host.svg
      pyvfio topology --dot - | dot -Tpdf -o host.pdf
    """
    found = _chosen(host, devices, bus) if devices else _all(host, bus)
    if svg is not None:
        _write(svg, svg_text(list(found.values()), _TITLE))
    if dot is not None:
        _write(dot, dot_text(list(found.values()), _TITLE))
    if as_json:
        print_json({name: _children(branch) for name, branch in found.items()})
    elif svg is None and dot is None:
        shown = [branch for branch in found.values() if branch.children]
        draw(shown)
        if not shown:
            click.echo(f"this host has nothing on {' and '.join(found)}")


def _write(file: str, text: str) -> None:
    if file == "-":
        click.echo(text, nl=False)
        return
    with explained("write", path=file):
        Path(file).write_text(text, encoding="utf-8")


def _children(branch: Branch) -> list[dict[str, object]]:
    return [plain(child) for child in branch.children]


def _all(host: Host, bus: str | None) -> dict[str, Branch]:
    found: dict[str, Branch] = {}
    mdevs = mdevs_by_parent(host.sysfs) if bus != "css" else {}
    if bus != "css":
        found["pci"] = pci_branch(topology(host.sysfs), mdevs)
    if bus != "pci":
        found["css"] = css_branch(channel_topology(host.sysfs))
    if bus is None and (others := [path for path in mdevs if _bus(host, path) not in _BUSES]):
        found["mdev"] = parents_branch(others, mdevs)
    return found


def _chosen(host: Host, names: tuple[str, ...], bus: str | None) -> dict[str, Branch]:
    """The trees of the devices that are named; a mediated device stands below its parent."""
    places = list(dict.fromkeys(_place(device) for device in select(host, Selection(names, bus))))
    functions = [place for place in places if isinstance(place, PciFunction)]
    subchannels = [place for place in places if isinstance(place, Subchannel)]
    others = [place.path for place in places if not isinstance(place, PciFunction | Subchannel)]
    mdevs = mdevs_by_parent(host.sysfs) if functions or others else {}
    found: dict[str, Branch] = {}
    if functions:
        found["pci"] = pci_branch(branches(host.sysfs, functions), mdevs, whole=False)
    if subchannels:
        found["css"] = css_branch(channel_branches(host.sysfs, subchannels), whole=False)
    if others:
        found["mdev"] = parents_branch(others, mdevs)
    return found


def _bus(host: Host, path: str) -> str | None:
    return host.sysfs.link_name(f"{path}/subsystem")


def _place(device: SysfsDevice) -> SysfsDevice:
    """What stands in one of the trees: the subchannel of a channel device, the parent of a mediated device, or it."""
    if isinstance(device, ChannelDevice):
        return device.subchannel
    return device.parent if isinstance(device, MediatedDevice) else device
