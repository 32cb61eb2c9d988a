"""The requests of iommufd that are about address spaces (``drivers/iommu/iommufd/ioas.c``)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import iommufd as abi
from pyvfio.abi.layout import AbiStructure, native_struct
from pyvfio_backends.software.linux.iommufd_pages import Pages
from pyvfio_backends.software.linux.iommufd_tables import Ioas
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST, Ranges
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio.process import ProcessMemory
    from pyvfio_backends.software.linux.iommufd import Command, IommufdContext

__all__ = ["alloc", "allow_iovas", "copy", "huge_pages", "iova_ranges", "map_", "map_memory", "unmap"]

_RANGE = native_struct(abi.IovaRange)
_RIGHTS = abi.IOMMU_IOAS_MAP_WRITEABLE | abi.IOMMU_IOAS_MAP_READABLE


def _reserved(given: AbiStructure) -> int:
    value: int = getattr(given, "__reserved")
    return value


def alloc(command: Command, given: abi.IoasAlloc) -> None:
    """IOMMU_IOAS_ALLOC."""
    if given.flags:
        raise fail(errno.EOPNOTSUPP)
    ioas = Ioas(command.context)
    given.out_ioas_id = ioas.id
    try:
        command.respond(given)
    except OSError:
        command.context.remove(ioas)
        raise


def iova_ranges(command: Command, given: abi.IoasIovaRanges) -> None:
    """IOMMU_IOAS_IOVA_RANGES: EMSGSIZE when there are more than the caller has room for, `num_iovas` says how many."""
    if _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    table = command.context.ioas(given.ioas_id).table
    holes = table.holes()
    room = given.num_iovas
    for number, hole in enumerate(holes[:room]):
        command.argument.caller.write(given.allowed_iovas + number * _RANGE.size, _RANGE.pack(*hole))
    given.num_iovas = len(holes)
    given.out_iova_alignment = table.alignment
    command.respond(given)
    if len(holes) > room:
        raise fail(errno.EMSGSIZE)


def allow_iovas(command: Command, given: abi.IoasAllowIovas) -> None:
    """IOMMU_IOAS_ALLOW_IOVAS: EINVAL for an empty or an overlapping range, EADDRINUSE for a reserved one."""
    if _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    table = command.context.ioas(given.ioas_id).table
    ranges: Ranges = []
    for number in range(given.num_iovas):
        data = command.argument.caller.read(given.allowed_iovas + number * _RANGE.size, _RANGE.size)
        start, last = _RANGE.unpack(data)
        if start >= last or any(a <= last and b >= start for a, b in ranges):
            raise fail(errno.EINVAL)
        ranges.append((start, last))
    table.allow(ranges)


def map_memory(
    context: IommufdContext,
    ioas: Ioas,
    caller: ProcessMemory,
    address: int,
    length: int,
    iova: int | None,
    *,
    read: bool,
    write: bool,
    by_process: bool,
) -> int:
    """Map memory of the caller; the address.  Raise OSError as `IoPageTable.map` (``iopt_map_user_pages``)."""
    if not length or length > ADDRESS_LAST - context.core.kernel.page_size:
        raise fail(errno.EINVAL)
    if address + length > ADDRESS_LAST:
        raise fail(errno.EOVERFLOW)
    pages = Pages(context.core, caller, address, write, by_process)
    return ioas.table.map([(pages, address - pages.base, length)], iova, read=read, write=write)


def map_(command: Command, given: abi.IoasMap) -> None:
    """IOMMU_IOAS_MAP."""
    if given.flags & ~(abi.IOMMU_IOAS_MAP_FIXED_IOVA | _RIGHTS) or _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    if given.iova >= ADDRESS_LAST or given.length >= ADDRESS_LAST:
        raise fail(errno.EOVERFLOW)
    if not given.flags & _RIGHTS:
        raise fail(errno.EINVAL)
    context = command.context
    given.iova = map_memory(
        context,
        context.ioas(given.ioas_id),
        command.argument.caller,
        given.user_va,
        given.length,
        given.iova if given.flags & abi.IOMMU_IOAS_MAP_FIXED_IOVA else None,
        read=bool(given.flags & abi.IOMMU_IOAS_MAP_READABLE),
        write=bool(given.flags & abi.IOMMU_IOAS_MAP_WRITEABLE),
        by_process=context.by_process,
    )
    command.respond(given)


def copy(command: Command, given: abi.IoasCopy) -> None:
    """IOMMU_IOAS_COPY."""
    if given.flags & ~(abi.IOMMU_IOAS_MAP_FIXED_IOVA | _RIGHTS):
        raise fail(errno.EOPNOTSUPP)
    if ADDRESS_LAST in (given.length, given.src_iova, given.dst_iova):
        raise fail(errno.EOVERFLOW)
    if not given.flags & _RIGHTS:
        raise fail(errno.EINVAL)
    slices = command.context.ioas(given.src_ioas_id).table.slices(given.src_iova, given.length)
    given.dst_iova = command.context.ioas(given.dst_ioas_id).table.map(
        slices,
        given.dst_iova if given.flags & abi.IOMMU_IOAS_MAP_FIXED_IOVA else None,
        read=bool(given.flags & abi.IOMMU_IOAS_MAP_READABLE),
        write=bool(given.flags & abi.IOMMU_IOAS_MAP_WRITEABLE),
    )
    command.respond(given)


def unmap(command: Command, given: abi.IoasUnmap) -> None:
    """IOMMU_IOAS_UNMAP: ENOENT when nothing is there or an area would be cut; 0 and 2**64-1 mean everything."""
    table = command.context.ioas(given.ioas_id).table
    if given.iova == 0 and given.length == ADDRESS_LAST:
        unmapped, code = table.unmap_range(0, ADDRESS_LAST)
        if code:
            raise fail(code)
    else:
        if ADDRESS_LAST in (given.iova, given.length):
            raise fail(errno.EOVERFLOW)
        unmapped = table.unmap(given.iova, given.length)
        if not unmapped:
            raise fail(errno.ENOENT)
    given.length = unmapped
    command.respond(given)


def huge_pages(command: Command, given: abi.Option) -> None:
    """IOMMU_OPTION_HUGE_PAGES; the answer is left in `given`."""
    table = command.context.ioas(given.object_id).table
    if given.op == abi.IOMMU_OPTION_OP_GET:
        given.val64 = int(table.large_pages)
    elif given.op != abi.IOMMU_OPTION_OP_SET:
        raise fail(errno.EOPNOTSUPP)
    elif given.val64 not in (0, 1):
        raise fail(errno.EINVAL)
    else:
        table.use_large_pages(bool(given.val64))
