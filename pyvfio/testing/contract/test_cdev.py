"""/dev/vfio/devices/vfioN: bind, attach, detach, and which descriptors exclude which."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from errno import EADDRINUSE, EBADF, EBADFD, EBUSY, EFAULT, EINVAL, ENOENT

import pytest

from pyvfio.abi import iommufd, vfio
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory, EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, IOMMU, OpenDevice, group_mode, open_device

pytestmark = pytest.mark.usefixtures("iommufd")


@pytest.fixture
def node(files: OpenFiles, function: BoundFunction) -> int:
    """The device's node, not bound."""
    return files.open(function.cdev)


@pytest.fixture
def bound(backend: Backend, files: OpenFiles, node: int) -> OpenDevice:
    """The device's node, bound to an iommufd; not attached."""
    device = OpenDevice(backend, files, "iommufd")
    device.fd = node
    device.container = files.open(IOMMU)
    device.devid = requests.bind_iommufd(backend, node, device.container)
    device.ioas = requests.ioas_alloc(backend, device.container)
    return device


@pytest.mark.parametrize(
    "number",
    [
        vfio.VFIO_DEVICE_GET_INFO,
        vfio.VFIO_DEVICE_GET_REGION_INFO,
        vfio.VFIO_DEVICE_RESET,
        vfio.VFIO_DEVICE_FEATURE,
        vfio.VFIO_DEVICE_SET_IRQS,
        vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT,
        vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT,
        0x1234,
    ],
    ids=["info", "region", "reset", "feature", "irqs", "attach", "detach", "unknown"],
)
def test_nothing_works_before_bind(backend: Backend, node: int, number: int) -> None:
    with fails(EINVAL):
        backend.ioctl(node, number, vfio.RegionInfo.sized())


def test_no_reads_before_bind(backend: Backend, node: int, page: int) -> None:
    with fails(EINVAL):
        backend.pread(node, 4, 0)
    with fails(EINVAL):
        backend.pwrite(node, b"1234", 0)
    with fails(EINVAL):
        backend.mmap(node, page)


@pytest.mark.parametrize("argsz", [0, 15])
def test_bind_too_small(backend: Backend, files: OpenFiles, node: int, argsz: int) -> None:
    with fails(EINVAL):
        requests.bind_iommufd(backend, node, files.open(IOMMU), argsz)


def test_bind_with_flags(backend: Backend, files: OpenFiles, node: int) -> None:
    with fails(EINVAL):
        backend.ioctl(
            node, vfio.VFIO_DEVICE_BIND_IOMMUFD, vfio.DeviceBindIommufd.sized(flags=1, iommufd=files.open(IOMMU))
        )


@pytest.mark.parametrize(("number", "error"), [(-1, EINVAL), (987, EBADF)])
def test_bind_to_a_number_that_is_none(backend: Backend, node: int, number: int, error: int) -> None:
    with fails(error):
        requests.bind_iommufd(backend, node, number)


def test_bind_to_another_file(backend: Backend, files: OpenFiles, node: int) -> None:
    with fails(EBADFD):
        requests.bind_iommufd(backend, node, files.open(CONTAINER))
    with EventFd() as event, fails(EBADFD):
        requests.bind_iommufd(backend, node, event.fileno())


def test_bind_to_a_wild_address(backend: Backend, node: int, wild: int) -> None:
    with fails(EFAULT):
        backend.ioctl(node, vfio.VFIO_DEVICE_BIND_IOMMUFD, wild)


def test_bind_twice(backend: Backend, files: OpenFiles, bound: OpenDevice) -> None:
    with fails(EINVAL):
        requests.bind_iommufd(backend, bound.fd, bound.container)


def test_bind_a_second_descriptor(
    backend: Backend, files: OpenFiles, bound: OpenDevice, function: BoundFunction
) -> None:
    second = files.open(function.cdev)
    with fails(EINVAL):
        requests.bind_iommufd(backend, second, bound.container)


