"""The walk through DMA-translation tables, against a simple reference, and against each thing that can be wrong."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css.instructions import StorageError
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.run import Run, runs
from pyvfio.zpci.table import (
    FRAME,
    LARGE_FRAME,
    Designation,
    Iota,
    Leaf,
    TranslationFault,
    page_entry,
    region_entry,
    segment_entry,
    walk,
)


class Tables:
    """Storage for tables, which builds them as mappings are added."""

    def __init__(self, designation: Designation) -> None:
        self.words: dict[int, int] = {}
        self._next = 0x100000
        self._levels = designation
        self.origin = self._table(designation)
        self.iota = Iota(self.origin, designation)

    def _table(self, level: int) -> int:
        origin, entries = self._next, 256 if level < 0 else 2048
        self._next += entries * 8
        self._next += -self._next % 0x4000
        for index in range(entries):
            self.words[origin + index * 8] = 0x400 if level < 0 else 0x20
        return origin

    def read(self, address: int, count: int) -> bytes:
        places = range(address, address + count, 8)
        if any(place not in self.words for place in places):
            raise StorageError(address, count)
        return b"".join(self.words[place].to_bytes(8, "big") for place in places)

    def place(self, iova: int, stop: int = -1) -> int:
        """Where the entry of the level `stop` is; the tables above it are made."""
        origin = self.origin
        for level in range(self._levels, stop, -1):
            place = origin + (iova >> 20 + 11 * level & 0x7FF) * 8
            if self.words[place] & 0x20:
                below = self._table(level - 1)
                self.words[place] = region_entry(below, Designation(level)) if level else segment_entry(below)
            origin = self.words[place] & (~0x3FFF if level else ~0x7FF)
        shift, mask = (12, 0xFF) if stop < 0 else (20 + 11 * stop, 0x7FF)
        return origin + (iova >> shift & mask) * 8

    def map(self, iova: int, frame: int, protected: bool = False) -> None:
        self.words[self.place(iova)] = page_entry(frame, protected=protected)


_PAGES = st.dictionaries(st.integers(0, 1 << 18), st.tuples(st.integers(1, 1 << 40), st.booleans()), max_size=12)


@settings(max_examples=40, deadline=None)
@given(
    level=st.sampled_from([Designation.SEGMENT, Designation.REGION_THIRD, Designation.REGION_SECOND]),
    high=st.integers(0, (1 << 64) - 1),
    pages=_PAGES,
    asked=st.integers(0, 1 << 18),
)
def test_a_walk_finds_what_a_dictionary_says(
    level: Designation, high: int, pages: dict[int, tuple[int, bool]], asked: int
) -> None:
    base = high % level.reach & ~((1 << 31) - 1)
    tables = Tables(level)
    for page, (frame, protected) in pages.items():
        tables.map(base + page * FRAME, frame * FRAME, protected)
    for page in {asked, *pages}:
        leaf = walk(tables, tables.iota, base + page * FRAME + 7)
        assert leaf.iova <= base + page * FRAME < leaf.iova + leaf.size
        if page in pages:
            assert leaf == Leaf(base + page * FRAME, FRAME, pages[page][0] * FRAME, pages[page][1])
        else:
            assert leaf.address is None
            inside = range((leaf.iova - base) // FRAME, (leaf.iova + leaf.size - base) // FRAME)
            assert not any(known in inside for known in pages)


@settings(max_examples=40, deadline=None)
@given(pages=_PAGES, near=st.integers(0, 1 << 18), start=st.integers(0, 1 << 18), count=st.integers(0, 700))
def test_runs_are_the_walks_of_all_pages(pages: dict[int, tuple[int, bool]], near: int, start: int, count: int) -> None:
    tables = Tables(Designation.REGION_THIRD)
    for page, (frame, protected) in pages.items():
        tables.map(page * FRAME, frame * FRAME, protected)
    for step in range(5):
        tables.map((near + step) * FRAME, (0x1234 + step) * FRAME)
    for first, many in ((start, count), (max(0, near - 3), 12)):
        end = first + many
        found = list(runs(tables, tables.iota, first * FRAME, end * FRAME))
        mapped = {}
        for run in found:
            for step in range(0, run.length, FRAME):
                mapped[run.iova + step] = (run.address + step, run.protected)
        wanted = {}
        for page in range(first, end):
            leaf = walk(tables, tables.iota, page * FRAME)
            if leaf.address is not None:
                wanted[page * FRAME] = (leaf.address + page * FRAME - leaf.iova, leaf.protected)
        assert mapped == wanted
        for one, other in pairwise(found):
            joined = one.iova + one.length == other.iova and one.address + one.length == other.address
            assert not (joined and one.protected == other.protected)


def test_a_run_goes_over_tables_and_large_frames() -> None:
    tables = Tables(Designation.REGION_THIRD)
    for page in range(200, 400):
        tables.map(page * FRAME, 0x1000000 + page * FRAME)
    tables.words[tables.place(0x300000, Designation.SEGMENT)] = segment_entry(0x1300000, large=True)
    found = list(runs(tables, tables.iota, 0, 0x500000))
    assert [(run.iova, run.length) for run in found] == [(200 * FRAME, 200 * FRAME), (0x300000, 0x100000)]
    assert list(runs(tables, Iota(0, enabled=False), 0x1000, 0x9000)) == [Run(0x1000, 0x1000, 0x8000, False)]


def test_a_wrong_table_ends_the_runs_where_it_is() -> None:
    tables = Tables(Designation.REGION_THIRD)
    tables.map(0x5000, 0x7000)
    tables.words[tables.place(0x100000, Designation.SEGMENT)] = 0xFFFF_0000_0000_0000
    found = runs(tables, tables.iota, 0, 0x300000)
    with pytest.raises(TranslationFault) as caught:
        list(found)
    assert caught.value.iova == 0x100000


def test_all_five_levels() -> None:
    tables = Tables(Designation.REGION_FIRST)
    tables.map(0xFEDC_BA98_7654_3000, 0x7000)
    assert walk(tables, tables.iota, 0xFEDC_BA98_7654_3FFF).address == 0x7000
    assert Designation.REGION_FIRST.reach == 1 << 64


def test_protection_of_any_level_protects() -> None:
    tables = Tables(Designation.REGION_THIRD)
    tables.map(0x5000, 0x7000)
    for stop in (Designation.REGION_THIRD, Designation.SEGMENT, -1):
        place = tables.place(0x5000, stop)
        tables.words[place] |= 0x200
        assert walk(tables, tables.iota, 0x5000).protected
        tables.words[place] &= ~0x200
    assert not walk(tables, tables.iota, 0x5000).protected


def test_a_large_frame() -> None:
    tables = Tables(Designation.REGION_THIRD)
    tables.words[tables.place(0x300000, Designation.SEGMENT)] = segment_entry(0x4500000, large=True, protected=True)
    assert walk(tables, tables.iota, 0x3ABCDE) == Leaf(0x300000, LARGE_FRAME, 0x4500000, True)


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (0x4 | 0x40 | 3, ErrorCode.INVALID_TABLE_LENGTH),
        (0x4 | 2, ErrorCode.INVALID_TABLE_LENGTH),
        (0x8 | 3, ErrorCode.TABLE_TYPE),
        (0x3, ErrorCode.TABLE_TYPE),
        (0x8 | 2, ErrorCode.INVALID_TABLE_LENGTH),
        (0xFFFF_0000_0000_0007, ErrorCode.INVALID_TABLE_ENTRY),
        (0, ErrorCode.INVALID_TABLE_ENTRY),
    ],
)
def test_a_wrong_entry_is_an_error_event(entry: int, code: ErrorCode) -> None:
    tables = Tables(Designation.REGION_THIRD)
    tables.words[tables.place(0, Designation.REGION_THIRD)] = entry
    with pytest.raises(TranslationFault) as caught:
        walk(tables, tables.iota, 0x1000)
    assert (caught.value.code, caught.value.iova) == (code, 0x1000)


def test_an_address_beyond_the_table_is_out_of_range() -> None:
    tables = Tables(Designation.REGION_THIRD)
    with pytest.raises(TranslationFault) as caught:
        walk(tables, tables.iota, 1 << 42)
    assert caught.value.code is ErrorCode.OUT_OF_RANGE


def test_without_translation_addresses_are_absolute() -> None:
    tables = Tables(Designation.SEGMENT)
    assert walk(tables, Iota(0, enabled=False), 0x123456789ABC).address == 0x123456789000
