"""``pyvfio mdev``: mediated devices."""

from __future__ import annotations

import click

from pyvfio.address import MdevUuid
from pyvfio.errors import NoSuchDevice
from pyvfio.host import Host
from pyvfio.mdev import MdevParent
from pyvfio_tools.options import device_argument, host_options
from pyvfio_tools.output import print_json, print_table

__all__ = ["mdev"]


@click.group()
def mdev() -> None:
    """Mediated devices: the types that parents offer, and the devices made from them."""


def _parent(host: Host, name: str) -> MdevParent:
    for parent in host.mdev_parents():
        if str(parent.device.address) == name:
            return parent
    known = ", ".join(str(parent.device.address) for parent in host.mdev_parents()) or "none"
    raise NoSuchDevice(
        "find mdev parent",
        name,
        path="/sys/class/mdev_bus",
        cause=f"no device of this name makes mediated devices; those that do: {known}",
        next_step="for a channel device: pyvfio ccw take DEVNO makes its subchannel a parent",
    )


@mdev.command()
@click.argument("parent", required=False)
@host_options
def types(host: Host, as_json: bool, parent: str | None) -> None:
    """List the types of all parents, or of one.

    \b
    Examples:
      pyvfio mdev types
      pyvfio mdev types 0.0.0313 --json
    """
    parents = [_parent(host, parent)] if parent else host.mdev_parents()
    rows = [
        (str(p.device.address), kind.id, kind.device_api, str(kind.available_instances), kind.name or "")
        for p in parents
        for kind in p.types()
    ]
    if as_json:
        keys = ("parent", "type", "device_api", "available_instances", "name")
        print_json([dict(zip(keys, (*row[:3], int(row[3]), row[4]), strict=True)) for row in rows])
        return
    print_table(
        ("PARENT", "TYPE", "API", "AVAILABLE", "NAME"),
        rows,
        empty="no device here makes mediated devices (pyvfio ccw take makes one of a subchannel)",
    )


@mdev.command()
@click.argument("parent")
@click.argument("type_id", metavar="TYPE")
@click.option("--uuid", default=None, help="The name of the new device. Default: a random one.")
@host_options
def create(host: Host, as_json: bool, parent: str, type_id: str, uuid: str | None) -> None:
    """Create a mediated device of TYPE on PARENT and print its name.

    \b
    Examples:
      pyvfio mdev create 0.0.0313 vfio_ccw-io
    """
    device = _parent(host, parent).type(type_id).create(uuid)
    if as_json:
        print_json({"uuid": str(device.address), "parent": parent, "type": type_id})
    else:
        click.echo(str(device.address))


@mdev.command()
@device_argument("uuid", metavar="UUID")
@host_options
def remove(host: Host, as_json: bool, uuid: str) -> None:
    """Remove a mediated device.

    \b
    Examples:
      pyvfio mdev remove 66826a94-72c4-557f-beca-d135a70628e9
    """
    device = host.mdev(MdevUuid.parse(uuid))
    device.remove()
    if as_json:
        print_json({"uuid": str(device.address), "removed": True})


@mdev.command("list")
@host_options
def list_(host: Host, as_json: bool) -> None:
    """List the mediated devices with their parents, drivers and groups.

    \b
    Examples:
      pyvfio mdev list
    """
    devices = host.mdevs()
    rows = [
        (
            str(device.address),
            str(device.parent.address),
            device.type.id,
            device.driver or "-",
            "-" if device.group is None else str(device.group.number),
        )
        for device in devices
    ]
    if as_json:
        print_json(
            [
                {
                    "uuid": str(device.address),
                    "parent": str(device.parent.address),
                    "type": device.type.id,
                    "driver": device.driver,
                    "group": None if device.group is None else device.group.number,
                }
                for device in devices
            ]
        )
        return
    print_table(("UUID", "PARENT", "TYPE", "DRIVER", "GROUP"), rows, empty="no mediated devices")
