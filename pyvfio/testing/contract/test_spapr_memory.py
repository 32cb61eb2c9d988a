"""Memory that is registered for DMA on POWER: which can be, how often, what is locked, and when it is let go."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from errno import EBUSY, EFAULT, EINVAL, ENOENT, EPERM

import pytest

from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.spapr import BOTH, PageMemory, TceContainer, locked, open_tce, require_tce

V1, V2 = BOTH
PAGES = 16
LAST_ADDRESS = (1 << 64) - 1
_KEPT: list[AnonymousMemory] = []
"""Memory that the kernel holds until this process ends: nothing else may come to lie there."""


@pytest.fixture
def container(backend: Backend, files: OpenFiles, function: BoundFunction) -> TceContainer:
    require_tce(backend)
    return open_tce(backend, files, function, V2)


@pytest.fixture
def memory(page: int) -> Iterator[AnonymousMemory]:
    with PageMemory(PAGES * page, page) as found:
        yield found


def test_register_and_unregister(backend: Backend, container: TceContainer, memory: AnonymousMemory) -> None:
    before = locked(backend)
    for _ in range(3):
        assert container.register(memory.address, memory.length) == 0
        assert locked(backend) - before == memory.length
        assert container.unregister(memory.address, memory.length) == 0
        assert locked(backend) == before


def test_the_same_memory_twice(container: TceContainer, memory: AnonymousMemory) -> None:
    container.register(memory.address, memory.length)
    with fails(EBUSY):
        container.register(memory.address, memory.length)
    assert container.unregister(memory.address, memory.length) == 0
    with fails(ENOENT):
        container.unregister(memory.address, memory.length)


@pytest.mark.parametrize(("first", "count"), [(0, 1), (4, 4), (15, 1), (8, 8), (0, 15)])
def test_a_part_of_registered_memory(
    container: TceContainer, memory: AnonymousMemory, page: int, first: int, count: int
) -> None:
    container.register(memory.address, memory.length)
    with fails(EINVAL):
        container.register(memory.address + first * page, count * page)
    with fails(ENOENT):
        container.unregister(memory.address + first * page, count * page)
    container.unregister(memory.address, memory.length)


def test_more_than_what_is_registered(container: TceContainer, memory: AnonymousMemory, page: int) -> None:
    container.register(memory.address + page, page)
    for first, count in ((0, 2), (1, 2), (0, PAGES)):
        with fails(EINVAL):
            container.register(memory.address + first * page, count * page)
    container.unregister(memory.address + page, page)


def test_neighbours(container: TceContainer, memory: AnonymousMemory, page: int) -> None:
    """Regions that touch are two, and a mapping may go from the one into the other."""
    container.register(memory.address, 4 * page)
    container.register(memory.address + 4 * page, 4 * page)
    assert container.map(0, memory.address, 8 * page) == 0
    assert container.unmap(0, 8 * page) == (0, 8 * page)
    assert container.unregister(memory.address + 4 * page, 4 * page) == 0
    with fails(EINVAL):
        container.map(0, memory.address, 8 * page)
    assert container.unregister(memory.address, 4 * page) == 0


@pytest.mark.parametrize(("vaddr", "size"), [(1, 1), (0, 0.5), (8, 1.5)])
def test_no_whole_pages(container: TceContainer, memory: AnonymousMemory, page: int, vaddr: int, size: float) -> None:
    with fails(EINVAL):
        container.register(memory.address + vaddr, int(size * page))


def test_past_the_last_address(container: TceContainer, page: int) -> None:
    with fails(EINVAL):
        container.register(LAST_ADDRESS + 1 - page, 2 * page)


@pytest.mark.parametrize("flags", [1, 2, 1 << 31])
def test_flags(container: TceContainer, memory: AnonymousMemory, flags: int) -> None:
    with fails(EINVAL):
        container.register(memory.address, memory.length, flags)
    container.register(memory.address, memory.length)
    with fails(EINVAL):
        container.unregister(memory.address, memory.length, flags)
    container.unregister(memory.address, memory.length)


@pytest.mark.parametrize("argsz", [0, 16, 23])
def test_too_small_a_structure(container: TceContainer, memory: AnonymousMemory, argsz: int) -> None:
    with fails(EINVAL):
        container.register(memory.address, memory.length, argsz=argsz)
    container.register(memory.address, memory.length, argsz=1 << 20)
    with fails(EINVAL):
        container.unregister(memory.address, memory.length, argsz=argsz)
    container.unregister(memory.address, memory.length, argsz=1 << 20)


def test_no_memory(backend: Backend, container: TceContainer, wild: int, page: int) -> None:
    before = locked(backend)
    with fails(EFAULT):
        container.register(wild, page)
    assert locked(backend) == before


def test_memory_that_cannot_be_written(container: TceContainer, page: int) -> None:
    code = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value or 0
    with fails(EFAULT):
        container.register(code - code % page, page)


def test_unregister_of_nothing(container: TceContainer, memory: AnonymousMemory, page: int) -> None:
    """The container is no process's before memory was registered."""
    with fails(EPERM):
        container.unregister(memory.address, page)
    container.register(memory.address, page)
    container.unregister(memory.address, page)
    with fails(ENOENT):
        container.unregister(memory.address, page)


