"""iommufd's grammar: requests, sizes and unknown bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from errno import E2BIG, EFAULT, EINVAL, ENOTTY

import pytest

from pyvfio.abi import iommufd
from pyvfio.abi.layout import AbiStructure
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import IOMMU

pytestmark = pytest.mark.usefixtures("iommufd")

Memory = Callable[[int], AnonymousMemory]
COMMANDS: dict[str, tuple[int, type[AbiStructure], str]] = {
    "destroy": (iommufd.IOMMU_DESTROY, iommufd.Destroy, "id"),
    "ioas-alloc": (iommufd.IOMMU_IOAS_ALLOC, iommufd.IoasAlloc, "out_ioas_id"),
    "iova-ranges": (iommufd.IOMMU_IOAS_IOVA_RANGES, iommufd.IoasIovaRanges, "out_iova_alignment"),
    "allow-iovas": (iommufd.IOMMU_IOAS_ALLOW_IOVAS, iommufd.IoasAllowIovas, "allowed_iovas"),
    "map": (iommufd.IOMMU_IOAS_MAP, iommufd.IoasMap, "iova"),
    "copy": (iommufd.IOMMU_IOAS_COPY, iommufd.IoasCopy, "src_iova"),
    "unmap": (iommufd.IOMMU_IOAS_UNMAP, iommufd.IoasUnmap, "length"),
    "option": (iommufd.IOMMU_OPTION, iommufd.Option, "val64"),
    "vfio-ioas": (iommufd.IOMMU_VFIO_IOAS, iommufd.VfioIoas, "__reserved"),
    "hw-info": (iommufd.IOMMU_GET_HW_INFO, iommufd.HwInfo, "__reserved"),
}


@pytest.fixture
def iommu(files: OpenFiles) -> int:
    return files.open(IOMMU)


@pytest.fixture
def ioas(backend: Backend, iommu: int) -> int:
    return requests.ioas_alloc(backend, iommu)


def send(
    backend: Backend, iommu: int, number: int, structure: AbiStructure, size: int | None = None, tail: bytes = b""
) -> None:
    buffer = bytearray(bytes(structure) + tail)
    if size is not None:
        ctypes.c_uint32.from_buffer(buffer).value = size
    backend.ioctl(iommu, number, buffer)


@pytest.mark.parametrize("number", [iommufd.IOMMU_DESTROY - 1, iommufd.IOMMU_FAULT_QUEUE_ALLOC + 1, 0x1234])
def test_a_request_that_is_none(backend: Backend, iommu: int, number: int) -> None:
    with fails(ENOTTY):
        backend.ioctl(iommu, number, iommufd.Destroy.sized())


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wild_address(backend: Backend, iommu: int, wild: int, name: str) -> None:
    with fails(EFAULT):
        backend.ioctl(iommu, COMMANDS[name][0], wild)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("size", [0, 4])
def test_too_small(backend: Backend, iommu: int, name: str, size: int) -> None:
    number, cls, _ = COMMANDS[name]
    with fails(EINVAL):
        send(backend, iommu, number, cls(), size)


@pytest.mark.parametrize("name", COMMANDS)
def test_more_than_the_kernel_knows(backend: Backend, iommu: int, name: str) -> None:
    number, cls, _ = COMMANDS[name]
    with fails(E2BIG):
        send(backend, iommu, number, cls(), ctypes.sizeof(cls) + 8, b"\0" * 7 + b"\x01")


def test_more_zeros_than_the_kernel_knows(backend: Backend, iommu: int) -> None:
    send(
        backend, iommu, iommufd.IOMMU_IOAS_ALLOC, iommufd.IoasAlloc(), ctypes.sizeof(iommufd.IoasAlloc) + 16, bytes(16)
    )


def test_object_numbers_start_at_one(backend: Backend, iommu: int) -> None:
    assert [requests.ioas_alloc(backend, iommu) for _ in range(3)] == [1, 2, 3]
