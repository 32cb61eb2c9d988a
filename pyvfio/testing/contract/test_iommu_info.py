"""VFIO_IOMMU_GET_INFO: page sizes and the capability chain."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from errno import EINVAL

import pytest

from pyvfio.abi import vfio_type1
from pyvfio.abi.layout import Capability
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice

GROUP_MODES = ["type1", "type1v2", "compat-type1", "compat-type1v2"]
ENTRY_LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
pytestmark = pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)


def capability(chain: list[Capability], number: int) -> Capability | None:
    return next((item for item in chain if item.id == number), None)


@pytest.mark.parametrize("argsz", [0, 15])
def test_too_small(backend: Backend, space: OpenDevice, argsz: int) -> None:
    with fails(EINVAL):
        requests.iommu_info(backend, space.container, argsz)


@pytest.mark.parametrize("argsz", [16, 20, 24, 40])
def test_no_room_for_the_chain(backend: Backend, space: OpenDevice, argsz: int) -> None:
    info, chain = requests.iommu_info(backend, space.container, argsz)
    assert info.flags & vfio_type1.VFIO_IOMMU_INFO_CAPS
    assert chain == []
    assert info.argsz > argsz
    whole, chain = requests.iommu_info(backend, space.container, info.argsz)
    assert whole.cap_offset == ctypes.sizeof(vfio_type1.IommuType1Info)
    assert chain


def test_page_sizes(backend: Backend, space: OpenDevice, page: int) -> None:
    info, _ = requests.iommu_info(backend, space.container)
    assert info.flags & vfio_type1.VFIO_IOMMU_INFO_PGSIZES
    assert info.iova_pgsizes & page
    assert not info.iova_pgsizes & (page - 1)


def test_the_chain(backend: Backend, space: OpenDevice) -> None:
    _, chain = requests.iommu_info(backend, space.container)
    migration = vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION
    avail, ranges = vfio_type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE
    wanted = [avail, ranges] if space.mode.startswith("compat") else [migration, avail, ranges]
    assert [item.id for item in chain] == wanted
    assert {item.version for item in chain} == {1}


def test_ranges(backend: Backend, space: OpenDevice, page: int) -> None:
    ranges = requests.iova_ranges(backend, space.container)
    assert ranges == sorted(ranges)
    for first, last in ranges:
        assert first % page == (last + 1) % page == 0
        assert first < last


def test_ranges_leave_the_reserved_regions_out(backend: Backend, space: OpenDevice, sysfs: Attributes) -> None:
    number = next(name for name in backend.listdir("/sys/class/vfio"))
    for line in sysfs.read(f"/sys/kernel/iommu_groups/{number}/reserved_regions").splitlines():
        start, end, kind = line.split()
        assert kind in ("reserved", "msi", "direct", "direct-relaxable")
        for first, last in requests.iova_ranges(backend, space.container):
            assert last < int(start, 16) or first > int(end, 16)


def test_migration(backend: Backend, space: OpenDevice, page: int) -> None:
    found = capability(requests.iommu_info(backend, space.container)[1], vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION)
    if space.mode.startswith("compat"):
        assert found is None
        return
    assert found is not None
    answer = found.read(vfio_type1.IommuType1InfoCapMigration)
    assert answer.pgsize_bitmap == page
    assert answer.max_dirty_bitmap_size == 1 << 28


def test_how_many_mappings_are_left(
    backend: Backend, space: OpenDevice, sysfs: Attributes, memory: Callable[[int], AnonymousMemory], page: int
) -> None:
    def left() -> int:
        found = capability(requests.iommu_info(backend, space.container)[1], vfio_type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)
        assert found is not None
        return int(found.read(vfio_type1.IommuType1InfoDmaAvail).avail)

    before = left()
    space.map(space.base, memory(1).address, page)
    if space.mode.startswith("compat"):
        assert before == left() == (1 << 32) - 1
    else:
        assert before == int(sysfs.read(ENTRY_LIMIT))
        assert left() == before - 1
        space.unmap(space.base, page)
        assert left() == before
