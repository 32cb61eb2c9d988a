"""Mediated devices are made from it: they end with it, and so do the guests that use them.

Looks at the mediated devices below the device, and at who has each open.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject
from pyvfio.binding.probes.users import users
from pyvfio.binding.probes.vfio import vfio_nodes

__all__ = ["SUMMARY", "look"]

SUMMARY = "mediated devices are made from it"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    for one in subject.of("mdev"):
        if one.path == subject.path:
            continue  # the mediated device itself
        kind = subject.sysfs.link_name(f"{one.path}/mdev_type") or "unknown type"
        nodes = vfio_nodes(subject, one.path)
        holders = dict.fromkeys(str(holder) for node in nodes for holder in users(subject, node))
        state = f"open in {', '.join(holders)}" if holders else "not open"
        yield Evidence(f"mediated device {one.name} ({kind}), {state}", one.path)
