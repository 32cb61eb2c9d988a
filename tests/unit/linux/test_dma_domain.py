"""What a device sees through its IOMMU, and the ranges that hold it together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vfio_fixture import FIRST, PAGE, Lab

from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.hardware.dma import DmaFault, DmaSpace
from pyvfio_backends.software.linux.iova_ranges import ADDRESS_LAST, Occupancy, Ranges, exclude, intersect
from pyvfio_backends.software.linux.iova_tree import IovaTree


def space(lab: Lab) -> tuple[int, DmaSpace]:
    container, _ = lab.ready("p0")
    dma = lab.fake("p0").dma
    assert dma is not None
    return container, dma


def test_dma_that_faults_moves_nothing(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, dma = space(lab)
    lab.map(container, FIRST, PAGE, dma_memory.address)
    lab.map(container, FIRST + PAGE, PAGE, dma_memory.address + PAGE, 1)
    lab.map(container, FIRST + 2 * PAGE, PAGE, dma_memory.address + 2 * PAGE, 2)
    with pytest.raises(DmaFault) as caught:
        dma.write(FIRST + PAGE - 4, bytes(b"x" * 8))  # the second page is for reading
    assert (caught.value.iova, caught.value.count, caught.value.write) == (FIRST + PAGE - 4, 8, True)
    with pytest.raises(DmaFault):
        dma.read(FIRST + 2 * PAGE, 1)
    with pytest.raises(DmaFault):
        dma.read(FIRST + PAGE, 2 * PAGE)
    with pytest.raises(DmaFault):
        dma.copy(FIRST, FIRST + 2 * PAGE, 1)
    with pytest.raises(DmaFault):
        dma.copy(FIRST + PAGE, FIRST, 1)
    with pytest.raises(DmaFault):
        dma.read(FIRST - 1, 1)
    assert not any(dma_memory.view)


def test_dma_across_mappings(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, dma = space(lab)
    for number in range(16):  # backwards, so that neighbours are not neighbours in memory
        lab.map(container, FIRST + number * PAGE, PAGE, dma_memory.address + (31 - number) * PAGE)
    data = bytes(range(256)) * 32
    dma.write(FIRST + 100, data)
    assert dma.read(FIRST + 100, len(data)) == data
    dma.copy(FIRST + 8 * PAGE + 7, FIRST + 100, len(data))
    assert dma.read(FIRST + 8 * PAGE + 7, len(data)) == data
    assert bytes(dma_memory.view[31 * PAGE + 100 : 32 * PAGE]) == data[: PAGE - 100]


def test_pinned_memory_outlives_its_mapping(vfio_lab: Lab) -> None:
    lab = vfio_lab
    container, dma = space(lab)
    memory = AnonymousMemory(32 * PAGE)
    lab.map(container, FIRST, 32 * PAGE, memory.address)
    memory.close()
    dma.write(FIRST, b"pinned")
    assert dma.read(FIRST, 6) == b"pinned"


def test_memory_that_could_not_be_held_faults(vfio_lab: Lab) -> None:
    container, dma = space(vfio_lab)
    memory = AnonymousMemory(PAGE)  # too small for a second mapping
    vfio_lab.map(container, FIRST, PAGE, memory.address)
    memory.close()
    with pytest.raises(DmaFault):
        dma.read(FIRST, 1)


def test_exclude_and_intersect() -> None:
    whole: Ranges = [(0, ADDRESS_LAST)]
    assert exclude(whole, [(0, FIRST - 1), (10 * FIRST, ADDRESS_LAST)]) == [(FIRST, 10 * FIRST - 1)]
    assert exclude([(0, 9)], [(3, 4), (0, 1)]) == [(2, 2), (5, 9)]
    assert exclude([(0, 9)], [(0, 9)]) == []
    assert intersect([(0, 4), (6, 9)], 3, 7) == [(3, 4), (6, 7)]


class Item:
    def __init__(self, iova: int, last: int) -> None:
        self.iova, self.last = iova, last


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60), st.integers(1, 8)), max_size=60), st.integers(0, 63))
def test_tree_and_occupancy_agree_with_a_set(steps: list[tuple[bool, int, int]], probe: int) -> None:
    tree: IovaTree[Item] = IovaTree()
    taken = Occupancy()
    cells: dict[int, Item] = {}
    for add, start, length in steps:
        last = start + length - 1
        if add:
            if any(cell in cells for cell in range(start, last + 1)):
                assert tree.overlap(start, last) is not None
                continue
            assert tree.overlap(start, last) is None
            item = Item(start, last)
            tree.add(item)
            taken.add(start, last)
            cells.update(dict.fromkeys(range(start, last + 1), item))
        elif (item_ := cells.get(start)) is not None:
            tree.remove(item_)
            taken.remove(item_.iova, item_.last)
            for cell in range(item_.iova, item_.last + 1):
                del cells[cell]
    assert tree.find(probe) is cells.get(probe)
    inside = list(dict.fromkeys(cells[cell] for cell in sorted(cells) if probe <= cell <= probe + 20))
    assert tree.between(probe, probe + 20) == inside
    assert tree.first(probe, probe + 20) is (inside[0] if inside else None)
    free = {cell for start, last in taken.holes(0, 80) for cell in range(start, last + 1)}
    assert free == set(range(81)) - set(cells)
