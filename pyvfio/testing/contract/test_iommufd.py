"""iommufd's grammar: sizes, flags, objects, ranges and options, without a device."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from errno import E2BIG, EBUSY, EEXIST, EFAULT, EINVAL, EMSGSIZE, ENODEV, ENOENT, ENOTTY, EOPNOTSUPP, EOVERFLOW

import pytest

from pyvfio.abi import iommufd, vfio
from pyvfio.abi.layout import AbiStructure
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import IOMMU

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


def option(backend: Backend, iommu: int, **fields: int) -> int:
    argument = iommufd.Option.sized(**fields)
    backend.ioctl(iommu, iommufd.IOMMU_OPTION, argument)
    return int(argument.val64)


def test_an_option_that_is_none(backend: Backend, iommu: int) -> None:
    with fails(EOPNOTSUPP):
        option(backend, iommu, option_id=99)


@pytest.mark.parametrize("value", [2, 1 << 40])
def test_an_option_with_a_wrong_value(backend: Backend, iommu: int, ioas: int, value: int) -> None:
    with fails(EINVAL):
        option(
            backend,
            iommu,
            option_id=iommufd.IOMMU_OPTION_HUGE_PAGES,
            op=iommufd.IOMMU_OPTION_OP_SET,
            object_id=ioas,
            val64=value,
        )


def test_huge_pages(backend: Backend, iommu: int, ioas: int) -> None:
    which = {"option_id": iommufd.IOMMU_OPTION_HUGE_PAGES, "object_id": ioas}
    assert option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_GET, **which) == 1
    option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_SET, val64=0, **which)
    assert option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_GET, **which) == 0


def test_the_accounting_mode(backend: Backend, iommu: int) -> None:
    which = {"option_id": iommufd.IOMMU_OPTION_RLIMIT_MODE}
    assert option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_GET, **which) == 0
    option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_SET, val64=1, **which)
    assert option(backend, iommu, op=iommufd.IOMMU_OPTION_OP_GET, **which) == 1


def test_the_accounting_mode_is_chosen_first(backend: Backend, iommu: int, ioas: int) -> None:
    with fails(EBUSY):
        option(
            backend,
            iommu,
            option_id=iommufd.IOMMU_OPTION_RLIMIT_MODE,
            op=iommufd.IOMMU_OPTION_OP_SET,
            val64=1,
        )


def vfio_ioas(backend: Backend, iommu: int, op: int, ioas: int = 0) -> int:
    argument = iommufd.VfioIoas.sized(op=op, ioas_id=ioas)
    backend.ioctl(iommu, iommufd.IOMMU_VFIO_IOAS, argument)
    return int(argument.ioas_id)


def test_no_compatibility_ioas_at_first(backend: Backend, iommu: int) -> None:
    with fails(ENODEV):
        vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_GET)


@pytest.mark.parametrize("op", [3, 0xFFFF])
def test_compatibility_with_an_operation_that_is_none(backend: Backend, iommu: int, ioas: int, op: int) -> None:
    with fails(EOPNOTSUPP):
        vfio_ioas(backend, iommu, op, ioas)


def test_the_compatibility_ioas(backend: Backend, iommu: int, ioas: int) -> None:
    vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_SET, ioas)
    assert vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_GET) == ioas
    vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_CLEAR)
    with fails(ENODEV):
        vfio_ioas(backend, iommu, iommufd.IOMMU_VFIO_IOAS_GET)


def test_it_speaks_for_a_container(backend: Backend, iommu: int) -> None:
    assert backend.ioctl(iommu, vfio.VFIO_GET_API_VERSION) == vfio.VFIO_API_VERSION
    assert requests.check_extension(backend, iommu, vfio.VFIO_TYPE1v2_IOMMU) == 1
    assert requests.check_extension(backend, iommu, vfio.VFIO_UPDATE_VADDR) == 0


@pytest.mark.parametrize("kind", [vfio.VFIO_TYPE1_IOMMU, vfio.VFIO_TYPE1v2_IOMMU])
def test_set_iommu_without_a_compatibility_ioas(backend: Backend, iommu: int, kind: int) -> None:
    with fails(ENODEV):
        backend.ioctl(iommu, vfio.VFIO_SET_IOMMU, kind)


def test_object_numbers_start_at_one(backend: Backend, iommu: int) -> None:
    assert [requests.ioas_alloc(backend, iommu) for _ in range(3)] == [1, 2, 3]
