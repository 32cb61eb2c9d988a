"""iommufd and device nodes: first what is refused, then the recorded zPCI session."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Any

import pytest
from vfio_fixture import FIRST, LAST, PAGE, Lab, errno_of

from pyvfio.abi import iommufd as ifd
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.errors import NotModelled
from pyvfio.process import AnonymousMemory

EVERYTHING = (1 << 64) - 1
REQUESTS = [
    (ifd.IOMMU_DESTROY, ifd.Destroy, "id"),
    (ifd.IOMMU_IOAS_ALLOC, ifd.IoasAlloc, "out_ioas_id"),
    (ifd.IOMMU_IOAS_ALLOW_IOVAS, ifd.IoasAllowIovas, "allowed_iovas"),
    (ifd.IOMMU_IOAS_COPY, ifd.IoasCopy, "src_iova"),
    (ifd.IOMMU_IOAS_IOVA_RANGES, ifd.IoasIovaRanges, "out_iova_alignment"),
    (ifd.IOMMU_IOAS_MAP, ifd.IoasMap, "iova"),
    (ifd.IOMMU_IOAS_UNMAP, ifd.IoasUnmap, "length"),
    (ifd.IOMMU_OPTION, ifd.Option, "val64"),
    (ifd.IOMMU_VFIO_IOAS, ifd.VfioIoas, "__reserved"),
    (ifd.IOMMU_HWPT_ALLOC, ifd.HwptAlloc, "__reserved"),
    (ifd.IOMMU_GET_HW_INFO, ifd.HwInfo, "__reserved"),
    (ifd.IOMMU_HWPT_SET_DIRTY_TRACKING, ifd.HwptSetDirtyTracking, "__reserved"),
    (ifd.IOMMU_HWPT_GET_DIRTY_BITMAP, ifd.HwptGetDirtyBitmap, "data"),
    (ifd.IOMMU_HWPT_INVALIDATE, ifd.HwptInvalidate, "__reserved"),
    (ifd.IOMMU_FAULT_QUEUE_ALLOC, ifd.FaultAlloc, "out_fault_fd"),
]


# ---- the grammar of sizes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("request_", "kind", "last"), REQUESTS)
def test_sizes(vfio_lab: Lab, request_: int, kind: Any, last: str) -> None:
    fd = vfio_lab.iommufd()
    field = getattr(kind, last)
    minimum = field.offset + field.size
    short = bytearray(struct.pack("=I", minimum - 1)) + bytearray(200)
    assert errno_of(vfio_lab.host.ioctl, fd, request_, short) == errno.EINVAL
    long = bytearray(struct.pack("=I", ctypes.sizeof(kind) + 8)) + bytearray(200)
    long[ctypes.sizeof(kind) + 7] = 1
    assert errno_of(vfio_lab.host.ioctl, fd, request_, long) == errno.E2BIG
    assert errno_of(vfio_lab.host.ioctl, fd, request_, 8) == errno.EFAULT
    direction = request_ | 1 << 30
    assert errno_of(vfio_lab.host.ioctl, fd, direction, short) == errno.ENOTTY


def test_a_longer_argument_with_zeros_is_taken(vfio_lab: Lab) -> None:
    fd = vfio_lab.iommufd()
    long = bytearray(struct.pack("=IIIQ", 20, 0, 0xFFFF, 0))
    assert vfio_lab.host.ioctl(fd, ifd.IOMMU_IOAS_ALLOC, long) == 0
    assert struct.unpack("=IIIQ", long) == (20, 0, 1, 0)


def test_numbers_beyond_are_container_requests(vfio_lab: Lab) -> None:
    fd = vfio_lab.iommufd()
    assert errno_of(vfio_lab.host.ioctl, fd, ifd.IOMMU_FAULT_QUEUE_ALLOC + 1, bytearray(64)) == errno.ENOTTY
    assert errno_of(vfio_lab.host.ioctl, fd, abi.VFIO_GROUP_GET_STATUS, bytearray(64)) == errno.ENOTTY
    assert vfio_lab.host.ioctl(fd, abi.VFIO_GET_API_VERSION) == 0


# ---- address spaces --------------------------------------------------------------------------------------------------


def test_reserved_fields_and_flags(vfio_lab: Lab) -> None:
    lab, fd = vfio_lab, vfio_lab.iommufd()
    for request, kind, name in (
        (ifd.IOMMU_IOAS_ALLOC, ifd.IoasAlloc, "flags"),
        (ifd.IOMMU_IOAS_IOVA_RANGES, ifd.IoasIovaRanges, "__reserved"),
        (ifd.IOMMU_IOAS_ALLOW_IOVAS, ifd.IoasAllowIovas, "__reserved"),
        (ifd.IOMMU_IOAS_MAP, ifd.IoasMap, "__reserved"),
        (ifd.IOMMU_OPTION, ifd.Option, "__reserved"),
        (ifd.IOMMU_VFIO_IOAS, ifd.VfioIoas, "__reserved"),
        (ifd.IOMMU_HWPT_ALLOC, ifd.HwptAlloc, "__reserved"),
        (ifd.IOMMU_GET_HW_INFO, ifd.HwInfo, "flags"),
        (ifd.IOMMU_HWPT_SET_DIRTY_TRACKING, ifd.HwptSetDirtyTracking, "flags"),
        (ifd.IOMMU_HWPT_GET_DIRTY_BITMAP, ifd.HwptGetDirtyBitmap, "__reserved"),
        (ifd.IOMMU_HWPT_INVALIDATE, ifd.HwptInvalidate, "__reserved"),
        (ifd.IOMMU_FAULT_QUEUE_ALLOC, ifd.FaultAlloc, "flags"),
    ):
        argument: Any = kind.sized()
        setattr(argument, name, 8)
        assert errno_of(lab.call, fd, request, argument) == errno.EOPNOTSUPP, kind
    with pytest.raises(NotModelled):
        lab.call(fd, ifd.IOMMU_FAULT_QUEUE_ALLOC, ifd.FaultAlloc.sized())


def test_maps_that_are_refused(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab, fd = vfio_lab, vfio_lab.iommufd()
    ioas, at = lab.ioas(fd), dma_memory.address
    refused = lambda *a, **k: errno_of(lambda: lab.ioas_map(fd, *a, **k))  # noqa: E731
    assert refused(ioas, at, PAGE, flags=8 | 6) == errno.EOPNOTSUPP
    assert refused(ioas, at, PAGE, EVERYTHING) == errno.EOVERFLOW
    assert refused(ioas, at, EVERYTHING) == errno.EOVERFLOW
    assert refused(ioas, at, PAGE, flags=0) == errno.EINVAL
    assert refused(99, at, PAGE) == errno.ENOENT
    assert refused(ioas, at, 0) == errno.EINVAL
    assert refused(ioas, EVERYTHING - PAGE + 1, 2 * PAGE) == errno.EOVERFLOW
    assert refused(ioas, at, PAGE, EVERYTHING - 1) == errno.EOVERFLOW
    lab.ioas_map(fd, ioas, at, 4 * PAGE, 0x10000)
    assert refused(ioas, at, PAGE, 0x13FFF) == errno.EEXIST
    assert errno_of(lab.ioas_unmap, fd, ioas, 0x10000, PAGE) == errno.ENOENT
    assert errno_of(lab.ioas_unmap, fd, ioas, 0x20000, PAGE) == errno.ENOENT
    assert errno_of(lab.ioas_unmap, fd, ioas, 0x10000, 0) == errno.EINVAL
    assert errno_of(lab.ioas_unmap, fd, ioas, 0x10000, EVERYTHING - 1) == errno.EOVERFLOW
    assert errno_of(lab.ioas_unmap, fd, ioas, EVERYTHING, 1) == errno.EOVERFLOW
    assert lab.ioas_unmap(fd, ioas, 0x8000, 0x10000) == 4 * PAGE
    assert lab.ioas_unmap(fd, ioas, 0, EVERYTHING) == 0


def test_nobody_pins_without_a_device(vfio_lab: Lab) -> None:
    fd = vfio_lab.iommufd()
    ioas = vfio_lab.ioas(fd)
    assert vfio_lab.ioas_map(fd, ioas, 0x123, 5, 0x77) == 0x77  # no alignment, no memory: nobody looks


def test_chosen_addresses(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab, fd = vfio_lab, vfio_lab.iommufd()
    ioas = lab.ioas(fd)
    first = lab.ioas_map(fd, ioas, dma_memory.address, PAGE)
    second = lab.ioas_map(fd, ioas, dma_memory.address + PAGE + 0x10, 0x20)
    assert first == PAGE  # the lowest, and never 0
    assert second % PAGE == 0x10
    assert lab.ioas_map(fd, ioas, 0, 3 * PAGE) == 4 * PAGE  # without memory: by the size
    lab.ioas_unmap(fd, ioas, first, PAGE)
    assert lab.ioas_map(fd, ioas, dma_memory.address, PAGE) == PAGE


def test_allowed_ranges(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab, fd = vfio_lab, vfio_lab.iommufd()
    ioas = lab.ioas(fd)

    def allow(*pairs: tuple[int, int], address: int = 0) -> None:
        raw = b"".join(struct.pack("=QQ", *pair) for pair in pairs)
        dma_memory.view[: len(raw)] = raw
        request = ifd.IoasAllowIovas.sized(
            ioas_id=ioas, num_iovas=len(pairs), allowed_iovas=address or dma_memory.address
        )
        lab.call(fd, ifd.IOMMU_IOAS_ALLOW_IOVAS, request)

    assert errno_of(lambda: allow((0, 1), address=8)) == errno.EFAULT
    assert errno_of(allow, (5, 5)) == errno.EINVAL
    assert errno_of(allow, (0x1000, 0x2000), (0x2000, 0x3000)) == errno.EINVAL
    allow((0x50000, 0x50FFF), (0x20000, 0x20FFF))
    address = dma_memory.address + PAGE
    assert lab.ioas_map(fd, ioas, address, PAGE) == 0x20000
    assert lab.ioas_map(fd, ioas, address, PAGE) == 0x50000
    assert errno_of(lab.ioas_map, fd, ioas, address, PAGE) == errno.ENOSPC
    assert lab.ioas_map(fd, ioas, address, PAGE, 0x70000) == 0x70000  # a fixed one may lie elsewhere
    assert lab.ioas_unmap(fd, ioas, 0, EVERYTHING) == 3 * PAGE
    cdev = lab.cdev("p0")
    lab.bind(cdev, fd)
    assert errno_of(lab.attach, cdev, ioas) == errno.EADDRINUSE
    allow((FIRST, LAST))
    lab.attach(cdev, ioas)
    assert errno_of(allow, (0, PAGE)) == errno.EADDRINUSE


def test_copies(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab, fd = vfio_lab, vfio_lab.iommufd()
    source, target = lab.ioas(fd), lab.ioas(fd)
    lab.ioas_map(fd, source, dma_memory.address, 2 * PAGE, 0x10000)
    lab.ioas_map(fd, source, dma_memory.address, PAGE, 0x12000, flags=ifd.IOMMU_IOAS_MAP_READABLE)

    def copy(iova: int, length: int, flags: int = 7, from_: int = source) -> int:
        request = ifd.IoasCopy.sized(
            flags=flags, dst_ioas_id=target, src_ioas_id=from_, length=length, dst_iova=0x30000, src_iova=iova
        )
        lab.call(fd, ifd.IOMMU_IOAS_COPY, request)
        return int(request.dst_iova)

    assert errno_of(copy, 0x10000, PAGE, 8) == errno.EOPNOTSUPP
    assert errno_of(copy, 0x10000, PAGE, 1) == errno.EINVAL
    assert errno_of(copy, 0x10000, EVERYTHING) == errno.EOVERFLOW
    assert errno_of(copy, 0x10000, 0) == errno.EINVAL
    assert errno_of(copy, 0x10000, PAGE, 7, 99) == errno.ENOENT
    assert errno_of(copy, 0x10000, 4 * PAGE) == errno.ENOENT
    assert errno_of(copy, 0x11000, 2 * PAGE) == errno.EPERM  # the last page is not writable
    assert copy(0x11000, 2 * PAGE, 1 | ifd.IOMMU_IOAS_MAP_READABLE) == 0x30000
    assert errno_of(copy, 0x10000, PAGE) == errno.EEXIST
    # It became two areas, and each can be unmapped alone.
    assert lab.ioas_unmap(fd, target, 0x31000, PAGE) == PAGE


def test_ranges_need_room(vfio_lab: Lab) -> None:
    lab, fd = vfio_lab, vfio_lab.iommufd()
    ioas = lab.ioas(fd)
    request = ifd.IoasIovaRanges.sized(ioas_id=ioas, num_iovas=0)
    assert errno_of(lab.call, fd, ifd.IOMMU_IOAS_IOVA_RANGES, request) == errno.EMSGSIZE
    assert request.num_iovas == 1
    request = ifd.IoasIovaRanges.sized(ioas_id=ioas, num_iovas=1, allowed_iovas=8)
    assert errno_of(lab.call, fd, ifd.IOMMU_IOAS_IOVA_RANGES, request) == errno.EFAULT


def test_options(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab, fd = vfio_lab, vfio_lab.iommufd()

    def option(number: int, op: int, value: int = 0, object_id: int = 0) -> int:
        request = ifd.Option.sized(option_id=number, op=op, val64=value, object_id=object_id)
        lab.call(fd, ifd.IOMMU_OPTION, request)
        return int(request.val64)

    mode, huge, set_, get = 0, 1, ifd.IOMMU_OPTION_OP_SET, ifd.IOMMU_OPTION_OP_GET
    assert errno_of(option, 2, get) == errno.EOPNOTSUPP
    assert errno_of(option, mode, 2) == errno.EOPNOTSUPP
    assert errno_of(option, mode, get, 0, 1) == errno.EOPNOTSUPP
    assert errno_of(option, mode, set_, 2) == errno.EINVAL
    option(mode, set_, 1)
    assert option(mode, get) == 1
    assert errno_of(option, huge, get, 0, 1) == errno.ENOENT
    ioas = lab.ioas(fd)
    assert errno_of(option, mode, set_, 0) == errno.EBUSY
    assert option(huge, get, 0, ioas) == 1
    assert errno_of(option, huge, set_, 2, ioas) == errno.EINVAL
    lab.ioas_map(fd, ioas, dma_memory.address, 3, 5)
    assert errno_of(option, huge, set_, 0, ioas) == errno.EADDRINUSE
    lab.ioas_unmap(fd, ioas, 5, 3)
    option(huge, set_, 0, ioas)
    assert lab.ranges(fd, ioas)[1] == PAGE


# ---- device nodes ----------------------------------------------------------------------------------------------------


def test_bindings_that_are_refused(vfio_lab: Lab) -> None:
    lab = vfio_lab
    cdev, iommufd = lab.cdev("p0"), lab.iommufd()
    assert errno_of(lab.host.pread, cdev, 4, 0) == errno.EINVAL
    assert errno_of(lab.host.pwrite, cdev, b"", 0) == errno.EINVAL
    assert errno_of(lab.host.ioctl, cdev, abi.VFIO_DEVICE_GET_INFO, 0) == errno.EINVAL
    assert errno_of(lab.attach, cdev, 1) == errno.EINVAL
    bind = abi.VFIO_DEVICE_BIND_IOMMUFD
    assert errno_of(lab.host.ioctl, cdev, bind, abi.DeviceBindIommufd(argsz=15)) == errno.EINVAL
    assert errno_of(lab.host.ioctl, cdev, bind, abi.DeviceBindIommufd.sized(flags=1)) == errno.EINVAL
    assert errno_of(lab.bind, cdev, -1) == errno.EINVAL
    assert errno_of(lab.bind, cdev, 10_000) == errno.EBADF
    assert errno_of(lab.bind, cdev, cdev) == errno.EBADFD
    with open(os.devnull) as stranger:
        assert errno_of(lab.bind, cdev, stranger.fileno()) == errno.EBADFD
    lab.bind(cdev, iommufd)
    assert errno_of(lab.bind, cdev, iommufd) == errno.EINVAL
    assert errno_of(lab.bind, lab.cdev("p0"), iommufd) == errno.EINVAL
    for request, kind in (
        (abi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, abi.DeviceAttachIommufdPt),
        (abi.VFIO_DEVICE_DETACH_IOMMUFD_PT, abi.DeviceDetachIommufdPt),
    ):
        assert errno_of(lab.host.ioctl, cdev, request, kind(argsz=7)) == errno.EINVAL
        assert errno_of(lab.host.ioctl, cdev, request, kind.sized(flags=1)) == errno.EINVAL
    assert errno_of(lab.attach, cdev, 99) == errno.ENOENT
    assert errno_of(lab.attach, cdev, 1) == errno.EINVAL  # that is the device itself
    # By the group's descriptor there is no BIND, and ATTACH is an unknown request of the driver.
    device = lab.device_fd(lab.ready("p1")[1], "p1")
    assert errno_of(lab.bind, device, iommufd) == errno.EINVAL
    assert errno_of(lab.attach, device, 1) == errno.ENOTTY


def test_a_recorded_zpci_session(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab, at = vfio_lab, dma_memory.address
    cdev, fd = lab.cdev("p0"), lab.iommufd()
    assert lab.bind(cdev, fd) == 1
    ioas = lab.ioas(fd)
    assert lab.ranges(fd, ioas) == ([(0, EVERYTHING)], 1)
    lab.detach(cdev)
    assert lab.attach(cdev, ioas) == 3
    assert lab.attach(cdev, ioas) == 3
    assert lab.ranges(fd, ioas) == ([(FIRST, LAST)], PAGE)
    iova = lab.ioas_map(fd, ioas, at, 4 * PAGE)
    assert FIRST <= iova <= LAST
    assert lab.ioas_map(fd, ioas, at, PAGE, 4296015872) == 4296015872
    refused = lambda *a, **k: errno_of(lambda: lab.ioas_map(fd, ioas, *a, **k))  # noqa: E731
    assert refused(at, PAGE, 4296015872) == errno.EEXIST
    assert refused(at, 0) == errno.EINVAL
    assert refused(at, PAGE, FIRST + 0x800) == errno.EINVAL
    assert refused(at + 0x800, PAGE, FIRST + 0x800000) == errno.EINVAL
    assert refused(at, PAGE, LAST + 1) == errno.EINVAL
    assert refused(PAGE, PAGE, FIRST + 0x800000) == errno.EFAULT
    assert errno_of(lab.ioas_unmap, fd, ioas, iova, PAGE) == errno.ENOENT
    dma = lab.fake("p0").dma
    assert dma is not None
    dma.write(iova, b"device")
    assert bytes(dma_memory.view[:6]) == b"device"
    assert lab.ioas_unmap(fd, ioas, iova, 4 * PAGE) == 4 * PAGE
    assert lab.ioas_unmap(fd, ioas, 0, EVERYTHING) == PAGE
    info = ifd.HwInfo.sized(dev_id=1, data_len=16, data_uptr=at, out_data_type=77)
    lab.call(fd, ifd.IOMMU_GET_HW_INFO, info)
    assert (info.data_len, info.out_data_type, info.out_capabilities) == (0, 0, 0)
    assert errno_of(lab.call, fd, ifd.IOMMU_GET_HW_INFO, ifd.HwInfo.sized(dev_id=2)) == errno.ENOENT
    destroy = lambda number: lab.call(fd, ifd.IOMMU_DESTROY, ifd.Destroy.sized(id=number))  # noqa: E731
    assert errno_of(destroy, ioas) == errno.EBUSY
    assert errno_of(destroy, 1) == errno.EBUSY
    assert errno_of(destroy, 3) == errno.EBUSY
    lab.detach(cdev)
    assert lab.fake("p0").dma is None
    assert errno_of(destroy, 3) == errno.ENOENT  # an automatic table goes with its last device
    destroy(ioas)
    assert errno_of(destroy, ioas) == errno.ENOENT


def test_page_tables_made_by_hand(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    cdev, fd = lab.cdev("p0"), lab.iommufd()
    device, ioas, other = lab.bind(cdev, fd), lab.ioas(fd), lab.ioas(fd)

    def alloc(**fields: int) -> int:
        request = ifd.HwptAlloc.sized(dev_id=device, pt_id=ioas, **fields)
        lab.call(fd, ifd.IOMMU_HWPT_ALLOC, request)
        return int(request.out_hwpt_id)

    assert errno_of(lambda: alloc(data_len=1)) == errno.EINVAL
    assert errno_of(lambda: alloc(data_type=1)) == errno.EINVAL
    assert errno_of(lambda: alloc(flags=1)) == errno.EOPNOTSUPP
    table = alloc()
    assert lab.attach(cdev, table) == table
    assert lab.ioas_map(fd, ioas, dma_memory.address, PAGE, FIRST) == FIRST
    assert lab.attach(cdev, other) > table  # moved; the device sees the other address space
    dma = lab.fake("p0").dma
    assert dma is not None
    with pytest.raises(Exception, match="not mapped"):
        dma.read(FIRST, 1)
    lab.call(fd, ifd.IOMMU_DESTROY, ifd.Destroy.sized(id=table))
    track = ifd.HwptSetDirtyTracking.sized(hwpt_id=table)
    assert errno_of(lab.call, fd, ifd.IOMMU_HWPT_SET_DIRTY_TRACKING, track) == errno.ENOENT
    invalidate = ifd.HwptInvalidate.sized(hwpt_id=table, entry_num=4)
    assert errno_of(lab.call, fd, ifd.IOMMU_HWPT_INVALIDATE, invalidate) == errno.EINVAL
    assert invalidate.entry_num == 0


def test_a_mediated_device_by_iommufd(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    cdev, fd, device = lab.cdev("m0"), lab.iommufd(), lab.fake("m0")
    ioas = lab.ioas(fd)
    assert lab.bind(cdev, fd) == 2
    assert errno_of(device.dma_read, 0x10000, 8) == errno.ENOENT
    assert lab.attach(cdev, ioas) == ioas  # an access is attached to the address space itself
    assert lab.ranges(fd, ioas) == ([(0, EVERYTHING)], PAGE)
    lab.ioas_map(fd, ioas, dma_memory.address, 4 * PAGE, 0x10000)
    lab.ioas_map(fd, ioas, dma_memory.address, PAGE, 0x20000, flags=ifd.IOMMU_IOAS_MAP_READABLE)
    lab.ioas_map(fd, ioas, PAGE, PAGE, 0x30000)
    assert errno_of(device.dma_read, 0x13FF8, 2048) == errno.ENOENT
    assert errno_of(device.pin, 0x13000, 2) == errno.ENOENT
    assert errno_of(device.dma_write, 0x20000, b"x") == errno.EPERM
    assert errno_of(device.pin, 0x20000) == errno.EPERM
    assert errno_of(device.pin, 0x30000) == errno.EFAULT
    assert errno_of(device.dma_read, 0x30000, 1) == errno.EFAULT
    device.dma_write(0x11FFC, b"across pages")
    assert device.dma_read(0x11FFC, 12) == b"across pages"
    pages = device.pin(0x11000, 2)
    assert lab.kernel.memory.read(pages[1], 8) == b"ss pages"
    assert lab.ioas_unmap(fd, ioas, 0x10000, 4 * PAGE) == 4 * PAGE
    assert device.unmaps == [(0x10000, 4 * PAGE)]
    destroy = ifd.Destroy.sized(id=ioas)
    assert errno_of(lab.call, fd, ifd.IOMMU_DESTROY, destroy) == errno.EBUSY
    lab.detach(cdev)
    assert errno_of(device.dma_read, 0x20000, 8) == errno.ENOENT
    assert lab.attach(cdev, ioas) == ioas
    lab.host.close(cdev)
    lab.call(fd, ifd.IOMMU_DESTROY, destroy)


def test_closing_iommufd_first(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    cdev, fd = lab.cdev("p0"), lab.iommufd()
    lab.bind(cdev, fd)
    ioas = lab.ioas(fd)
    lab.ioas_map(fd, ioas, dma_memory.address, PAGE, FIRST)
    lab.attach(cdev, ioas)
    lab.host.close(fd)
    dma = lab.fake("p0").dma
    assert dma is not None
    dma.write(FIRST, b"held")
    assert bytes(dma_memory.view[:4]) == b"held"
    lab.host.close(cdev)
    assert lab.fake("p0").dma is None
    assert lab.status(lab.group("p0")) == abi.VFIO_GROUP_FLAGS_VIABLE


@pytest.mark.parametrize("by_process", [0, 1])
def test_locked_memory(by_process: int) -> None:
    lab = Lab(memlock=4 * PAGE)
    with lab.host, AnonymousMemory(16 * PAGE) as memory:
        cdev, fd = lab.cdev("p0"), lab.iommufd()
        lab.call(fd, ifd.IOMMU_OPTION, ifd.Option.sized(val64=by_process))
        lab.bind(cdev, fd)
        ioas = lab.ioas(fd)
        lab.ioas_map(fd, ioas, memory.address, 5 * PAGE, FIRST)
        assert errno_of(lab.attach, cdev, ioas) == errno.ENOMEM
        assert lab.ranges(fd, ioas) == ([(0, EVERYTHING)], 1)  # as if it had not been tried
        lab.ioas_unmap(fd, ioas, FIRST, 5 * PAGE)
        lab.attach(cdev, ioas)
        lab.ioas_map(fd, ioas, memory.address, 4 * PAGE, FIRST)
        assert errno_of(lab.ioas_map, fd, ioas, memory.address, PAGE, FIRST + 0x10000) == errno.ENOMEM
        copy = ifd.IoasCopy.sized(
            flags=7, dst_ioas_id=ioas, src_ioas_id=ioas, length=PAGE, src_iova=FIRST, dst_iova=FIRST + 0x10000
        )
        lab.call(fd, ifd.IOMMU_IOAS_COPY, copy)  # the same pages once more cost nothing


def test_who_may_choose_the_account(vfio_lab: Lab) -> None:
    """CAP_SYS_RESOURCE (``iommufd_option_rlimit_mode``); to ask needs none."""
    lab = vfio_lab
    lab.kernel.sys_resource = False
    fd = lab.iommufd()
    for value in (0, 1, 2):
        assert errno_of(lab.call, fd, ifd.IOMMU_OPTION, ifd.Option.sized(val64=value)) == errno.EPERM
    asked = ifd.Option.sized(op=ifd.IOMMU_OPTION_OP_GET, val64=7)
    lab.call(fd, ifd.IOMMU_OPTION, asked)
    assert asked.val64 == 0
    assert errno_of(lab.call, fd, ifd.IOMMU_OPTION, ifd.Option.sized(object_id=3)) == errno.EOPNOTSUPP


# ---- a group in an iommufd -------------------------------------------------------------------------------------------


def test_container_requests_on_iommufd(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    fd, group = lab.iommufd(), lab.group("p0")
    assert errno_of(lab.info, fd) == errno.ENODEV
    assert errno_of(lab.host.ioctl, fd, abi.VFIO_SET_IOMMU, 1) == errno.ENODEV
    assert errno_of(lab.call, fd, ifd.IOMMU_VFIO_IOAS, ifd.VfioIoas.sized()) == errno.ENODEV
    lab.set_container(group, fd)
    get = ifd.VfioIoas.sized(op=ifd.IOMMU_VFIO_IOAS_GET)
    lab.call(fd, ifd.IOMMU_VFIO_IOAS, get)
    assert get.ioas_id == 1
    assert errno_of(lab.host.ioctl, fd, abi.VFIO_SET_IOMMU, 6) == errno.EINVAL
    extension = lambda number: lab.host.ioctl(fd, abi.VFIO_CHECK_EXTENSION, number)  # noqa: E731
    assert [extension(number) for number in range(11)] == [0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 0]
    lab.host.ioctl(fd, abi.VFIO_SET_IOMMU, abi.VFIO_TYPE1_IOMMU)
    device = lab.device_fd(group, "p0")
    assert lab.status(group) == 3
    info, chain = lab.info(fd)
    assert (info.argsz, info.flags, info.iova_pgsizes, list(chain)) == (72, 3, PAGE, [3, 1])
    assert lab.info(fd, 20)[0].argsz == 72
    assert lab.available(fd) == 0xFFFFFFFF
    lab.map(fd, FIRST, 4 * PAGE, dma_memory.address)
    assert errno_of(lab.map, fd, FIRST, PAGE, dma_memory.address) == errno.EEXIST
    assert errno_of(lab.map, fd, FIRST, PAGE, dma_memory.address, 4) == errno.EINVAL
    request = t1.IommuType1DmaUnmap.sized(iova=FIRST + PAGE, size=PAGE)
    lab.host.ioctl(fd, t1.VFIO_IOMMU_UNMAP_DMA, request)
    assert request.size == PAGE  # version 1 may cut here
    assert lab.unmap(fd, 0, 0, t1.VFIO_DMA_UNMAP_FLAG_ALL) == 3 * PAGE
    assert errno_of(lab.host.ioctl, fd, t1.VFIO_IOMMU_DIRTY_PAGES, bytearray(64)) == errno.ENOTTY
    lab.host.close(device)
    lab.host.close(group)
