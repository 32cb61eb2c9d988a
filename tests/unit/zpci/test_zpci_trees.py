"""Random trees of translation tables, against a walker that reads bits as the pictures number them.

Tables lead anywhere: to others of the wrong type, to themselves, to where there is no storage.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.css.instructions import StorageError
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.run import Run, runs
from pyvfio.zpci.table import FRAME, Designation, Iota, TranslationFault, page_entry, region_entry, segment_entry, walk

TABLE = 0x4000
TABLES = 7
SIZE = TABLES * TABLE + 0x2000  # the last table has a half
EDGES = (0, 1, 2, 255, 2046, 2047)


@dataclass
class Sparse:
    """Storage of `SIZE` bytes: entries at their addresses, all others are `fill`."""

    fill: int
    words: dict[int, int] = field(default_factory=dict)
    reads: int = 0

    def read(self, address: int, count: int) -> bytes:
        self.reads += 1
        if not 0 <= address <= SIZE - count:
            raise StorageError(address, count)
        return b"".join(self.words.get(at, self.fill).to_bytes(8, "big") for at in range(address, address + count, 8))


# the reference: bits from the left, one page, one entry at a time


def bit(word: int, number: int) -> bool:
    return f"{word:064b}"[number] == "1"


def field_of(word: int, first: int, last: int) -> int:
    return int(f"{word:064b}"[first : last + 1], 2)


INDEXES = {3: (0, 10), 2: (11, 21), 1: (22, 32), 0: (33, 43), -1: (44, 51)}


def reference(memory: Sparse, iota: Iota, iova: int) -> tuple[str, int, bool]:
    """("valid", address, protected), ("invalid", 0, False), or (the name of a code, 0, False)."""
    if any(field_of(iova, *INDEXES[level]) for level in range(3, iota.designation, -1)):
        return "OUT_OF_RANGE", 0, False
    table, protected = iota.origin, False
    for level in range(iota.designation, -2, -1):
        place = table + 8 * field_of(iova, *INDEXES[level])
        if place + 8 > SIZE:
            return "INVALID_TABLE_ENTRY", 0, False
        entry = memory.words.get(place, memory.fill)
        if entry == 0:
            return "INVALID_TABLE_ENTRY", 0, False
        if bit(entry, 53 if level < 0 else 58):
            return "invalid", 0, False
        if level > 0 and (field_of(entry, 56, 57) != 0 or field_of(entry, 62, 63) != 3):
            return "INVALID_TABLE_LENGTH", 0, False
        if level >= 0 and field_of(entry, 60, 61) != level:
            return "TABLE_TYPE", 0, False
        protected = protected or bit(entry, 54)
        if level == -1:
            return "valid", field_of(entry, 0, 51) << 12, protected
        if level == 0 and bit(entry, 53):
            return "valid", (field_of(entry, 0, 43) << 20) + (field_of(iova, 44, 51) << 12), protected
        table = field_of(entry, 0, 49 if level else 52) << (14 if level else 11)
    raise RuntimeError("no entry ended the walk")


# trees

_ORIGINS = st.one_of(
    st.integers(0, TABLES).map(lambda number: number * TABLE),
    st.integers(0, 15).map(lambda number: number * 0x800),
    st.integers(1, (1 << 50) - 1).map(lambda number: number << 14),
)
_FLAGS = st.sampled_from([0, 0, 0, 0, 0x200, 0x200, 0x20, 0x40, 0x80, 0x400, 0x800, 0x100])


@st.composite
def _entries(draw: st.DrawFn) -> int:
    """An entry that is right for some level, and often for the one where it is put."""
    level = draw(st.integers(0, 3))
    frame = draw(st.sampled_from([*range(1, 9), 0x100, 0x200, (1 << 52) - 1])) * FRAME
    kind = draw(st.integers(0, 9))
    if kind < 5:
        entry = region_entry(draw(_ORIGINS), Designation(level)) if level else segment_entry(draw(_ORIGINS))
    elif kind < 8:
        entry = page_entry(frame)
    elif kind == 8:
        entry = segment_entry(frame << 8 & (1 << 64) - 1, large=True)
    else:
        entry = draw(st.sampled_from([0, 0x20, 0x420, (1 << 64) - 1]))
    return entry ^ draw(_FLAGS)


@st.composite
def _trees(draw: st.DrawFn) -> tuple[Sparse, Iota, int]:
    """Storage, an anchor, and an address that has something to find more often than not."""
    memory = Sparse(draw(st.sampled_from([0x420, 0x420, 0x20, 0x400, 0])))
    places = st.tuples(st.integers(0, TABLES), st.sampled_from(EDGES))
    for (table, index), entry in draw(st.dictionaries(places, _entries(), max_size=14)).items():
        memory.words[table * TABLE + index * 8] = entry
    level = Designation(draw(st.integers(0, 3)))
    # one path that leads to a page table, which other entries may have replaced in part
    iova, origin = 0, draw(st.integers(0, 1)) * TABLE
    iota = Iota(origin, level)
    for step in range(level, -1, -1):
        index = draw(st.sampled_from(EDGES))
        iova |= index << 20 + 11 * step
        below = draw(st.integers(0, TABLES - 1)) * TABLE
        if draw(st.integers(0, 7)):
            right = region_entry(below, Designation(step)) if step else segment_entry(below)
            memory.words[origin + index * 8] = right | draw(st.sampled_from([0, 0, 0x200]))
        origin = below
    for index in range(draw(st.integers(0, 6))):
        page = draw(st.integers(0, 255))
        memory.words[origin + page * 8] = page_entry((index + 1) * FRAME, protected=draw(st.booleans()))
        memory.words[origin + (page + 1) % 256 * 8] = page_entry((index + 2) * FRAME)
    return memory, iota, iova


def found_by_walk(memory: Sparse, iota: Iota, iova: int) -> tuple[str, int, bool]:
    try:
        leaf = walk(memory, iota, iova)
    except TranslationFault as fault:
        return fault.code.name if fault.iova == iova else f"at {fault.iova:#x}", 0, False
    assert leaf.iova <= iova < leaf.iova + leaf.size
    if leaf.address is None:
        return "invalid", 0, False
    return "valid", leaf.address + (iova & -FRAME) - leaf.iova, leaf.protected


def all_runs(
    memory: Sparse, iota: Iota, start: int, end: int, most: int = 1 << 20
) -> tuple[list[Run], TranslationFault | None]:
    """At the most `most` runs, and the fault after them."""
    found: list[Run] = []
    try:
        for run in islice(runs(memory, iota, start, end), most):
            found.append(run)
    except TranslationFault as fault:
        return found, fault
    return found, None


@settings(max_examples=400, deadline=None)
@given(_trees(), st.integers(-3, 300), st.integers(0, 600))
def test_walks_and_runs_are_those_of_the_reference(tree: tuple[Sparse, Iota, int], near: int, count: int) -> None:
    memory, iota, middle = tree
    start = max(0, min(middle + near * FRAME, (1 << 64) - FRAME))
    end = min(start + count * FRAME, 1 << 64)
    wanted: dict[int, tuple[int, bool]] = {}
    fault = None
    for iova in range(start, end, FRAME):
        answer, address, protected = reference(memory, iota, iova)
        assert found_by_walk(memory, iota, iova) == (answer, address, protected)
        if answer == "valid":
            wanted[iova] = address, protected
        elif answer != "invalid":
            fault = answer, iova
            break
    found, caught = all_runs(memory, iota, start, end)
    assert fault == (None if caught is None else (caught.code.name, caught.iova))
    pages = {
        run.iova + step: (run.address + step, run.protected) for run in found for step in range(0, run.length, FRAME)
    }
    assert pages == wanted
    for one, other in pairwise(found):
        ends = one.iova + one.length, one.address + one.length, one.protected
        assert ends != (other.iova, other.address, other.protected)


@settings(max_examples=60, deadline=None)
@given(_trees(), st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_huge_ranges_end_soon(tree: tuple[Sparse, Iota, int], start: int, end: int) -> None:
    """Whatever leads where: the tables are read once each (and the two at the edges of the range at every level)."""
    memory, iota, _ = tree
    begun = time.monotonic()
    _found, fault = all_runs(memory, iota, start & -FRAME, end & -FRAME, 20_000)
    assert fault is None or fault.iova >= start & -FRAME
    # each of the tables as one of each level, and protected or not; half tables are read by entries
    assert memory.reads < 2 * 2 * 5 * 0x20000 // 0x800 + 3 * 2048
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("level", [Designation.SEGMENT, Designation.REGION_THIRD, Designation.REGION_FIRST])
def test_tables_that_lead_to_one_another(level: Designation) -> None:
    """All entries of all tables lead to the same table below: 2^52 pages, and nothing valid among them."""
    memory = Sparse(0x400)
    for step in range(level, -1, -1):
        below = (step - 1) % TABLES * TABLE
        for index in range(2048):
            entry = region_entry(below, Designation(step)) if step else segment_entry(below)
            memory.words[step * TABLE + index * 8] = entry
    begun = time.monotonic()
    assert list(runs(memory, Iota(level * TABLE, level), 0, level.reach)) == []
    assert time.monotonic() - begun < 2
    assert memory.reads == level + 2


def test_a_range_beyond_the_reach_ends_there() -> None:
    memory = Sparse(0x420)
    memory.words[0] = segment_entry(0x100000, large=True)
    for start, end, found in ((0, 1 << 40, 1), (1 << 31, 1 << 32, 0)):
        walked = runs(memory, Iota(0, Designation.SEGMENT), start, end)
        if found:
            assert next(walked) == Run(0, 0x100000, 1 << 20, False)
        with pytest.raises(TranslationFault) as caught:
            next(walked)
        assert (caught.value.code, caught.value.iova) == (ErrorCode.OUT_OF_RANGE, 1 << 31)
