"""What VFIO_IOMMU_GET_INFO says of a type 1 IOMMU, with its chain of capabilities."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.layout import Capability, InfoCapHeader, build_capability_chain, native_struct, offset_of
from pyvfio_backends.software.linux.type1_dirty import DirtyPages
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.type1 import Type1

__all__ = ["answer_info"]

_INFO = native_struct(type1.IommuType1Info)
_MINIMUM = offset_of(type1.IommuType1Info, "cap_offset")
_HEADER_SIZE = native_struct(InfoCapHeader).size


def answer_info(iommu: Type1, argument: Argument) -> int:
    """Answer the request.  The chain only comes if there is room for all of it; else `argsz` says how much it needs.

    Raise OSError EINVAL for an argument without the page sizes, EFAULT.
    """
    argsz = _INFO.unpack(argument.read(0, _MINIMUM).ljust(_INFO.size, b"\0"))[0]
    if argsz < _MINIMUM:
        raise fail(errno.EINVAL)
    visible = min(argsz, _INFO.size)
    chain = build_capability_chain(_capabilities(iommu), _INFO.size)
    offset = 0
    if argsz < _INFO.size + len(chain):
        argsz = _INFO.size + len(chain)
    else:
        argument.write(_INFO.size, chain)
        offset = _INFO.size
    flags = type1.VFIO_IOMMU_INFO_PGSIZES | type1.VFIO_IOMMU_INFO_CAPS
    argument.write(0, _INFO.pack(argsz, flags, iommu.page_sizes, offset, 0)[:visible])
    return 0


def _capabilities(iommu: Type1) -> list[Capability]:
    migration = type1.IommuType1InfoCapMigration(
        pgsize_bitmap=iommu.page_size, max_dirty_bitmap_size=DirtyPages.MOST_BYTES
    )
    available = type1.IommuType1InfoDmaAvail(avail=iommu.available)
    found = [
        Capability(type1.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION, 1, bytes(migration)[_HEADER_SIZE:]),
        Capability(type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 1, bytes(available)[_HEADER_SIZE:]),
    ]
    if iommu.ranges:
        head = bytes(type1.IommuType1InfoCapIovaRange(nr_iovas=len(iommu.ranges)))[_HEADER_SIZE:]
        tail = b"".join(bytes(type1.IovaRange(start=start, end=last)) for start, last in iommu.ranges)
        found.append(Capability(type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 1, head + tail))
    return found
