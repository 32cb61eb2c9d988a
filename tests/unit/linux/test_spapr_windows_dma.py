"""DMA through windows of every page size and number of levels, by the requests of a container; memory of huge pages.

Source of what is mapped in large pages: ``arch/powerpc/mm/book3s64/iommu_api.c`` (mm_iommu_do_alloc,
mm_iommu_ua_to_hpa) and ``tce_page_is_contained`` of ``drivers/vfio/vfio_iommu_spapr_tce.c``, Linux 6.12.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spapr_rig import PES, SECOND, SpaprLab
from vfio_fixture import errno_of

import pyvfio
import pyvfio.drivers
from pyvfio.errors import KernelRefused
from pyvfio.iommu.spapr import SpaprTable
from pyvfio.process import AnonymousMemory
from pyvfio.process.vma import Vma
from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.linux import spapr_memory

K4, K64, MIB2 = 12, 16, 21
EDU = "0004:01:00.0"
LARGE = 1 << MIB2


def aligned(memory: AnonymousMemory, size: int) -> int:
    return -(-memory.address // size) * size


def peek(memory: AnonymousMemory, address: int, count: int) -> bytes:
    at = address - memory.address
    return bytes(memory.view[at : at + count])


@pytest.mark.parametrize("host", [K4, K64])
@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([K4, K64]),
    st.integers(1, 5),
    st.integers(0, 20),
    st.lists(st.tuples(st.booleans(), st.integers(0, 7), st.integers(1, 4), st.integers(0, 7)), max_size=6),
    st.data(),
)
def test_windows_against_a_dictionary(
    host: int,
    shift: int,
    levels: int,
    order: int,
    steps: list[tuple[bool, int, int, int]],
    data: st.DataObject,
) -> None:
    """Pages are mapped, replaced and unmapped at both ends of a window; the device reaches those of the dictionary."""
    shift = min(shift, host)
    lab = SpaprLab(page_size=1 << host)
    page, entries = 1 << shift, 1 << max(order, host - 3)  # a table has at least a page of the kernel
    with lab.host, AnonymousMemory(9 << host) as memory:
        start = aligned(memory, 1 << host)
        fd = lab.ready_v2(start, 8 << host)
        bits = max(-(-order // levels), host - 3)
        if bits * levels + shift >= 55:
            assert errno_of(lab.create, fd, shift, page << order, levels) == errno.EINVAL
            return
        assert lab.create(fd, shift, page << order, levels) == SECOND
        pages: dict[int, int] = {}
        for mapped, at, count, source in steps:
            first = data.draw(st.sampled_from([at, entries - 12 + at]))
            iova = SECOND + first * page
            if mapped:
                assert lab.map_raw(fd, iova, count * page, start + min(source, 4) * page) == 0
                pages |= {first + number: min(source, 4) + number for number in range(count)}
            else:
                assert lab.unmap(fd, iova, count * page) == count * page
                for number in range(count):
                    pages.pop(first + number, None)
        for number in range(8 << host - shift):
            at = start - memory.address + number * page
            memory.view[at : at + 2] = number.to_bytes(2, "little")
        function = lab.functions["p0"]
        for number in {0, 3, 7, entries - 12, entries - 1, *pages}:
            lab.phb.endpoints.clear(PES["p0"])
            if number in pages:
                assert int.from_bytes(function.dma_read(SECOND + number * page, 2), "little") == pages[number]
                function.dma_write(SECOND + number * page + page - 2, number.to_bytes(4, "little")[:2])
                assert peek(memory, start + pages[number] * page + page - 2, 2) == number.to_bytes(4, "little")[:2]
            else:
                with pytest.raises(DmaFault):
                    function.dma_read(SECOND + number * page, 1)
                assert lab.phb.endpoints.frozen == {PES["p0"]}
        assert errno_of(lab.map_raw, fd, SECOND + entries * page, page, start) == errno.ENXIO


# huge pages, of which a machine that runs tests has none: the kernel's answer is made up


@pytest.fixture
def lab() -> Iterator[SpaprLab]:
    lab = SpaprLab()
    with lab.host:
        yield lab


@pytest.fixture
def memory() -> Iterator[AnonymousMemory]:
    with AnonymousMemory(4 * LARGE) as found:
        yield found


def made_of(monkeypatch: pytest.MonkeyPatch, start: int, *sizes: int) -> None:
    """Have the memory from `start` on be a mapping of 2 MiB for each size of a page."""
    every = [Vma(start + at * LARGE, start + (at + 1) * LARGE, size) for at, size in enumerate(sizes)]

    def covering(address: int, length: int, pid: int | None = None) -> list[Vma]:
        return [one for one in every if one.start < address + length and one.end > address]

    monkeypatch.setattr(spapr_memory, "covering", covering)


def test_dma_through_pages_of_2_mib(lab: SpaprLab, memory: AnonymousMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    start = aligned(memory, LARGE)
    made_of(monkeypatch, start, LARGE, LARGE)
    fd = lab.ready_v2(start, 2 * LARGE)
    lab.create(fd, MIB2, 1 << 40, 2)
    assert lab.map_raw(fd, SECOND, LARGE, start + LARGE) == 0
    assert lab.map_raw(fd, SECOND + (1 << 40) - LARGE, LARGE, start) == 0
    device = lab.functions["p0"]
    for iova, at in ((SECOND, LARGE), (SECOND + (1 << 40) - LARGE, 0)):
        device.dma_write(iova + LARGE - 5, b"large")
        assert peek(memory, start + at + LARGE - 5, 5) == b"large"
    locked = lab.locked
    assert lab.unmap(fd, SECOND, LARGE) == LARGE
    with pytest.raises(DmaFault):
        device.dma_read(SECOND + LARGE - 5, 1)
    assert lab.locked == locked
    lab.unmap(fd, SECOND + (1 << 40) - LARGE, LARGE)
    assert lab.unregister(fd, start, 2 * LARGE) == 0
    assert locked - lab.locked == 2 * LARGE >> 10


def test_what_is_no_multiple_of_a_large_page(
    lab: SpaprLab, memory: AnonymousMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of huge pages, but registered from its second 64 KiB on: pages of 64 KiB are what it can be mapped in."""
    start = aligned(memory, LARGE)
    made_of(monkeypatch, start, LARGE, LARGE)
    fd = lab.ready_v2(start + (1 << K64), LARGE)
    lab.create(fd, MIB2, 1 << 30)
    assert errno_of(lab.map_raw, fd, SECOND, LARGE, start) == errno.EINVAL  # not all of it is registered
    lab.register(fd, start + LARGE + (1 << K64), LARGE - (1 << K64))
    assert errno_of(lab.map_raw, fd, SECOND, LARGE, start + LARGE) == errno.EINVAL
    assert lab.remove(fd, SECOND) == 0
    lab.create(fd, K64, 1 << 30)
    assert lab.map_raw(fd, SECOND, LARGE - (1 << K64), start + (1 << K64)) == 0
    memory.view[start - memory.address + LARGE - 1] = 7
    assert lab.functions["p0"].dma_read(SECOND + LARGE - (1 << K64) - 1, 1) == b"\x07"


