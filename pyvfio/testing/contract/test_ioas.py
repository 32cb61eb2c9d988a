"""IOAS objects of iommufd without a device: flags, mappings, ranges, copies."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from errno import EEXIST, EFAULT, EINVAL, EMSGSIZE, ENOENT, EOPNOTSUPP, EOVERFLOW

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


@pytest.mark.parametrize("flags", [1, 1 << 31])
def test_alloc_with_flags(backend: Backend, iommu: int, flags: int) -> None:
    with fails(EOPNOTSUPP):
        send(backend, iommu, iommufd.IOMMU_IOAS_ALLOC, iommufd.IoasAlloc.sized(flags=flags))


@pytest.mark.parametrize("number", [0, 99, 0xFFFFFFFF])
def test_an_object_that_is_none(backend: Backend, iommu: int, memory: Memory, page: int, number: int) -> None:
    with fails(ENOENT):
        requests.destroy(backend, iommu, number)
    with fails(ENOENT):
        requests.ioas_map(backend, iommu, number, memory(1).address, page)
    with fails(ENOENT):
        requests.ioas_unmap(backend, iommu, number, 0, page)
    with fails(ENOENT):
        requests.ioas_ranges(backend, iommu, number)


def test_destroy_twice(backend: Backend, iommu: int, ioas: int) -> None:
    requests.destroy(backend, iommu, ioas)
    with fails(ENOENT):
        requests.destroy(backend, iommu, ioas)


def test_objects_of_another_file(backend: Backend, files: OpenFiles, iommu: int, ioas: int) -> None:
    other = files.open(IOMMU)
    with fails(ENOENT):
        requests.ioas_ranges(backend, other, ioas)


@pytest.mark.parametrize("field", ["flags", "__reserved"])
def test_map_with_unknown_bits(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int, field: str) -> None:
    argument = iommufd.IoasMap.sized(
        flags=iommufd.IOMMU_IOAS_MAP_READABLE, ioas_id=ioas, user_va=memory(1).address, length=page
    )
    setattr(argument, field, getattr(argument, field) | 1 << 8)
    with fails(EOPNOTSUPP):
        send(backend, iommu, iommufd.IOMMU_IOAS_MAP, argument)


@pytest.mark.parametrize("flags", [0, iommufd.IOMMU_IOAS_MAP_FIXED_IOVA])
def test_map_without_permission(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int, flags: int) -> None:
    with fails(EINVAL):
        requests.ioas_map(backend, iommu, ioas, memory(1).address, page, 0, flags)


def test_map_nothing(backend: Backend, iommu: int, ioas: int, memory: Memory) -> None:
    with fails(EINVAL):
        requests.ioas_map(backend, iommu, ioas, memory(1).address, 0)


def test_map_over_a_mapping(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int) -> None:
    requests.ioas_map(backend, iommu, ioas, memory(1).address, page, 16 * page)
    with fails(EEXIST):
        requests.ioas_map(backend, iommu, ioas, memory(1).address, page, 16 * page)


def test_map_past_the_end(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int) -> None:
    with fails(EOVERFLOW):
        requests.ioas_map(backend, iommu, ioas, memory(1).address, 2 * page, (1 << 64) - page)


def test_unmap_what_is_not_there(backend: Backend, iommu: int, ioas: int, page: int) -> None:
    with fails(ENOENT):
        requests.ioas_unmap(backend, iommu, ioas, 16 * page, page)


def test_unmap_a_part(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int) -> None:
    requests.ioas_map(backend, iommu, ioas, memory(2).address, 2 * page, 16 * page)
    with fails(ENOENT):
        requests.ioas_unmap(backend, iommu, ioas, 16 * page, page)


def test_ranges_without_room(backend: Backend, iommu: int, ioas: int) -> None:
    with fails(EMSGSIZE):
        requests.ioas_ranges(backend, iommu, ioas, room=0)


def test_the_count_is_told_when_there_is_no_room(backend: Backend, iommu: int, ioas: int) -> None:
    argument = iommufd.IoasIovaRanges.sized(ioas_id=ioas)
    with fails(EMSGSIZE):
        backend.ioctl(iommu, iommufd.IOMMU_IOAS_IOVA_RANGES, argument)
    assert argument.num_iovas == 1


def test_ranges_to_a_wild_address(backend: Backend, iommu: int, ioas: int, wild: int) -> None:
    with fails(EFAULT):
        send(
            backend,
            iommu,
            iommufd.IOMMU_IOAS_IOVA_RANGES,
            iommufd.IoasIovaRanges.sized(ioas_id=ioas, num_iovas=1, allowed_iovas=wild),
        )


def test_ranges_of_a_free_address_space(backend: Backend, iommu: int, ioas: int) -> None:
    assert requests.ioas_ranges(backend, iommu, ioas) == ([requests.ALL_ADDRESSES], 1)


def test_a_free_address_space_takes_any_address(
    backend: Backend, iommu: int, ioas: int, memory: Memory, page: int
) -> None:
    assert requests.ioas_map(backend, iommu, ioas, memory(1).address, page, 5 * page) == 5 * page
    assert requests.ioas_unmap(backend, iommu, ioas, 5 * page, page) == page


def test_an_address_that_is_not_aligned(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int) -> None:
    # without a device the alignment is 1, and a mapping need not fill pages
    address = memory(1).address
    assert requests.ioas_map(backend, iommu, ioas, address + 8, 16, 8) == 8
    assert requests.ioas_unmap(backend, iommu, ioas, 8, 16) == 16


def test_memory_is_not_touched_before_a_device_is_there(
    backend: Backend, iommu: int, ioas: int, wild: int, page: int
) -> None:
    requests.ioas_map(backend, iommu, ioas, wild, page, 16 * page)
    assert requests.ioas_unmap(backend, iommu, ioas, 16 * page, page) == page


def test_the_kernel_chooses_free_addresses(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int) -> None:
    address = memory(4).address
    chosen = [requests.ioas_map(backend, iommu, ioas, address, 2 * page) for _ in range(4)]
    assert len(set(chosen)) == 4
    assert all(iova % page == 0 for iova in chosen)
    for iova in chosen:
        assert requests.ioas_unmap(backend, iommu, ioas, iova, 2 * page) == 2 * page


@pytest.mark.parametrize(("iova", "length"), [(0, (1 << 64) - 1)])
def test_unmap_all(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int, iova: int, length: int) -> None:
    for at in (1, 4, 9):
        requests.ioas_map(backend, iommu, ioas, memory(1).address, page, at * page)
    assert requests.ioas_unmap(backend, iommu, ioas, iova, length) == 3 * page
    assert requests.ioas_unmap(backend, iommu, ioas, iova, length) == 0


def copy(backend: Backend, iommu: int, **fields: int) -> int:
    argument = iommufd.IoasCopy.sized(
        flags=iommufd.IOMMU_IOAS_MAP_READABLE | iommufd.IOMMU_IOAS_MAP_WRITEABLE, **fields
    )
    backend.ioctl(iommu, iommufd.IOMMU_IOAS_COPY, argument)
    return int(argument.dst_iova)


def test_copy_of_what_is_not_there(backend: Backend, iommu: int, ioas: int, page: int) -> None:
    other = requests.ioas_alloc(backend, iommu)
    with fails(ENOENT):
        copy(backend, iommu, src_ioas_id=ioas, dst_ioas_id=other, src_iova=16 * page, length=page)


def test_copy(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int) -> None:
    other = requests.ioas_alloc(backend, iommu)
    requests.ioas_map(backend, iommu, ioas, memory(4).address, 4 * page, 16 * page)
    iova = copy(backend, iommu, src_ioas_id=ioas, dst_ioas_id=other, src_iova=17 * page, length=2 * page)
    assert requests.ioas_unmap(backend, iommu, ioas, 16 * page, 4 * page) == 4 * page
    assert requests.ioas_unmap(backend, iommu, other, iova, 2 * page) == 2 * page


def allow(backend: Backend, iommu: int, ioas: int, *ranges: tuple[int, int]) -> None:
    items = (iommufd.IovaRange * max(1, len(ranges)))(*(iommufd.IovaRange(*item) for item in ranges))
    argument = iommufd.IoasAllowIovas.sized(ioas_id=ioas, num_iovas=len(ranges), allowed_iovas=ctypes.addressof(items))
    backend.ioctl(iommu, iommufd.IOMMU_IOAS_ALLOW_IOVAS, argument)


def test_allowed_ranges_turned_round(backend: Backend, iommu: int, ioas: int, page: int) -> None:
    with fails(EINVAL):
        allow(backend, iommu, ioas, (2 * page, page))


def test_allowed_ranges_that_overlap(backend: Backend, iommu: int, ioas: int, page: int) -> None:
    with fails(EINVAL):
        allow(backend, iommu, ioas, (0, 4 * page - 1), (page, 8 * page - 1))


def test_allowed_ranges(backend: Backend, iommu: int, ioas: int, memory: Memory, page: int) -> None:
    allow(backend, iommu, ioas, (16 * page, 20 * page - 1))
    assert 16 * page <= requests.ioas_map(backend, iommu, ioas, memory(1).address, page) < 20 * page
    # only the kernel's own choice is bound by it
    requests.ioas_map(backend, iommu, ioas, memory(1).address, page, 64 * page)
