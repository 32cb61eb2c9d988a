"""A guest's tables as mappings: few calls, and after each refresh exactly what the tables say."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.backend import open_backend
from pyvfio.errors import KernelRefused
from pyvfio.iommu.address_space import AddressSpace, IovaRange, Mapping
from pyvfio.passthrough import shadow
from pyvfio.passthrough.memory import GuestMemory
from pyvfio.passthrough.shadow import ShadowMappings
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.function import InsufficientMappings
from pyvfio.zpci.table import (
    FRAME,
    Designation,
    Iota,
    TranslationFault,
    page_entry,
    region_entry,
    segment_entry,
)

TABLES, BASE, PAGES = 0, 1 << 32, 1024
STORAGE = 64 * FRAME
SIZE = 0x40000 + STORAGE
FREE = 0x40000


class Table:
    """An IOMMU table with the kernel's rules: no overlap, mappings go as they came, `limit` of them."""

    kind = "type1v2"
    name = "a table"

    def __init__(self) -> None:
        self.maps: dict[int, Mapping] = {}
        self.limit = 1 << 16
        self.calls = 0

    def map(self, mapping: Mapping) -> None:
        self.calls += 1
        if len(self.maps) >= self.limit:
            raise KernelRefused("map DMA", self.name, errno=errno.ENOSPC)
        for other in self.maps.values():
            assert mapping.iova + mapping.length <= other.iova or other.iova + other.length <= mapping.iova
        self.maps[mapping.iova] = mapping

    def unmap(self, iova: int, length: int) -> int:
        self.calls += 1
        assert self.maps[iova].length == length
        del self.maps[iova]
        return length

    def unmap_all(self) -> int | None:
        return None

    def ranges(self) -> list[IovaRange]:
        return [IovaRange(0, (1 << 42) - 1)]

    def page_sizes(self) -> int:
        return FRAME

    def available(self) -> int | None:
        return self.limit - len(self.maps)

    def close(self) -> None: ...


