"""The requests of iommufd that are about hardware page tables (``drivers/iommu/iommufd/hw_pagetable.c``).

The IOMMU drivers of s390 and of this machine have no nesting, no dirty bits and no page faults.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import iommufd as abi
from pyvfio.abi.layout import AbiStructure
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.iommufd_device import BoundDevice, HwPageTable, Ioas
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommufd import Command

__all__ = ["fault_alloc", "get_dirty_bitmap", "get_hw_info", "hwpt_alloc", "hwpt_invalidate", "set_dirty_tracking"]

_CHUNK = 1 << 16
_MOST_ENTRIES = 1 << 19


def _reserved(given: AbiStructure) -> int:
    value: int = getattr(given, "__reserved")
    return value


def hwpt_alloc(command: Command, given: abi.HwptAlloc) -> None:
    """IOMMU_HWPT_ALLOC: a table by hand; what needs a driver for nesting or dirty bits is EOPNOTSUPP."""
    context = command.context
    if _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    if (given.data_type == abi.IOMMU_HWPT_DATA_NONE) == bool(given.data_len):
        raise fail(errno.EINVAL)
    device = context.of(BoundDevice, given.dev_id)
    parent = context.objects.get(given.pt_id)
    if isinstance(parent, HwPageTable):
        raise fail(errno.EOPNOTSUPP)  # nesting needs an IOMMU driver with domain_alloc_user
    if not isinstance(parent, Ioas):
        raise fail(errno.EINVAL)
    if given.flags or given.data_len:
        raise fail(errno.EOPNOTSUPP)  # so do all flags
    table = HwPageTable(context, parent, automatic=False)
    try:
        table.fill(device.group.group)
        given.out_hwpt_id = table.id
        command.respond(given)
    except OSError:
        context.remove(table)
        raise


def get_hw_info(command: Command, given: abi.HwInfo) -> None:
    """IOMMU_GET_HW_INFO: the IOMMUs of the machine have nothing to tell, and clear the buffer."""
    if given.flags or any(bytes(getattr(given, "__reserved"))):
        raise fail(errno.EOPNOTSUPP)
    command.context.of(BoundDevice, given.dev_id)
    for done in range(0, given.data_len, _CHUNK):
        command.argument.caller.write(given.data_uptr + done, bytes(min(_CHUNK, given.data_len - done)))
    given.out_data_type = abi.IOMMU_HW_INFO_TYPE_NONE
    given.data_len = given.out_capabilities = given.out_max_pasid_log2 = 0
    command.respond(given)


def set_dirty_tracking(command: Command, given: abi.HwptSetDirtyTracking) -> None:
    """IOMMU_HWPT_SET_DIRTY_TRACKING."""
    if not given.flags & ~abi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE:
        command.context.of(HwPageTable, given.hwpt_id)
    raise fail(errno.EOPNOTSUPP)  # no IOMMU of the machine can


def get_dirty_bitmap(command: Command, given: abi.HwptGetDirtyBitmap) -> None:
    """IOMMU_HWPT_GET_DIRTY_BITMAP: the range is checked first."""
    if given.flags & ~abi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR or _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    table = command.context.of(HwPageTable, given.hwpt_id).ioas.table
    end = given.iova + (given.length - 1 & ADDRESS_LAST) + 1  # an empty range wraps, unless it begins at 0
    if end - 1 > ADDRESS_LAST:
        raise fail(errno.EOVERFLOW)
    if (given.iova | end) & (table.alignment - 1) or not given.page_size or (given.iova | end) & (given.page_size - 1):
        raise fail(errno.EINVAL)
    raise fail(errno.EOPNOTSUPP)


def hwpt_invalidate(command: Command, given: abi.HwptInvalidate) -> None:
    """IOMMU_HWPT_INVALIDATE: says that nothing was done, also when it fails."""
    code = errno.ENOENT  # there are no nested tables
    if _reserved(given):
        code = errno.EOPNOTSUPP
    elif given.entry_num and (
        not given.data_uptr
        or not given.entry_len
        or given.entry_len > command.context.core.kernel.page_size
        or given.entry_num > _MOST_ENTRIES
    ):
        code = errno.EINVAL
    given.entry_num = 0
    command.respond(given)
    raise fail(code)


def fault_alloc(command: Command, given: abi.FaultAlloc) -> None:
    """IOMMU_FAULT_QUEUE_ALLOC."""
    if given.flags:
        raise fail(errno.EOPNOTSUPP)
    raise NotModelled("page faults of devices (IOMMU_FAULT_QUEUE_ALLOC)")
