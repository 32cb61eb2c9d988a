"""A file system on one of the disks is mounted.

Looks at ``/proc/self/mountinfo`` and, where it differs, that of process 1, for the disks, their partitions and all that
stands on them.  A btrfs of several devices is found by ``/sys/fs/btrfs/UUID/devices``.  ext4, xfs and f2fs have a
directory in ``/sys/fs`` for each mounted file system in whatever mount namespace it is: a container's mounts are found
by that, without the mount point.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Subject

__all__ = ["SUMMARY", "look"]

SUMMARY = "a file system on it is mounted"

_LISTED = ("ext4", "xfs", "f2fs")
"""The file systems that list their mounted devices (``sysfs.c`` of ext4 and f2fs, ``xfs_super.c``)."""


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    stack, sysfs = subject.blocks, subject.sysfs
    seen: set[str] = set()
    if stack.all:
        for mount, block in stack.mounts():
            seen.add(block.name)
            where = " (as process 1 sees it)" if mount.elsewhere else ""
            yield Evidence(f"{block.where} is mounted on {mount.point} ({mount.fs_type}){where}", block.node)
    for uuid, names in subject.surroundings.btrfs.items() if stack.all else ():
        for block in stack.all:
            if block.name in names and not seen.intersection(names):
                yield Evidence(f"{block.where} belongs to a btrfs that is mounted", f"/sys/fs/btrfs/{uuid}")
    for block in stack.all:
        for kind in _LISTED if block.name not in seen else ():
            path = f"/sys/fs/{kind}/{block.name}"
            if sysfs.exists(path):
                yield Evidence(f"{block.where} is mounted ({kind}) in a mount namespace not seen here", path)
