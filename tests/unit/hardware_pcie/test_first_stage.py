"""The walk of first-stage tables that are nested, against a plain model; what is kept; and each fault.

Sources: Intel VT-d Architecture Specification, chapters 3, 6 and 7; the numbers of faults are named in
``drivers/iommu/intel/dmar.c`` (6.12).
"""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.first_stage import FirstStage, NestedSpace
from pyvfio_backends.software.hardware.pcie.remapping import FaultReason, RefusedDma

P, W, U, A, D, PS, EA = 1, 2, 4, 1 << 5, 1 << 6, 1 << 7, 1 << 10
PAGE = 1 << 12
PWU = P | W | U


class Memory:
    """A second stage of 39 bits whose pages are there as they are written; `closed` ones refuse."""

    def __init__(self) -> None:
        self.bytes: dict[int, bytearray] = {}
        self.closed: set[tuple[int, bool]] = set()

    def check(self, iova: int, count: int, *, write: bool) -> None:
        for number in range(iova // PAGE, (iova + count - 1) // PAGE + 1):
            if (number, write) in self.closed:
                raise DmaFault(iova, count, write=write)

    def read(self, iova: int, count: int) -> bytes:
        self.check(iova, count, write=False)
        return bytes(self.bytes.get(at // PAGE, bytes(PAGE))[at % PAGE] for at in range(iova, iova + count))

    def write(self, iova: int, data: bytes) -> None:
        self.check(iova, len(data), write=True)
        for at, byte in enumerate(data, iova):
            self.bytes.setdefault(at // PAGE, bytearray(PAGE))[at % PAGE] = byte

    def copy(self, target: int, source: int, count: int) -> None:
        self.write(target, self.read(source, count))


class Tables:
    """Tables from 0x100000 on; `put` makes those that are missing."""

    def __init__(self, levels: int = 4, **stage: bool) -> None:
        self.memory = Memory()
        self.levels, self.root, self._next = levels, 0x100000, 0x101000
        self.space = NestedSpace(FirstStage(self.root, levels, 39, **stage), self.memory)

    def entry(self, at: int) -> int:
        return int(struct.unpack("<Q", self.memory.read(at, 8))[0])

    def set(self, at: int, value: int) -> None:
        self.memory.write(at, struct.pack("<Q", value))

    def places(self, iova: int, level: int = 1) -> list[int]:
        """Where the entries for an address are, from the root down to `level`."""
        table, found = self.root, []
        for at in range(self.levels, level - 1, -1):
            found.append(table + (iova >> 12 + 9 * (at - 1) & 511) * 8)
            table = self.entry(found[-1]) & ((1 << 52) - PAGE)
        return found

    def put(self, iova: int, target: int, flags: int = PWU, level: int = 1) -> int:
        """Map, by a leaf of a level; where its entry is."""
        for at in range(self.levels, level, -1):
            place = self.places(iova, at)[-1]
            if not self.entry(place) & P:
                self.set(place, self._next | PWU)
                self._next += PAGE
        place = self.places(iova, level)[-1]
        self.set(place, target | flags | (PS if level > 1 else 0))
        return place

    def refused(self, iova: int, *, write: bool = False) -> FaultReason:
        act = (lambda: self.space.write(iova, b"x")) if write else (lambda: self.space.read(iova, 1))
        with pytest.raises(RefusedDma) as caught:
            act()
        assert (caught.value.iova, caught.value.write) == (iova, write)
        return caught.value.reason


PIECE = st.tuples(
    st.integers(1, 3),  # level
    st.integers(0, 3),  # which page of the level
    st.sampled_from([0, 1 << 30, 1 << 39, 0xFFFF_FFC0_0000_0000]),
    st.integers(1, 7),
    st.sampled_from([PWU, P | U, P, W | U]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([4, 5]), st.lists(PIECE, max_size=6), st.lists(st.integers(0, 0x3FFFFFFF), min_size=1, max_size=6)
)
def test_the_walk_is_that_of_a_plain_model(
    levels: int, pieces: list[tuple[int, int, int, int, int]], spots: list[int]
) -> None:
    """The model: a list of (first, last, target, flags), no two of which overlap."""
    tables = Tables(levels)
    model: list[tuple[int, int, int, int]] = []
    for level, number, base, target, flags in pieces:
        size = 1 << 12 + 9 * (level - 1)
        first = base + (number * size)
        if any(a <= first + size - 1 and first <= b for a, b, _, _ in model):
            continue
        if any(level > 1 and a >> 30 == first >> 30 for a, _, _, _ in model):
            continue  # an entry there leads to a table already
        model.append((first, first + size - 1, target << 30, flags))
        tables.put(first, target << 30, flags, level)
    for base in (0, 1 << 30, 1 << 39, 0xFFFF_FFC0_0000_0000):
        for spot in (*spots, *(first & 0x3FFFFFFF for first, _, _, _ in model)):
            for write in (False, True):
                assert told(tables, base + spot, write=write) == expected(model, base + spot, write=write)


def told(tables: Tables, iova: int, *, write: bool) -> FaultReason | tuple[int, int]:
    try:
        return tables.space._translate(iova, write=write)
    except RefusedDma as fault:
        return fault.reason


def expected(model: list[tuple[int, int, int, int]], iova: int, *, write: bool) -> FaultReason | tuple[int, int]:
    first, last, target, flags = next((one for one in model if one[0] <= iova <= one[1]), (0, 0, 0, 0))
    if not flags & P:
        return FaultReason.NOT_PRESENT
    if not flags & U:
        return FaultReason.NOT_USER
    if write and not flags & W:
        return FaultReason.SCALABLE_NO_WRITE
    return target + iova - first, last + 1 - iova


def test_accessed_and_dirty_bits() -> None:
    tables = Tables()
    place = tables.put(0x5000, 0x200000)
    above = tables.places(0x5000)[:-1]
    assert tables.space.read(0x5000, 4) == bytes(4)
    assert tables.entry(place) == 0x200000 | PWU | A
    assert all(tables.entry(one) & (A | D) == A for one in above)
    tables.space.write(0x5004, b"data")
    assert tables.entry(place) == 0x200000 | PWU | A | D
    assert tables.memory.read(0x200004, 4) == b"data"
    noted = Tables(extended=True)
    place = noted.put(0, 0x200000)
    noted.space.read(0, 1)
    assert all(noted.entry(one) & EA for one in noted.places(0))


def test_a_range_over_pages_moves_all_or_nothing() -> None:
    tables = Tables()
    tables.put(0x1000, 0x300000)
    tables.put(0x2000, 0x200000)
    tables.space.write(0x1FFE, b"abcd")
    assert tables.memory.read(0x300FFE, 2) + tables.memory.read(0x200000, 2) == b"abcd"
    tables.space.copy(0x1000, 0x1FFE, 4)
    assert tables.memory.read(0x300000, 4) == b"abcd"
    with pytest.raises(RefusedDma):
        tables.space.write(0x2FFE, b"wxyz")
    assert tables.memory.read(0x200FFE, 2) == bytes(2)
    tables.memory.closed.add((0x200, True))
    with pytest.raises(RefusedDma) as caught:
        tables.space.write(0x1FFE, b"wxyz")
    assert caught.value.reason is FaultReason.SECOND_STAGE_ACCESS
    assert tables.memory.read(0x300FFE, 2) == b"ab"


def test_what_is_kept_is_stale_until_it_is_invalidated() -> None:
    tables = Tables()
    place = tables.put(0x5000, 0x200000)
    tables.memory.write(0x200000, b"old")
    tables.memory.write(0x300000, b"new")
    assert tables.refused(0x6000) is FaultReason.NOT_PRESENT
    tables.put(0x6000, 0x300000)  # what is not present is not kept
    assert tables.space.read(0x6000, 3) == tables.memory.read(0x300000, 3) == b"new"
    assert tables.space.read(0x5000, 3) == b"old"
    tables.set(place, 0x300000 | PWU)
    assert tables.space.read(0x5000, 3) == b"old"
    tables.space.invalidate(0x6000, PAGE)
    assert tables.space.read(0x5000, 3) == b"old"
    tables.space.invalidate(0x5000, PAGE, leaf=True)
    assert tables.space.read(0x5000, 3) == b"new"
    # a table in place of another: with `leaf` the entry that leads to it is kept
    above = tables.places(0x5000)[-2]
    tables.memory.write(0x180000, tables.memory.read(tables.entry(above) & -PAGE & (1 << 52) - 1, PAGE))
    tables.set(0x180000 + 5 * 8, 0x200000 | PWU)
    tables.set(above, 0x180000 | PWU)
    tables.space.invalidate(0x5000, PAGE, leaf=True)
    assert tables.space.read(0x5000, 3) == b"new"
    tables.space.invalidate(0x5000, PAGE)
    assert tables.space.read(0x5000, 3) == b"old"


def test_more_rights_need_no_invalidation_and_less_do() -> None:
    tables = Tables()
    place = tables.put(0x5000, 0x200000, P | U)
    tables.space.read(0x5000, 1)
    assert tables.refused(0x5000, write=True) is FaultReason.SCALABLE_NO_WRITE
    tables.set(place, 0x200000 | PWU)
    tables.space.write(0x5000, b"x")
    tables.set(place, 0x200000 | P | U)
    tables.space.write(0x5000, b"y")
    tables.space.flush()
    assert tables.refused(0x5000, write=True) is FaultReason.SCALABLE_NO_WRITE


def test_faults_of_entries() -> None:
    for level, flags, reason in (
        (2, 1 << 13, FaultReason.RESERVED_BITS),
        (3, 1 << 20, FaultReason.RESERVED_BITS),
        (4, 0, FaultReason.RESERVED_BITS),  # no pages of 512 GiB
        (1, 1 << 40, FaultReason.BEYOND_WIDTH),
        (3, 1 << 41, FaultReason.BEYOND_WIDTH),
    ):
        tables = Tables()
        tables.put(0, flags, level=level)
        assert tables.refused(0) is reason, level
    tables = Tables()
    tables.put(0, 1 << 12, level=2)  # a bit of the memory type
    tables.space.read(0, 1)
    small = Tables(huge=False)
    small.put(0, 0, level=3)
    assert small.refused(0) is FaultReason.RESERVED_BITS
    for levels, iova in ((4, 1 << 47), (4, 0xFFFF_0000_0000_0000), (5, 1 << 56), (4, 1 << 64)):
        assert Tables(levels).refused(iova) is FaultReason.NOT_CANONICAL
    assert Tables(5).refused(1 << 47) is FaultReason.NOT_PRESENT
    outside = NestedSpace(FirstStage(1 << 39, 4, 39), Memory())
    with pytest.raises(RefusedDma) as caught:
        outside.read(0, 1)
    assert caught.value.reason is FaultReason.BEYOND_WIDTH


def test_faults_of_tables() -> None:
    tables = Tables()
    tables.put(0, 0x200000)
    tables.memory.closed.add((0x101, False))
    assert tables.refused(0) is FaultReason.TABLE_NOT_READABLE
    tables.memory.closed.add((0x100, False))
    tables.space.flush()
    assert tables.refused(0) is FaultReason.ROOT_NOT_READABLE
    tables.memory.closed = {(0x101, True)}
    tables.space.flush()
    assert tables.refused(0) is FaultReason.TABLE_NOT_WRITABLE


def test_it_keeps_a_bounded_number() -> None:
    tables = Tables()
    for number in range(600):
        tables.put(number * PAGE, 0x200000)
        tables.space.read(number * PAGE, 1)
    assert len(tables.space._pages) == 512
