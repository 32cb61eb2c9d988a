"""A program has it open through VFIO already, or a device of its IOMMU group, or a mediated device made from it.

Looks at who has the nodes of the group (``/dev/vfio/N``) and of the devices (``/dev/vfio/devices/vfioN``) open: as root
at all programs, else at the caller's own.  Members of the group that only have a driver are no evidence; whether they
keep the group from being used is another question (`pyvfio.groups`).
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject
from pyvfio.binding.probes.users import users

__all__ = ["SUMMARY", "look", "vfio_nodes"]

SUMMARY = "a program has it open through VFIO"


def vfio_nodes(subject: Subject, path: str) -> dict[str, str]:
    """The VFIO nodes of the device at `path` and of its group that exist, with what each is in words."""
    sysfs, found = subject.sysfs, {}
    for name in sysfs.names(f"{path}/vfio-dev"):
        found[f"/dev/vfio/devices/{name}"] = f"{path.rpartition('/')[2]}"
    number = sysfs.link_name(f"{path}/iommu_group")
    if number is not None:
        found[f"/dev/vfio/{number}"] = found[f"/dev/vfio/noiommu-{number}"] = f"IOMMU group {number}"
    return {node: what for node, what in found.items() if sysfs.exists(node)}


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    sysfs = subject.sysfs
    devices = [subject.path, *(one.path for one in subject.of("mdev"))]
    group = sysfs.link(f"{subject.path}/iommu_group")
    if group is not None:
        names = sysfs.names(f"{group}/devices")
        devices += [path for name in names if (path := sysfs.link(f"{group}/devices/{name}"))]
    nodes: dict[str, str] = {}
    for path in devices:
        nodes = vfio_nodes(subject, path) | nodes
    for node, what in nodes.items():
        for holder in users(subject, node):
            yield Evidence(f"{what} is open in {holder}", node)
