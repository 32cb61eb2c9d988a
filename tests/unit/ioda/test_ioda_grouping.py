"""Buses become endpoints as a kernel on POWER9 made them, and as its source says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.errors import Misuse
from pyvfio.ioda.grouping import BusResources, group
from pyvfio.ioda.segments import Segments

M32 = Segments(0x600C000000000, 0x80000000, 0x80000000, 512)
M64 = Segments(0x6000000000000, 0x6000000000000, 0x4000000000, 512)
M64_SIZE = M64.segment_size


@pytest.mark.parametrize(
    ("count", "wide", "root", "below"),
    [
        (512, ((0x6000000000000, 0x6000000003FFF),), 0x1FE, 0x000),  # 0000: virtio-net, with a 64-bit base address
        (512, (), 0x1FE, 0x1FD),  # 0003: e1000e
        (256, (), 0xFE, 0xFD),  # 0002: nvme, 0004: edu
    ],
)
def test_the_numbers_that_a_kernel_gave(count: int, wide: tuple[tuple[int, int], ...], root: int, below: int) -> None:
    """Linux 6.12 on powernv9 under QEMU: "Secondary bus ... associated with PE#" (its log)."""
    buses = [BusResources(0, 1), BusResources(1, 1, 0, memory=((0x80000000, 0x80003FFF),), wide=wide)]
    made = group(buses, count, Segments(0, 0x80000000, 0x80000000, count), M64)
    assert [one.number for one in made] == [root, below]
    assert made[1].memory == (0,)
    assert made[1].parents == (root,)


def test_several_wide_segments_are_one_endpoint() -> None:
    start = M64.bus_base + 3 * M64_SIZE
    buses = [BusResources(0, 1), BusResources(1, 1, 0, wide=((start, start + 2 * M64_SIZE),))]
    made = group(buses, 512, M32, M64)[1]
    assert (made.number, made.slaves, made.wide) == (3, (4, 5), (3, 4, 5))


def test_what_is_behind_a_bridge_to_pci_is_one_endpoint() -> None:
    buses = [BusResources(0, 3), BusResources(2, 3, 0, whole=True), BusResources(3, 3, 2)]
    made = group(buses, 512, M32)
    assert [list(one.buses) for one in made] == [[0], [2, 3]]
    assert 0x3FF in made[1].match
    assert 0x100 not in made[1].match


def test_a_wide_segment_of_two_buses() -> None:
    here = ((M64.bus_base, M64.bus_base + 0xFFF),)
    buses = [BusResources(0, 2), BusResources(1, 1, 0, wide=here), BusResources(2, 2, 0, wide=here)]
    with pytest.raises(Misuse, match="another's"):
        group(buses, 512, M32, M64)


def test_more_buses_than_endpoints() -> None:
    buses = [BusResources(0, 9), *(BusResources(number, number, 0) for number in range(1, 9))]
    with pytest.raises(Misuse, match="no endpoint left"):
        group(buses, 8, Segments(0, 0, 0x1000, 8))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_endpoints_are_apart(sizes: list[int]) -> None:
    """Whatever the buses have in 64-bit segments of their own: no number, and no routing id, twice."""
    place, buses = 0, [BusResources(0, len(sizes))]
    for number, size in enumerate(sizes, 1):
        first = M64.bus_base + place * M64_SIZE
        buses.append(BusResources(number, number, 0, wide=((first, first + size * M64_SIZE - 1),) if size else ()))
        place += size
    made = group(buses, 512, M32, M64)
    numbers = [one for endpoint in made for one in (endpoint.number, *endpoint.slaves)]
    assert len(numbers) == len(set(numbers))
    assert 511 not in numbers
    assert numbers.count(510) == 1
    rids = [rid for endpoint in made for rid in endpoint.match]
    assert len(rids) == len(set(rids)) == 256 * len(buses)
