"""``pyvfio mdev``: mediated devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pyvfio.address import MdevUuid
from pyvfio.binding.mediated import mdev_parent, plan_mdev_attributes, plan_mdev_create, plan_mdev_remove
from pyvfio.binding.plan import Plan
from pyvfio.host import Host
from pyvfio.mdev_attributes import attributes_of
from pyvfio.persistence.definition import pairs_of
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.commands import Commands
from pyvfio_tools.complete import complete_mdev, complete_parent
from pyvfio_tools.mdev_defined import define, modify, print_defined, undefine
from pyvfio_tools.mdev_table import print_active
from pyvfio_tools.options import host_options
from pyvfio_tools.output import print_json, print_table
from pyvfio_tools.persistent import root_option

__all__ = ["mdev"]


@click.group(cls=Commands)
def mdev() -> None:
    """Mediated devices: the types that parents offer, and the devices made from them."""


mdev.add_command(define)
mdev.add_command(modify)
mdev.add_command(undefine)


def attr_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--attr NAME=VALUE``, which may be repeated: `attrs`."""
    return click.option(
        "--attr", "attrs", multiple=True, metavar="NAME=VALUE", help="An attribute to write, in this order; repeatable."
    )(function)


@mdev.command()
@click.argument("parent", required=False, shell_complete=complete_parent)
@host_options
def types(host: Host, as_json: bool, parent: str | None) -> None:
    """List the types of all parents, or of one, with how many more can be made of each.

    \b
    Examples:
      pyvfio mdev types
      pyvfio mdev types 0.0.0313 --json
    """
    parents = [mdev_parent(host.sysfs, parent)] if parent else host.mdev_parents()
    kinds = [kind for one in parents for kind in one.types()]
    if as_json:
        print_json([kind.as_dict() for kind in kinds])
        return
    texts = [(kind.name, " ".join(kind.description.split())) for kind in kinds]
    rows = [
        (kind.parent.name, kind.id, kind.device_api, str(kind.available_instances), name, description)
        for kind, (name, description) in zip(kinds, texts, strict=True)
    ]
    print_table(
        ("PARENT", "TYPE", "API", "AVAILABLE", "NAME", "DESCRIPTION"),
        rows,
        empty="no device here makes mediated devices (pyvfio ccw take makes one of a subchannel)",
    )


@mdev.command()
@click.argument("words", metavar="[PARENT] TYPE", nargs=-1, required=True, shell_complete=complete_parent)
@click.option("--auto", is_flag=True, help="Choose the parent with the most free instances of TYPE.")
@click.option("--uuid", default=None, help="The name of the new device. Default: a random one.")
@attr_option
@acting_options
def create(
    host: Host, acting: Acting, words: tuple[str, ...], auto: bool, uuid: str | None, attrs: tuple[str, ...]
) -> None:
    """Create a mediated device of TYPE on PARENT and print its name; with --auto, a parent is chosen.

    \b
    Examples:
      pyvfio mdev create 0.0.0313 vfio_ccw-io
      pyvfio mdev create --auto i915-GVTg_V5_4
      pyvfio mdev create matrix vfio_ap-passthrough --attr assign_adapter=5 --attr assign_domain=0xab
    """
    if len(words) != (1 if auto else 2):
        raise click.UsageError("Name a PARENT and a TYPE, or only a TYPE with --auto.")
    name = MdevUuid.random() if uuid is None else MdevUuid.parse(uuid)
    parent = None if auto else words[0]
    plan = plan_mdev_create(host, words[-1], parent, uuid=name, attributes=pairs_of(attrs))
    chosen = parent or plan.objects[-1]
    if acting.carry_out(plan, uuid=str(name), parent=chosen, type=words[-1]) and not acting.as_json:
        click.echo(str(name))


@mdev.command()
@click.argument("uuids", metavar="UUID...", nargs=-1, required=True, shell_complete=complete_mdev)
@acting_options
def remove(host: Host, acting: Acting, uuids: tuple[str, ...]) -> None:
    """Remove mediated devices. One that a program has open is refused, with the program's name.

    \b
    Examples:
      pyvfio mdev remove 66826a94-72c4-557f-beca-d135a70628e9
    """
    devices = [host.mdev(name) for name in dict.fromkeys(MdevUuid.parse(text) for text in uuids)]
    plan = Plan.join([plan_mdev_remove(device) for device in devices])
    acting.carry_out(plan, uuids=[device.name for device in devices])


@mdev.command()
@click.argument("uuid", metavar="UUID", shell_complete=complete_mdev)
@click.argument("settings", metavar="[NAME=VALUE...]", nargs=-1)
@acting_options
def attributes(host: Host, acting: Acting, uuid: str, settings: tuple[str, ...]) -> None:
    """Show the attributes of an active mediated device, or set some of them.

    What is set goes with the device; pyvfio mdev modify --attr makes it persistent.

    \b
    Examples:
      pyvfio mdev attributes 66826a94-72c4-557f-beca-d135a70628e9
      pyvfio mdev attributes 66826a94-72c4-557f-beca-d135a70628e9 assign_adapter=5
    """
    device = host.mdev(MdevUuid.parse(uuid))
    if settings:
        acting.carry_out(plan_mdev_attributes(device, pairs_of(settings)))
        return
    known = attributes_of(device)
    if acting.as_json:
        print_json([one.as_dict() for one in known])
        return
    modes = {(True, True): "rw", (True, False): "r", (False, True): "w"}
    print_table(
        ("ATTRIBUTE", "MODE", "VALUE"),
        [
            (one.name, modes.get((one.readable, one.writable), "-"), " ".join((one.value or "").split()))
            for one in known
        ],
        empty=f"{device} has no attributes of its own",
    )


@mdev.command("list")
@click.option("--defined", is_flag=True, help="List what is defined in mdevctl's files instead, active or not.")
@root_option
@host_options
def list_(host: Host, as_json: bool, defined: bool, root: str) -> None:
    """List the mediated devices with their parents, drivers, groups and the programs that have them open.

    \b
    Examples:
      pyvfio mdev list
      pyvfio mdev list --defined --root /mnt/image
    """
    if root and not defined:
        raise click.UsageError("--root goes with --defined: only definitions can be of another file system.")
    if defined:
        print_defined(host, root, as_json)
    else:
        print_active(host, as_json)
