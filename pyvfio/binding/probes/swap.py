"""The system swaps to one of the disks, or to a file on one.

Looks at ``/proc/swaps`` for the disks, their partitions and all that stands on them.  Swap space that is not in use is
a signature, not swap.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject
from pyvfio.binding.probes.surroundings import Mount

__all__ = ["SUMMARY", "look"]

SUMMARY = "the system swaps to it"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    around, stack = subject.surroundings, subject.blocks
    for swap in around.swaps:
        amount = f"{swap.size} KiB, {swap.used} KiB in use"
        if swap.kind == "file":
            mount = _mount_of(swap.path, around.mounts)
            found = next((block for one, block in stack.mounts() if one == mount), None)
            if found is not None:
                yield Evidence(f"{found.where} holds the swap file {swap.path} ({amount})", swap.path)
        elif (block := stack.find(swap.path)) is not None:
            yield Evidence(f"{block.where} is swap space ({amount})", block.node)


def _mount_of(path: str, mounts: tuple[Mount, ...]) -> Mount | None:
    """The mount that a file is on: the last of those with the longest mount point above it."""
    above = [mount for mount in mounts if not mount.elsewhere and f"{path}/".startswith(mount.point.rstrip("/") + "/")]
    longest = max((len(mount.point) for mount in above), default=0)
    return next((mount for mount in reversed(above) if len(mount.point) == longest), None)
