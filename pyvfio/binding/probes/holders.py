"""LVM, md, ZFS, multipath or another part of the kernel uses one of the disks.

Looks at ``holders/`` of the disks and partitions, at loop devices over them, at bcache, at the label of a ZFS pool that
is imported, and at last asks the kernel: opening a block device with ``O_EXCL`` fails with EBUSY while a part of the
kernel has claimed it (``bd_may_claim()``, ``block/bdev.c``).  Nothing is written, and the claim ends with the open.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from pyvfio.binding.findings import Evidence
from pyvfio.binding.probes.blocks import Block
from pyvfio.binding.probes.node import examine
from pyvfio.binding.probes.subject import Subject, error_name

__all__ = ["SUMMARY", "look"]

SUMMARY = "another block device or a part of the kernel uses a disk of it"

_POOLS = "/proc/spl/kstat/zfs"


def look(subject: Subject) -> Iterator[Evidence]:
    """See `ProbeModule.look`."""
    stack, sysfs = subject.blocks, subject.sysfs
    explained: set[str] = set()
    for upper in stack.uppers:
        under = upper.under
        if under is not None and not upper.name.startswith(under.name):
            _explain(under, explained)
            kind = f" ({upper.kind})" if upper.kind else ""
            yield Evidence(f"{upper.title} stands on {under.where}{kind}", upper.node)
    for block in stack.own:
        path = f"{block.path}/bcache"
        if sysfs.exists(path):
            _explain(block, explained)
            yield Evidence(f"{block.where} is registered with bcache", path)
    for evidence, block in _pools(subject):
        _explain(block, explained)
        yield evidence
    yield from _claimed(subject, explained)


def _explain(block: Block | None, explained: set[str]) -> None:
    """A claim of a partition is one of its disk, too."""
    while block is not None:
        explained.add(block.name)
        block = block.under


def _pools(subject: Subject) -> Iterator[tuple[Evidence, Block]]:
    if not subject.sysfs.exists(_POOLS):
        return
    from pyvfio.binding.probes.zfs import pool_of

    for block in subject.blocks.own:
        pool = examine(subject, block, lambda node: pool_of(node.read, node.size))
        if pool and subject.sysfs.exists(f"{_POOLS}/{pool}"):
            yield Evidence(f"{block.where} belongs to the ZFS pool {pool}, which is imported", block.node), block


def _claimed(subject: Subject, explained: set[str]) -> Iterator[Evidence]:
    around, stack = subject.surroundings, subject.blocks
    for _, block in stack.mounts():
        _explain(block, explained)
    for swap in around.swaps:
        _explain(stack.find(swap.path), explained)
    for block in sorted(stack.own, key=lambda one: one.under is None):  # partitions before their disks
        if block.name not in explained and block.node and _is_claimed(subject, block):
            _explain(block, explained)
            yield Evidence(f"a part of the kernel has {block.where} for itself (EBUSY)", block.node)


def _is_claimed(subject: Subject, block: Block) -> bool:
    backend = subject.sysfs.backend
    try:
        fd = backend.open(block.node, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        if error.errno != errno.ENOMEDIUM:
            subject.blind(f"{block.node} could not be opened ({error_name(error)})")
        return False
    backend.close(fd)
    return False