def test_the_group_while_it_is_bound(files: OpenFiles, bound: OpenDevice, function: BoundFunction) -> None:
    with fails(EBUSY):
        files.open(function.group)


def test_bind_while_the_group_has_the_device_open(
    backend: Backend, files: OpenFiles, opened: OpenDevice, function: BoundFunction
) -> None:
    node = files.open(function.cdev)
    with fails(EBUSY):
        requests.bind_iommufd(backend, node, files.open(IOMMU))


def test_bind_while_the_group_is_open(backend: Backend, files: OpenFiles, function: BoundFunction) -> None:
    files.open(function.group)
    node = files.open(function.cdev)
    with fails(EBUSY):
        requests.bind_iommufd(backend, node, files.open(IOMMU))


@pytest.mark.parametrize("argsz", [0, 11])
def test_attach_too_small(backend: Backend, bound: OpenDevice, argsz: int) -> None:
    with fails(EINVAL):
        requests.attach_iommufd(backend, bound.fd, bound.ioas, argsz)


@pytest.mark.parametrize("number", [0, 99])
def test_attach_to_nothing(backend: Backend, bound: OpenDevice, number: int) -> None:
    with fails(ENOENT):
        requests.attach_iommufd(backend, bound.fd, number)


def test_attach_to_a_device(backend: Backend, bound: OpenDevice) -> None:
    with fails(EINVAL):
        requests.attach_iommufd(backend, bound.fd, bound.devid)


def test_destroy_what_is_in_use(backend: Backend, bound: OpenDevice) -> None:
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    with fails(EBUSY):
        requests.destroy(backend, bound.container, bound.ioas)


def test_destroy_the_device(backend: Backend, bound: OpenDevice) -> None:
    with fails(EBUSY):
        requests.destroy(backend, bound.container, bound.devid)


def test_no_vfio_container_requests_on_the_node(backend: Backend, bound: OpenDevice) -> None:
    with fails(EINVAL):
        requests.bind_iommufd(backend, bound.fd, -1)


def test_bind_gives_a_number(bound: OpenDevice) -> None:
    assert bound.devid == 1
    assert bound.ioas == 2


def test_info_after_bind(backend: Backend, bound: OpenDevice) -> None:
    assert requests.device_info(backend, bound.fd)[0].num_regions == vfio.VFIO_PCI_NUM_REGIONS


def test_detach_what_is_not_attached(backend: Backend, bound: OpenDevice) -> None:
    requests.detach_iommufd(backend, bound.fd)


def test_attach_narrows_the_ranges(backend: Backend, bound: OpenDevice, page: int) -> None:
    assert bound.ranges() == [requests.ALL_ADDRESSES]
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    ranges, alignment = requests.ioas_ranges(backend, bound.container, bound.ioas)
    assert alignment == page
    assert ranges != [requests.ALL_ADDRESSES]
    requests.detach_iommufd(backend, bound.fd)
    assert requests.ioas_ranges(backend, bound.container, bound.ioas) == ([requests.ALL_ADDRESSES], 1)


def test_attach_twice(backend: Backend, bound: OpenDevice) -> None:
    first = requests.attach_iommufd(backend, bound.fd, bound.ioas)
    assert first not in (bound.ioas, bound.devid)
    assert requests.attach_iommufd(backend, bound.fd, bound.ioas) == first


def test_attach_to_another_address_space(backend: Backend, bound: OpenDevice) -> None:
    first = requests.attach_iommufd(backend, bound.fd, bound.ioas)
    other = requests.ioas_alloc(backend, bound.container)
    assert requests.attach_iommufd(backend, bound.fd, other) != first
    requests.destroy(backend, bound.container, bound.ioas)


