"""The library on a container of POWER: `pyvfio.iommu.spapr`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from spapr_rig import M32_BUS, PES, SECOND, SpaprLab, protected
from vfio_fixture import PAGE

from pyvfio.abi import vfio as abi
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PyvfioError
from pyvfio.host import Host
from pyvfio.ioda.tce import TableEntry
from pyvfio.ioda.window import DmaWindow
from pyvfio.iommu import AddressSpace
from pyvfio.iommu.address_space import Mapping
from pyvfio.iommu.spapr import SpaprTable
from pyvfio.process import AnonymousMemory
from pyvfio.vfio.container import Container
from pyvfio.vfio.group import Group


@pytest.fixture
def lab() -> Iterator[SpaprLab]:
    lab = SpaprLab()
    with lab.host:
        yield lab


@contextmanager
def opened(lab: SpaprLab, tce: int | None = None) -> Iterator[AddressSpace]:
    host = Host(lab.host)
    with Container(host) as container, Group(host, lab.number("p0")) as group:
        container.attach(group)
        yield container.set_iommu(tce=tce)


@pytest.mark.parametrize(("tce", "kind"), [(1, "tce"), (2, "tcev2"), (None, "tcev2")])
def test_a_buffer(lab: SpaprLab, tce: int | None, kind: str) -> None:
    with opened(lab, tce) as space:
        assert space.kind == kind
        assert [(one.start, one.last) for one in space.ranges()] == [(0, M32_BUS - 1)]
        with space.buffer(3 * PAGE) as buffer:
            buffer.view[:2] = b"ok"
            assert lab.functions["p0"].dma_read(buffer.iova, 2) == b"ok"
        assert not space.mappings()
        assert lab.locked == (M32_BUS + (8 << 20)) * (kind == "tce") + (8 << 20) * (kind == "tcev2") >> 10
    assert not lab.locked


def test_type_1_is_not_there(lab: SpaprLab) -> None:
    host = Host(lab.host)
    with Container(host) as container, Group(host, lab.number("p0")) as group:
        container.attach(group)
        with pytest.raises(NotAvailable):
            container.set_iommu(2)


@pytest.mark.parametrize("tce", [1, 2])
def test_what_the_kernel_would_not_refuse(lab: SpaprLab, tce: int, dma_memory: AnonymousMemory) -> None:
    with opened(lab, tce) as space:
        space.map(dma_memory.address, 2 * PAGE, 0x10000)
        for iova, length, number in (
            (0x10000 + PAGE, 2 * PAGE, errno.EEXIST),
            (M32_BUS - PAGE, 2 * PAGE, errno.ENXIO),
            (0, 0, errno.EINVAL),
            (0x800, PAGE, errno.EINVAL),
        ):
            with pytest.raises(PyvfioError) as caught:
                space.map(dma_memory.address, length, iova)
            assert caught.value.errno == number
        assert space.unmap(0x10000, 2 * PAGE) == 2 * PAGE


def test_memory_is_registered_as_it_is_needed(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    with opened(lab, 2) as space:
        at = dma_memory.address
        space.map(at + 2 * PAGE, 2 * PAGE, 0x10000)
        tables = 8 << 10
        assert lab.locked == tables + (2 * PAGE >> 10)
        space.map(at, 8 * PAGE, 0x20000)  # before, the same, and behind
        assert lab.locked == tables + (8 * PAGE >> 10)
        dma_memory.view[3 * PAGE] = 8
        assert lab.functions["p0"].dma_read(0x20000 + 3 * PAGE, 1) == b"\x08"
        space.unmap(0x20000, 8 * PAGE)
        assert lab.locked == tables + (2 * PAGE >> 10)
        space.unmap(0x10000, 2 * PAGE)
        assert lab.locked == tables


def test_memory_that_another_container_has_in_part(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    fd = lab.ready("p1", abi.VFIO_SPAPR_TCE_v2_IOMMU)[0]
    lab.register(fd, dma_memory.address + PAGE, 2 * PAGE)
    with opened(lab, 2) as space:
        with pytest.raises(PyvfioError, match="has registered a part of this memory") as caught:
            space.map(dma_memory.address, 2 * PAGE, 0)
        assert caught.value.errno == errno.EINVAL
        space.map(dma_memory.address + PAGE, 2 * PAGE, 0)  # exactly the same


def test_memory_that_is_not_all_there(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """The kernel answers a number of pages, which is no success."""
    with opened(lab, 2) as space, protected(dma_memory.address + PAGE, 0):
        with pytest.raises(PyvfioError) as caught:
            space.map(dma_memory.address, 3 * PAGE, 0)
        assert caught.value.errno == errno.EFAULT
        assert not space.mappings()


def test_a_second_window(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    with opened(lab, 2) as space:
        table = space.table
        assert isinstance(table, SpaprTable)
        assert table.add_window(1 << 36, levels=2).start == SECOND
        space.refresh()
        assert len(space.ranges()) == 2
        space.map(dma_memory.address, PAGE, SECOND)
        lab.functions["p0"].dma_write(SECOND, b"!")
        assert dma_memory.view[0] == ord("!")


@pytest.mark.parametrize("tce", [1, 2])
def test_a_group_that_comes_back(lab: SpaprLab, tce: int, dma_memory: AnonymousMemory) -> None:
    host = Host(lab.host)
    with Container(host) as container, Group(host, lab.number("p0")) as group:
        container.attach(group)
        container.set_iommu(tce=tce).map(dma_memory.address, PAGE, 0)
        container.detach(group)
        assert not lab.locked
        container.attach(group)
        assert container.supports(abi.VFIO_SPAPR_TCE_v2_IOMMU)
        lab.functions["p0"].dma_read(0, 1)


def test_the_first_window_is_full(lab: SpaprLab) -> None:
    """A second window is made, for who can address it; and once more when a group comes back."""
    host = Host(lab.host)
    with Container(host) as container, Group(host, lab.number("p0")) as group:
        container.attach(group)
        space = container.set_iommu()
        space.allocator.reserve(PAGE, M32_BUS - 2 * PAGE)
        with pytest.raises(NotAvailable):
            space.buffer(2 * PAGE, below=1 << 32)
        with space.buffer(2 * PAGE) as first:  # the reservation is of the allocator alone, which begins anew
            assert len(space.ranges()) == 2
            with space.buffer(2 * PAGE, iova=SECOND) as second:
                container.detach(group)
                container.attach(group)
                second.view[:2] = b"hi"
                assert lab.functions["p0"].dma_read(second.iova, 2) == b"hi"
                assert lab.functions["p0"].dma_read(first.iova, 2) == bytes(2)
        assert not space.table.grow(PAGE)  # type: ignore[attr-defined]


def test_version_1_makes_no_window(lab: SpaprLab) -> None:
    with opened(lab, 1) as space:
        space.allocator.reserve(PAGE, M32_BUS - 2 * PAGE)
        with pytest.raises(NotAvailable):
            space.buffer(2 * PAGE)
        assert len(space.ranges()) == 1


@pytest.mark.parametrize(("kind", "tce"), [("tcev2", "tcev2"), ("tce", "tce"), (None, "tcev2")])
def test_by_name(lab: SpaprLab, kind: str | None, tce: str) -> None:
    host = Host(lab.host)
    with Container(host) as container, Group(host, lab.number("p0")) as group:
        container.attach(group)
        assert container.set_iommu_called(kind).kind == tce


@pytest.mark.parametrize("kind", ["type1", "type1v2"])
def test_type_1_by_name(lab: SpaprLab, kind: str) -> None:
    host = Host(lab.host)
    with Container(host) as container, Group(host, lab.number("p0")) as group:
        container.attach(group)
        with pytest.raises(NotAvailable, match="no type 1") as caught:
            container.set_iommu_called(kind)
        assert "tcev2" in caught.value.next_step
        with pytest.raises(Misuse, match="none of"):
            container.set_iommu_called("smmu")


def test_a_window_that_may_not_be_locked() -> None:
    lab = SpaprLab(memlock=64 << 20)
    with lab.host:
        host = Host(lab.host)
        with Container(host) as container, Group(host, lab.number("p0")) as group:
            container.attach(group)
            with pytest.raises(KernelRefused, match="counts its whole window as locked memory") as caught:
                container.set_iommu(tce=1)
        assert caught.value.errno == errno.ENOMEM
        with opened(lab, 2) as space:
            assert space.kind == "tcev2"


def test_two_groups_in_a_container(lab: SpaprLab) -> None:
    host = Host(lab.host)
    with Container(host) as container, Group(host, lab.number("p0")) as one, Group(host, lab.number("p1")) as two:
        container.attach(one)
        container.set_iommu(tce=1)
        with pytest.raises(PyvfioError, match="one group in a container") as caught:
            container.attach(two)
        assert caught.value.errno == errno.EBUSY


def test_one_of_two_groups_leaves(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    """Linux 6.12 clears the tables of the others too (tce_iommu_release_ownership)."""
    host = Host(lab.host)
    with Container(host) as container, Group(host, lab.number("p0")) as one, Group(host, lab.number("p1")) as two:
        container.attach(one)
        space = container.set_iommu()
        container.attach(two)
        space.map(dma_memory.address, 2 * PAGE, 0x10000, write=False)
        space.map(dma_memory.address + 4 * PAGE, PAGE, 0x40000)
        dma_memory.view[PAGE] = 3
        locked = lab.locked
        container.detach(two)
        assert lab.functions["p0"].dma_read(0x10000 + PAGE, 1) == b"\x03"
        lab.functions["p0"].dma_write(0x40000, b"\x04")
        assert dma_memory.view[4 * PAGE] == 4
        assert lab.locked == locked
        space.unmap(0x10000, 2 * PAGE)
        assert lab.locked == locked - (2 * PAGE >> 10)


def test_a_large_window_has_levels_that_can_be_allocated(lab: SpaprLab) -> None:
    """What Linux counts for a level that is too large it never takes back."""
    with opened(lab, 2) as space:
        table = space.table
        assert isinstance(table, SpaprTable)
        assert table.grow(1 << 40)
        size = 1 << 41
        assert space.ranges()[1].last - space.ranges()[1].start == size - 1
        entry = lab.phb.inbound.entries[2 * PES["p0"] + 1]
        assert isinstance(entry, TableEntry)
        assert entry.levels == 2
        assert lab.locked == DmaWindow(size, 12, 2).table_bytes + (8 << 20) >> 10  # and the first window


def test_regions_are_let_go_one_by_one(lab: SpaprLab) -> None:
    """A region stays while any mapping shows any of it, wherever that begins."""
    with opened(lab, 2) as space, AnonymousMemory(64 * PAGE) as memory:
        at = memory.address
        space.map(at + 8 * PAGE, 8 * PAGE, 0x100000)
        space.map(at + 32 * PAGE, 8 * PAGE, 0x200000)
        space.map(at, 64 * PAGE, 0x300000)  # regions before, between and behind
        tables = 8 << 10
        assert lab.locked == tables + (64 * PAGE >> 10)
        space.unmap(0x300000, 64 * PAGE)
        assert lab.locked == tables + (16 * PAGE >> 10)
        assert space.table.unmap(0x200000, 4 * PAGE) == 4 * PAGE  # a part
        assert lab.locked == tables + (16 * PAGE >> 10)
        assert space.table.unmap(0x200000, 8 * PAGE) == 4 * PAGE
        assert lab.locked == tables + (8 * PAGE >> 10)


def test_mappings_beside_each_other(lab: SpaprLab, dma_memory: AnonymousMemory) -> None:
    with opened(lab, 2) as space:
        for iova in (0x12000, 0x10000, 0x14000):
            space.map(dma_memory.address, 2 * PAGE, iova)
        for iova in (0x11000, 0x13000, 0x15000):
            with pytest.raises(PyvfioError) as caught:
                space.table.map(Mapping(iova, PAGE, dma_memory.address, True, True))
            assert caught.value.errno == errno.EEXIST


def test_what_was_registered_for_a_mapping_that_fails(lab: SpaprLab) -> None:
    """It is let go, what was registered before is not."""
    fd = lab.ready("p1", abi.VFIO_SPAPR_TCE_v2_IOMMU)[0]
    with opened(lab, 2) as space, AnonymousMemory(8 * PAGE) as memory:
        at = memory.address
        lab.register(fd, at + 7 * PAGE, PAGE)
        space.map(at + 4 * PAGE, 2 * PAGE, 0x10000)
        locked = lab.locked
        with pytest.raises(PyvfioError, match="has registered a part of this memory"):
            space.map(at, 8 * PAGE, 0x20000)  # what is before the own region can be registered
        assert lab.locked == locked
        with pytest.raises(PyvfioError, match="not the start of a page"):
            space.table.map(Mapping(0x20800, 4 * PAGE, at, True, True))
        assert lab.locked == locked
        assert lab.unregister(fd, at + 7 * PAGE, PAGE) == 0
