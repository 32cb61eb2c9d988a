"""The requests of iommufd that are about hardware page tables (``drivers/iommu/iommufd/hw_pagetable.c``).

There are no page faults; dirty bits and tables of programs, where `IommuAbilities` says so.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import iommufd as abi
from pyvfio.abi.layout import AbiStructure
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.iommufd_device import BoundDevice
from pyvfio_backends.software.linux.iommufd_tables import HwPageTable, Ioas, IommufdObject, NestedPageTable
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio.process import ProcessMemory
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd import Command

__all__ = ["fault_alloc", "get_dirty_bitmap", "get_hw_info", "hwpt_alloc", "hwpt_invalidate", "set_dirty_tracking"]

_CHUNK = 1 << 16
_MOST_ENTRIES = 1 << 19


def _reserved(given: AbiStructure) -> int:
    value: int = getattr(given, "__reserved")
    return value


def hwpt_alloc(command: Command, given: abi.HwptAlloc) -> None:
    """IOMMU_HWPT_ALLOC: a table by hand; what the IOMMU cannot is EOPNOTSUPP."""
    context = command.context
    if _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    if (given.data_type == abi.IOMMU_HWPT_DATA_NONE) == bool(given.data_len):
        raise fail(errno.EINVAL)
    device = context.of(BoundDevice, given.dev_id)
    group = device.group.group
    parent = context.objects.get(given.pt_id)
    if isinstance(parent, HwPageTable):
        _finish(command, given, _nested(command, given, parent, group))
        return
    if not isinstance(parent, Ioas):
        raise fail(errno.EINVAL)
    dirty = bool(given.flags & abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING)
    nest = bool(given.flags & abi.IOMMU_HWPT_ALLOC_NEST_PARENT)
    if given.flags & ~(abi.IOMMU_HWPT_ALLOC_DIRTY_TRACKING | abi.IOMMU_HWPT_ALLOC_NEST_PARENT) or given.data_len:
        raise fail(errno.EOPNOTSUPP)
    if nest and group.abilities.nesting is None:
        raise fail(errno.EOPNOTSUPP)
    if dirty and not (group.abilities.user_domains and group.abilities.tracks_dirty):
        raise fail(errno.EOPNOTSUPP)
    table = HwPageTable(context, parent, group, automatic=False, dirty=dirty, nest_parent=nest)
    try:
        table.fill()
    except OSError:
        context.remove(table)
        raise
    _finish(command, given, table)


def _finish(command: Command, given: abi.HwptAlloc, table: IommufdObject) -> None:
    """Tell the number.  Raise OSError ENOENT for a fault queue that is not there, EFAULT; the table is gone then."""
    try:
        if given.flags & abi.IOMMU_HWPT_FAULT_ID_VALID:
            raise fail(errno.ENOENT)  # there are no fault queues
        given.out_hwpt_id = table.id
        command.respond(given)
    except OSError:
        command.context.remove(table)
        raise


def _nested(command: Command, given: abi.HwptAlloc, parent: HwPageTable, group: IommuGroup) -> NestedPageTable:
    """A program's table in another (`iommufd_hwpt_nested_alloc`)."""
    abilities = group.abilities
    if given.flags & ~abi.IOMMU_HWPT_FAULT_ID_VALID or not given.data_len or not abilities.user_domains:
        raise fail(errno.EOPNOTSUPP)
    if not parent.nest_parent:
        raise fail(errno.EINVAL)
    if abilities.nesting is None:
        raise fail(errno.EOPNOTSUPP)

    def read(least: int, most: int) -> bytes:
        return _read(command.argument.caller, given.data_uptr, given.data_len, least, most)

    domain = abilities.nesting.allocate(parent, given.data_type, read)
    return NestedPageTable(command.context, parent, domain)


def _read(caller: ProcessMemory, address: int, length: int, least: int, most: int) -> bytes:
    """A driver's data (`__iommu_copy_struct_from_user`).  Raise OSError EINVAL for its length, EFAULT."""
    if not least <= length <= most:
        raise fail(errno.EINVAL)
    return caller.read(address % (1 << 64), length).ljust(most, b"\0")