class Guest:
    def __init__(self) -> None:
        self.memory = GuestMemory(SIZE)
        self.table = Table()
        with open_backend("software", machine="z15-lpar") as backend:
            self.space = AddressSpace(self.table, backend)
            assert self.space.granule == FRAME
        for place in range(2048):
            self.put(TABLES + place * 8, 0x20)
            self.put(TABLES + 0x4000 + place * 8, 0x20)
        self.put(TABLES + (BASE >> 31) * 8, region_entry(TABLES + 0x4000, Designation.REGION_THIRD))
        for segment in range(PAGES // 256):
            self.put(TABLES + 0x4000 + segment * 8, segment_entry(TABLES + 0x8000 + segment * 0x800))
        self.pages: dict[int, tuple[int, bool]] = {}
        for page in range(PAGES):
            self.clear(page)
        self.shadow = ShadowMappings(self.space, self.memory, Iota(TABLES), BASE, BASE + PAGES * FRAME - 1)
        (self.area,) = self.memory.areas()

    def put(self, address: int, word: int) -> None:
        self.memory.write(address, word.to_bytes(8, "big"))

    def _place(self, page: int) -> int:
        return TABLES + 0x8000 + page * 8

    def set(self, page: int, frame: int, protected: bool = False) -> None:
        self.pages[page] = (FREE + frame * FRAME, protected)
        self.put(self._place(page), page_entry(FREE + frame * FRAME, protected=protected))

    def clear(self, page: int) -> None:
        self.pages.pop(page, None)
        self.put(self._place(page), page_entry(0, valid=False))

    def refresh(self, page: int, count: int) -> None:
        self.shadow.refresh(BASE + page * FRAME, count * FRAME)

    def seen(self) -> dict[int, tuple[int, bool]]:
        """What the device sees, page by page, as the guest's addresses."""
        found = {}
        for mapping in self.table.maps.values():
            for step in range(0, mapping.length, FRAME):
                page = (mapping.iova + step - BASE) // FRAME
                found[page] = (mapping.address + step - self.area.address + self.area.start, not mapping.write)
        return found


@pytest.fixture
def guest() -> Iterator[Guest]:
    one = Guest()
    yield one
    one.shadow.close()
    one.memory.close()


def test_a_contiguous_range_is_one_call(guest: Guest) -> None:
    for page in range(64):
        guest.set(page, page)
    guest.refresh(0, 64)
    assert guest.shadow.calls == guest.table.calls == 1
    assert guest.seen() == guest.pages


def test_nothing_new_costs_nothing(guest: Guest) -> None:
    for page in range(10):
        guest.set(page, page)
    guest.refresh(0, 10)
    guest.refresh(0, 10)
    guest.refresh(3, 2)
    guest.refresh(500, 100)
    assert guest.table.calls == 1


def test_a_neighbour_leaves_what_is_there(guest: Guest) -> None:
    guest.set(1, 1)
    guest.refresh(1, 1)
    guest.set(2, 2)
    guest.refresh(2, 1)
    assert guest.table.calls == 2
    assert guest.seen() == guest.pages


def test_what_is_not_refreshed_is_not_followed(guest: Guest) -> None:
    guest.set(1, 1)
    guest.refresh(1, 1)
    guest.clear(1)
    guest.set(2, 2)
    assert set(guest.seen()) == {1}
    guest.refresh(1, 1)
    assert guest.seen() == {}


def test_a_part_made_invalid(guest: Guest) -> None:
    for page in range(10):
        guest.set(page, page)
    guest.refresh(0, 10)
    guest.clear(4)
    guest.refresh(4, 1)
    assert guest.seen() == guest.pages
    assert guest.table.calls == 1 + 1 + 2


def test_protection_and_another_frame(guest: Guest) -> None:
    guest.set(1, 1)
    guest.set(2, 2, protected=True)
    guest.refresh(0, 4)
    assert guest.seen() == guest.pages
    guest.set(1, 7, protected=True)
    guest.refresh(1, 1)
    assert guest.seen() == guest.pages


def test_storage_that_the_guest_has_not_is_not_mapped(guest: Guest) -> None:
    guest.set(1, 1)
    guest.set(2, 1 << 20)
    guest.set(3, 63)
    guest.set(4, 64)
    guest.refresh(0, 10)
    assert set(guest.seen()) == {1, 3}


def test_storage_that_the_guest_has_lost_is_not_mapped_again(guest: Guest) -> None:
    """Of a mapping that is split after its storage went: the rest goes, too."""
    extra = guest.memory.add(SIZE + FRAME, 8 * FRAME)
    frames = (extra.start - FREE) // FRAME
    for page in range(6):
        guest.set(page, frames + page)
    guest.refresh(0, 6)
    assert len(guest.table.maps) == 1
    guest.memory.remove(extra.start)
    guest.clear(3)
    guest.refresh(3, 1)
    assert guest.table.maps == {}


def test_many_areas(guest: Guest) -> None:
    """One run over several is a mapping each, and nothing where there is none between them."""
    for number in range(20):
        guest.memory.add(0x1000000 + 2 * number * FRAME, FRAME)
    frame = (0x1000000 - FREE) // FRAME
    for page in range(50):
        guest.set(page, frame - 5 + page)
    guest.refresh(0, 50)
    assert [mapping.length for mapping in guest.table.maps.values()] == [FRAME] * 20
    assert sorted(guest.table.maps) == [BASE + (5 + 2 * number) * FRAME for number in range(20)]


def test_refresh_ends_at_the_limits(guest: Guest) -> None:
    guest.set(0, 0)
    guest.set(PAGES - 1, 1)
    guest.shadow.refresh(0, 1 << 63)
    assert guest.seen() == guest.pages


def test_exhausted_mappings_are_said_and_what_is_invalid_goes_first(guest: Guest) -> None:
    guest.table.limit = 2
    for page in (1, 3):
        guest.set(page, page)
    guest.refresh(0, 8)
    guest.set(5, 5)
    with pytest.raises(InsufficientMappings):
        guest.refresh(5, 1)
    assert set(guest.seen()) == {1, 3}
    guest.clear(1)
    guest.refresh(0, 8)
    assert guest.seen() == guest.pages


def test_more_runs_than_the_kernel_takes(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not all looked at, and what is mapped beyond stays, or goes, as the tables say."""
    monkeypatch.setattr(shadow, "_UNASKED", 8)
    guest.table.limit = 20
    for page in (901, 902, 903, 951):
        guest.set(page, page - 900)
    guest.refresh(901, 2)
    guest.refresh(903, 48 + 1)
    guest.clear(903)
    for page in range(0, 200, 2):
        guest.set(page, page // 4)
    before = guest.table.calls
    with pytest.raises(InsufficientMappings):
        guest.refresh(0, PAGES)
    seen = guest.seen()
    assert set(seen) >= {901, 902, 951}
    assert 903 not in seen
    assert len(guest.table.maps) == 20
    assert all(guest.pages[page] == told for page, told in seen.items())
    assert guest.table.calls - before < 30
    for page in range(0, 200, 2):
        guest.clear(page)
    guest.refresh(0, PAGES)
    assert guest.seen() == guest.pages


def test_where_there_is_no_limit_a_refresh_ends_and_the_next_gets_further(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow, "_UNASKED", 2)
    monkeypatch.setattr(shadow, "_MOST", 7)
    monkeypatch.setattr(guest.table, "available", lambda: None)
    for page in range(0, 60, 2):
        guest.set(page, page)
    turns = 0
    while turns < 10:
        turns += 1
        try:
            guest.refresh(0, PAGES)
        except InsufficientMappings:
            assert len(guest.table.maps) == 8 * turns
        else:
            break
    assert turns == 4
    assert guest.seen() == guest.pages


def test_tables_that_lead_out_of_storage_again_and_again_end_a_refresh(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few tables name any number of such pages; what is mapped behind them is as the tables say nevertheless."""
    monkeypatch.setattr(shadow, "_STRAYS", 3)
    for page in (0, 100, 200):
        guest.set(page, page // 10)
    guest.refresh(0, PAGES)
    for page in range(10, 20):
        guest.put(guest._place(page), page_entry((1 << 40) + 2 * page * FRAME))
    guest.clear(200)
    with pytest.raises(InsufficientMappings):
        guest.refresh(0, PAGES)
    assert guest.seen() == guest.pages
    guest.clear(0)
    guest.clear(100)
    with pytest.raises(InsufficientMappings):
        guest.refresh(0, PAGES)
    assert guest.seen() == guest.pages == {}
    guest.set(5, 5)
    guest.refresh(0, 13)  # three of them are none too many
    assert guest.seen() == guest.pages


def test_what_was_split_and_found_no_room_is_mapped_when_there_is_some(guest: Guest) -> None:
    guest.table.limit = 2
    for page in (*range(10), 100):
        guest.set(page, page // 2)
    for page in range(10):
        guest.set(page, page)
    guest.refresh(0, 10)
    guest.refresh(100, 1)
    guest.clear(4)
    with pytest.raises(InsufficientMappings):
        guest.refresh(4, 1)
    assert set(guest.seen()) == {0, 1, 2, 3, 100}
    with pytest.raises(InsufficientMappings):
        guest.refresh(500, 1)
    guest.clear(100)
    guest.refresh(100, 1)
    assert guest.seen() == guest.pages


def test_a_wrong_table_maps_what_was_before_it(guest: Guest) -> None:
    guest.set(1, 1)
    guest.set(300, 2)
    guest.put(TABLES + 0x4000 + 8, 0x7FFF_0000_0000_0000)
    with pytest.raises(TranslationFault) as caught:
        guest.refresh(0, PAGES)
    assert (caught.value.code, caught.value.iova) == (ErrorCode.INVALID_TABLE_ENTRY, BASE + 256 * FRAME)
    assert set(guest.seen()) == {1}


def test_closing_unmaps_all(guest: Guest) -> None:
    for page in (1, 3, 9):
        guest.set(page, page)
    guest.refresh(0, 16)
    guest.shadow.close()
    assert guest.table.maps == {}


_CHANGE = st.tuples(st.integers(0, 40), st.integers(1, 12), st.integers(0, 70), st.sampled_from(["set", "ro", "clear"]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_CHANGE, st.booleans(), st.integers(0, 6)), max_size=25))
def test_any_sequence_keeps_the_mappings_equal_to_the_valid_pages(
    steps: list[tuple[tuple[int, int, int, str], bool, int]],
) -> None:
    guest = Guest()
    known: dict[int, tuple[int, bool]] = {}
    for (page, count, frame, what), refreshed, wider in steps:
        for step in range(count):
            if what == "clear":
                guest.clear(page + step)
            else:
                guest.set(page + step, frame + step, what == "ro")
        if refreshed:
            low, high = max(0, page - wider), page + count + wider
            guest.refresh(low, high - low)
            for one in range(low, high):
                known.pop(one, None)
                entry = guest.pages.get(one)
                if entry is not None and entry[0] < SIZE:
                    known[one] = entry
        assert guest.seen() == known
    guest.shadow.close()
    assert guest.table.maps == {}
    guest.memory.close()


def test_a_gibibyte_is_one_call() -> None:
    """262,144 pages, one map call."""
    pages = (1 << 30) // FRAME
    with GuestMemory(0x10000 + pages * 8) as memory, open_backend("software", machine="z15-lpar") as backend:
        for place in range(2048):
            for table in (0, 0x4000):
                memory.write(table + place * 8, (0x20).to_bytes(8, "big"))
        memory.write((BASE >> 31) * 8, region_entry(0x4000, Designation.REGION_THIRD).to_bytes(8, "big"))
        entries = b"".join(page_entry((page + 1) * FRAME).to_bytes(8, "big") for page in range(pages))
        memory.write(0x10000, entries)
        for segment in range(pages // 256):
            memory.write(0x4000 + segment * 8, segment_entry(0x10000 + segment * 0x800).to_bytes(8, "big"))
        table = Table()
        shadow = ShadowMappings(AddressSpace(table, backend), memory, Iota(0), BASE, BASE + pages * FRAME - 1)
        shadow.refresh(BASE, 1 << 30)
        assert shadow.calls == 1
        # Only what is storage of the guest is mapped; it has a little more than 2 MiB.
        assert [run.length for run in shadow.mapped()] == [0x10000 + pages * 8 - FRAME]
