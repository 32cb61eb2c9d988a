"""DMA memory that is planned against the limits first, memory of huge pages, and where it is put."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.errors import KernelRefused, Misuse, NotAvailable
from pyvfio.host import Host
from pyvfio.iommu.hugepages import SIZES
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device

LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
POOLS = "/sys/kernel/mm/hugepages"
FEW = 8


@pytest.fixture
def few(sysfs: Attributes) -> Iterator[int]:
    """A container takes only so many mappings."""
    if not sysfs.exists(LIMIT):
        pytest.skip("this kernel has no type 1 IOMMU")
    before = sysfs.read(LIMIT)
    sysfs.write(LIMIT, str(FEW))
    yield FEW
    sysfs.write(LIMIT, before)


@pytest.fixture(scope="module")
def pool(backend: Backend, sysfs: Attributes) -> Iterator[int]:
    """The size of huge pages of which some are there, if the host lets itself be asked for them; 0: it has none."""
    names = backend.listdir(POOLS) if sysfs.exists(POOLS) else []
    sizes = sorted(int(name.removeprefix("hugepages-").removesuffix("kB")) << 10 for name in names)
    found = next((size for size in sizes if size in SIZES), 0)
    if not found:
        yield 0
        return
    path = f"{POOLS}/hugepages-{found >> 10}kB/nr_hugepages"
    before = sysfs.read(path)
    sysfs.write(path, str(int(before) + 4))
    yield found
    sysfs.write(path, before)


@pytest.mark.parametrize("lengths", [[0], [-1], [1 << 20, 0]])
def test_lengths_that_make_no_sense(device: Device, lengths: list[int]) -> None:
    with pytest.raises(Misuse):
        device.space.plan(lengths)


@pytest.mark.parametrize("huge", [3, -(1 << 21), (1 << 21) + 1])
def test_pages_that_make_no_sense(device: Device, huge: int) -> None:
    with pytest.raises(Misuse):
        device.space.buffer(1 << 21, huge=huge)


def test_huge_pages_that_no_kernel_has(device: Device) -> None:
    with pytest.raises(NotAvailable, match="no huge pages of 128 KiB"):
        device.space.buffer(1 << 21, huge=1 << 17)
    assert device.space.mappings() == []


def test_more_mappings_than_are_left(host: Host, function: BoundFunction, few: int, page: int) -> None:
    with pyvfio.open_device(host, function.address, way="group") as opened:
        buffer = opened.space.buffer(page)
        plan = opened.space.plan([page] * few)
        (broken,) = (limit for limit in plan.limits if not limit.kept)
        assert (broken.name, broken.need, broken.has) == ("DMA mappings", few, few - 1)
        with pytest.raises(KernelRefused, match=f"{few} DMA mappings are needed, {few - 1} are left") as caught:
            plan.require()
        assert caught.value.errno_name == "ENOSPC"
        assert "dma_entry_limit" in caught.value.next_step
        assert opened.space.mappings() == [opened.space.mapping_at(buffer.iova)]
        buffer.close()


def test_what_fits_by_plan_fits(host: Host, function: BoundFunction, few: int, page: int) -> None:
    with pyvfio.open_device(host, function.address, way="group") as opened:
        plan = opened.space.plan([1] * few)
        assert plan.fits
        assert plan.lengths == (opened.space.granule,) * few
        plan.require()
        buffers = [opened.space.buffer(page) for _ in range(few)]
        assert not opened.space.plan([page]).fits
        for buffer in buffers:
            buffer.close()


def test_more_than_there_are_addresses(device: Device, page: int) -> None:
    ranges = device.space.ranges()
    everything = sum(one.last + 1 - one.start for one in ranges)
    plan = device.space.plan([everything, page])
    places = next(limit for limit in plan.limits if limit.name == "IOVA space")
    assert places.need == everything + page
    assert "no free piece has" in places.reason
    with pytest.raises(KernelRefused):
        plan.require()
    assert device.space.plan([page]).fits  # nothing was taken


def test_addresses_that_the_device_cannot_have(device: Device, page: int) -> None:
    first = device.space.ranges()[0].start
    plan = device.space.plan([page], below=first)
    assert [limit.name for limit in plan.limits if not limit.kept] == ["IOVA space"]
    with pytest.raises(NotAvailable, match="below"):
        device.space.buffer(page, below=first)


def test_addresses_that_the_device_can_have(device: Device, page: int) -> None:
    """As for a device of 28 bits, on a host whose addresses begin where they do."""
    first = device.space.ranges()[0].start
    below = first + (1 << 24)
    buffers = [device.space.buffer(page, below=below) for _ in range(4)]
    assert all(first <= one.iova <= below - page for one in buffers)
    for one in buffers:
        one.close()


def test_addresses_that_are_aligned(device: Device, page: int) -> None:
    with device.space.buffer(page) as memory:
        other = device.space.map(memory.address, page, alignment=1 << 20)
        assert other.iova % (1 << 20) == 0 != other.iova
        device.space.unmap(other.iova, page)


def test_huge_pages(device: Device, pool: int) -> None:
    """They are the process's: where it gets none it says why, and takes ordinary ones."""
    with device.space.buffer(1 << 21, huge=True) as memory:
        if memory.no_huge:
            assert "huge pages of" in memory.no_huge
            assert memory.page_size == device.space.granule
        else:
            assert memory.page_size in SIZES
            assert memory.address % memory.page_size == 0
        assert memory.length == 1 << 21
        memory.view[-4:] = b"last"
        assert device.space.mapping_at(memory.iova) is not None
    assert device.space.mappings() == []


def test_huge_pages_that_are_insisted_on(device: Device, pool: int) -> None:
    try:
        memory = device.space.buffer(1, huge=pool or 1 << 21)
    except NotAvailable as error:
        reasons = [error.cause]
    else:
        reasons = []
        assert (memory.page_size, memory.length) == (pool, pool)
        assert memory.iova % pool == memory.address % pool == 0
        memory.close()
    assert all("huge pages of" in reason for reason in reasons)


def test_too_little_for_a_huge_page(device: Device, page: int) -> None:
    with device.space.buffer(page, huge=True) as memory:
        assert (memory.page_size, memory.length) == (page, page)
        assert "fill no huge page" in memory.no_huge