def test_attach_finds_a_mapping_out_of_its_ranges(
    backend: Backend, bound: OpenDevice, memory: Callable[[int], AnonymousMemory], page: int
) -> None:
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    first, last = bound.ranges()[0]
    requests.detach_iommufd(backend, bound.fd)
    outside = first - page if first else last + 1
    bound.map(outside, memory(1).address, page)
    with fails(EADDRINUSE):
        requests.attach_iommufd(backend, bound.fd, bound.ioas)
    bound.unmap(outside, page)
    requests.attach_iommufd(backend, bound.fd, bound.ioas)


def test_mappings_made_before_attach(
    backend: Backend, bound: OpenDevice, memory: Callable[[int], AnonymousMemory], page: int
) -> None:
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    base = bound.base
    requests.detach_iommufd(backend, bound.fd)
    bound.map(base, memory(1).address, page)
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    assert bound.unmap(base, page) == page


def test_mappings_outlive_detach(
    backend: Backend, bound: OpenDevice, memory: Callable[[int], AnonymousMemory], page: int
) -> None:
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    base = bound.base
    bound.map(base, memory(1).address, page)
    requests.detach_iommufd(backend, bound.fd)
    assert bound.unmap(base, page) == page
    requests.destroy(backend, bound.container, bound.ioas)


def test_hardware_information(backend: Backend, bound: OpenDevice, vtd: bool) -> None:
    info = iommufd.HwInfo.sized(dev_id=bound.devid)
    backend.ioctl(bound.container, iommufd.IOMMU_GET_HW_INFO, info)
    assert info.out_data_type == (iommufd.IOMMU_HW_INFO_TYPE_INTEL_VTD if vtd else iommufd.IOMMU_HW_INFO_TYPE_NONE)
    assert info.data_len == (ctypes.sizeof(iommufd.HwInfoVtd) if vtd else 0)


def test_hardware_information_of_no_device(backend: Backend, bound: OpenDevice) -> None:
    with fails(ENOENT):
        backend.ioctl(bound.container, iommufd.IOMMU_GET_HW_INFO, iommufd.HwInfo.sized(dev_id=99))


def test_closing_the_iommufd_first(backend: Backend, files: OpenFiles, bound: OpenDevice) -> None:
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    files.close(bound.container)
    assert requests.device_info(backend, bound.fd)[0].num_irqs == vfio.VFIO_PCI_NUM_IRQS


def test_closing_the_device_frees_it(
    backend: Backend, files: OpenFiles, bound: OpenDevice, function: BoundFunction
) -> None:
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    files.close(bound.fd)
    with fails(ENOENT):
        requests.destroy(backend, bound.container, bound.devid)
    requests.destroy(backend, bound.container, bound.ioas)
    files.open(function.group)


def test_two_devices_share_an_address_space(
    backend: Backend, files: OpenFiles, bound: OpenDevice, function2: BoundFunction
) -> None:
    second = files.open(function2.cdev)
    requests.attach_iommufd(backend, bound.fd, bound.ioas)
    devid = requests.bind_iommufd(backend, second, bound.container)
    assert devid not in (bound.devid, bound.ioas)
    requests.attach_iommufd(backend, second, bound.ioas)
    requests.detach_iommufd(backend, bound.fd)
    assert bound.ranges() != [requests.ALL_ADDRESSES]
    files.close(second)


def test_the_node_in_sysfs(backend: Backend, sysfs: Attributes, function: BoundFunction) -> None:
    name = function.cdev.rsplit("/", 1)[-1]
    assert sysfs.link(f"/sys/class/vfio-dev/{name}/device") == function.address
    number = backend.stat(function.cdev).st_rdev
    major, minor = (int(part) for part in sysfs.read(f"{function.path}/vfio-dev/{name}/dev").split(":"))
    assert number == os.makedev(major, minor)


def test_open_by_group_after_the_node(backend: Backend, files: OpenFiles, function: BoundFunction) -> None:
    with OpenFiles(backend) as first:
        open_device(backend, first, function, "iommufd")
    open_device(backend, files, function, group_mode(backend))
