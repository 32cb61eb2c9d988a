"""``pyvfio mdev define``, ``modify`` and ``undefine``: mediated devices in mdevctl's files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import click

from pyvfio.address import MdevUuid
from pyvfio.binding.plan import Plan
from pyvfio.devices import MediatedDevice
from pyvfio.errors import Misuse, NoSuchDevice
from pyvfio.host import Host
from pyvfio.mdev import free_parent
from pyvfio.persistence.definition import PersistentMdev, Start, Unreadable, pairs_of
from pyvfio.persistence.definitions import Definitions, definition_of
from pyvfio_tools.acting import Acting, acting_options
from pyvfio_tools.complete import complete_defined, complete_mdev, complete_parent, complete_type
from pyvfio_tools.output import print_json, print_table
from pyvfio_tools.persistent import root_option

__all__ = ["define", "modify", "print_defined", "undefine"]

_start_option = click.option(
    "--start",
    type=click.Choice(["auto", "manual"]),
    default=None,
    help="auto: made as soon as its parent is there; manual: by pyvfio apply UUID.",
)
_parent_option = click.option(
    "--parent",
    default=None,
    metavar="PARENT",
    shell_complete=complete_parent,
    help="The parent, as sysfs names it.",
)
_attr_option = click.option(
    "--attr", "attrs", multiple=True, metavar="NAME=VALUE", help="An attribute to write, in this order; repeatable."
)


@click.command()
@click.argument("uuid", required=False, shell_complete=complete_mdev)
@_parent_option
@click.option(
    "--type",
    "type_id",
    default=None,
    metavar="TYPE",
    shell_complete=complete_type,
    help="The type, as pyvfio mdev types lists it.",
)
@_start_option
@_attr_option
@root_option
@acting_options
def define(
    host: Host,
    acting: Acting,
    uuid: str | None,
    parent: str | None,
    type_id: str | None,
    start: str | None,
    attrs: tuple[str, ...],
    root: str,
) -> None:
    """Write down a mediated device in mdevctl's files, and print its name. Nothing is made now.

    The UUID of an active device stands for what it is now. Otherwise name a TYPE and a PARENT; without a PARENT, the
    one with the most free instances of TYPE now is taken. Without a UUID, a random one.

    \b
    Examples:
      pyvfio mdev define 66826a94-72c4-557f-beca-d135a70628e9 --start auto
      pyvfio mdev define --parent 0.0.0313 --type vfio_ccw-io --start auto
      pyvfio mdev define --parent matrix --type vfio_ap-passthrough --attr assign_adapter=5 --root /mnt/image
    """
    name = MdevUuid.random() if uuid is None else MdevUuid.parse(uuid)
    how = cast(Start, start or "manual")
    active = MediatedDevice(host.sysfs, name)
    if type_id is None and parent is None and uuid is not None and active.exists:
        made = replace(definition_of(active, how), attrs=pairs_of(attrs))
    elif type_id is None:
        cause = "no TYPE is given" if uuid is None or parent is not None else "it is not active, so a TYPE is needed"
        raise Misuse("define mediated device", str(name), cause=cause, next_step="--type TYPE --parent PARENT")
    else:
        on = parent or free_parent(host.sysfs, type_id).device.name
        made = PersistentMdev(name, on, type_id, how, pairs_of(attrs))
    plan = Definitions(host, root).plan_mdev(made)
    if acting.carry_out(plan, journaled=not root, definition=made.as_dict()) and not acting.as_json:
        click.echo(str(name))


@click.command()
@click.argument("uuid", shell_complete=complete_defined)
@_parent_option
@click.option("--type", "type_id", default=None, metavar="TYPE", shell_complete=complete_type, help="Another type.")
@_start_option
@_attr_option
@click.option(
    "--remove-attr",
    "removed",
    multiple=True,
    metavar="NAME[=VALUE]",
    help="Take an attribute out (all entries of this name, or those with this value); repeatable.",
)
@root_option
@acting_options
def modify(
    host: Host,
    acting: Acting,
    uuid: str,
    parent: str | None,
    type_id: str | None,
    start: str | None,
    attrs: tuple[str, ...],
    removed: tuple[str, ...],
    root: str,
) -> None:
    """Change the definition of a mediated device. One that is active stays as it is.

    Attributes are taken out first; those that are given are added at the end.

    \b
    Examples:
      pyvfio mdev modify 66826a94-72c4-557f-beca-d135a70628e9 --start auto
      pyvfio mdev modify 66826a94-72c4-557f-beca-d135a70628e9 --remove-attr assign_adapter=5 --attr assign_adapter=6
    """
    known = Definitions(host, root)
    before = _defined(known, uuid, parent)
    kept = _without(before, removed)
    changed = replace(
        before,
        type=type_id or before.type,
        start=cast(Start, start or before.start),
        attrs=(*kept, *pairs_of(attrs)),
    )
    plan = known.plan_modified(changed)
    acting.carry_out(plan, journaled=not root, definition=changed.as_dict())


def _without(definition: PersistentMdev, removed: Sequence[str]) -> tuple[tuple[str, str], ...]:
    kept = definition.attrs
    for text in removed:
        name, equals, value = text.partition("=")
        left = tuple(pair for pair in kept if pair[0] != name or (equals and pair[1] != value))
        if left == kept:
            has = ", ".join(f"{key}={one}" for key, one in definition.attrs) or "none"
            raise Misuse("remove attribute", f"{definition.name}: {text}", cause=f"its attributes are: {has}")
        kept = left
    return kept


def _defined(known: Definitions, text: str, parent: str | None) -> PersistentMdev:
    uuid = MdevUuid.parse(text)
    found = known.mdevs.get(uuid, parent)
    if found is None:
        raise _not_defined(known, uuid)
    return found


def _not_defined(known: Definitions, uuid: MdevUuid) -> NoSuchDevice:
    return NoSuchDevice(
        "find definition",
        str(uuid),
        path=known.mdevs.directory,
        cause="it is not defined",
        next_step="pyvfio mdev list --defined lists what is; pyvfio mdev define defines it",
    )


@click.command()
@click.argument("uuids", metavar="UUID...", nargs=-1, required=True, shell_complete=complete_defined)
@_parent_option
@root_option
@acting_options
def undefine(host: Host, acting: Acting, uuids: tuple[str, ...], parent: str | None, root: str) -> None:
    """Remove the definitions of mediated devices, below all parents or one. What is active stays as it is.

    \b
    Examples:
      pyvfio mdev undefine 66826a94-72c4-557f-beca-d135a70628e9
    """
    known = Definitions(host, root)
    plans = []
    for uuid in dict.fromkeys(MdevUuid.parse(text) for text in uuids):
        found = known.mdevs.of(uuid, parent)
        if not found:
            raise _not_defined(known, uuid)
        plans += [known.plan_undefine(one) for one in found]
    acting.carry_out(Plan.join(plans), journaled=not root)


def print_defined(host: Host, root: str, as_json: bool) -> None:
    """Print what mdevctl's files define, active or not; malformed files are listed with the reason."""
    found = Definitions(host, root).mdevs.all()
    active = [None if root or isinstance(one, Unreadable) else _is_active(host, one) for one in found]
    if as_json:
        print_json([{**one.as_dict(), "active": now} for one, now in zip(found, active, strict=True)])
        return
    words = {True: "active", False: "no", None: "-"}
    print_table(
        ("UUID", "PARENT", "TYPE", "START", "ACTIVE", "ATTRIBUTES"),
        [_row(one, words[now]) for one, now in zip(found, active, strict=True)],
        empty="no mediated device is defined",
    )


def _is_active(host: Host, one: PersistentMdev) -> bool:
    device = MediatedDevice(host.sysfs, one.uuid)
    try:
        return device.exists and (device.parent.name, device.type.id) == (one.parent, one.type)
    except NoSuchDevice:
        return False


def _row(one: PersistentMdev | Unreadable, active: str) -> tuple[str, ...]:
    if isinstance(one, Unreadable):
        parent = one.path.split("/")[-2]
        return (one.name, parent, "malformed", "-", "-", one.why)
    attributes = " ".join(f"{name}={value}" for name, value in one.attrs)
    return (one.name, one.parent, one.type, one.start, active, attributes or "-")
