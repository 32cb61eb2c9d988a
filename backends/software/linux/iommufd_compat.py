"""The requests of a VFIO container on ``/dev/iommu`` (``drivers/iommu/iommufd/vfio_compat.c``).

They work on the address space of IOMMU_VFIO_IOAS, which a group makes when it is put into the file.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.layout import InfoCapHeader, native_struct, offset_of
from pyvfio_backends.software.linux.iommufd_ioas import map_memory
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommufd import IommufdContext

__all__ = ["ioctl"]

_MAP, _UNMAP = type1.PACK_DMA_MAP, type1.PACK_DMA_UNMAP
_INFO = native_struct(type1.IommuType1Info)
_HEADER = native_struct(InfoCapHeader)
_AVAILABLE = native_struct(type1.IommuType1InfoDmaAvail)
_RANGES = native_struct(type1.IommuType1InfoCapIovaRange)
_RANGE = native_struct(type1.IovaRange)
_READ, _WRITE = type1.VFIO_DMA_MAP_FLAG_READ, type1.VFIO_DMA_MAP_FLAG_WRITE
_NO_LIMIT = (1 << 32) - 1
_OFFERED = (abi.VFIO_TYPE1_IOMMU, abi.VFIO_TYPE1v2_IOMMU, abi.VFIO_UNMAP_ALL)


def ioctl(context: IommufdContext, request: int, argument: Argument) -> int:
    """Answer a request that is not iommufd's own.  Raise OSError, ENOTTY for an unknown one."""
    if request == abi.VFIO_GET_API_VERSION:
        return abi.VFIO_API_VERSION
    if request == abi.VFIO_CHECK_EXTENSION:
        return _check_extension(context, argument.value)
    if request == abi.VFIO_SET_IOMMU:
        return _set_iommu(context, argument.value)
    if request == type1.VFIO_IOMMU_GET_INFO:
        return _get_info(context, argument)
    if request == type1.VFIO_IOMMU_MAP_DMA:
        return _map(context, argument)
    if request == type1.VFIO_IOMMU_UNMAP_DMA:
        return _unmap(context, argument)
    raise fail(errno.ENOTTY)


def _check_extension(context: IommufdContext, extension: int) -> int:
    if extension == abi.VFIO_DMA_CC_IOMMU:
        return int(all(table.coherent for table in context.compat_ioas().tables))
    if extension == abi.VFIO_NOIOMMU_IOMMU:
        return int(context.core.can_do_without)
    return int(extension in _OFFERED and not context.without_iommu)


def _set_iommu(context: IommufdContext, kind: int) -> int:
    if context.without_iommu and kind == abi.VFIO_NOIOMMU_IOMMU:
        if not context.core.kernel.raw_io:
            raise fail(errno.EPERM)
        return 0
    if kind not in (abi.VFIO_TYPE1_IOMMU, abi.VFIO_TYPE1v2_IOMMU) or context.without_iommu:
        raise fail(errno.EINVAL)
    ioas = context.compat_ioas()
    if kind == abi.VFIO_TYPE1_IOMMU and ioas.table.large_pages:
        ioas.table.use_large_pages(False)  # so that an unmap can cut a mapping
    return 0


def _map(context: IommufdContext, argument: Argument) -> int:
    argsz, flags, vaddr, iova, size = _MAP.unpack(argument.read(0, _MAP.size))
    if argsz < _MAP.size or flags & ~(_READ | _WRITE):
        raise fail(errno.EINVAL)
    ioas = context.compat_ioas()
    map_memory(
        context,
        ioas,
        argument.caller,
        vaddr,
        size,
        iova,
        read=bool(flags & _READ),
        write=bool(flags & _WRITE),
        by_process=context.by_process,
    )
    return 0


def _unmap(context: IommufdContext, argument: Argument) -> int:
    argsz, flags, iova, size = _UNMAP.unpack(argument.read(0, _UNMAP.size))
    if argsz < _UNMAP.size or flags & ~type1.VFIO_DMA_UNMAP_FLAG_ALL:
        raise fail(errno.EINVAL)
    table = context.compat_ioas().table
    unmapped, code = 0, 0
    if flags & type1.VFIO_DMA_UNMAP_FLAG_ALL:
        if iova or size:
            raise fail(errno.EINVAL)
        unmapped, code = table.unmap_range(0, ADDRESS_LAST)
    else:
        if not table.large_pages:
            table.cut((iova + size - 1) & ADDRESS_LAST)
            if iova:
                table.cut(iova - 1)
        if not size:
            code = errno.EINVAL
        elif iova + size - 1 > ADDRESS_LAST:
            code = errno.EOVERFLOW
        else:
            unmapped, code = table.unmap_range(iova, iova + size - 1)
    # Unlike type 1, this says what was unmapped also when it fails.
    argument.write(0, _UNMAP.pack(argsz, flags, iova, unmapped))
    if code:
        raise fail(code)
    return 0


def _page_sizes(context: IommufdContext) -> int:
    table = context.compat_ioas().table
    page = context.core.kernel.page_size
    sizes = ADDRESS_LAST
    for group in table.domains.values():
        sizes &= group.page_sizes or page
    if sizes & (page - 1):
        sizes = sizes & ~(page - 1) | page
    return max(sizes, table.alignment)


def _get_info(context: IommufdContext, argument: Argument) -> int:
    minimum = offset_of(type1.IommuType1Info, "cap_offset")
    argsz = _INFO.unpack(argument.read(0, minimum).ljust(_INFO.size, b"\0"))[0]
    if argsz < minimum:
        raise fail(errno.EINVAL)
    visible = min(argsz, _INFO.size)
    holes = context.compat_ioas().table.holes()
    total = _INFO.size
    # Each capability is written if it fits; the chain is only linked if the whole one fits.
    available = _AVAILABLE.pack(type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 1, 0, _NO_LIMIT)
    if argsz >= total + len(available):
        argument.write(total, available)
    first, total = total, total + -(-len(available) // 8) * 8
    ranges = b"".join(_RANGE.pack(*hole) for hole in holes)
    head = _RANGES.pack(type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 1, 0, len(holes), 0)
    fitting = max(0, argsz - total - _RANGES.size) // _RANGE.size
    if argsz > total:
        if fitting:
            argument.write(total + _RANGES.size, ranges[: fitting * _RANGE.size])
        if argsz >= total + len(head) + len(ranges):
            argument.write(total, head)
    if argsz >= total:
        argument.write(first + offset_of(InfoCapHeader, "next"), total.to_bytes(4, sys.byteorder))
    total += len(head) + len(ranges)
    offset = _INFO.size if argsz >= total else 0
    flags = type1.VFIO_IOMMU_INFO_PGSIZES | type1.VFIO_IOMMU_INFO_CAPS
    argument.write(0, _INFO.pack(total, flags, _page_sizes(context), offset, 0)[:visible])
    return 0
