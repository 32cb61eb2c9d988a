"""A group of two functions: when it is viable, who may own its DMA, and that both see the same memory.

The two are ``pci-testdev`` without a driver, if the host has such: functions of one device without ACS (x86), or all
that is on a host bridge of a guest on POWER.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EBUSY, EINVAL, ENODEV, EPERM

import pytest

from pyvfio.abi.vfio import VFIO_SET_IOMMU, VFIO_SPAPR_TCE_v2_IOMMU, VFIO_TYPE1v2_IOMMU
from pyvfio.backend import Backend
from pyvfio.errors import PyvfioError
from pyvfio.host import Host
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, IOMMU, TCE, group_mode, require_mode
from pyvfio.vfio import Container, open_device

TESTDEV = ("0x1b36", "0x0005")
VIABLE, CONTAINED = 1, 2


@pytest.fixture(scope="module")
def names(host: Host, sysfs: Attributes) -> tuple[str, str]:
    """The addresses of the two."""
    for group in host.groups():
        paths = [path for path in group.device_paths if sysfs.exists(f"{path}/vendor")]
        ids = {(sysfs.read(f"{path}/vendor"), sysfs.read(f"{path}/device")) for path in paths}
        if len(paths) == 2 and ids == {TESTDEV}:
            first, second = sorted(path.rsplit("/", 1)[-1] for path in paths)
            return first, second
    pytest.skip("this host has no group of two functions to take")


@pytest.fixture
def first(backend: Backend, names: tuple[str, str]) -> Iterator[BoundFunction]:
    with BoundFunction(backend, names[0]) as bound:
        yield bound


@pytest.fixture
def second(backend: Backend, names: tuple[str, str], first: BoundFunction) -> Iterator[BoundFunction]:
    with BoundFunction(backend, names[1]) as bound:
        yield bound


@pytest.fixture
def files(backend: Backend, first: BoundFunction) -> Iterator[OpenFiles]:
    """All is closed before a driver leaves a function: it would wait for that."""
    with OpenFiles(backend) as opened:
        yield opened


@pytest.fixture
def group(files: OpenFiles, first: BoundFunction) -> int:
    return files.open(first.group)


@pytest.fixture
def container(backend: Backend, files: OpenFiles, group: int) -> int:
    """A container with the group, and its IOMMU."""
    container = files.open(CONTAINER)
    requests.set_container(backend, group, container)
    kind = VFIO_SPAPR_TCE_v2_IOMMU if group_mode(backend) == TCE else VFIO_TYPE1v2_IOMMU
    backend.ioctl(container, VFIO_SET_IOMMU, kind)
    return container


def test_they_are_in_one_group(first: BoundFunction, second: BoundFunction) -> None:
    assert first.group == second.group


def test_each_has_a_node_of_its_own(first: BoundFunction, second: BoundFunction, iommu: int) -> None:
    assert first.cdev != second.cdev


def test_the_other_without_a_driver(
    backend: Backend, group: int, container: int, files: OpenFiles, names: tuple[str, str]
) -> None:
    assert requests.group_flags(backend, group) == VIABLE | CONTAINED
    files.adopt(requests.device_fd(backend, group, names[0]))
    with fails(ENODEV):
        requests.device_fd(backend, group, names[1])


def test_the_other_comes_while_a_program_owns_the_group(
    backend: Backend, group: int, container: int, files: OpenFiles, names: tuple[str, str]
) -> None:
    with BoundFunction(backend, names[1]):
        fd = requests.device_fd(backend, group, names[1])
        assert requests.device_info(backend, fd)[0].num_regions
        backend.close(fd)


def test_a_group_is_in_one_container(backend: Backend, group: int, container: int, files: OpenFiles) -> None:
    other = files.open(CONTAINER)
    with fails(EINVAL):
        requests.set_container(backend, group, other)


def test_it_is_opened_once(backend: Backend, group: int, first: BoundFunction) -> None:
    with fails(EBUSY):
        backend.open(first.group, os.O_RDWR)


def test_the_library_keeps_the_group_for_the_device_that_stays(
    host: Host, first: BoundFunction, second: BoundFunction, names: tuple[str, str], page: int
) -> None:
    with Container(host) as container:
        one, two = (open_device(host, name, space=container) for name in names)
        memory = two.space.buffer(page)
        one.close()
        with pytest.raises(PyvfioError), two.space.buffer(page, iova=memory.iova):
            pass  # it is still mapped
        with open_device(host, names[0], space=container) as again:
            assert again.group is two.group
        two.close()
        assert container.groups == []
        memory.close()


# by the nodes of the devices


@pytest.fixture
def iommu(backend: Backend, files: OpenFiles) -> int:
    require_mode(backend, "iommufd")
    return files.open(IOMMU)


@pytest.fixture
def both(backend: Backend, first: BoundFunction, second: BoundFunction, files: OpenFiles, iommu: int) -> list[int]:
    """The two, bound to one iommufd."""
    opened = [files.open(function.cdev) for function in (first, second)]
    for fd in opened:
        requests.bind_iommufd(backend, fd, iommu)
    return opened


def test_they_are_bound_to_one_iommufd(
    backend: Backend, first: BoundFunction, second: BoundFunction, files: OpenFiles, iommu: int
) -> None:
    one, two = (files.open(function.cdev) for function in (first, second))
    requests.bind_iommufd(backend, one, iommu)
    other = files.open(IOMMU)
    with fails(EPERM):
        requests.bind_iommufd(backend, two, other)
    requests.bind_iommufd(backend, two, iommu)


def test_the_group_cannot_be_used_beside_a_device(
    backend: Backend, first: BoundFunction, second: BoundFunction, files: OpenFiles, iommu: int
) -> None:
    requests.bind_iommufd(backend, files.open(first.cdev), iommu)
    with fails(EBUSY):
        backend.open(first.group, os.O_RDWR)


def test_they_are_in_one_address_space(backend: Backend, both: list[int], iommu: int) -> None:
    here, elsewhere = (requests.ioas_alloc(backend, iommu) for _ in range(2))
    table = requests.attach_iommufd(backend, both[0], here)
    with fails(EINVAL):
        requests.attach_iommufd(backend, both[1], elsewhere)
    assert requests.attach_iommufd(backend, both[1], here) == table
    requests.detach_iommufd(backend, both[0])
    with fails(EBUSY):
        requests.destroy(backend, iommu, here)  # the other one is still in it
    requests.detach_iommufd(backend, both[1])
    requests.destroy(backend, iommu, here)


def test_both_move_with_one(backend: Backend, both: list[int], iommu: int) -> None:
    """Attaching a device that is attached moves its group (``iommufd_device_do_replace``)."""
    here, elsewhere = (requests.ioas_alloc(backend, iommu) for _ in range(2))
    for fd in both:
        requests.attach_iommufd(backend, fd, here)
    requests.attach_iommufd(backend, both[0], elsewhere)
    requests.destroy(backend, iommu, here)
    with fails(EBUSY):
        requests.destroy(backend, iommu, elsewhere)
    for fd in both:
        requests.detach_iommufd(backend, fd)
    requests.destroy(backend, iommu, elsewhere)
