"""The container: /dev/vfio/vfio before and after a group is in it."""

from __future__ import annotations

import sys
from errno import EBADF, EBADFD, EBUSY, EFAULT, EINVAL, ENODEV, ENOENT, ENOTTY

import pytest

from pyvfio.abi import vfio, vfio_type1
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.ioda.status import host_status
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, IOMMU, TCE, group_mode, require_mode
from pyvfio.testing.spapr import BOTH, require_tce

TYPES = [vfio.VFIO_TYPE1_IOMMU, vfio.VFIO_TYPE1v2_IOMMU]
MODES = ["type1", "type1v2", "tce", "tcev2"]
KINDS = dict(zip(MODES, (*TYPES, *BOTH), strict=True))
EXTENSIONS = [
    *(0, vfio.VFIO_TYPE1_IOMMU, vfio.VFIO_SPAPR_TCE_IOMMU, vfio.VFIO_TYPE1v2_IOMMU, vfio.VFIO_EEH),
    *(vfio.VFIO_TYPE1_NESTING_IOMMU, vfio.VFIO_SPAPR_TCE_v2_IOMMU, vfio.VFIO_NOIOMMU_IOMMU, vfio.VFIO_UNMAP_ALL, 99),
]
OF_TYPE1 = {vfio.VFIO_TYPE1_IOMMU, vfio.VFIO_TYPE1v2_IOMMU, vfio.VFIO_TYPE1_NESTING_IOMMU, vfio.VFIO_UNMAP_ALL}


@pytest.fixture
def power(backend: Backend) -> bool:
    """Whether the kernel's IOMMU is POWER's, which has no type 1."""
    return group_mode(backend) == TCE


@pytest.fixture
def kind(power: bool) -> int:
    """The version of the kernel's IOMMU that has the highest number."""
    return vfio.VFIO_SPAPR_TCE_v2_IOMMU if power else vfio.VFIO_TYPE1v2_IOMMU


@pytest.fixture(params=MODES)
def any_kind(request: pytest.FixtureRequest, backend: Backend) -> int:
    """Each version that there is."""
    if KINDS[request.param] in BOTH:
        require_tce(backend)
    else:
        require_mode(backend, request.param)
    return KINDS[request.param]


def ask(backend: Backend, container: int) -> None:
    """Ask the IOMMU of a container what it is like: type 1 and POWER's have one number for that."""
    backend.ioctl(container, vfio_type1.VFIO_IOMMU_GET_INFO, bytearray((256).to_bytes(4, sys.byteorder) + bytes(252)))


@pytest.fixture
def container(files: OpenFiles) -> int:
    return files.open(CONTAINER)


@pytest.fixture
def group(files: OpenFiles, function: BoundFunction) -> int:
    return files.open(function.group)


@pytest.mark.parametrize("number", [*TYPES, *BOTH, 0, 99])
def test_set_iommu_without_a_group(backend: Backend, container: int, number: int) -> None:
    with fails(EINVAL):
        backend.ioctl(container, vfio.VFIO_SET_IOMMU, number)


@pytest.mark.parametrize(
    "request_number",
    [vfio_type1.VFIO_IOMMU_GET_INFO, vfio_type1.VFIO_IOMMU_MAP_DMA, vfio_type1.VFIO_IOMMU_UNMAP_DMA],
    ids=["get-info", "map", "unmap"],
)
def test_the_iommu_before_there_is_one(backend: Backend, container: int, request_number: int) -> None:
    with fails(EINVAL):
        backend.ioctl(container, request_number, vfio_type1.IommuType1Info.sized())


@pytest.mark.parametrize("number", [vfio.VFIO_GROUP_GET_STATUS, vfio.VFIO_DEVICE_GET_INFO], ids=["group", "device"])
def test_a_request_of_another_file(backend: Backend, container: int, number: int) -> None:
    with fails(EINVAL):
        backend.ioctl(container, number, vfio.GroupStatus.sized())


