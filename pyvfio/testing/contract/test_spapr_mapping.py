"""Mapping in the windows of POWER: the rules of both versions, and what Linux makes of a range."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from errno import EFAULT, EINVAL, ENXIO, EPERM

import pytest

from pyvfio.abi import vfio_type1
from pyvfio.backend import PROT_READ, PROT_WRITE, Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.spapr import BOTH, SECOND_WINDOW, TCE_PAGE, PageMemory, TceContainer, locked, open_tce, require_tce

V1, V2 = BOTH
READ, WRITE = vfio_type1.VFIO_DMA_MAP_FLAG_READ, vfio_type1.VFIO_DMA_MAP_FLAG_WRITE
PAGES = 32
EFAULT_OR_EPERM = {V1: EFAULT, V2: EINVAL}
"""A page that is not there, and one that was not registered."""


@dataclass
class Ready:
    """A container that works, with memory that may be mapped."""

    kind: int
    container: TceContainer
    memory: AnonymousMemory
    page: int

    @property
    def address(self) -> int:
        return self.memory.address

    @property
    def end(self) -> int:
        """The first address behind the default window."""
        return int(self.container.info().dma32_window_size)

    def map(self, iova: int, pages: int = 1, at: int = 0, flags: int = READ | WRITE) -> int:
        return self.container.map(iova, self.address + at * self.page, pages * self.page, flags)

    def unmap(self, iova: int, pages: int = 1) -> bool:
        """Whether the answer has the whole length."""
        return self.container.unmap(iova, pages * self.page) == (0, pages * self.page)


@contextmanager
def protected(address: int, size: int) -> Iterator[None]:
    """Memory that the process may not touch meanwhile."""
    mprotect = ctypes.CDLL(None, use_errno=True).mprotect
    mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    assert mprotect(address, size, 0) == 0
    yield
    assert mprotect(address, size, PROT_READ | PROT_WRITE) == 0


@pytest.fixture(params=BOTH, ids=["v1", "v2"])
def ready(
    request: pytest.FixtureRequest, backend: Backend, files: OpenFiles, function: BoundFunction, page: int
) -> Iterator[Ready]:
    require_tce(backend)
    kind: int = request.param
    container = open_tce(backend, files, function, kind)
    with PageMemory(PAGES * page, page) as memory:
        if kind == V1:
            container.enable()
        else:
            container.register(memory.address, memory.length)
        found = Ready(kind, container, memory, page)
        yield found
        found.unmap(0, 4 * PAGES)
        if kind == V2:
            container.unregister(memory.address, memory.length)


@pytest.mark.parametrize("flags", [READ, WRITE, READ | WRITE])
def test_permissions(ready: Ready, flags: int) -> None:
    assert ready.map(0, flags=flags) == 0
    assert ready.unmap(0)


@pytest.mark.parametrize("flags", [0, 1 << 2, READ | WRITE | 1 << 3, 1 << 31])
def test_other_flags(ready: Ready, flags: int) -> None:
    with fails(EINVAL):
        ready.map(0, flags=flags)


@pytest.mark.parametrize("flags", [1, 1 << 1, 1 << 2, 1 << 31])
def test_unmap_has_no_flags(ready: Ready, flags: int) -> None:
    ready.map(0)
    with fails(EINVAL):
        ready.container.unmap(0, ready.page, flags)
    assert ready.unmap(0)


@pytest.mark.parametrize("argsz", [0, 24, 31])
def test_too_small_a_structure(ready: Ready, argsz: int) -> None:
    with fails(EINVAL):
        ready.container.map(0, ready.address, ready.page, argsz=argsz)
    if argsz < ctypes.sizeof(vfio_type1.IommuType1DmaUnmap):
        with fails(EINVAL):
            ready.container.unmap(0, ready.page, argsz=argsz)


def test_a_larger_structure(ready: Ready) -> None:
    assert ready.container.map(0, ready.address, ready.page, argsz=1 << 20) == 0
    assert ready.container.unmap(0, ready.page, argsz=1 << 20) == (0, ready.page)


@pytest.mark.parametrize(("vaddr", "size"), [(8, 1), (0, 0.5), (0, 1.5), (1, 1)])
def test_an_address_or_a_size_that_is_no_page(ready: Ready, vaddr: int, size: float) -> None:
    with fails(EINVAL):
        ready.container.map(0, ready.address + vaddr, int(size * TCE_PAGE))


@pytest.mark.parametrize("size", [1, 0.5, 1.5])
def test_unmap_of_no_whole_page(ready: Ready, size: float) -> None:
    ready.map(0)
    if size % 1:
        with fails(EINVAL):
            ready.container.unmap(0, int(size * TCE_PAGE))
    assert ready.unmap(0)


@pytest.mark.parametrize("offset", [1, 8, 0x800])
def test_an_iova_that_is_no_page_answers_1(ready: Ready, offset: int) -> None:
    """The checks of Linux 6.12 answer the truth of an error, not the error; nothing is mapped."""
    assert ready.map(offset) == 1
    assert ready.container.unmap(offset, ready.page)[0] == 1


def test_size_0(ready: Ready) -> None:
    assert ready.map(0, 0) == 0
    assert ready.container.unmap(0, 0) == (0, 0)


@pytest.mark.parametrize("place", ["end", "behind", "second"])
def test_outside_the_window(ready: Ready, place: str) -> None:
    iova = {"end": ready.end, "behind": ready.end + 0x10000 * ready.page, "second": SECOND_WINDOW}[place]
    with fails(ENXIO):
        ready.map(iova)
    with fails(ENXIO):
        ready.container.unmap(iova, ready.page)


def test_the_last_page(ready: Ready) -> None:
    assert ready.map(ready.end - ready.page) == 0
    assert ready.unmap(ready.end - ready.page)


def test_many_pages_and_some_of_them(ready: Ready) -> None:
    assert ready.map(0, 16) == 0
    assert ready.unmap(4 * ready.page, 2)
    assert ready.unmap(0, 16)


def test_what_is_not_mapped_is_unmapped(ready: Ready) -> None:
    assert ready.unmap(8 * ready.page)
    ready.map(0)
    assert ready.unmap(0)
    assert ready.unmap(0)
    assert ready.unmap(0, 64)


@pytest.mark.parametrize("pages", [1, 3])
def test_a_mapping_replaces_what_is_there(ready: Ready, pages: int) -> None:
    assert ready.map(0, 4) == 0
    assert ready.map(ready.page, pages, at=8) == 0
    assert ready.map(ready.page, pages, at=8, flags=READ) == 0
    assert ready.unmap(0, 4)


def test_the_same_memory_many_times(ready: Ready) -> None:
    for number in range(8):
        assert ready.map(number * ready.page) == 0
    assert ready.unmap(0, 8)


def test_memory_that_may_not_be_mapped(ready: Ready) -> None:
    """Version 1 pins what is there; version 2 takes what was registered, and no byte beyond."""
    with PageMemory(ready.page, ready.page) as other:
        if ready.kind == V1:
            assert ready.container.map(0, other.address, ready.page) == 0
            assert ready.unmap(0)
        else:
            with fails(EINVAL):
                ready.container.map(0, other.address, ready.page)


def test_no_memory(ready: Ready, wild: int) -> None:
    with fails(EFAULT_OR_EPERM[ready.kind]):
        ready.container.map(0, wild, ready.page)
    assert ready.map(0) == 0
    assert ready.unmap(0)


def test_a_range_with_a_hole_is_not_mapped(ready: Ready) -> None:
    """What was mapped before the hole is taken back, and what the range replaced is gone all the same."""
    assert ready.map(0, 2) == 0
    if ready.kind == V1:
        with protected(ready.address + 4 * ready.page, ready.page), fails(EFAULT):
            ready.map(0, PAGES)
    else:
        with fails(EINVAL):
            ready.map(0, PAGES + 1)
    assert ready.map(0, 2) == 0
    assert ready.unmap(0, 2)


def test_memory_that_cannot_be_written(ready: Ready) -> None:
    if ready.kind == V2:
        return  # it cannot be registered: test_spapr_memory
    code = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value or 0
    code -= code % ready.page
    for flags in (WRITE, READ | WRITE, READ):  # it is pinned to be written whatever the mapping allows
        with fails(EFAULT):
            ready.container.map(0, code, ready.page, flags)


def test_mapping_locks_no_more(backend: Backend, ready: Ready) -> None:
    ready.map(0)  # the default window of version 2 is made by the first, and its table counts
    before = locked(backend)
    ready.map(ready.page, 16)
    assert locked(backend) == before
    ready.unmap(0, 17)
    assert locked(backend) == before


def test_memory_may_go_before_the_mapping(ready: Ready) -> None:
    if ready.kind == V2:
        return  # registered memory stays: test_spapr_memory
    with PageMemory(4 * ready.page, ready.page) as gone:
        ready.container.map(0, gone.address, 4 * ready.page)
    assert ready.unmap(0, 4)


def test_mappings_go_with_the_container(
    backend: Backend, files: OpenFiles, ready: Ready, function: BoundFunction
) -> None:
    ready.map(0, 8)
    if ready.kind == V2:
        ready.unmap(0, 8)
        ready.container.unregister(ready.address, ready.memory.length)
    files.close_all()
    ready.container = open_tce(backend, files, function, ready.kind)
    with fails(EPERM):
        ready.unmap(0, 8)
    if ready.kind == V1:
        ready.container.enable()
    else:
        ready.container.register(ready.address, ready.memory.length)
    assert ready.map(0, 8, flags=requests.READ_WRITE) == 0
