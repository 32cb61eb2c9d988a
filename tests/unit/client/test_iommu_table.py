"""An address space over a table that answers as kernels do which no machine of ours is."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass, field

import pytest
from client_fake import PAGE, FakeHost

from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.layout import Capability, build_capability_chain
from pyvfio.call import Call
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PartialUnmap
from pyvfio.iommu import AddressSpace, IovaRange, Mapping
from pyvfio.iommu.type1 import Type1Table

RANGE = IovaRange(0x10000, 0x1FFFF)


@dataclass
class Table:
    """An `IommuTable` which keeps what it was told."""

    kind: str = "type1v2"
    name: str = "container"
    limit: int | None = None
    maps: dict[int, Mapping] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuse: int = 0
    unmaps_all: bool = True
    unmap_answer: int | None = None
    closed: int = 0

    def map(self, mapping: Mapping) -> None:
        self.asked.append("map")
        if self.refuse:
            raise KernelRefused("map DMA", self.name, errno=self.refuse)
        self.maps[mapping.iova] = mapping

    def unmap(self, iova: int, length: int) -> int:
        self.asked.append("unmap")
        inside = [one for one in self.maps if iova <= one < iova + length]
        done = sum(self.maps.pop(one).length for one in inside)
        return done if self.unmap_answer is None else self.unmap_answer

    def unmap_all(self) -> int | None:
        self.asked.append("unmap all")
        if not self.unmaps_all:
            return None
        done = sum(one.length for one in self.maps.values())
        self.maps.clear()
        return done

    def ranges(self) -> list[IovaRange]:
        return [RANGE]

    def page_sizes(self) -> int:
        return PAGE

    def available(self) -> int | None:
        self.asked.append("available")
        return None if self.limit is None else self.limit - len(self.maps)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def space(table: Table) -> AddressSpace:
    return AddressSpace(table, FakeHost())


# what cannot be


def test_no_mapping_is_asked_for_when_none_is_left(space: AddressSpace, table: Table) -> None:
    table.limit = 2
    space.map(0, PAGE)
    kept = space.map(0, PAGE)
    table.asked.clear()
    with pytest.raises(KernelRefused, match="not asked") as caught:
        space.map(0, PAGE)
    assert caught.value.errno == errno.ENOSPC
    assert "map" not in table.asked
    space.unmap(kept.iova, PAGE)
    assert space.map(0, PAGE).iova == kept.iova


def test_the_limit_is_asked_once_while_there_is_room(space: AddressSpace, table: Table) -> None:
    table.limit = 16
    for _ in range(8):
        space.map(0, PAGE)
    assert table.asked.count("available") == 1


def test_room_that_another_made_is_found(space: AddressSpace, table: Table) -> None:
    table.limit = 1
    space.map(0, PAGE)
    table.limit = 2
    assert space.map(0, PAGE)


@pytest.mark.parametrize("number", [errno.ENOMEM, errno.EINVAL, errno.EFAULT, errno.EEXIST, errno.ENOSPC, errno.EIO])
def test_a_refused_mapping_gives_its_iova_back(space: AddressSpace, table: Table, number: int) -> None:
    table.refuse = number
    with pytest.raises(KernelRefused) as caught:
        space.map(0x1000, PAGE)
    assert caught.value.errno == number
    assert caught.value.operation == "map DMA"
    table.refuse = 0
    assert space.map(0, RANGE.last + 1 - RANGE.start).iova == RANGE.start


def test_no_iova_is_left(space: AddressSpace, table: Table) -> None:
    with pytest.raises(NotAvailable, match="0x10000-0x1ffff"):
        space.map(0, 2 * (RANGE.last + 1 - RANGE.start))
    assert "map" not in table.asked


def test_version_1_removes_nothing(space: AddressSpace, table: Table) -> None:
    mapping = space.map(0, 4 * PAGE)
    with pytest.raises(PartialUnmap) as caught:
        space.unmap(mapping.iova + PAGE, PAGE)
    assert (caught.value.asked, caught.value.done) == (PAGE, 0)
    assert space.mappings() == [mapping]


def test_version_1_removes_more(space: AddressSpace, table: Table) -> None:
    mapping = space.map(0, 4 * PAGE)
    with pytest.raises(PartialUnmap) as caught:
        space.unmap(mapping.iova, PAGE)
    assert (caught.value.asked, caught.value.done) == (PAGE, 4 * PAGE)
    assert space.mappings() == []
    assert space.map(0, 4 * PAGE).iova == mapping.iova


def test_after_close(space: AddressSpace, table: Table) -> None:
    space.map(0, PAGE)
    space.close()
    space.close()
    assert (table.maps, table.closed) == ({}, 1)
    with pytest.raises(Misuse, match="closed"):
        space.map(0, PAGE)


def test_a_range_that_no_mapping_holds(space: AddressSpace) -> None:
    mapping = space.map(0, PAGE)
    assert space.holding(mapping.iova + 8, PAGE - 8) == mapping
    for iova, length in ((mapping.iova, PAGE + 1), (mapping.iova - 1, 1), (mapping.iova + PAGE, 1)):
        with pytest.raises(Misuse):
            space.holding(iova, length)


# what works


def test_unmap_all_one_by_one_where_the_kernel_has_no_call(space: AddressSpace, table: Table) -> None:
    table.unmaps_all = False
    for _ in range(3):
        space.map(0, PAGE)
    assert space.unmap_all() == 3 * PAGE
    assert table.asked.count("unmap") == 3
    assert space.mappings() == []


def test_mappings_survive_the_last_device(space: AddressSpace, table: Table) -> None:
    first, second = space.map(0x1000, PAGE), space.map(0x5000, 2 * PAGE, write=False)
    table.maps.clear()
    space.dropped()
    with pytest.raises(Misuse, match="no device"):
        space.map(0, PAGE)
    assert space.unmap(first.iova, PAGE) == PAGE  # known to be gone; nothing is asked
    space.restore()
    assert table.maps == {second.iova: second}
    assert space.map(0, PAGE).iova != second.iova


def test_a_buffer_is_gone_before_its_memory(space: AddressSpace, table: Table) -> None:
    with space.buffer(100) as buffer:
        assert (buffer.length, buffer.address % PAGE, len(buffer.view)) == (PAGE, 0, PAGE)
        assert table.maps[buffer.iova].address == buffer.address
        buffer.view[:2] = b"hi"
    assert table.maps == {}
    buffer.close()
    with pytest.raises(ValueError):
        _ = buffer.view


def test_a_buffer_for_larger_pages(table: Table) -> None:
    host = FakeHost()
    host.page = 4 * PAGE
    space = AddressSpace(table, host)
    with space.buffer(1) as buffer:
        assert (buffer.length, buffer.address % (4 * PAGE), buffer.iova % (4 * PAGE)) == (4 * PAGE, 0, 0)


# what type 1 says of itself


def type1_table(flags: int, capabilities: list[Capability], pgsizes: int = PAGE) -> Type1Table:
    fake = FakeHost()
    chain = build_capability_chain(capabilities, 24) if capabilities else b""

    def answer(buffer: bytearray) -> int:
        whole = struct.pack("=IIQII", 24 + len(chain), flags, pgsizes, 24 if chain else 0, 0) + chain
        buffer[:] = whole[: len(buffer)].ljust(len(buffer), b"\0")
        return 0

    fake.answers[type1.VFIO_IOMMU_GET_INFO] = answer
    return Type1Table(Call(fake, 5, "container"), 2, unmaps_all=True)


PGSIZES, CAPS = type1.VFIO_IOMMU_INFO_PGSIZES, type1.VFIO_IOMMU_INFO_CAPS
AVAIL = Capability(type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL, 1, struct.pack("=II", 7, 0))
RANGES = Capability(
    type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE, 1, struct.pack("=II4Q", 2, 0, 0, 0xFFF, 0x10000, 0x1FFFF)
)


def test_a_kernel_that_does_not_know_its_ranges() -> None:
    table = type1_table(PGSIZES, [])
    with pytest.raises(NotAvailable, match="does not say which IOVAs"):
        table.ranges()
    space = AddressSpace(table, FakeHost())
    with pytest.raises(NotAvailable):
        space.map(0, PAGE)


def test_no_range_among_the_capabilities_means_no_limit() -> None:
    table = type1_table(PGSIZES | CAPS, [AVAIL])
    assert table.ranges() == [IovaRange(0, (1 << 64) - 1)]
    assert table.available() == 7


def test_ranges_of_the_kernel() -> None:
    table = type1_table(PGSIZES | CAPS, [AVAIL, RANGES])
    assert table.ranges() == [IovaRange(0, 0xFFF), RANGE]


def test_no_page_sizes_means_the_host_page() -> None:
    assert type1_table(0, []).page_sizes() == PAGE
    assert type1_table(PGSIZES, [], pgsizes=0x1000_1000).page_sizes() == 0x1000_1000
    assert type1_table(PGSIZES, []).available() is None
