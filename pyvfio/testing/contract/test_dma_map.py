"""Mapping memory for a device: the same rules asked in all five modes, with their errnos where they differ."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from errno import EEXIST, EFAULT, EINVAL, ENOENT, EOVERFLOW

import pytest

from pyvfio.abi import vfio_type1
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import MODES, OpenDevice, open_device

GROUP_MODES = [name for name in MODES if name != "iommufd"]
LAST_ADDRESS = (1 << 64) - 1
Memory = Callable[[int], AnonymousMemory]


def wrap_errno(space: OpenDevice) -> int:
    """What an address range past the end of 64 bits gives: iommufd has an errno of its own for it."""
    return EINVAL if space.mode in ("type1", "type1v2") else EOVERFLOW


@pytest.mark.parametrize(
    ("at", "vaddr", "size"),
    [(0, 0, 0), (8, 0, 1), (0, 8, 1), (8, 8, 1), (0, 0, 0.5)],
    ids=["size-0", "iova", "address", "both", "size"],
)
def test_alignment(space: OpenDevice, memory: Memory, page: int, at: int, vaddr: int, size: float) -> None:
    with fails(EINVAL):
        space.map(space.base + at, memory(2).address + vaddr, int(size * page))


@pytest.mark.parametrize("side", ["below", "after", "across"])
def test_outside_the_ranges(space: OpenDevice, memory: Memory, page: int, side: str) -> None:
    first, last = space.ranges()[0][0], space.ranges()[-1][1]
    if side == "below" and not first:
        pytest.skip("the first range begins at 0")
    iova = {"below": first - page, "after": last + 1, "across": last + 1 - page}[side]
    with fails(EINVAL):
        space.map(iova, memory(2).address, 2 * page)


def test_past_the_last_iova(space: OpenDevice, memory: Memory, page: int) -> None:
    with fails(wrap_errno(space)):
        space.map(LAST_ADDRESS + 1 - page, memory(2).address, 2 * page)


def test_past_the_last_address(space: OpenDevice, page: int) -> None:
    with fails(wrap_errno(space)):
        space.map(space.base, LAST_ADDRESS + 1 - page, 2 * page)


def test_no_memory_there(space: OpenDevice, memory: Memory, wild: int, page: int) -> None:
    with fails(EFAULT):
        space.map(space.base, wild, page)
    space.map(space.base, memory(1).address, page)  # nothing was left behind


def test_memory_ends_too_early(space: OpenDevice, memory: Memory, page: int) -> None:
    with fails(EFAULT):
        space.map(space.base, memory(2).address, 0x1000 * page)
    assert space.unmap_nothing(space.base, page)


def test_memory_that_cannot_be_written(space: OpenDevice, page: int) -> None:
    code = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value or 0
    with fails(EFAULT):
        space.map(space.base, code - code % page, page)
    space.map(space.base, code - code % page, page, write=False)


@pytest.mark.parametrize("shift", [0, 1, -1], ids=["same", "end", "start"])
def test_overlap(space: OpenDevice, memory: Memory, page: int, shift: int) -> None:
    buffer = memory(2)
    iova = space.base + 4 * page
    space.map(iova, buffer.address, 2 * page)
    with fails(EEXIST):
        space.map(iova + shift * page, buffer.address, 2 * page)
    assert space.unmap(iova, 2 * page) == 2 * page


def test_no_permission(space: OpenDevice, memory: Memory, page: int, vtd: bool) -> None:
    if space.mode.startswith("compat") and not vtd:
        # iommufd's compatibility code takes a mapping that allows nothing, and leaves the refusal to the IOMMU's driver
        space.map(space.base, memory(1).address, page, read=False, write=False)
        return
    with fails(EINVAL):
        space.map(space.base, memory(1).address, page, read=False, write=False)


@pytest.mark.parametrize(("read", "write"), [(True, True), (True, False), (False, True)], ids=["rw", "r", "w"])
def test_permissions(space: OpenDevice, memory: Memory, page: int, read: bool, write: bool) -> None:
    space.map(space.base, memory(1).address, page, read=read, write=write)
    assert space.unmap(space.base, page) == page


def test_the_first_and_the_last_page(space: OpenDevice, memory: Memory, page: int) -> None:
    address = memory(1).address
    first, last = space.ranges()[0][0], space.ranges()[-1][1]
    space.map(first, address, page)
    space.map(last + 1 - page, address, page)
    assert space.unmap(first, page) == space.unmap(last + 1 - page, page) == page


def test_the_same_memory_many_times(space: OpenDevice, memory: Memory, page: int) -> None:
    address = memory(1).address
    for index in range(8):
        space.map(space.base + index * page, address, page)
    assert space.unmap(space.base, 8 * page) == 8 * page


def test_neighbours_stay_two_mappings(space: OpenDevice, memory: Memory, page: int) -> None:
    address = memory(2).address
    space.map(space.base, address, page)
    space.map(space.base + page, address + page, page)
    assert space.unmap(space.base, page) == page
    assert space.unmap(space.base + page, page) == page


def test_memory_may_go_before_the_mapping(space: OpenDevice, page: int) -> None:
    with AnonymousMemory(4 * page) as gone:
        space.map(space.base, gone.address, 4 * page)
    assert space.unmap(space.base, 4 * page) == 4 * page


def test_root_may_lock_more_than_its_limit(backend: Backend, space: OpenDevice, page: int) -> None:
    limit = backend.sysconf("RLIMIT_MEMLOCK")
    if not 0 < limit <= 1 << 26:
        pytest.skip("this host has no small limit of locked memory")
    with AnonymousMemory(limit + page) as buffer:
        space.map(space.base, buffer.address, limit + page)
        assert space.unmap(space.base, limit + page) == limit + page


@pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)
@pytest.mark.parametrize("flag", [1 << 3, 1 << 6, 1 << 31])
def test_an_unknown_flag(backend: Backend, space: OpenDevice, memory: Memory, page: int, flag: int) -> None:
    with fails(EINVAL):
        requests.map_dma(backend, space.container, space.base, memory(1).address, page, requests.READ_WRITE | flag)


@pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)
@pytest.mark.parametrize("argsz", [0, 31])
def test_too_small_a_structure(backend: Backend, space: OpenDevice, memory: Memory, page: int, argsz: int) -> None:
    with fails(EINVAL):
        requests.map_dma(backend, space.container, space.base, memory(1).address, page, argsz=argsz)


@pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)
def test_a_larger_structure(backend: Backend, space: OpenDevice, memory: Memory, page: int) -> None:
    requests.map_dma(backend, space.container, space.base, memory(1).address, page, argsz=1 << 20)
    assert requests.unmap_dma(backend, space.container, space.base, page, argsz=1 << 20) == page


@pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)
@pytest.mark.parametrize(
    "number",
    [vfio_type1.VFIO_IOMMU_MAP_DMA, vfio_type1.VFIO_IOMMU_UNMAP_DMA, vfio_type1.VFIO_IOMMU_GET_INFO],
    ids=["map", "unmap", "info"],
)
def test_a_wild_structure(backend: Backend, space: OpenDevice, wild: int, number: int) -> None:
    with fails(EFAULT):
        backend.ioctl(space.container, number, wild)


@pytest.mark.parametrize("mode", ["type1", "type1v2"], indirect=True)
def test_a_new_address_for_an_invalid_one(backend: Backend, space: OpenDevice, memory: Memory, page: int) -> None:
    """An address is taken away with UNMAP_FLAG_VADDR and given again with MAP_FLAG_VADDR (live update)."""
    taken, given = vfio_type1.DmaUnmapFlags.VADDR, vfio_type1.DmaMapFlags.VADDR
    address = memory(1).address
    with fails(ENOENT):
        requests.map_dma(backend, space.container, space.base, address, page, given)
    space.map(space.base, address, page)
    with fails(EINVAL):  # it has an address
        requests.map_dma(backend, space.container, space.base, address, page, given)
    assert requests.unmap_dma(backend, space.container, space.base, page, taken) == page
    with fails(EINVAL):  # it has none
        requests.unmap_dma(backend, space.container, space.base, page, taken)
    requests.map_dma(backend, space.container, space.base, address, page, given)
    assert space.unmap(space.base, page) == page


@pytest.mark.parametrize("mode", ["type1"], indirect=True)
def test_mappings_go_with_the_container(
    backend: Backend, space: OpenDevice, memory: Memory, page: int, function: BoundFunction
) -> None:
    space.map(space.base, memory(1).address, page)
    space.files.close_all()
    again = open_device(backend, space.files, function, "type1")
    assert again.unmap(again.base, page) == 0
