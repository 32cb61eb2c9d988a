"""VFIO_IOMMU_DIRTY_PAGES and the bitmap of an unmap."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from errno import EACCES, EFAULT, EINVAL, ENOTTY

import pytest

from pyvfio.abi import vfio_type1
from pyvfio.abi.vfio_type1 import (
    VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
)
from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice, open_device

pytestmark = pytest.mark.usefixtures("type1")

START, STOP = VFIO_IOMMU_DIRTY_PAGES_FLAG_START, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
GET = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
Memory = Callable[[int], AnonymousMemory]
PAGES = 64


class Log:
    """A container of version 2 with a mapping of 64 pages, and a place for the bitmap."""

    def __init__(self, device: OpenDevice, memory: Memory, page: int) -> None:
        self.backend = device.backend
        self.fd = device.container
        self.device = device
        self.page = page
        self.iova = device.base
        self.bitmap = AnonymousMemory(page)
        device.map(self.iova, memory(PAGES).address, PAGES * page)

    def get(self, iova: int | None = None, size: int | None = None, pgsize: int | None = None, words: int = 8) -> int:
        """Ask for the bitmap; its first word."""
        argument = vfio_type1.IommuType1DirtyBitmapGet(
            iova=self.iova if iova is None else iova, size=PAGES * self.page if size is None else size
        )
        argument.bitmap.pgsize = self.page if pgsize is None else pgsize
        argument.bitmap.size = words
        argument.bitmap.data = self.bitmap.address
        requests.dirty_pages(self.backend, self.fd, GET, bytes(argument))
        return ctypes.c_uint64.from_address(self.bitmap.address).value


@pytest.fixture
def log(opened: OpenDevice, memory: Memory, page: int) -> Log:
    return Log(opened, memory, page)


@pytest.mark.parametrize("flags", [START, STOP, GET, 0, START | STOP])
def test_version_1_has_none(backend: Backend, files: OpenFiles, function: BoundFunction, flags: int) -> None:
    with fails(EACCES):
        requests.dirty_pages(backend, open_device(backend, files, function, "type1").container, flags)


def test_iommufd_in_the_containers_place_has_none(backend: Backend, files: OpenFiles, function: BoundFunction) -> None:
    with fails(ENOTTY):
        requests.dirty_pages(backend, open_device(backend, files, function, "compat-type1v2").container, START)


@pytest.mark.parametrize("flags", [0, START | STOP, START | GET, 1 << 3, 1 << 31])
def test_not_exactly_one_flag(log: Log, flags: int) -> None:
    with fails(EINVAL):
        requests.dirty_pages(log.backend, log.fd, flags)


@pytest.mark.parametrize("flags", [START, STOP, GET])
def test_too_small_a_structure(log: Log, flags: int) -> None:
    with fails(EINVAL):
        requests.dirty_pages(log.backend, log.fd, flags, argsz=7)


def test_a_wild_structure(log: Log, wild: int) -> None:
    with fails(EFAULT):
        log.backend.ioctl(log.fd, vfio_type1.VFIO_IOMMU_DIRTY_PAGES, wild)


def test_no_bitmap_before_start(log: Log) -> None:
    with fails(EINVAL):
        log.get()


def test_stop_before_start(log: Log) -> None:
    requests.dirty_pages(log.backend, log.fd, STOP)


def test_start_twice(log: Log) -> None:
    requests.dirty_pages(log.backend, log.fd, START)
    requests.dirty_pages(log.backend, log.fd, START)


def test_no_bitmap_after_stop(log: Log) -> None:
    requests.dirty_pages(log.backend, log.fd, START)
    requests.dirty_pages(log.backend, log.fd, STOP)
    with fails(EINVAL):
        log.get()


@pytest.mark.parametrize("wrong", ["iova", "size", "page-size", "bitmap-size", "past-the-mapping", "size-0"])
def test_wrong_ranges(log: Log, page: int, wrong: str) -> None:
    requests.dirty_pages(log.backend, log.fd, START)
    with fails(EINVAL):
        match wrong:
            case "iova":
                log.get(iova=log.iova + 8)
            case "size":
                log.get(size=page // 2)
            case "page-size":
                log.get(pgsize=page // 2)
            case "bitmap-size":
                log.get(words=4)
            case "past-the-mapping":
                log.get(iova=log.iova + page)
            case _:
                log.get(size=0)


def test_all_pages_of_a_physical_device_are_dirty(log: Log) -> None:
    # its DMA cannot be followed, so every pinned page counts
    requests.dirty_pages(log.backend, log.fd, START)
    assert log.get() == (1 << PAGES) - 1
    assert log.get() == (1 << PAGES) - 1


def test_a_part_of_the_range(log: Log, page: int) -> None:
    requests.dirty_pages(log.backend, log.fd, START)
    with fails(EINVAL):  # only whole mappings are asked
        log.get(size=8 * page)


@pytest.mark.parametrize("started", [False, True], ids=["stopped", "started"])
def test_an_unmap_with_a_bitmap(log: Log, page: int, started: bool) -> None:
    if started:
        requests.dirty_pages(log.backend, log.fd, START)
    head = vfio_type1.IommuType1DmaUnmap(
        flags=vfio_type1.DmaUnmapFlags.GET_DIRTY_BITMAP, iova=log.iova, size=PAGES * page
    )
    tail = vfio_type1.Bitmap(pgsize=page, size=8, data=log.bitmap.address)
    head.argsz = ctypes.sizeof(head) + ctypes.sizeof(tail)
    buffer = bytearray(bytes(head) + bytes(tail))
    if not started:
        with fails(EINVAL):
            log.backend.ioctl(log.fd, vfio_type1.VFIO_IOMMU_UNMAP_DMA, buffer)
        return
    log.backend.ioctl(log.fd, vfio_type1.VFIO_IOMMU_UNMAP_DMA, buffer)
    assert ctypes.c_uint64.from_address(log.bitmap.address).value == (1 << PAGES) - 1
    assert log.device.unmap(log.iova, PAGES * page) == 0