def get_hw_info(command: Command, given: abi.HwInfo) -> None:
    """IOMMU_GET_HW_INFO: as much as there is room for; what is left of the buffer is cleared."""
    if given.flags or any(bytes(getattr(given, "__reserved"))):
        raise fail(errno.EOPNOTSUPP)
    abilities = command.context.of(BoundDevice, given.dev_id).group.group.abilities
    kind, data = abilities.hardware
    caller = command.argument.caller
    if data[: given.data_len]:
        caller.write(given.data_uptr, data[: given.data_len])
    for done in range(len(data), given.data_len, _CHUNK):
        caller.write(given.data_uptr + done, bytes(min(_CHUNK, given.data_len - done)))
    given.out_data_type, given.data_len = kind, len(data)
    given.out_capabilities = abi.IOMMU_HW_CAP_DIRTY_TRACKING if abilities.tracks_dirty else 0
    given.out_max_pasid_log2 = 0
    command.respond(given)


def set_dirty_tracking(command: Command, given: abi.HwptSetDirtyTracking) -> None:
    """IOMMU_HWPT_SET_DIRTY_TRACKING: EOPNOTSUPP for a table that was not made for it."""
    if given.flags & ~abi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE:
        raise fail(errno.EOPNOTSUPP)
    dirty = command.context.of(HwPageTable, given.hwpt_id).dirty
    if dirty is None:
        raise fail(errno.EOPNOTSUPP)
    dirty.track(bool(given.flags & abi.IOMMU_HWPT_DIRTY_TRACKING_ENABLE))


def get_dirty_bitmap(command: Command, given: abi.HwptGetDirtyBitmap) -> None:
    """IOMMU_HWPT_GET_DIRTY_BITMAP: bits are added to the caller's; what is reported is clean then.

    EINVAL unless all of the range is mapped and tracking is on.
    """
    if given.flags & ~abi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR or _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    table = command.context.of(HwPageTable, given.hwpt_id)
    space = table.ioas.table
    end = given.iova + (given.length - 1 & ADDRESS_LAST) + 1  # an empty range wraps, unless it begins at 0
    if end - 1 > ADDRESS_LAST:
        raise fail(errno.EOVERFLOW)
    if (given.iova | end) & (space.alignment - 1) or not given.page_size or (given.iova | end) & (given.page_size - 1):
        raise fail(errno.EINVAL)
    if table.dirty is None:
        raise fail(errno.EOPNOTSUPP)
    if not table.dirty.tracking:
        raise fail(errno.EINVAL)
    try:
        space.slices(given.iova, end - given.iova)
    except OSError as error:
        raise fail(errno.EINVAL) from error
    clear = not given.flags & abi.IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR
    page = command.context.core.kernel.page_size
    caller = command.argument.caller
    bits: dict[int, int] = {}
    for number in table.dirty.take(given.iova, end - 1, clear=clear):
        for at in range(max(number * page, given.iova), min((number + 1) * page, end), min(page, given.page_size)):
            bit = (at - given.iova) // given.page_size
            bits[bit // 8] = bits.get(bit // 8, 0) | 1 << bit % 8
    for place, value in bits.items():
        (before,) = caller.read(given.data + place, 1)
        caller.write(given.data + place, bytes((before | value,)))


def hwpt_invalidate(command: Command, given: abi.HwptInvalidate) -> None:
    """IOMMU_HWPT_INVALIDATE: says how many entries were done, also when it fails."""
    done, code = 0, 0
    kernel = command.context.core.kernel
    table = command.context.objects.get(given.hwpt_id)
    if _reserved(given):
        code = errno.EOPNOTSUPP
    elif given.entry_num and (
        not given.data_uptr
        or not given.entry_len
        or given.entry_len > kernel.page_size
        or given.entry_num > _MOST_ENTRIES
    ):
        code = errno.EINVAL
    elif not isinstance(table, NestedPageTable):
        code = errno.ENOENT
    else:
        caller = command.argument.caller

        def read(number: int, least: int, most: int) -> bytes:
            return _read(caller, given.data_uptr + given.entry_len * number, given.entry_len, least, most)

        done, code = table.domain.invalidate(given.data_type, given.entry_num, read)
    given.entry_num = done
    command.respond(given)
    if code:
        raise fail(code)


def fault_alloc(command: Command, given: abi.FaultAlloc) -> None:
    """IOMMU_FAULT_QUEUE_ALLOC."""
    if given.flags:
        raise fail(errno.EOPNOTSUPP)
    raise NotModelled("page faults of devices (IOMMU_FAULT_QUEUE_ALLOC)")
