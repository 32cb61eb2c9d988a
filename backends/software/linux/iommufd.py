"""``/dev/iommu``: contexts, their objects, and the grammar of the requests (``drivers/iommu/iommufd/main.c``).

Every argument begins with its size.  A shorter one than the first version of the request is EINVAL, a longer one is
E2BIG unless what the kernel does not know is zero, and what is reserved must be zero (EOPNOTSUPP).
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pyvfio.abi import iommufd as abi
from pyvfio.abi import iommufd_later as later
from pyvfio.abi.layout import AbiStructure, offset_of
from pyvfio_backends.software.linux import iommufd_compat, iommufd_files, iommufd_hwpt, iommufd_ioas
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.iommufd_access import Access
from pyvfio_backends.software.linux.iommufd_device import BoundDevice, BoundGroup
from pyvfio_backends.software.linux.iommufd_tables import Ioas, IommufdObject
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd_device import Binding
    from pyvfio_backends.software.linux.vfio_core import VfioCore, VfioDevice

__all__ = ["Command", "IommufdContext", "IommufdFile"]

_SIZE = struct.Struct("=I")
_CHUNK = 1 << 16
_O = TypeVar("_O", bound=IommufdObject)
_S = TypeVar("_S", bound=AbiStructure)


class Command(NamedTuple):
    """One request as it came: the context, where the argument is and how long the caller said it is."""

    context: IommufdContext
    argument: Argument
    size: int

    def respond(self, answer: AbiStructure) -> None:
        """Copy the answer back, as much as the caller's argument has room for.  Raise OSError EFAULT."""
        self.argument.write(0, bytes(answer)[: self.size])


class IommufdContext:
    """What an open ``/dev/iommu`` holds: objects by number, and the groups of its devices.

    It lives as long as the file or a device that was bound to it.  `compat` is the address space of the VFIO
    container requests, `by_process` says how locked pages are accounted; `without_iommu`: a group that has none is in
    it.
    """

    def __init__(self, core: VfioCore) -> None:
        self.core = core
        self.objects: dict[int, IommufdObject] = {}
        self.groups: dict[IommuGroup, BoundGroup] = {}
        self.compat: Ioas | None = None
        self.by_process = False
        self.without_iommu = False
        self._references = 1
        core.hold("iommufd")

    def hold(self) -> None:
        """One more user of the file."""
        self._references += 1

    def release(self) -> None:
        """One user less; with the last one all objects go, those first that no other needs."""
        self._references -= 1
        if self._references:
            return
        while free := [item for item in self.objects.values() if item.users == 1]:
            for item in free:
                if item.users == 1 and self.objects.pop(item.id, None) is item:
                    item.destroy()
        self.core.hold("iommufd", -1)

    # objects

    def add(self, item: IommufdObject) -> int:
        """Give an object the lowest free number, from 1 on."""
        number = 1
        while number in self.objects:
            number += 1
        self.objects[number] = item
        return number

    def get(self, number: int) -> IommufdObject:
        """The object of a number.  Raise OSError ENOENT."""
        found = self.objects.get(number)
        if found is None:
            raise fail(errno.ENOENT)
        return found

    def of(self, kind: type[_O], number: int) -> _O:
        """The object of a number if it is of this kind.  Raise OSError ENOENT."""
        found = self.objects.get(number)
        if not isinstance(found, kind):
            raise fail(errno.ENOENT)
        return found

    def ioas(self, number: int) -> Ioas:
        """The address space of a number.  Raise OSError ENOENT."""
        return self.of(Ioas, number)

    def remove(self, item: IommufdObject) -> None:
        """Destroy an object.  Raise OSError EBUSY when it has users."""
        if item.users != 1:
            raise fail(errno.EBUSY)
        del self.objects[item.id]
        if self.compat is item:
            self.compat = None
        item.destroy()

    # for VFIO

    def bind(self, device: VfioDevice) -> int:
        """Bind a device; its number.  Raise OSError EPERM when its DMA has another owner."""
        binding: Binding = Access(self, device) if device.emulated else BoundDevice(self, device)
        device.iommufd = binding
        return binding.id

    def make_compat_ioas(self) -> None:
        """A group was put into this file: it needs an address space for the container requests.

        Raise OSError EINVAL when there is a group without an IOMMU.
        """
        if self.compat is not None:
            return
        if self.without_iommu:
            raise fail(errno.EINVAL)
        self.compat = Ioas(self)

    def do_without_iommu(self) -> None:
        """A group without an IOMMU was put into this file.  Raise OSError EINVAL when there is an address space."""
        if self.compat is not None:
            raise fail(errno.EINVAL)
        self.without_iommu = True

    def compat_ioas(self) -> Ioas:
        """That address space.  Raise OSError ENODEV."""
        if self.compat is None:
            raise fail(errno.ENODEV)
        return self.compat


