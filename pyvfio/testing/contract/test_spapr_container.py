"""Containers of POWER: which IOMMU they have, what it says of itself, when it works, and groups that share one."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EBUSY, EFAULT, EINVAL, ENODEV, ENOTTY, EPERM

import pytest

from pyvfio.abi import vfio, vfio_type1
from pyvfio.abi import vfio_spapr as spapr
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER
from pyvfio.testing.spapr import BOTH, PageMemory, TceContainer, add_group, locked, open_tce, require_tce

V1, V2 = BOTH
NO_OTHERS = {
    number: number in BOTH for number in range(12) if number != vfio.VFIO_EEH
}  # EEH is there or not: test_eeh_operations
REGISTER, UNREGISTER = spapr.VFIO_IOMMU_SPAPR_REGISTER_MEMORY, spapr.VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY
CREATE, REMOVE = spapr.VFIO_IOMMU_SPAPR_TCE_CREATE, spapr.VFIO_IOMMU_SPAPR_TCE_REMOVE
ENABLE, DISABLE = vfio_type1.VFIO_IOMMU_ENABLE, vfio_type1.VFIO_IOMMU_DISABLE
EITHER = pytest.mark.parametrize("kind", BOTH, ids=["v1", "v2"])


@pytest.fixture(autouse=True, scope="module")
def power(backend: Backend) -> None:
    require_tce(backend)


@pytest.fixture
def empty(backend: Backend, files: OpenFiles) -> TceContainer:
    """A container without a group."""
    return TceContainer(backend, files.open(CONTAINER))


@pytest.fixture
def container(backend: Backend, files: OpenFiles, function: BoundFunction, kind: int) -> TceContainer:
    return open_tce(backend, files, function, kind)


@pytest.fixture
def v1(backend: Backend, files: OpenFiles, function: BoundFunction) -> TceContainer:
    return open_tce(backend, files, function, V1)


@pytest.fixture
def v2(backend: Backend, files: OpenFiles, function: BoundFunction) -> TceContainer:
    return open_tce(backend, files, function, V2)


@pytest.fixture
def registered(v2: TceContainer, page: int) -> Iterator[AnonymousMemory]:
    """A page that the container of version 2 may map."""
    with PageMemory(page, page) as memory:
        v2.register(memory.address, page)
        yield memory
        v2.unregister(memory.address, page)


# the IOMMU's type


@pytest.mark.parametrize("number", NO_OTHERS)
@pytest.mark.parametrize("state", ["empty", "v1", "v2"])
def test_extensions(
    backend: Backend, files: OpenFiles, function: BoundFunction, empty: TceContainer, number: int, state: str
) -> None:
    if state != "empty":
        add_group(backend, files, empty.fd, function)
        empty.set_iommu({"v1": V1, "v2": V2}[state])
    assert empty.extension(number) == NO_OTHERS[number]


@pytest.mark.parametrize("other", [*BOTH, vfio.VFIO_TYPE1_IOMMU, 0])
def test_without_a_group(empty: TceContainer, other: int) -> None:
    with fails(EINVAL):
        empty.set_iommu(other)


@pytest.mark.parametrize(
    "other", [vfio.VFIO_TYPE1_IOMMU, vfio.VFIO_TYPE1v2_IOMMU, vfio.VFIO_EEH, vfio.VFIO_NOIOMMU_IOMMU, 0, 99]
)
def test_of_another_type(
    backend: Backend, files: OpenFiles, function: BoundFunction, empty: TceContainer, other: int
) -> None:
    if other == vfio.VFIO_EEH and empty.extension(other):
        wanted = EINVAL  # an extension, so its driver is asked, and that refuses
    else:
        wanted = ENODEV
    add_group(backend, files, empty.fd, function)
    with fails(wanted):
        empty.set_iommu(other)


@EITHER
@pytest.mark.parametrize("again", BOTH, ids=["v1", "v2"])
def test_set_twice(container: TceContainer, again: int) -> None:
    with fails(EINVAL):
        container.set_iommu(again)


@EITHER
def test_the_last_group_takes_it_along(backend: Backend, container: TceContainer, kind: int) -> None:
    backend.ioctl(container.group, vfio.VFIO_GROUP_UNSET_CONTAINER)
    with fails(EINVAL):
        container.info()
    requests.set_container(backend, container.group, container.fd)
    container.set_iommu(BOTH[not BOTH.index(kind)])
    assert container.info().dma32_window_size


# what it says


@EITHER
def test_info(container: TceContainer, kind: int, page: int) -> None:
    info = container.info()
    assert (info.argsz, info.dma32_window_start) == (32, 0)
    assert info.dma32_window_size
    assert info.dma32_window_size % page == 0
    if kind == V1:
        assert (info.flags, info.ddw.pgsizes, info.ddw.max_dynamic_windows_supported, info.ddw.levels) == (0, 0, 0, 0)


def test_windows_that_can_be_made(v2: TceContainer, page: int, guest_on_power: bool) -> None:
    info = v2.info()
    assert info.flags == spapr.VFIO_IOMMU_SPAPR_INFO_DDW
    # Linux has room for two tables, and five levels; a hypervisor's have one
    assert (info.ddw.max_dynamic_windows_supported, info.ddw.levels) == (2, 1 if guest_on_power else 5)
    assert info.ddw.pgsizes & page


@EITHER
@pytest.mark.parametrize("argsz", [16, 24, 31])
def test_info_without_room_for_windows(container: TceContainer, kind: int, argsz: int) -> None:
    info = container.info(argsz)
    assert info.dma32_window_size
    assert (info.argsz, info.ddw.pgsizes, info.ddw.max_dynamic_windows_supported) == (argsz, 0, 0)
    assert info.flags == (spapr.VFIO_IOMMU_SPAPR_INFO_DDW if kind == V2 else 0)


@EITHER
@pytest.mark.parametrize("argsz", [0, 8, 15])
def test_info_of_too_small_a_structure(container: TceContainer, argsz: int) -> None:
    with fails(EINVAL):
        container.info(argsz)


@EITHER
def test_info_of_a_larger_structure(container: TceContainer) -> None:
    assert container.info(1 << 20).argsz == 1 << 20


# which requests there are


@pytest.mark.parametrize("number", [REGISTER, UNREGISTER, CREATE, REMOVE], ids=["register", "un", "create", "remove"])
def test_version_1_has_no_requests_of_version_2(v1: TceContainer, wild: int, number: int) -> None:
    with fails(ENOTTY):
        v1.backend.ioctl(v1.fd, number, wild)


@pytest.mark.parametrize("number", [ENABLE, DISABLE], ids=["enable", "disable"])
def test_version_2_has_no_requests_of_version_1(v2: TceContainer, number: int) -> None:
    with fails(ENOTTY):
        v2.backend.ioctl(v2.fd, number, 0)


@EITHER
@pytest.mark.parametrize(
    "number",
    [vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.VFIO_GROUP_GET_STATUS],
    ids=["region", "group"],
)
def test_requests_of_others(container: TceContainer, wild: int, number: int) -> None:
    with fails(ENOTTY):
        container.backend.ioctl(container.fd, number, wild)


@pytest.mark.parametrize(
    "number",
    [spapr.VFIO_IOMMU_SPAPR_TCE_GET_INFO, REGISTER, UNREGISTER, CREATE, REMOVE],
    ids=["info", "register", "unregister", "create", "remove"],
)
def test_a_wild_structure(v2: TceContainer, registered: AnonymousMemory, wild: int, number: int) -> None:
    with fails(EFAULT):
        v2.backend.ioctl(v2.fd, number, wild)


@pytest.mark.parametrize("number", [vfio_type1.VFIO_IOMMU_MAP_DMA, vfio_type1.VFIO_IOMMU_UNMAP_DMA], ids=["map", "un"])
@EITHER
def test_a_wild_mapping(container: TceContainer, kind: int, page: int, wild: int, number: int) -> None:
    with PageMemory(page, page) as memory:
        if kind == V1:
            container.enable()
        else:
            container.register(memory.address, page)
        with fails(EFAULT):
            container.backend.ioctl(container.fd, number, wild)
        if kind == V2:
            container.unregister(memory.address, page)


# version 1 works when it is enabled, version 2 when memory was registered


@EITHER
def test_before_it_works(container: TceContainer, page: int) -> None:
    with PageMemory(page, page) as memory, fails(EPERM):
        container.map(0, memory.address, page)
    with fails(EPERM):
        container.unmap(0, page)


@EITHER
def test_before_it_works_nothing_is_read(container: TceContainer, wild: int) -> None:
    with fails(EPERM):
        container.backend.ioctl(container.fd, vfio_type1.VFIO_IOMMU_MAP_DMA, wild)


def test_enable_twice(v1: TceContainer) -> None:
    assert v1.enable() == 0
    with fails(EBUSY):
        v1.enable()


def test_enable_locks_the_window(backend: Backend, v1: TceContainer) -> None:
    before = locked(backend)
    v1.enable()
    assert locked(backend) - before == v1.info().dma32_window_size
    assert v1.disable() == 0
    assert locked(backend) == before


def test_disable_needs_no_enable(backend: Backend, v1: TceContainer) -> None:
    before = locked(backend)
    assert v1.disable() == 0
    assert v1.disable() == 0
    assert locked(backend) == before


def test_disabled_it_maps_nothing(v1: TceContainer, page: int) -> None:
    v1.enable()
    with PageMemory(page, page) as memory:
        v1.map(0, memory.address, page)
        v1.disable()
        with fails(EPERM):
            v1.map(page, memory.address, page)
        with fails(EPERM):
            v1.unmap(0, page)
        v1.enable()
        assert v1.unmap(0, page) == (0, page)


def test_closing_gives_the_locked_memory_back(backend: Backend, function: BoundFunction) -> None:
    before = locked(backend)
    with OpenFiles(backend) as files:
        open_tce(backend, files, function, V1).enable()
        assert locked(backend) > before
    assert locked(backend) == before


# several groups


def test_version_1_has_one_group(
    backend: Backend, files: OpenFiles, v1: TceContainer, function2: BoundFunction
) -> None:
    with fails(EBUSY):
        add_group(backend, files, v1.fd, function2)


def test_version_2_has_several(backend: Backend, files: OpenFiles, v2: TceContainer, function2: BoundFunction) -> None:
    other = add_group(backend, files, v2.fd, function2)
    info = v2.info()
    assert info.dma32_window_size
    backend.ioctl(other, vfio.VFIO_GROUP_UNSET_CONTAINER)
    assert bytes(v2.info()) == bytes(info)


def test_a_group_that_comes_later_has_the_windows(
    backend: Backend,
    files: OpenFiles,
    v2: TceContainer,
    registered: AnonymousMemory,
    page: int,
    function2: BoundFunction,
    guest_on_power: bool,
) -> None:
    if guest_on_power:
        pytest.skip("groups of a guest on POWER share no windows")
    assert v2.map(0, registered.address, page) == 0
    other = add_group(backend, files, v2.fd, function2)
    assert v2.map(page, registered.address, page) == 0
    assert v2.unmap(0, 2 * page) == (0, 2 * page)
    backend.ioctl(other, vfio.VFIO_GROUP_UNSET_CONTAINER)
    assert v2.map(0, registered.address, page) == 0
    assert v2.unmap(0, page) == (0, page)


def test_a_group_is_in_one_container(backend: Backend, files: OpenFiles, v2: TceContainer, empty: TceContainer) -> None:
    with fails(EINVAL):
        requests.set_container(backend, v2.group, empty.fd)