def test_set_iommu_of_no_driver(backend: Backend, container: int, group: int, power: bool) -> None:
    requests.set_container(backend, group, container)
    for number in (0, *(TYPES if power else BOTH), vfio.VFIO_DMA_CC_IOMMU, vfio.VFIO_NOIOMMU_IOMMU, 99):
        with fails(ENODEV):
            backend.ioctl(container, vfio.VFIO_SET_IOMMU, number)


def test_set_iommu_twice(backend: Backend, container: int, group: int, any_kind: int) -> None:
    requests.set_container(backend, group, container)
    backend.ioctl(container, vfio.VFIO_SET_IOMMU, any_kind)
    for again in (*TYPES, *BOTH):
        with fails(EINVAL):
            backend.ioctl(container, vfio.VFIO_SET_IOMMU, again)


def test_api_version(backend: Backend, container: int) -> None:
    assert backend.ioctl(container, vfio.VFIO_GET_API_VERSION) == vfio.VFIO_API_VERSION


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("set_up", [False, True], ids=["empty", "set-up"])
def test_extensions(
    backend: Backend, host: Host, container: int, group: int, power: bool, kind: int, extension: int, set_up: bool
) -> None:
    there = set(BOTH) if power else OF_TYPE1
    eeh = host_status(host.sysfs)
    if power and eeh is not None and eeh.enabled:
        there = {*there, vfio.VFIO_EEH}
    if set_up:
        requests.set_container(backend, group, container)
        backend.ioctl(container, vfio.VFIO_SET_IOMMU, kind)
    assert requests.check_extension(backend, container, extension) == (extension in there)


def test_update_vaddr_is_for_containers_without_mediated_devices(
    backend: Backend, container: int, group: int, any_kind: int
) -> None:
    # an empty container has no device to speak for, a physical one allows it
    assert requests.check_extension(backend, container, vfio.VFIO_UPDATE_VADDR) == 0
    requests.set_container(backend, group, container)
    backend.ioctl(container, vfio.VFIO_SET_IOMMU, any_kind)
    assert requests.check_extension(backend, container, vfio.VFIO_UPDATE_VADDR) == (any_kind in TYPES)


def test_the_last_group_takes_the_iommu_along(
    backend: Backend, container: int, group: int, kind: int, power: bool
) -> None:
    requests.set_container(backend, group, container)
    backend.ioctl(container, vfio.VFIO_SET_IOMMU, vfio.VFIO_SPAPR_TCE_IOMMU if power else vfio.VFIO_TYPE1_IOMMU)
    backend.ioctl(group, vfio.VFIO_GROUP_UNSET_CONTAINER)
    with fails(EINVAL):
        ask(backend, container)
    requests.set_container(backend, group, container)
    backend.ioctl(container, vfio.VFIO_SET_IOMMU, kind)
    ask(backend, container)


def test_a_second_container_is_another(
    backend: Backend, files: OpenFiles, container: int, group: int, kind: int
) -> None:
    other = files.open(CONTAINER)
    requests.set_container(backend, group, container)
    backend.ioctl(container, vfio.VFIO_SET_IOMMU, kind)
    with fails(EINVAL):
        ask(backend, other)
    with fails(EINVAL):
        requests.set_container(backend, group, other)


def test_status_sizes(backend: Backend, group: int) -> None:
    with fails(EINVAL):
        requests.group_flags(backend, group, argsz=7)
    assert requests.group_flags(backend, group, argsz=64) == vfio.GroupFlags.VIABLE


def test_status(backend: Backend, container: int, group: int) -> None:
    assert requests.group_flags(backend, group) == vfio.GroupFlags.VIABLE
    requests.set_container(backend, group, container)
    assert requests.group_flags(backend, group) == vfio.GroupFlags.VIABLE | vfio.GroupFlags.CONTAINER_SET
    backend.ioctl(group, vfio.VFIO_GROUP_UNSET_CONTAINER)
    assert requests.group_flags(backend, group) == vfio.GroupFlags.VIABLE


