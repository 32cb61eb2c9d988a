"""IOVAs given out: never twice, never outside the kernel's ranges, and again after they were freed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from pyvfio.errors import Misuse, NotAvailable
from pyvfio.iommu import IovaAllocator

PAGE = 1 << 12
HALF = PAGE // 2
TOP = 1 << 64
FEW = [(0, 0xFFFF), (0x2_0000, 0x2_8FFF), (0x1_0000_0000, 0x1_0000_3FFF)]


@pytest.mark.parametrize("granule", [0, 3, PAGE + 1, -PAGE])
def test_a_granule_that_is_no_power_of_two(granule: int) -> None:
    with pytest.raises(Misuse, match="power of two"):
        IovaAllocator(FEW, granule)


@pytest.mark.parametrize(("length", "alignment"), [(0, None), (-1, None), (PAGE, 3 * PAGE)])
def test_a_request_that_makes_no_sense(length: int, alignment: int | None) -> None:
    with pytest.raises(Misuse):
        IovaAllocator(FEW, PAGE).allocate(length, alignment=alignment)


def test_what_does_not_fit_names_the_largest_piece() -> None:
    with pytest.raises(NotAvailable) as caught:
        IovaAllocator(FEW, PAGE).allocate(0x1_0001)
    assert "0x11000 bytes" in caught.value.cause
    assert "the largest has 0x10000" in caught.value.cause
    assert "0x20000-0x28fff" in caught.value.cause


def test_a_limit_is_named() -> None:
    with pytest.raises(NotAvailable, match="below 0x1000"):
        IovaAllocator(FEW, PAGE).allocate(PAGE, below=PAGE)


@pytest.mark.parametrize(
    ("iova", "length", "words"),
    [
        (1, PAGE, "no multiple"),
        (0, 0, "empty"),
        (0xF000, 2 * PAGE, "not inside"),
        (0x5000, PAGE, "0x5000 is in use"),
        (0x4000, 2 * PAGE, "0x5000 is in use"),
        (TOP - PAGE, PAGE, "not inside"),
    ],
)
def test_a_reservation_that_cannot_be(iova: int, length: int, words: str) -> None:
    allocator = IovaAllocator(FEW, PAGE)
    allocator.reserve(0x5000, PAGE)
    before = allocator.free_bytes
    with pytest.raises(Misuse, match=words):
        allocator.reserve(iova, length)
    assert allocator.free_bytes == before


def test_freeing_what_was_not_given_out() -> None:
    allocator = IovaAllocator(FEW, PAGE)
    iova = allocator.allocate(2 * PAGE)
    for wrong in (0, iova + PAGE):
        with pytest.raises(Misuse, match="not given out"):
            allocator.free(wrong)
    allocator.free(iova)
    with pytest.raises(Misuse, match="not given out"):
        allocator.free(iova)


def test_no_range_at_all() -> None:
    with pytest.raises(NotAvailable, match="no range at all"):
        IovaAllocator([], PAGE).allocate(1)


def test_address_0_is_only_had_by_name() -> None:
    allocator = IovaAllocator([(0, PAGE - 1)], PAGE)
    with pytest.raises(NotAvailable):
        allocator.allocate(PAGE)
    allocator.reserve(0, PAGE)
    assert list(allocator.used()) == [(0, PAGE)]


def test_ends_of_a_range_that_are_no_multiples_are_left_alone() -> None:
    allocator = IovaAllocator([(PAGE + 1, 4 * PAGE - 2)], PAGE)
    assert allocator.free_bytes == PAGE
    assert allocator.allocate(1) == 2 * PAGE


def test_the_last_page_of_all() -> None:
    allocator = IovaAllocator([(TOP - PAGE, TOP - 1)], PAGE)
    assert allocator.allocate(PAGE) == TOP - PAGE


def test_ranges_that_overlap_are_one() -> None:
    allocator = IovaAllocator([(PAGE, 4 * PAGE - 1), (2 * PAGE, 6 * PAGE - 1), (3 * PAGE, 4 * PAGE - 1)], PAGE)
    assert allocator.free_bytes == 5 * PAGE
    assert allocator.allocate(5 * PAGE) == PAGE
    allocator.free(PAGE)
    assert sorted(allocator.allocate(PAGE) for _ in range(5)) == [n * PAGE for n in range(1, 6)]


@given(order=st.permutations(range(8)))
def test_what_was_freed_in_any_order_is_one_piece_again(order: list[int]) -> None:
    allocator = IovaAllocator([(PAGE, 9 * PAGE - 1)], PAGE)
    held = [allocator.allocate(PAGE) for _ in range(8)]
    for number in order:
        allocator.free(held[number])
    assert allocator.allocate(8 * PAGE) == PAGE


class Allocating(RuleBasedStateMachine):
    """Any order of requests, checked against the plain list of what was given out."""

    given_out: Bundle[int] = Bundle("given_out")

    @initialize(
        ranges=st.lists(
            st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda pair: (pair[0] * HALF, pair[1] * HALF)),
            min_size=1,
            max_size=4,
        )
    )
    def start(self, ranges: list[tuple[int, int]]) -> None:
        self.ranges = [(start, start + size - 1) for start, size in ranges]
        self.allocator = IovaAllocator(self.ranges, PAGE)
        self.all = self.allocator.free_bytes
        self.pages = {page for page in range(0, 1 << 18, PAGE) if all(self.inside(page + half) for half in (0, HALF))}
        self.held: dict[int, int] = {}

    def free_pages(self) -> set[int]:
        return self.pages - {at for iova, size in self.held.items() for at in range(iova, iova + size, PAGE)}

    @rule(
        target=given_out,
        length=st.integers(1, 5 * PAGE),
        alignment=st.sampled_from([None, 1, PAGE, 4 * PAGE]),
        below=st.sampled_from([None, 0x8000, 0x10000]),
    )
    def allocate(self, length: int, alignment: int | None, below: int | None) -> object:
        size = -(-length // PAGE) * PAGE
        step = max(alignment or PAGE, PAGE)
        free = self.free_pages()
        places = [
            at
            for at in free - {0}
            if at % step == 0
            and all(page in free for page in range(at, at + size, PAGE))
            and (below is None or at + size <= below)
        ]
        try:
            iova = self.allocator.allocate(length, alignment=alignment, below=below)
        except NotAvailable:
            assert not places
            return multiple()
        assert iova in places
        self.held[iova] = size
        return iova

    def inside(self, half: int) -> bool:
        """Whether the half page is inside one of the ranges, which begin and end at half pages."""
        return any(start <= half <= last for start, last in self.ranges)

    @rule(target=given_out, page=st.integers(0, 63), count=st.integers(1, 4))
    def reserve(self, page: int, count: int) -> object:
        iova, size = page * PAGE, count * PAGE
        possible = set(range(iova, iova + size, PAGE)) <= self.free_pages()
        try:
            self.allocator.reserve(iova, size)
        except Misuse:
            assert not possible
            return multiple()
        assert possible
        self.held[iova] = size
        return iova

    @rule(iova=consumes(given_out))
    def free(self, iova: int) -> None:
        self.allocator.free(iova)
        del self.held[iova]

    @invariant()
    def nothing_is_lost_or_given_twice(self) -> None:
        if not hasattr(self, "allocator"):
            return
        assert sorted(self.held.items()) == list(self.allocator.used())
        taken = sum(self.held.values())
        assert self.allocator.free_bytes == self.all - taken == len(self.free_pages()) * PAGE


TestAllocating = Allocating.TestCase
TestAllocating.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
