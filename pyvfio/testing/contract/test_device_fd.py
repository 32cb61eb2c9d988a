"""VFIO_GROUP_GET_DEVICE_FD: how a device is opened by its group."""

from __future__ import annotations

import os
from errno import EBUSY, EFAULT, EINVAL, ENODEV, ENOTTY

import pytest

from pyvfio.abi import vfio
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import MDEV_UUID, BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, TCE, OpenDevice
from pyvfio.testing.spapr import TceContainer


def test_without_a_container(backend: Backend, files: OpenFiles, function: BoundFunction) -> None:
    group = files.open(function.group)
    with fails(EINVAL):
        requests.device_fd(backend, group, function.address)


def test_without_an_iommu(backend: Backend, files: OpenFiles, function: BoundFunction) -> None:
    container, group = files.open(CONTAINER), files.open(function.group)
    requests.set_container(backend, group, container)
    with fails(EINVAL):
        requests.device_fd(backend, group, function.address)


@pytest.mark.parametrize("name", ["", "nonsense", "ffff:00:00.0", "0.0.0000", "{address}x"])
def test_a_name_that_is_no_device(backend: Backend, opened: OpenDevice, function: BoundFunction, name: str) -> None:
    with fails(ENODEV):
        requests.device_fd(backend, opened.group, name.format(address=function.address))


@pytest.mark.parametrize("option", ["x", "vf_token=", "vf_token=nonsense", "vf-token=1"])
def test_an_option_that_is_none(backend: Backend, opened: OpenDevice, function: BoundFunction, option: str) -> None:
    # what follows the name and a blank is read as options of vfio-pci
    with fails(EINVAL):
        requests.device_fd(backend, opened.group, f"{function.address} {option}")


def test_a_token_for_a_function_that_wants_none(backend: Backend, opened: OpenDevice, function: BoundFunction) -> None:
    with fails(EINVAL):
        requests.device_fd(backend, opened.group, f"{function.address} vf_token={MDEV_UUID}")


def test_the_device_of_another_group(backend: Backend, opened: OpenDevice, function2: BoundFunction) -> None:
    with fails(ENODEV):
        requests.device_fd(backend, opened.group, function2.address)


def test_a_wild_address(backend: Backend, opened: OpenDevice, wild: int) -> None:
    with fails(EFAULT):
        backend.ioctl(opened.group, vfio.VFIO_GROUP_GET_DEVICE_FD, wild)


def test_unset_container_while_it_is_open(backend: Backend, opened: OpenDevice) -> None:
    with fails(EBUSY):
        backend.ioctl(opened.group, vfio.VFIO_GROUP_UNSET_CONTAINER)


def test_an_unknown_request(backend: Backend, opened: OpenDevice) -> None:
    with fails(ENOTTY):
        backend.ioctl(opened.fd, 0x1234)


def test_it_is_close_on_exec(opened: OpenDevice) -> None:
    assert not os.get_inheritable(opened.fd)


def test_twice(backend: Backend, files: OpenFiles, opened: OpenDevice, function: BoundFunction) -> None:
    other = files.adopt(requests.device_fd(backend, opened.group, function.address))
    assert other != opened.fd
    assert requests.device_info(backend, other)[0].flags == requests.device_info(backend, opened.fd)[0].flags


def test_a_second_descriptor_keeps_it_open(
    backend: Backend, files: OpenFiles, opened: OpenDevice, function: BoundFunction
) -> None:
    other = files.adopt(requests.device_fd(backend, opened.group, function.address))
    files.close(opened.fd)
    with fails(EBUSY):
        backend.ioctl(opened.group, vfio.VFIO_GROUP_UNSET_CONTAINER)
    files.close(other)
    backend.ioctl(opened.group, vfio.VFIO_GROUP_UNSET_CONTAINER)


def test_it_outlives_the_descriptors_of_group_and_container(
    backend: Backend, files: OpenFiles, opened: OpenDevice, function: BoundFunction
) -> None:
    files.close(opened.group)
    files.close(opened.container)
    assert requests.device_info(backend, opened.fd)[0].num_regions == vfio.VFIO_PCI_NUM_REGIONS
    with fails(EBUSY):
        files.open(function.group)
    files.close(opened.fd)
    files.open(function.group)


def test_the_container_is_usable_while_the_device_is_open(
    backend: Backend, files: OpenFiles, opened: OpenDevice
) -> None:
    files.close(opened.group)
    if opened.mode == TCE:
        TceContainer(backend, opened.container).info()
    else:
        requests.iommu_info(backend, opened.container)