def test_a_group_is_opened_once(backend: Backend, files: OpenFiles, function: BoundFunction, group: int) -> None:
    with fails(EBUSY):
        files.open(function.group)
    files.close(group)
    files.open(function.group)


def test_the_group_of_another_driver(backend: Backend, sysfs: Attributes, files: OpenFiles) -> None:
    for number in backend.listdir("/sys/kernel/iommu_groups"):
        if not sysfs.exists(f"/dev/vfio/{number}"):
            with fails(ENOENT):
                files.open(f"/dev/vfio/{number}")


def test_set_container_to_a_number_that_is_closed(backend: Backend, group: int) -> None:
    with fails(EBADF):
        requests.set_container(backend, group, 987)


def test_set_container_to_another_file(backend: Backend, files: OpenFiles, group: int, pci_path: str) -> None:
    with fails(EBADFD):
        requests.set_container(backend, group, files.open(f"{pci_path}/vendor", 0))
    with fails(EBADFD):
        requests.set_container(backend, group, group)


def test_set_container_to_a_negative_number(backend: Backend, group: int) -> None:
    with fails(EBADF):
        requests.set_container(backend, group, -1)


@pytest.mark.usefixtures("iommufd")
def test_set_container_to_iommufd(backend: Backend, files: OpenFiles, group: int) -> None:
    requests.set_container(backend, group, files.open(IOMMU))
    assert vfio.GroupFlags.CONTAINER_SET in requests.group_flags(backend, group)


def test_set_container_twice(backend: Backend, container: int, group: int) -> None:
    requests.set_container(backend, group, container)
    with fails(EINVAL):
        requests.set_container(backend, group, container)


def test_unset_container_of_none(backend: Backend, group: int) -> None:
    with fails(EINVAL):
        backend.ioctl(group, vfio.VFIO_GROUP_UNSET_CONTAINER)


@pytest.mark.parametrize("number", [vfio.VFIO_GROUP_SET_CONTAINER, vfio.VFIO_GROUP_GET_STATUS], ids=["set", "status"])
def test_a_wild_address(backend: Backend, group: int, wild: int, number: int) -> None:
    with fails(EFAULT):
        backend.ioctl(group, number, wild)


def test_an_unknown_request(backend: Backend, group: int) -> None:
    with fails(ENOTTY):
        backend.ioctl(group, vfio.VFIO_GET_API_VERSION)
    with fails(ENOTTY):
        backend.ioctl(group, 0x1234)


def test_closing_the_group_leaves_the_container(
    backend: Backend, files: OpenFiles, container: int, group: int, kind: int
) -> None:
    requests.set_container(backend, group, container)
    backend.ioctl(container, vfio.VFIO_SET_IOMMU, kind)
    files.close(group)
    assert backend.ioctl(container, vfio.VFIO_GET_API_VERSION) == 0
    with fails(EINVAL):
        ask(backend, container)


def test_closing_the_container_leaves_the_group_in_it(
    backend: Backend, files: OpenFiles, container: int, group: int
) -> None:
    requests.set_container(backend, group, container)
    files.close(container)
    assert vfio.GroupFlags.CONTAINER_SET in requests.group_flags(backend, group)
    backend.ioctl(group, vfio.VFIO_GROUP_UNSET_CONTAINER)


def test_two_groups_share_one_container(
    backend: Backend, files: OpenFiles, container: int, group: int, function2: BoundFunction, kind: int
) -> None:
    second = files.open(function2.group)
    requests.set_container(backend, group, container)
    backend.ioctl(container, vfio.VFIO_SET_IOMMU, kind)
    requests.set_container(backend, second, container)
    backend.ioctl(group, vfio.VFIO_GROUP_UNSET_CONTAINER)
    ask(backend, container)  # the second group keeps it
    backend.ioctl(second, vfio.VFIO_GROUP_UNSET_CONTAINER)
