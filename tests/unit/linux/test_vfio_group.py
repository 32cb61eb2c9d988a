"""Groups, containers and who keeps what alive: first what is refused."""

from __future__ import annotations

import errno
import os
import struct

import pytest
from vfio_fixture import ECHO, FIRST, PAGE, FakeDevice, Lab, RealDevice, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Driver
from pyvfio_backends.software.linux.iommu_group import Region


def feature(number: int, data: bytes = b"") -> bytearray:
    return bytearray(struct.pack("=II", 8 + len(data), number) + data)


# ---- refused -------------------------------------------------------------------------------------------------------


def test_a_group_opens_once(vfio_lab: Lab) -> None:
    group = vfio_lab.group("p0")
    assert errno_of(vfio_lab.group, "p0") == errno.EBUSY
    vfio_lab.host.close(group)
    vfio_lab.host.close(vfio_lab.group("p0"))


def test_status_wants_its_size(vfio_lab: Lab) -> None:
    group = vfio_lab.group("p0")
    status = abi.GroupStatus(argsz=7)
    assert errno_of(vfio_lab.host.ioctl, group, abi.VFIO_GROUP_GET_STATUS, status) == errno.EINVAL
    assert errno_of(vfio_lab.host.ioctl, group, abi.VFIO_GROUP_GET_STATUS, 1) == errno.EFAULT
    assert vfio_lab.status(group) == abi.VFIO_GROUP_FLAGS_VIABLE


def test_what_a_group_refuses(vfio_lab: Lab) -> None:
    lab = vfio_lab
    container, group = lab.container(), lab.group("p0")
    with open(os.devnull) as stranger:
        assert errno_of(lab.set_container, group, stranger.fileno()) == errno.EBADFD
    assert errno_of(lab.set_container, group, group) == errno.EBADFD
    assert errno_of(lab.set_container, group, 10_000) == errno.EBADF
    assert errno_of(lab.set_container, group, -1) == errno.EBADF
    assert errno_of(lab.host.ioctl, group, abi.VFIO_GROUP_UNSET_CONTAINER, 0) == errno.EINVAL
    assert errno_of(lab.host.ioctl, group, abi.VFIO_DEVICE_GET_INFO, 0) == errno.ENOTTY
    assert errno_of(lab.device_fd, group, "p0") == errno.EINVAL
    assert errno_of(lab.device_fd, group, "p1") == errno.ENODEV
    assert errno_of(lab.device_fd, group, "x" * PAGE) == errno.EINVAL
    lab.set_container(group, container)
    assert errno_of(lab.set_container, group, container) == errno.EINVAL
    assert lab.status(group) == abi.VFIO_GROUP_FLAGS_VIABLE | abi.VFIO_GROUP_FLAGS_CONTAINER_SET
    assert errno_of(lab.device_fd, group, "p0") == errno.EINVAL


def test_what_a_container_refuses(vfio_lab: Lab) -> None:
    lab = vfio_lab
    container = lab.container()
    set_iommu = abi.VFIO_SET_IOMMU
    assert lab.host.ioctl(container, abi.VFIO_GET_API_VERSION) == 0
    assert errno_of(lab.host.ioctl, container, set_iommu, 1) == errno.EINVAL
    assert errno_of(lab.info, container) == errno.EINVAL
    assert errno_of(lab.host.ioctl, container, 0x1234, 0) == errno.EINVAL
    lab.set_container(lab.group("p0"), container)
    for kind in (0, 2, 4, 7, 8, 99, abi.VFIO_UPDATE_VADDR):
        assert errno_of(lab.host.ioctl, container, set_iommu, kind) == errno.ENODEV
    assert errno_of(lab.host.ioctl, container, set_iommu, abi.VFIO_UNMAP_ALL) == errno.EINVAL
    assert errno_of(lab.host.ioctl, container, set_iommu, abi.VFIO_TYPE1_NESTING_IOMMU) == errno.EINVAL
    lab.host.ioctl(container, set_iommu, 1)
    assert errno_of(lab.host.ioctl, container, set_iommu, 3) == errno.EINVAL
    assert errno_of(lab.host.ioctl, container, 0x1234, 0) == errno.ENOTTY


