"""Plans for mediated devices: create, remove, set attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pyvfio.address import MdevUuid
from pyvfio.binding.inspection import plan_for
from pyvfio.binding.plan import Plan
from pyvfio.binding.step import Step
from pyvfio.binding.steps_mdev import CreateMdev, KeepAttributes, SetAttribute, remove_mdev
from pyvfio.devices import MediatedDevice
from pyvfio.errors import DeviceBusy, Misuse, NoSuchDevice
from pyvfio.mdev import MdevParent, MdevType, free_parent, mdev_parents
from pyvfio.mdev_attributes import attribute_of, attributes_of
from pyvfio.sysfs import Sysfs

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["mdev_parent", "plan_mdev_attributes", "plan_mdev_create", "plan_mdev_remove"]

Pairs = Sequence[tuple[str, str]]


def mdev_parent(sysfs: Sysfs, name: str) -> MdevParent:
    """The parent called `name`.  Raise `NoSuchDevice` when no device of this name makes mediated devices."""
    known = mdev_parents(sysfs)
    for parent in known:
        if parent.device.name == name:
            return parent
    raise NoSuchDevice(
        "find mdev parent",
        name,
        path="/sys/class/mdev_bus",
        cause=f"no device of this name makes mediated devices; those that do: {', '.join(map(str, known)) or 'none'}",
        next_step="for a channel device: pyvfio ccw take DEVNO makes its subchannel a parent",
    )


def plan_mdev_create(
    host: Host, type_id: str, parent: str | None = None, *, uuid: MdevUuid | str | None = None, attributes: Pairs = ()
) -> Plan:
    """Plan to create a mediated device of a type, and to write to its `attributes`, in this order.

    Without a `parent`, the one with the most free instances of the type is taken; without a `uuid`, a random one.
    Raise `BadAddress`, `NoSuchDevice` (no such parent or type), `DeviceBusy` (no instance is left, or the UUID is
    taken by another device).
    """
    name = MdevUuid.random() if uuid is None else MdevUuid.parse(str(uuid))
    there = MediatedDevice(host.sysfs, name)
    chosen = mdev_parent(host.sysfs, parent) if parent is not None else None
    title = f"create mediated device {name} of type {type_id}"
    if there.exists:
        return _there_already(there, chosen, type_id, title, attributes)
    kind = (chosen or free_parent(host.sysfs, type_id)).type(type_id)
    _check_room(kind)
    device = kind.parent
    steps: list[Step] = [CreateMdev(device.bus, device.name, type_id, str(name))]
    steps += [SetAttribute(str(name), key, value, fresh=True) for key, value in attributes]
    facts = (
        (f"{device.name}: type", f"{type_id} ({kind.name})" if kind.name else type_id),
        (f"{device.name}: instances left", str(kind.available_instances)),
    )
    return Plan(title, (str(name), device.name), tuple(steps), facts=facts, sysfs=host.sysfs)


def _check_room(kind: MdevType) -> None:
    kind.require()
    if kind.available_instances < 1:
        raise DeviceBusy(
            "create mediated device",
            f"{kind.parent}: {kind.id}",
            path=kind.path,
            cause=f"no instance is left; in use: {', '.join(map(str, kind.devices())) or 'by another type'}",
            next_step="remove one of them, or let --auto choose another parent",
        )


def _there_already(
    device: MediatedDevice, parent: MdevParent | None, type_id: str, title: str, attributes: Pairs
) -> Plan:
    """Nothing to do when it is what is wanted; attributes of a device that somebody may use are not touched here."""
    now, kind = device.parent, device.type.id
    if kind != type_id or (parent is not None and parent.device != now):
        raise DeviceBusy(
            "create mediated device",
            str(device),
            path=device.path,
            cause=f"a mediated device has this UUID already: of type {kind}, on {now}",
            next_step="choose another UUID, or remove that one: pyvfio mdev remove",
        )
    note = f"it is there; its attributes are as they were (pyvfio mdev attributes {device})" if attributes else ""
    return Plan(title, (device.name,), notes=(note,) if note else (), sysfs=device.sysfs)


def plan_mdev_remove(device: MediatedDevice) -> Plan:
    """Plan to remove a mediated device; what holds it is among the findings.

    The inverse makes it again, with what its attributes said.  Raise `NoSuchDevice`.
    """
    steps: list[Step] = []
    kept = [one for one in attributes_of(device) if one.readable and one.writable and one.value]
    if kept:
        values = tuple(one.value or "" for one in kept)
        steps.append(KeepAttributes(device.name, tuple(one.name for one in kept), values))
    steps.append(remove_mdev(device))
    lost = [one.name for one in attributes_of(device) if one.writable and not one.readable]
    note = f"what was written to {', '.join(lost)} cannot be read, so the inverse does not restore it" if lost else ""
    return plan_for(f"remove mediated device {device}", device, steps, notes=(note,) if note else ())


def plan_mdev_attributes(device: MediatedDevice, attributes: Pairs) -> Plan:
    """Plan to write to attributes of an active device.

    An attribute that cannot be read has no inverse, so it has to be the only one.  Raise `NoSuchDevice` (no such
    attribute), `Misuse`.
    """
    steps = []
    for name, value in attributes:
        known = attribute_of(device, name)
        if not known.writable:
            raise Misuse("set attribute", f"{device}: {name}", cause="the driver offers it for reading only")
        if known.value is None and len(attributes) > 1:
            raise Misuse(
                "set attributes",
                f"{device}: {name}",
                path=f"{device.path}/{name}",
                cause="it cannot be read, so what it said could not be restored if a later one failed",
                next_step="set it in a command of its own",
            )
        if known.value != value:
            steps.append(SetAttribute(device.name, name, value, known.value))
    plan = plan_for(f"set attributes of {device}", device, steps, probes=False)
    return replace(plan, facts=(*plan.facts, *((f"{device}: {s.name}", s.before or "") for s in steps)))
