"""Memory that is a file, in an address space: by the file itself where the kernel can, else mapped here first.

iommufd takes ranges of a memory file (``memfd_create``, tmpfs, huge pages) from Linux 6.13 on, and those of a dma-buf
of a VFIO device's memory from 6.19 on (``IOMMU_IOAS_MAP_FILE``).  Containers, and older kernels, know only addresses of
this process.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from pyvfio.causes import Cause
from pyvfio.errors import Misuse, PyvfioError, from_oserror
from pyvfio.iommu.address_space import IommuTable, Mapping
from pyvfio.process import FileMemory, MemoryFile

__all__ = ["FileMapping", "FileTable", "place_file", "refused_file"]

_LAST_OFFSET = (1 << 63) - 1
_LAST_DESCRIPTOR = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class FileMapping(Mapping):
    """`length` bytes from `offset` of a file, which the device sees at `iova`.

    With `by_file` the kernel took the file, and `address` is 0.  Otherwise it is mapped at `address` of this process as
    long as this object, or the address space, has it (`memory`).
    """

    offset: int = 0
    by_file: bool = False
    memory: FileMemory | None = field(default=None, repr=False, compare=False)


@runtime_checkable
class FileTable(Protocol):
    """What the `IommuTable` of iommufd does besides."""

    def map_file(self, fd: int, offset: int, mapping: Mapping) -> bool:
        """Make a mapping of a file.  False, and nothing is done, where this kernel knows only addresses."""


def place_file(table: IommuTable, fd: int, offset: int, mapping: Mapping) -> FileMapping:
    """Map a range of a file by the way that there is; `mapping` says where, its address counts for nothing.

    Raise `Misuse` for a file that cannot be mapped here, else the class for the errno.
    """
    if abs(fd) > _LAST_DESCRIPTOR:  # the kernel's argument has 32 bits, which could be another one's number
        raise Misuse("map file for DMA", table.name, errno=errno.EBADF, cause=f"{fd} is no open descriptor")
    if not 0 <= offset <= _LAST_OFFSET:
        raise Misuse("map file for DMA", table.name, cause=f"{offset:#x} is no offset in a file")
    place = (mapping.iova, mapping.length)
    rights = (mapping.read, mapping.write)
    if isinstance(table, FileTable) and table.map_file(fd, offset, mapping):
        return FileMapping(*place, 0, *rights, offset=offset, by_file=True)
    memory = _map_here(table.name, fd, offset, mapping)
    found = FileMapping(*place, memory.address, *rights, offset=offset, memory=memory)
    table.map(found)
    return found


def _map_here(name: str, fd: int, offset: int, mapping: Mapping) -> FileMemory:
    try:
        file = MemoryFile(fd)
    except OSError as error:
        raise from_oserror(error, "map file for DMA", name, cause=f"{fd} is no open descriptor") from error
    try:
        why = _of_file(file, offset, mapping.length)
        if why.sentence:
            raise Misuse("map file for DMA", name, cause=why.sentence, next_step=why.next_step)
        return file.map(offset, mapping.length, writable=mapping.write)
    except OSError as error:
        raise from_oserror(error, "map file for DMA", name, cause="this process cannot map it") from error
    finally:
        file.close()


def _of_file(file: MemoryFile, offset: int, length: int) -> Cause:
    if not file.is_memory:
        return Cause("the file is no memory", "take one of memfd_create(), of a tmpfs, or of huge pages")
    if length <= 0:
        return Cause("the length is zero")
    if offset + length > file.size:
        sentence = f"the file has {file.size:#x} bytes, and {offset:#x} to {offset + length - 1:#x} are to be mapped"
        return Cause(sentence, "make it longer first (ftruncate)")
    return Cause()


def refused_file(error: PyvfioError, fd: int, offset: int, length: int) -> Cause:
    """Why the kernel refused a file, if the file is to blame."""
    if error.errno == errno.EBADF:
        return Cause(f"{fd} is no open descriptor")
    if error.errno == errno.ENODEV:
        return Cause(
            "the dma-buf was revoked: its device was reset, sleeps or does not decode memory",
            "map it when the device's memory is reached again",
        )
    if error.errno == errno.EOPNOTSUPP:
        return Cause("iommufd takes a dma-buf of one piece of a VFIO device's memory, and no other dma-buf")
    if error.errno != errno.EINVAL:
        return Cause()
    try:
        return _of_file(MemoryFile(fd), offset, length)
    except OSError:
        return Cause()