class IommufdFile(File):
    """An open ``/dev/iommu``."""

    __slots__ = ("_operations", "context")

    def __init__(self, core: VfioCore) -> None:
        self.context = IommufdContext(core)
        self._operations = _WITH_FILES if core.kernel.map_file else _OPERATIONS

    def release(self) -> None:
        self.context.release()

    def ioctl(self, request: int, argument: Argument) -> int:
        operation = self._operations.get(request)
        if operation is None:
            # A number of iommufd with another type or direction, or a request of a VFIO container.
            if (request & 0xFF) - abi.IOMMUFD_CMD_BASE in range(len(self._operations)):
                raise fail(errno.ENOTTY)
            return iommufd_compat.ioctl(self.context, request, argument)
        structure, minimum, execute = operation
        (size,) = _SIZE.unpack(argument.read(0, _SIZE.size))
        if size < minimum:
            raise fail(errno.EINVAL)
        known = ctypes.sizeof(structure)
        data = argument.read(0, min(size, known)).ljust(known, b"\0")
        for at in range(known, size, _CHUNK):
            if any(argument.read(at, min(_CHUNK, size - at))):
                raise fail(errno.E2BIG)
        execute(Command(self.context, argument, size), structure.from_buffer_copy(data))
        return 0


# ---- requests that are not about an address space ----------------------------------------------------------------


def _destroy(command: Command, given: abi.Destroy) -> None:
    command.context.remove(command.context.get(given.id))


def _option(command: Command, given: abi.Option) -> None:
    context = command.context
    if _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    if given.option_id == abi.IOMMU_OPTION_HUGE_PAGES:
        iommufd_ioas.huge_pages(command, given)
    elif given.option_id != abi.IOMMU_OPTION_RLIMIT_MODE or given.object_id:
        raise fail(errno.EOPNOTSUPP)
    elif given.op == abi.IOMMU_OPTION_OP_GET:
        given.val64 = int(context.by_process)
    elif given.op == abi.IOMMU_OPTION_OP_SET:
        if not context.core.kernel.sys_resource:
            raise fail(errno.EPERM)
        if context.objects:
            raise fail(errno.EBUSY)
        if given.val64 not in (0, 1):
            raise fail(errno.EINVAL)
        context.by_process = bool(given.val64)
    else:
        raise fail(errno.EOPNOTSUPP)
    at = offset_of(abi.Option, "val64")
    command.argument.write(at, bytes(given)[at:])


def _vfio_ioas(command: Command, given: abi.VfioIoas) -> None:
    context = command.context
    if _reserved(given):
        raise fail(errno.EOPNOTSUPP)
    if given.op == abi.IOMMU_VFIO_IOAS_GET:
        given.ioas_id = context.compat_ioas().id
        command.respond(given)
    elif given.op == abi.IOMMU_VFIO_IOAS_SET:
        context.compat = context.ioas(given.ioas_id)
    elif given.op == abi.IOMMU_VFIO_IOAS_CLEAR:
        context.compat = None
    else:
        raise fail(errno.EOPNOTSUPP)


def _reserved(given: AbiStructure) -> int:
    value: int = getattr(given, "__reserved")
    return value


def _through(structure: type[_S], last: str) -> int:
    """The size of the first version of a structure: up to the end of the field `last`."""
    field = getattr(structure, last)
    return int(field.offset + field.size)


Execute = Callable[[Command, Any], None]
_OPERATIONS: dict[int, tuple[type[AbiStructure], int, Execute]] = {
    request: (structure, _through(structure, last), execute)
    for request, structure, last, execute in (
        (abi.IOMMU_DESTROY, abi.Destroy, "id", _destroy),
        (abi.IOMMU_FAULT_QUEUE_ALLOC, abi.FaultAlloc, "out_fault_fd", iommufd_hwpt.fault_alloc),
        (abi.IOMMU_GET_HW_INFO, abi.HwInfo, "__reserved", iommufd_hwpt.get_hw_info),
        (abi.IOMMU_HWPT_ALLOC, abi.HwptAlloc, "__reserved", iommufd_hwpt.hwpt_alloc),
        (abi.IOMMU_HWPT_GET_DIRTY_BITMAP, abi.HwptGetDirtyBitmap, "data", iommufd_hwpt.get_dirty_bitmap),
        (abi.IOMMU_HWPT_INVALIDATE, abi.HwptInvalidate, "__reserved", iommufd_hwpt.hwpt_invalidate),
        (abi.IOMMU_HWPT_SET_DIRTY_TRACKING, abi.HwptSetDirtyTracking, "__reserved", iommufd_hwpt.set_dirty_tracking),
        (abi.IOMMU_IOAS_ALLOC, abi.IoasAlloc, "out_ioas_id", iommufd_ioas.alloc),
        (abi.IOMMU_IOAS_ALLOW_IOVAS, abi.IoasAllowIovas, "allowed_iovas", iommufd_ioas.allow_iovas),
        (abi.IOMMU_IOAS_COPY, abi.IoasCopy, "src_iova", iommufd_ioas.copy),
        (abi.IOMMU_IOAS_IOVA_RANGES, abi.IoasIovaRanges, "out_iova_alignment", iommufd_ioas.iova_ranges),
        (abi.IOMMU_IOAS_MAP, abi.IoasMap, "iova", iommufd_ioas.map_),
        (abi.IOMMU_IOAS_UNMAP, abi.IoasUnmap, "length", iommufd_ioas.unmap),
        (abi.IOMMU_OPTION, abi.Option, "val64", _option),
        (abi.IOMMU_VFIO_IOAS, abi.VfioIoas, "__reserved", _vfio_ioas),
    )
}
_WITH_FILES: dict[int, tuple[type[AbiStructure], int, Execute]] = {
    **_OPERATIONS,
    later.IOMMU_IOAS_MAP_FILE: (later.IoasMapFile, _through(later.IoasMapFile, "iova"), iommufd_files.map_file),
}
"""Those of Linux from 6.13 on."""
