"""Memory of one device in the address space of another: dma-bufs in iommufd (``pages.c``, Linux 6.19).

A device in the address space then sends its requests to the other's base address, through the IOMMU and the root
complex.  When the dma-buf is revoked the mapping stays and leads nowhere, also when the memory comes back.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.process import Pin, ProcessMemory
from pyvfio_backends.software.linux.iommufd_pages import Pages
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.vfio_core import VfioCore
    from pyvfio_backends.software.linux.vfio_pci_dmabuf import DmaBuf

__all__ = ["DmaBufPages"]

_NOBODY = 0
"""A process number that none has."""


class _PeerMemory(Pin):
    """`length` bytes from `offset` of what `pages` show, as an IOMMU leads to them."""

    __slots__ = ("_offset", "_pages")

    def __init__(self, pages: DmaBufPages, offset: int, length: int) -> None:
        super().__init__(ProcessMemory(_NOBODY), 0, length, check=False)
        self._pages = pages
        self._offset = offset

    def read(self, offset: int, count: int) -> bytes:
        self._check(offset, count)
        return self._pages.load(self._offset + offset, count)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self._check(offset, len(data))
        self._pages.store(self._offset + offset, bytes(data))

    def copy_from(self, offset: int, source: Pin, source_offset: int, count: int) -> None:
        self.write(offset, source.read(source_offset, count))


class DmaBufPages(Pages):
    """The memory of `buffer` from the page with byte `start` on.

    Raise OSError EINVAL when `length` bytes from there are not all in it; else as `DmaBuf.attach`.
    """

    __slots__ = ("__weakref__", "_buffer", "_first", "_piece", "_revoked")

    def __init__(self, core: VfioCore, buffer: DmaBuf, start: int, length: int, writable: bool) -> None:
        super().__init__(core, ProcessMemory(_NOBODY), 0, writable, by_process=False)
        if buffer.size <= start + length - 1:
            raise fail(errno.EINVAL)
        self._first = self.origin = start - start % core.kernel.page_size
        self._buffer = buffer
        self._revoked = False
        self._piece = buffer.attach(self)

    def revoked(self) -> None:
        """See `Importer.revoked`."""
        self._revoked = True

    def hold(self, first: int, last: int) -> None:
        """See `Pages.hold`: nothing of it is locked memory."""

    def drop(self, first: int, last: int) -> None:
        """See `Pages.drop`."""

    def require(self, start: int, length: int) -> None:
        """See `Pages.require`, for mediated devices, which cannot pin it (EINVAL; Linux 6.19 forgot to refuse it)."""
        raise fail(errno.EINVAL)

    def require_access(self, first: int, length: int) -> None:
        """See `Pages.require_access`: it cannot be copied, either (``iopt_pages_rw_access``)."""
        raise fail(errno.EINVAL)

    def pin(self, start: int, length: int) -> Pin:
        """See `Pages.pin`: also of what is revoked, which leads nowhere."""
        return _PeerMemory(self, start - self.base, length)

    def load(self, position: int, count: int) -> bytes:
        """A device reads.  Raise OSError EFAULT when nobody answers."""
        self._require_memory()
        piece = self._piece
        return self._buffer.pdev.sysdata.peer_read(piece.bar, piece.offset + self._first + position, count)

    def store(self, position: int, data: bytes) -> None:
        """A device writes.  Raise OSError EFAULT when nobody takes it."""
        self._require_memory()
        piece = self._piece
        self._buffer.pdev.sysdata.peer_write(piece.bar, piece.offset + self._first + position, data)

    def _require_memory(self) -> None:
        if self._revoked:
            raise fail(errno.EFAULT)
