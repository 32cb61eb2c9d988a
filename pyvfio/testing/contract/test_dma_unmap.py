"""Unmapping: whole mappings, parts of them, holes and everything, in all five modes."""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL, ENOENT, EOVERFLOW

import pytest

from pyvfio.abi.vfio_type1 import DmaUnmapFlags
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import MODES, OpenDevice

GROUP_MODES = [name for name in MODES if name != "iommufd"]
Memory = Callable[[int], AnonymousMemory]

CUT = {"type1v2": EINVAL, "compat-type1v2": ENOENT, "iommufd": ENOENT}
"""What it costs to end inside a mapping; version 1 allows it."""


@pytest.fixture
def sixteen(space: OpenDevice, memory: Memory, page: int) -> int:
    """A mapping of 16 pages; its IOVA."""
    iova = space.base + 0x100 * page
    space.map(iova, memory(16).address, 16 * page)
    return iova


def test_size_0(space: OpenDevice, sixteen: int) -> None:
    with fails(EINVAL):
        space.unmap(sixteen, 0)


@pytest.mark.parametrize(("at", "size"), [(8, 1), (0, 0.5)], ids=["iova", "size"])
def test_alignment(space: OpenDevice, page: int, at: int, size: float) -> None:
    if space.mode.startswith("compat"):
        assert space.unmap(space.base + at, int(size * page)) == 0  # nothing is there, so nothing is wrong
        return
    with fails(ENOENT if space.mode == "iommufd" else EINVAL):
        space.unmap(space.base + at, int(size * page))


def test_past_the_last_iova(space: OpenDevice, page: int) -> None:
    with fails(EINVAL if space.mode in ("type1", "type1v2") else EOVERFLOW):
        space.unmap((1 << 64) - page, 2 * page)


def test_nothing_there(space: OpenDevice, page: int) -> None:
    if space.mode == "iommufd":
        with fails(ENOENT):
            space.unmap(space.base, page)
    else:
        assert space.unmap(space.base, page) == 0


def test_the_first_page(space: OpenDevice, sixteen: int, page: int) -> None:
    if space.mode in CUT:
        with fails(CUT[space.mode]):
            space.unmap(sixteen, page)
        assert space.unmap(sixteen, 16 * page) == 16 * page
    elif space.mode == "type1":
        # version 1 unmaps the whole mapping that begins in the range, and says so
        assert space.unmap(sixteen, page) == 16 * page
    else:
        assert space.unmap(sixteen, page) == page
        assert space.unmap(sixteen, 16 * page) == 15 * page


def test_a_page_in_the_middle(space: OpenDevice, sixteen: int, page: int) -> None:
    if space.mode in CUT:
        with fails(CUT[space.mode]):
            space.unmap(sixteen + 4 * page, page)
    else:
        # version 1 skips a mapping that begins before the range; iommufd in its place cuts it
        assert space.unmap(sixteen + 4 * page, page) == (0 if space.mode == "type1" else page)


def test_a_range_that_ends_inside(space: OpenDevice, memory: Memory, sixteen: int, page: int) -> None:
    space.map(sixteen - 2 * page, memory(1).address, page)
    if space.mode in CUT:
        with fails(CUT[space.mode]):
            space.unmap(sixteen - 2 * page, 3 * page)
        # version 2 looks before it unmaps; iommufd has unmapped what came before
        left = 16 if space.mode != "type1v2" else 17
        assert space.unmap(sixteen - 2 * page, 18 * page) == left * page
    else:
        assert space.unmap(sixteen - 2 * page, 3 * page) == (17 if space.mode == "type1" else 2) * page


def test_holes(space: OpenDevice, memory: Memory, page: int) -> None:
    address = memory(2).address
    for at, pages in ((0, 1), (2, 1), (4, 2)):
        space.map(space.base + at * page, address, pages * page)
    assert space.unmap(space.base, 6 * page) == 4 * page


def test_the_whole_range(space: OpenDevice, sixteen: int, page: int) -> None:
    first, last = space.ranges()[0][0], space.ranges()[-1][1]
    assert space.unmap(first, last + 1 - first) == 16 * page


def test_it_can_be_mapped_again(space: OpenDevice, memory: Memory, sixteen: int, page: int) -> None:
    assert space.unmap(sixteen, 16 * page) == 16 * page
    space.map(sixteen + 8 * page, memory(1).address, page)
    assert space.unmap(sixteen + 8 * page, page) == page


@pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)
@pytest.mark.parametrize(("iova", "size"), [(0, 1), (1, 0), (1, 1)])
def test_all_with_a_range(backend: Backend, space: OpenDevice, page: int, iova: int, size: int) -> None:
    with fails(EINVAL):
        requests.unmap_dma(backend, space.container, iova * page, size * page, DmaUnmapFlags.ALL)


@pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)
def test_all(backend: Backend, space: OpenDevice, sixteen: int, page: int) -> None:
    assert requests.unmap_dma(backend, space.container, 0, 0, DmaUnmapFlags.ALL) == 16 * page
    assert requests.unmap_dma(backend, space.container, 0, 0, DmaUnmapFlags.ALL) == 0


@pytest.mark.parametrize("mode", ["iommufd"], indirect=True)
def test_all_of_an_ioas(space: OpenDevice, sixteen: int, page: int) -> None:
    assert space.unmap(0, (1 << 64) - 1) == 16 * page
    assert space.unmap(0, (1 << 64) - 1) == 0


@pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)
@pytest.mark.parametrize("flag", [1 << 3, 1 << 31])
def test_an_unknown_flag(backend: Backend, space: OpenDevice, page: int, flag: int) -> None:
    with fails(EINVAL):
        requests.unmap_dma(backend, space.container, space.base, page, flag)


@pytest.mark.parametrize("mode", GROUP_MODES, indirect=True)
@pytest.mark.parametrize("argsz", [0, 23])
def test_too_small_a_structure(backend: Backend, space: OpenDevice, page: int, argsz: int) -> None:
    with fails(EINVAL):
        requests.unmap_dma(backend, space.container, space.base, page, argsz=argsz)
