"""Storage of the machine's kernel: blocks lie as low as there is room for them, and never over one another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio_backends.software.memory import HostMemory

PAGE = 4 * 1024
SIZES = st.sampled_from([0, 1, 8, PAGE, PAGE + 1, 9000])


@given(st.lists(st.one_of(st.tuples(st.just("allocate"), SIZES), st.tuples(st.just("free"), st.integers(0, 40)))))
def test_a_block_is_where_it_fits_first(steps: list[tuple[str, int]]) -> None:
    memory = HostMemory(PAGE)
    lowest = memory.allocate(1)
    memory.free(lowest)
    held: dict[int, int] = {}
    for what, number in steps:
        if what == "free":
            if held:
                address = sorted(held)[number % len(held)]
                del held[address]
                memory.free(address)
            continue
        room = -(-max(number, 1) // PAGE) * PAGE
        expected = lowest
        for start in sorted(held):
            if start - expected >= room:
                break
            expected = start + held[start]
        assert memory.allocate(number) == expected
        held[expected] = room


def test_a_block_at_a_place_of_its_own() -> None:
    memory = HostMemory(PAGE)
    first = memory.allocate(PAGE)
    memory.reserve(first + 2 * PAGE, 2 * PAGE)
    memory.reserve(first + 4 * PAGE, PAGE)
    memory.write(first + 4 * PAGE - 1, b"x")
    assert memory.read(first + 4 * PAGE - 2, 2) == b"\0x"
    assert memory.allocate(2 * PAGE) == first + 5 * PAGE  # between the two only one page is free
    assert memory.allocate(PAGE) == first + PAGE
    for at, size in ((first, PAGE), (first - 1, 2), (first + 3 * PAGE, 1), (first + PAGE, PAGE), (0, 1 << 40)):
        with pytest.raises(MemoryError):
            memory.reserve(at, size)