def test_a_kernel_driver_in_the_group_blocks_it(vfio_lab: Lab) -> None:
    lab = vfio_lab
    bus = lab.buses["phys"]
    neighbour = Device(lab.kernel, "p9", lab.kernel.roots["fake"], bus=bus)
    lab.kernel.groups.join(lab.fake("p0").device.iommu_group, neighbour)  # type: ignore[arg-type]
    neighbour.driver = Driver(bus, "somebody")
    container, group = lab.container(), lab.group("p0")
    assert lab.status(group) == 0
    assert errno_of(lab.set_container, group, container) == errno.EPERM
    neighbour.driver = None
    assert lab.status(group) == abi.VFIO_GROUP_FLAGS_VIABLE
    lab.set_container(group, container)


def test_a_refusing_driver_leaves_nothing_open(vfio_lab: Lab) -> None:
    lab = vfio_lab
    _, group = lab.ready("p0")
    device = lab.fake("p0")
    device.refuse = OSError(errno.EIO, "broken")
    assert errno_of(lab.device_fd, group, "p0") == errno.EIO
    assert device.open_count == 0
    assert lab.host.ioctl(group, abi.VFIO_GROUP_UNSET_CONTAINER, 0) == 0


def test_features(vfio_lab: Lab) -> None:
    lab = vfio_lab
    device = lab.device_fd(lab.ready("p0")[1], "p0")
    call = lab.host.ioctl
    both = abi.VFIO_DEVICE_FEATURE_GET | abi.VFIO_DEVICE_FEATURE_SET
    assert errno_of(call, device, abi.VFIO_DEVICE_FEATURE, bytearray(struct.pack("=II", 7, 0))) == errno.EINVAL
    assert errno_of(call, device, abi.VFIO_DEVICE_FEATURE, feature(1 << 19)) == errno.EINVAL
    assert errno_of(call, device, abi.VFIO_DEVICE_FEATURE, feature(both)) == errno.EINVAL
    for number in range(12):
        probe = feature(number | both | abi.VFIO_DEVICE_FEATURE_PROBE)
        assert errno_of(call, device, abi.VFIO_DEVICE_FEATURE, probe) == errno.ENOTTY


