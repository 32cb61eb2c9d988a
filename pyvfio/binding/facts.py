"""What must be known of a device before its driver is changed."""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.backend import Holder
from pyvfio.groups import IommuGroup, Member
from pyvfio.sysfs_device import SysfsDevice

__all__ = ["BindingFacts", "facts", "vfio_nodes"]


@dataclass(frozen=True, slots=True)
class BindingFacts:
    """The present state: `driver`, `override`, IOMMU `group` with its `members`, the `vfio_node` and who holds it."""

    driver: str | None
    override: str | None
    group: IommuGroup | None
    members: tuple[Member, ...]
    vfio_node: str | None
    holders: tuple[Holder, ...]


def facts(device: SysfsDevice) -> BindingFacts:
    """Read the state of a device.  Raise `NoSuchDevice` when it is not there."""
    device.require()
    group = device.group
    node = None
    if device.has_vfio_driver:
        name = device.vfio_name
        character = f"/dev/vfio/devices/{name}"
        if name is not None and device.sysfs.exists(character):
            node = character
        elif group is not None and device.sysfs.exists(group.node):
            node = group.node
    nodes = [node] if node else []
    if group is not None and group.node not in nodes and device.sysfs.exists(group.node):
        nodes.append(group.node)
    holders = tuple(holder for each in nodes for holder in device.sysfs.holders(each))
    return BindingFacts(
        device.driver,
        device.override,
        group,
        () if group is None else tuple(group.members()),
        node,
        holders,
    )


def vfio_nodes(device: SysfsDevice) -> tuple[str, ...]:
    """Its nodes of VFIO, one of which a program has open when the kernel waits in an unbind."""
    if not device.has_vfio_driver:
        return ()
    group, name = device.group, device.vfio_name
    nodes = (group.node if group is not None else "", f"/dev/vfio/devices/{name}" if name else "")
    return tuple(filter(None, nodes))
