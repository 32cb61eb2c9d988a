"""A disk has a partition table, or a disk or partition has a file system or is part of a larger volume.

Reads the nodes of the disks and partitions themselves.  The volume label VOL1 alone, which every formatted DASD of the
compatible disk layout has, is no content: its data sets are, which the kernel shows as partitions.

A signature may be a leftover of something long gone: it says that the content may matter to somebody, not that it is in
use now.  ``wipefs`` removes what is not wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.magics import signatures
from pyvfio.binding.probes.node import examine
from pyvfio.binding.probes.subject import Subject

__all__ = ["SUMMARY", "look"]

SUMMARY = "a disk of it has content, which may be stale: look whether anybody still wants it"

_FORMATTED = "DASD volume label VOL1"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    own = subject.blocks.own
    for block in own:
        for found in examine(subject, block, lambda node: signatures(node.read, node.size)) or ():
            if found.kind == _FORMATTED and not any(other.under is block for other in own):
                continue
            yield Evidence(f"{block.where} has a signature: {found}", block.node)