def test_two_groups_that_do_not_fit(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, _ = lab.ready("p0")
    lab.map(container, FIRST, PAGE, dma_memory.address)
    other = lab.fake("p1").device.iommu_group
    assert other is not None
    second = lab.group("p1")
    other.aperture = (0, FIRST - 1)
    assert errno_of(lab.set_container, second, container) == errno.EINVAL
    other.aperture = (FIRST + PAGE, FIRST + 2 * PAGE - 1)
    assert errno_of(lab.set_container, second, container) == errno.EINVAL  # the mapping lies outside
    (device,) = other.devices.values()
    assert isinstance(device, RealDevice)
    usual = device.regions
    other.aperture, device.regions = (FIRST, FIRST + 2 * PAGE - 1), (Region(FIRST, FIRST + PAGE - 1),)
    assert errno_of(lab.set_container, second, container) == errno.EINVAL
    device.regions = usual
    lab.set_container(second, container)
    head = lab.info(container)[1][t1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE]
    ranges = head.trailer(t1.IommuType1InfoCapIovaRange, t1.IovaRange, 1)
    assert (ranges[0].start, ranges[0].end) == (FIRST, FIRST + 2 * PAGE - 1)


# ---- lifetimes -------------------------------------------------------------------------------------------------------


def test_a_device_opens_twice_and_closes_once(vfio_lab: Lab) -> None:
    lab = vfio_lab
    _, group = lab.ready("p0")
    first, second = lab.device_fd(group, "p0"), lab.device_fd(group, "p0")
    device = lab.fake("p0")
    assert device.calls == ["open"]
    assert lab.host.pread(first, 4, 8) == bytes((8, 9, 10, 11))
    assert lab.host.read(second, 2) + lab.host.read(second, 2) == bytes((0, 1, 2, 3))
    assert lab.host.ioctl(second, ECHO, 41) == 42
    assert errno_of(lab.host.ioctl, second, 99, 0) == errno.ENOTTY
    assert errno_of(lab.host.ioctl, group, abi.VFIO_GROUP_UNSET_CONTAINER, 0) == errno.EBUSY
    lab.host.close(first)
    assert device.calls == ["open"]
    lab.host.close(second)
    assert device.calls == ["open", "close"]
    assert lab.host.ioctl(group, abi.VFIO_GROUP_UNSET_CONTAINER, 0) == 0


def test_a_device_keeps_group_and_container(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, group = lab.ready("p0")
    lab.map(container, FIRST, PAGE, dma_memory.address)
    fd = lab.device_fd(group, "p0")
    device = lab.fake("p0")
    lab.host.close(container)
    lab.host.close(group)
    assert errno_of(lab.group, "p0") == errno.EBUSY
    assert device.dma is not None
    device.dma.write(FIRST, b"alive")
    assert bytes(dma_memory.view[:5]) == b"alive"
    lab.host.close(fd)
    assert device.dma is None
    group = lab.group("p0")
    assert lab.status(group) == abi.VFIO_GROUP_FLAGS_VIABLE


def test_the_last_group_takes_the_iommu_along(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, group = lab.ready("p0", abi.VFIO_TYPE1_IOMMU)
    lab.map(container, FIRST, PAGE, dma_memory.address)
    lab.host.ioctl(group, abi.VFIO_GROUP_UNSET_CONTAINER, 0)
    assert errno_of(lab.info, container) == errno.EINVAL
    lab.set_container(group, container)
    lab.host.ioctl(container, abi.VFIO_SET_IOMMU, abi.VFIO_TYPE1v2_IOMMU)
    assert lab.available(container) == 65535


def test_a_second_group_shares_mappings(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, first = lab.ready("p0")
    lab.map(container, FIRST, PAGE, dma_memory.address)
    second = lab.group("p1")
    lab.set_container(second, container)
    lab.device_fd(second, "p1")
    dma = lab.fake("p1").dma
    assert dma is not None
    dma.write(FIRST, b"both")
    assert bytes(dma_memory.view[:4]) == b"both"
    lab.host.close(first)
    dma.write(FIRST, b"one.")
    assert lab.available(container) == 65534


def test_a_late_device_of_the_group_gets_its_dma(vfio_lab: Lab) -> None:
    lab = vfio_lab
    lab.ready("p0")
    bus = lab.buses["phys"]
    neighbour = Device(lab.kernel, "p9", lab.kernel.roots["fake"], bus=bus)
    lab.kernel.groups.join(lab.fake("p0").device.iommu_group, neighbour)  # type: ignore[arg-type]
    bus.add(neighbour)
    assert lab.fake("p9").dma is lab.fake("p0").dma is not None


def test_group_and_device_node_exclude_each_other(vfio_lab: Lab) -> None:
    lab = vfio_lab
    group = lab.group("p0")
    cdev, iommufd = lab.cdev("p0"), lab.iommufd()
    assert errno_of(lab.bind, cdev, iommufd) == errno.EBUSY
    lab.host.close(group)
    assert lab.bind(cdev, iommufd) == 1
    assert errno_of(lab.group, "p0") == errno.EBUSY
    lab.host.close(cdev)
    lab.group("p0")


def test_module_users_are_counted(vfio_lab: Lab) -> None:
    lab = vfio_lab
    users = lambda name: lab.kernel.modules.table[name].refcnt  # noqa: E731
    start = users("vfio")
    container, group = lab.ready("p0")
    fd = lab.device_fd(group, "p0")
    assert users("vfio") == start + 4  # container 1, group 2, device 1, as recorded
    assert users("vfio_iommu_type1") == 1
    for number in (fd, group, container):
        lab.host.close(number)
    assert users("vfio") == start
    assert users("vfio_iommu_type1") == 0


def test_closing_the_backend_closes_all(dma_memory: AnonymousMemory) -> None:
    lab = Lab()
    container, group = lab.ready("p0")
    lab.map(container, FIRST, PAGE, dma_memory.address)
    lab.device_fd(group, "p0")
    device: FakeDevice = lab.fake("p0")
    lab.host.close()
    assert device.calls == ["open", "close"]
    assert device.dma is None


@pytest.mark.parametrize(("path", "mode", "number"), [("vfio/vfio", 0o666, (10, 196)), ("iommu", 0o660, (10, 259))])
def test_nodes(vfio_lab: Lab, path: str, mode: int, number: tuple[int, int]) -> None:
    status = vfio_lab.host.stat(f"/dev/{path}")
    assert (status.st_mode & 0o777, os.major(status.st_rdev), os.minor(status.st_rdev)) == (mode, *number)