def test_once_registered_the_container_works_on(container: TceContainer, memory: AnonymousMemory, page: int) -> None:
    with fails(EPERM):
        container.map(0, memory.address, page)
    container.register(memory.address, page)
    container.unregister(memory.address, page)
    with fails(EINVAL):
        container.map(0, memory.address, page)
    assert container.unmap(0, page) == (0, page)


def test_closing_lets_it_go(backend: Backend, function: BoundFunction, memory: AnonymousMemory) -> None:
    require_tce(backend)
    before = locked(backend)
    with OpenFiles(backend) as files:
        open_tce(backend, files, function, V2).register(memory.address, memory.length)
        assert locked(backend) > before
    assert locked(backend) == before


def test_two_containers_register_the_same(
    backend: Backend, files: OpenFiles, container: TceContainer, function2: BoundFunction, memory: AnonymousMemory
) -> None:
    """A process has each region once, whichever of its containers use it."""
    other = open_tce(backend, files, function2, V2)
    before = locked(backend)
    container.register(memory.address, memory.length)
    other.register(memory.address, memory.length)
    assert locked(backend) - before == memory.length
    assert container.unregister(memory.address, memory.length) == 0
    assert locked(backend) - before == memory.length
    with fails(ENOENT):
        container.unregister(memory.address, memory.length)
    assert other.unregister(memory.address, memory.length) == 0
    assert locked(backend) == before


def test_a_container_maps_what_another_has_registered(
    backend: Backend, files: OpenFiles, container: TceContainer, function2: BoundFunction, page: int
) -> None:
    other = open_tce(backend, files, function2, V2)
    with PageMemory(2 * page, page) as first, PageMemory(page, page) as second:
        container.register(first.address, first.length)
        other.register(second.address, page)
        assert other.map(0, first.address, 2 * page) == 0
        other.unmap(0, 2 * page)
        other.unregister(second.address, page)
        container.unregister(first.address, first.length)


def test_unregistered_while_it_is_mapped(backend: Backend, container: TceContainer, page: int) -> None:
    """Linux 6.12 answers 0, and has the region and its locked memory until the process ends."""
    kept = PageMemory(2 * page, page)
    _KEPT.append(kept)
    container.register(kept.address, kept.length)
    container.map(0, kept.address, page)
    before = locked(backend)
    assert container.unregister(kept.address, kept.length) == 0
    assert locked(backend) == before
    with fails(ENOENT):
        container.unregister(kept.address, kept.length)
    assert container.unmap(0, page) == (0, page)
    assert locked(backend) == before
    assert container.map(0, kept.address, page) == 0  # it is still to be found
    assert container.unmap(0, page) == (0, page)
