"""A program has a node of it open: a disk, partition or what stands on it, a terminal, any character device.

Looks at the descriptors and mappings of the programs: as root of all, else of the caller's own.  The nodes of VFIO are
those of the probe ``vfio``.  Mounts, swap and other uses by the kernel itself are no programs' and other probes'.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject
from pyvfio.binding.probes.users import users

__all__ = ["SUMMARY", "look"]

SUMMARY = "a program has it open"

_OTHERS = ("vfio", "vfio-dev")


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    nodes = {one.node: one.name for one in subject.below if one.node and one.subsystem not in (*_OTHERS, "block")}
    nodes |= {block.node: block.where for block in subject.blocks.all if block.node}
    for node, name in nodes.items():
        for holder in users(subject, node):
            yield Evidence(f"{name} is open in {holder}", node)
