"""IOMMU_IOAS_MAP_FILE: pages of files in iommufd (``drivers/iommu/iommufd/ioas.c`` and ``pages.c``, Linux 6.13).

What is mapped stays although the program closes the file or ends.  Whether it is memory, and long enough, is only seen
when pages are pinned (``memfd_pin_folios``, EINVAL): at once with a device in the address space, else when one comes.
A file that is made shorter afterwards takes its pages from devices here; a kernel would keep them.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import iommufd as abi
from pyvfio.abi.iommufd_later import IoasMapFile
from pyvfio.errors import NotModelled
from pyvfio.process import FileMemory, MemoryFile, Pin, ProcessMemory
from pyvfio_backends.software.linux.iommufd_dmabuf import DmaBufPages
from pyvfio_backends.software.linux.iommufd_pages import Pages
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST
from pyvfio_backends.software.linux.tmpfs import OpenRegularFile
from pyvfio_backends.software.linux.vfio_pci_dmabuf import DmaBuf
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommufd import Command
    from pyvfio_backends.software.linux.vfio_core import VfioCore

__all__ = ["FilePages", "map_file"]

_RIGHTS = abi.IOMMU_IOAS_MAP_WRITEABLE | abi.IOMMU_IOAS_MAP_READABLE


class FilePages(Pages):
    """The pages of `file` from the one with byte `start` on, `length` bytes from there; None: no memory at all.

    They are in this process, which is the machine's, so that they do not go with the caller.
    """

    __slots__ = ("_file", "_first", "_mapped")

    def __init__(
        self,
        core: VfioCore,
        caller: ProcessMemory,
        file: MemoryFile | None,
        start: int,
        length: int,
        writable: bool,
        by_process: bool,
    ) -> None:
        super().__init__(core, caller, 0, writable, by_process)
        self._first = self.origin = start - start % core.kernel.page_size
        self._file = file
        self._mapped: FileMemory | None = None
        if file is not None and file.is_memory:
            self._mapped = self._map(file, start + length - self._first, writable)
        self.base = 0 if self._mapped is None else self._mapped.address
        self.caller = ProcessMemory()

    def _map(self, file: MemoryFile, length: int, writable: bool) -> FileMemory | None:
        end = self._first + -(-length // self._page) * self._page
        if file.huge and end > file.size:
            return None  # to map huge pages beyond the end would make the file longer
        try:
            return file.map(self._first, end - self._first, writable=writable)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise NotModelled("DMA to a file that this process may not write") from error
            return None  # it is longer than any file can be, which is seen when pages are pinned

    def require(self, start: int, length: int) -> None:
        """See `Pages.require`.  Raise OSError EINVAL for what is no memory, or not all of it."""
        at = self._first + start - self.base
        file = self._file
        if file is None or not file.is_memory or at + length > file.size:
            raise fail(errno.EINVAL)
        if self._mapped is None:
            raise NotModelled("DMA to a memory file that became longer after it was mapped, or is too long")

    def require_access(self, first: int, length: int) -> None:
        """See `Pages.require_access` (``iopt_pages_rw_slow``): its pages are pinned for it."""
        page = self._page
        start = first - first % page
        self.require(self.base + start, -(-(first + length) // page) * page - start)

    def pin(self, start: int, length: int) -> Pin | None:
        """See `Pages.pin`."""
        self.require(start, length)
        return Pin(self.caller, start, length, writable=self.writable)


def _check_range(start: int, length: int, page: int) -> None:
    if length and start + length - 1 > ADDRESS_LAST:
        raise fail(errno.EOVERFLOW)
    if not length or length > ADDRESS_LAST - page:
        raise fail(errno.EINVAL)


def map_file(command: Command, given: IoasMapFile) -> None:
    """IOMMU_IOAS_MAP_FILE."""
    if given.flags & ~(abi.IOMMU_IOAS_MAP_FIXED_IOVA | _RIGHTS):
        raise fail(errno.EOPNOTSUPP)
    if ADDRESS_LAST in (given.iova, given.length):
        raise fail(errno.EOVERFLOW)
    if not given.flags & _RIGHTS:
        raise fail(errno.EINVAL)
    context = command.context
    table = context.ioas(given.ioas_id).table
    start, length, page = given.start, given.length, context.core.kernel.page_size
    caller = command.argument.caller
    with_buffers = context.core.kernel.dma_buf
    if with_buffers:
        _check_range(start, length, page)  # 6.19 looks at the range first, 6.13 at the descriptor
    ours = context.core.file_of(given.fd)
    if isinstance(ours, OpenRegularFile):
        raise NotModelled("DMA to a file of the machine's own tmpfs")
    file = MemoryFile(given.fd, caller.pid) if ours is None else None
    _check_range(start, length, page)
    writable = bool(given.flags & abi.IOMMU_IOAS_MAP_WRITEABLE)
    pages: Pages
    if with_buffers and isinstance(ours, DmaBuf):
        pages = DmaBufPages(context.core, ours, start, length, writable)
    else:
        pages = FilePages(context.core, caller, file, start, length, writable, context.by_process)
    given.iova = table.map(
        [(pages, start % page, length)],
        given.iova if given.flags & abi.IOMMU_IOAS_MAP_FIXED_IOVA else None,
        read=bool(given.flags & abi.IOMMU_IOAS_MAP_READABLE),
        write=writable,
    )
    command.respond(given)
