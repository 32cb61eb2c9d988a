"""A file system on one of the disks, or one that comes through the device, is mounted.

Looks at ``/proc/self/mountinfo`` and, where it differs, that of process 1, for the disks, their partitions and all that
stands on them.  A btrfs of several devices is found by ``/sys/fs/btrfs/UUID/devices``.  ext4, xfs and f2fs have a
directory in ``/sys/fs`` for each mounted file system in whatever mount namespace it is: a container's mounts are found
by that, without the mount point.

A virtio device can also be the way to a directory of the hypervisor: the source of the mount is then its tag, which 9p
has in ``mount_tag`` and virtiofs in ``/sys/fs/virtiofs/N/tag``.  Taking the device of a mounted 9p waits in the kernel
until it is unmounted (``p9_virtio_remove``).
"""

from __future__ import annotations

from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.subject import Below, Subject

__all__ = ["SUMMARY", "look"]

SUMMARY = "a file system on it is mounted"

_LISTED = ("ext4", "xfs", "f2fs")
"""The file systems that list their mounted devices (``sysfs.c`` of ext4 and f2fs, ``xfs_super.c``)."""
_VIRTIOFS = "/sys/fs/virtiofs"


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
    for one in subject.of("virtio"):
        yield from _by_tag(subject, one)


def _by_tag(subject: Subject, one: Below) -> Iterator[Evidence]:
    """The mounts of the file system that a virtio device leads to."""
    driver = subject.sysfs.link_name(f"{one.path}/driver")
    if driver == "9pnet_virtio":
        kind, tag = "9p", subject.sysfs.attribute(f"{one.path}/mount_tag")
    elif driver == "virtiofs":
        kind, tag = "virtiofs", _virtiofs_tag(subject, one)
    else:
        return
    mounts = [mount for mount in subject.surroundings.mounts if mount.fs_type == kind]
    if tag is None and mounts:
        subject.blind(f"{one.name} does not say its tag, so whether it is mounted is not known")
    for mount in mounts:
        if tag is not None and mount.source == tag.strip("\0"):
            where = " (as process 1 sees it)" if mount.elsewhere else ""
            yield Evidence(f"{one.name} ({mount.source}) is mounted on {mount.point} ({kind}){where}", one.path)


def _virtiofs_tag(subject: Subject, one: Below) -> str | None:
    """The tag of a virtiofs, which is in sysfs from Linux 6.9 on (``fs/fuse/virtio_fs.c``)."""
    for name in subject.sysfs.names(_VIRTIOFS):
        if subject.sysfs.link_name(f"{_VIRTIOFS}/{name}/device") == one.name:
            return subject.sysfs.attribute(f"{_VIRTIOFS}/{name}/tag")
    return None
