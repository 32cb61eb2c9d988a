"""A block device's node, open for reading."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TypeVar

from pyvfio.backend import Backend
from pyvfio.binding.probes.blocks import Block
from pyvfio.binding.probes.subject import Subject, error_name

__all__ = ["BlockNode", "examine"]

_T = TypeVar("_T")
_SECTOR = 512
"""Bytes that ``size`` in sysfs counts in, whatever the device's own blocks are."""
_NO_MEDIUM = (errno.ENOMEDIUM, errno.ENXIO)


class BlockNode:
    """The open node of a block device of `size` bytes."""

    def __init__(self, backend: Backend, fd: int, size: int) -> None:
        self._backend = backend
        self._fd = fd
        self.size = size

    def read(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; nothing outside the device.  Raise OSError."""
        if not 0 <= offset < self.size:
            return b""
        parts = []
        while count > 0 and (part := self._backend.pread(self._fd, count, offset)):
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return b"".join(parts)


def examine(subject: Subject, block: Block, question: Callable[[BlockNode], _T]) -> _T | None:
    """The answer to `question`, which reads the node; None without a medium.

    None as well when the node cannot be opened or read, which is noted as unseen.
    """
    size = subject.sysfs.attribute(f"{block.path}/size")
    if size is None:
        subject.blind(f"the size of {block.name} is not known")
        return None
    sectors = int(size or "0")
    if not sectors:
        return None
    backend = subject.sysfs.backend
    node = block.node or f"/dev/{block.name}"
    try:
        fd = backend.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return question(BlockNode(backend, fd, sectors * _SECTOR))
        finally:
            backend.close(fd)
    except OSError as error:
        if error.errno not in _NO_MEDIUM:
            subject.blind(f"{node} could not be read ({error_name(error)})")
        return None
