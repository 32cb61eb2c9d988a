"""The DMA windows of version 2: the default one, a second one, their pages and levels, and what removes them."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EFAULT, EINVAL, ENOMEM, ENOSPC, ENXIO

import pytest

from pyvfio.abi import vfio
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER
from pyvfio.testing.spapr import (
    SECOND_WINDOW,
    TCE_PAGE,
    PageMemory,
    TceContainer,
    add_group,
    locked,
    open_tce,
    require_tce,
)

GIB = 1 << 30
SHIFT_4K, SHIFT_64K, SHIFT_2M, SHIFT_16M, SHIFT_1G = 12, 16, 21, 24, 30
LAST = -1
"""The last address of the default window."""
ENTRY, MOST_BITS = 8, 55


@pytest.fixture
def container(backend: Backend, files: OpenFiles, function: BoundFunction, page: int) -> TceContainer:
    require_tce(backend)
    return open_tce(backend, files, function, vfio.VFIO_SPAPR_TCE_v2_IOMMU)


@pytest.fixture
def memory(container: TceContainer, page: int) -> Iterator[AnonymousMemory]:
    """A page that may be mapped."""
    with PageMemory(page, page) as found:
        container.register(found.address, page)
        yield found
        container.unregister(found.address, page)


def table_size(window: int, guest: bool) -> int:
    """The bytes of a table of one level that count: 8 for each page of 4 KiB, and on bare metal as many in which Linux
    notes whose it is.
    """
    return (1 if guest else 2) * 8 * (window >> SHIFT_4K)


def mapped(container: TceContainer, memory: AnonymousMemory, iova: int) -> None:
    """Map and unmap a page there."""
    assert container.map(iova, memory.address, memory.length) == 0
    assert container.unmap(iova, memory.length) == (0, memory.length)


def test_the_second_window(container: TceContainer, memory: AnonymousMemory) -> None:
    with fails(ENXIO):
        container.map(SECOND_WINDOW, memory.address, memory.length)
    assert container.create(SHIFT_4K, GIB) == SECOND_WINDOW
    for iova in (0, SECOND_WINDOW, SECOND_WINDOW + GIB - memory.length):
        mapped(container, memory, iova)
    with fails(ENXIO):
        container.map(SECOND_WINDOW + GIB, memory.address, memory.length)


def test_a_third(container: TceContainer) -> None:
    container.create(SHIFT_4K, GIB)
    with fails(ENOSPC):
        container.create(SHIFT_4K, GIB)
    with fails(ENOSPC):  # which is said before anything else is looked at
        container.create(13, 3, levels=99)


def test_one_goes_and_another_comes(container: TceContainer, memory: AnonymousMemory, guest_on_power: bool) -> None:
    for size in (GIB, 2 * GIB, 4 * GIB):
        assert container.create(SHIFT_4K, size, levels=1 if guest_on_power else 2) == SECOND_WINDOW
        mapped(container, memory, SECOND_WINDOW + size - memory.length)
        assert container.remove(SECOND_WINDOW) == 0
        with fails(ENXIO):
            container.map(SECOND_WINDOW, memory.address, memory.length)


@pytest.mark.parametrize("shift", [0, 11, 13, 14, 20, 22, 23, 34])
def test_pages_that_there_are_not(container: TceContainer, shift: int) -> None:
    assert not container.info().ddw.pgsizes >> shift & 1
    with fails(EINVAL):
        container.create(shift, GIB)


@pytest.mark.parametrize("shift", [SHIFT_4K, SHIFT_64K, SHIFT_2M, SHIFT_16M, SHIFT_1G])
def test_pages_of_each_size(container: TceContainer, shift: int) -> None:
    if not container.info().ddw.pgsizes >> shift & 1:
        with fails(EINVAL):
            container.create(shift, 4 * GIB)
        return
    assert container.create(shift, 4 * GIB) == SECOND_WINDOW


@pytest.mark.parametrize("size", [0, 3 * GIB, GIB - 1, GIB + 0x1000, 0x3000])
def test_a_size_that_is_no_power_of_2(container: TceContainer, size: int) -> None:
    with fails(EINVAL):
        container.create(SHIFT_4K, size)


@pytest.mark.parametrize(("size", "levels"), [(0x800, 1), (0x200, 1), (0x800, 2), (0x400, 3)])
def test_a_window_smaller_than_a_page(
    container: TceContainer, memory: AnonymousMemory, page: int, size: int, levels: int
) -> None:
    """Linux 6.12 computes with bits below zero, and makes one with a page of entries of it."""
    if container.info().ddw.levels < levels + 1:
        pytest.skip("windows are the hypervisor's")
    assert container.create(SHIFT_4K, size, levels=levels) == SECOND_WINDOW
    reached = page // 8 << SHIFT_4K
    mapped(container, memory, SECOND_WINDOW + reached - memory.length)
    with fails(ENXIO):
        container.map(SECOND_WINDOW + reached, memory.address, memory.length)


@pytest.mark.parametrize("levels", [0, 6, 9, 1 << 31])
def test_levels_that_there_are_not(container: TceContainer, levels: int, guest_on_power: bool) -> None:
    if guest_on_power and not levels:  # who has one alone looks for more only
        assert container.create(SHIFT_4K, GIB, levels=levels) == SECOND_WINDOW
        return
    with fails(EINVAL):
        container.create(SHIFT_4K, GIB, levels=levels)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_each_number_of_levels(
    container: TceContainer, memory: AnonymousMemory, page: int, levels: int, guest_on_power: bool
) -> None:
    """A level has a page of the host at least; together they may not reach beyond what the host bridge takes."""
    size = 64 * GIB if levels > 1 else GIB
    too_many = levels * ((page // ENTRY).bit_length() - 1) + SHIFT_4K >= MOST_BITS
    if too_many or levels > container.info().ddw.levels:
        assert too_many or guest_on_power
        with fails(EINVAL):
            container.create(SHIFT_4K, size, levels=levels)
        return
    assert container.create(SHIFT_4K, size, levels=levels) == SECOND_WINDOW
    for iova in (SECOND_WINDOW, SECOND_WINDOW + size // 2, SECOND_WINDOW + size - memory.length):
        mapped(container, memory, iova)


def test_more_levels_than_addresses(container: TceContainer) -> None:
    """A level has a page at least, and five of them reach beyond what the host bridge takes."""
    with fails(EINVAL):
        container.create(SHIFT_4K, 64 * GIB, levels=5)


def test_a_level_that_is_too_large(
    backend: Backend, container: TceContainer, memory: AnonymousMemory, guest_on_power: bool
) -> None:
    """One level of 64 TiB would be a table of 128 GiB, which no allocation gives.

    Linux 6.12 has counted it as locked by then, and does not take that back.
    """
    if guest_on_power:
        pytest.skip("the hypervisor has the tables of this guest")
    mapped(container, memory, 0)
    before = locked(backend)
    with fails(ENOMEM):
        container.create(SHIFT_4K, 1 << 46)
    assert locked(backend) - before == table_size(1 << 46, guest_on_power)


def test_tables_count_as_locked_memory(
    backend: Backend, container: TceContainer, memory: AnonymousMemory, guest_on_power: bool
) -> None:
    mapped(container, memory, 0)
    before = locked(backend)
    container.create(SHIFT_4K, GIB)
    assert locked(backend) - before == table_size(GIB, guest_on_power)
    container.remove(SECOND_WINDOW)
    assert locked(backend) == before


def test_the_default_window_comes_with_the_first_use(
    backend: Backend, container: TceContainer, page: int, guest_on_power: bool
) -> None:
    with PageMemory(page, page) as memory:
        container.register(memory.address, page)
        before = locked(backend)
        table = table_size(int(container.info().dma32_window_size), guest_on_power)
        container.map(0, memory.address, page)
        assert locked(backend) - before == table
        container.unmap(0, page)
        assert locked(backend) - before == table
        container.unregister(memory.address, page)


@pytest.mark.parametrize("flags", [1, 1 << 31])
def test_flags(container: TceContainer, flags: int) -> None:
    with fails(EINVAL):
        container.create(SHIFT_4K, GIB, flags=flags)
    with fails(EINVAL):
        container.remove(0, flags)


@pytest.mark.parametrize("argsz", [0, 32, 39])
def test_too_small_a_structure(container: TceContainer, argsz: int) -> None:
    with fails(EINVAL):
        container.create(SHIFT_4K, GIB, argsz=argsz)
    with fails(EINVAL):
        container.remove(0, argsz=min(argsz, 15))


def test_a_larger_structure(container: TceContainer) -> None:
    assert container.create(SHIFT_4K, GIB, argsz=1 << 20) == SECOND_WINDOW
    assert container.remove(SECOND_WINDOW, argsz=1 << 20) == 0


# the default window


def test_the_default_window_is_removed_before_it_was_used(container: TceContainer, memory: AnonymousMemory) -> None:
    assert container.remove(0) == 0
    with fails(ENXIO):
        container.map(0, memory.address, memory.length)
    with fails(EINVAL):
        container.remove(0)
    assert container.create(SHIFT_4K, GIB) == 0  # the first place that is free
    mapped(container, memory, GIB - memory.length)
    with fails(ENXIO):
        container.map(GIB, memory.address, memory.length)


def test_the_default_window_is_removed_and_made_again(container: TceContainer, memory: AnonymousMemory) -> None:
    size = int(container.info().dma32_window_size)
    mapped(container, memory, 0)
    assert container.remove(0) == 0
    with fails(ENXIO):
        container.unmap(0, memory.length)
    with fails(EINVAL):
        container.remove(0)
    assert container.create(SHIFT_4K, size) == 0
    mapped(container, memory, 0)


@pytest.mark.parametrize("place", [0x12345000, 1, LAST])
def test_any_address_in_it_removes_a_window(container: TceContainer, memory: AnonymousMemory, place: int) -> None:
    mapped(container, memory, 0)
    assert container.remove(place if place != LAST else int(container.info().dma32_window_size) - 1) == 0
    with fails(ENXIO):
        container.map(0, memory.address, memory.length)


@pytest.mark.parametrize("place", [1 << 32, SECOND_WINDOW, (1 << 64) - 1])
def test_remove_where_no_window_is(container: TceContainer, memory: AnonymousMemory, place: int) -> None:
    mapped(container, memory, 0)
    with fails(EINVAL):
        container.remove(place)
    mapped(container, memory, 0)


def test_mappings_go_with_their_window(container: TceContainer, memory: AnonymousMemory) -> None:
    container.create(SHIFT_4K, GIB)
    container.map(0, memory.address, memory.length)
    container.map(SECOND_WINDOW, memory.address, memory.length)
    assert container.remove(SECOND_WINDOW) == 0
    assert container.remove(0) == 0
    assert container.create(SHIFT_4K, GIB) == 0
    mapped(container, memory, 0)


def test_windows_without_a_group(backend: Backend, files: OpenFiles, function: BoundFunction) -> None:
    require_tce(backend)
    empty = TceContainer(backend, files.open(CONTAINER))
    with fails(EINVAL):
        empty.create(SHIFT_4K, GIB)
    with fails(EINVAL):
        empty.remove(0)


def test_windows_are_those_of_all_groups(
    backend: Backend,
    files: OpenFiles,
    container: TceContainer,
    memory: AnonymousMemory,
    function2: BoundFunction,
    guest_on_power: bool,
) -> None:
    if guest_on_power:
        pytest.skip("groups of a guest on POWER share no windows")
    container.create(SHIFT_4K, GIB)
    other = add_group(backend, files, container.fd, function2)
    mapped(container, memory, SECOND_WINDOW)
    with fails(ENOSPC):
        container.create(SHIFT_4K, GIB)
    backend.ioctl(other, vfio.VFIO_GROUP_UNSET_CONTAINER)
    mapped(container, memory, SECOND_WINDOW)


# pages larger than those of the memory


def test_a_page_is_not_larger_than_the_memory_s(container: TceContainer, page: int) -> None:
    if not container.info().ddw.pgsizes & 1 << SHIFT_64K or page >= 1 << SHIFT_64K:
        pytest.skip("no windows of pages of 64 KiB that are larger than the host's")
    large = 1 << SHIFT_64K
    container.create(SHIFT_64K, GIB)
    with AnonymousMemory(4 * large) as memory:
        start = memory.address + -memory.address % large
        container.register(start, 2 * large)
        with fails(EINVAL, EFAULT):
            container.map(SECOND_WINDOW, start, large)
        with fails(EINVAL):  # the memory is no multiple of the window's pages
            container.map(SECOND_WINDOW, start, page)
        assert container.map(SECOND_WINDOW + page, start, large) == 1  # nor is the address on the bus
        container.unregister(start, 2 * large)


def test_unmap_in_pages_of_the_window(container: TceContainer, memory: AnonymousMemory) -> None:
    if not container.info().ddw.pgsizes & 1 << SHIFT_64K:
        pytest.skip("no windows of pages of 64 KiB")
    large = 1 << SHIFT_64K
    container.create(SHIFT_64K, GIB)
    with fails(EINVAL):
        container.unmap(SECOND_WINDOW, TCE_PAGE)
    assert container.unmap(SECOND_WINDOW, large) == (0, large)