@pytest.mark.parametrize(
    ("sizes", "answers"),
    [
        ((1 << K4, LARGE), (errno.EINVAL, errno.EINVAL)),  # the first page decides
        ((LARGE, 1 << K4), (0, errno.EPERM)),  # what comes behind a huge page is taken for one, and found out
        ((LARGE, 1 << K64), (errno.EINVAL, errno.EINVAL)),  # the smallest of huge pages
    ],
)
def test_huge_pages_and_others(
    lab: SpaprLab,
    memory: AnonymousMemory,
    monkeypatch: pytest.MonkeyPatch,
    sizes: tuple[int, ...],
    answers: tuple[int, ...],
) -> None:
    start = aligned(memory, LARGE)
    made_of(monkeypatch, start, *sizes)
    fd = lab.ready_v2(start, 2 * LARGE)
    lab.create(fd, MIB2, 1 << 30)
    for number, answer in enumerate(answers):
        iova = SECOND + number * LARGE
        if answer:
            assert errno_of(lab.map_raw, fd, iova, LARGE, start + number * LARGE) == answer
            with pytest.raises(DmaFault):
                lab.functions["p0"].dma_read(iova, 1)
            lab.phb.endpoints.clear(PES["p0"])
        else:
            assert lab.map_raw(fd, iova, LARGE, start + number * LARGE) == 0
            lab.functions["p0"].dma_read(iova, 1)


def test_a_mapping_that_fails_halfway_maps_nothing(
    lab: SpaprLab, memory: AnonymousMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = aligned(memory, LARGE)
    made_of(monkeypatch, start, LARGE, 1 << K4)
    fd = lab.ready_v2(start, 2 * LARGE)
    lab.create(fd, MIB2, 1 << 30)
    assert errno_of(lab.map_raw, fd, SECOND, 2 * LARGE, start) == errno.EPERM
    with pytest.raises(DmaFault):
        lab.functions["p0"].dma_read(SECOND, 1)


def test_the_library_keeps_a_window_of_large_pages_for_who_asks(
    memory: AnonymousMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Buffers stay in the first window; memory of huge pages goes where it is said, and other memory is refused."""
    start = aligned(memory, LARGE)
    with pyvfio.Host("software", machine="lab-ppc64") as host:
        pyvfio.bind(host.device(EDU))
        with pyvfio.open_device(host, EDU) as device, pyvfio.drivers.Edu(device) as edu:
            space = device.space
            table = space.table
            assert isinstance(table, SpaprTable)
            window = table.add_window(1 << 30, page_size=LARGE)
            space.refresh()
            assert (space.granule, table.places()) == (1 << K4, [space.ranges()[0]])
            assert space.ranges()[1] == window
            with space.buffer(LARGE) as buffer:
                assert buffer.iova < window.start
            with pytest.raises(KernelRefused, match="pages of 0x200000 bytes, and maps memory of huge pages") as caught:
                space.map(start, LARGE, iova=window.start)
            assert caught.value.errno == errno.EINVAL
            made_of(monkeypatch, start, LARGE, LARGE)
            space.map(start, 2 * LARGE, iova=window.start + LARGE)
            edu.put(b"still in the first")
            assert edu.get(18) == b"still in the first"
            assert space.unmap(window.start + LARGE, 2 * LARGE) == 2 * LARGE
            assert space.mappings() == [] or all(one.iova < window.start for one in space.mappings())
