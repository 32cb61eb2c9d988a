"""Storage of the machine's kernel: blocks lie as low as there is room for them, and never over one another."""

from __future__ import annotations

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
