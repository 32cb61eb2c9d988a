"""Memory files in address spaces: by IOMMU_IOAS_MAP_FILE on kernels that have it (6.13), else mapped here first."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EBADF, EINVAL, ENOENT, ENOTTY, EOPNOTSUPP, EOVERFLOW

import pytest

import pyvfio
from pyvfio.abi import iommufd
from pyvfio.abi.iommufd_later import IOMMU_IOAS_MAP_FILE, IoasMapFile
from pyvfio.backend import Backend
from pyvfio.drivers import Edu
from pyvfio.errors import PyvfioError
from pyvfio.host import Host
from pyvfio.pci.edu import DMA_MASK
from pyvfio.process import EventFd, MemoryFile
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import IOMMU
from pyvfio.vfio import Device

BOTH = iommufd.IOMMU_IOAS_MAP_READABLE | iommufd.IOMMU_IOAS_MAP_WRITEABLE
LAST = (1 << 64) - 1


@pytest.fixture
def memory(page: int) -> Iterator[MemoryFile]:
    file = MemoryFile.anonymous(4 * page, "contract")
    yield file
    file.close()


@pytest.mark.usefixtures("iommufd")
def test_the_request_is_known_or_not(backend: Backend, files: OpenFiles, memory: MemoryFile, page: int) -> None:
    context = files.open(IOMMU)
    fields = {"flags": BOTH, "ioas_id": requests.ioas_alloc(backend, context), "fd": memory.fileno(), "length": page}
    try:
        backend.ioctl(context, IOMMU_IOAS_MAP_FILE, IoasMapFile.sized(**fields))
    except OSError as error:
        if error.errno != ENOTTY:
            raise
        return  # before Linux 6.13
    for change, number in (
        ({"flags": 1 << 3}, EOPNOTSUPP),
        ({"length": LAST}, EOVERFLOW),
        ({"flags": 0}, EINVAL),
        ({"ioas_id": 99}, ENOENT),
        ({"fd": -1}, EBADF),
        ({"length": 0}, EINVAL),
    ):
        with fails(number):
            backend.ioctl(context, IOMMU_IOAS_MAP_FILE, IoasMapFile.sized(**fields | change))


def test_a_file_is_mapped_and_unmapped(
    host: Host, function: BoundFunction, way: str, memory: MemoryFile, page: int
) -> None:
    with pyvfio.open_device(host, function.address, way=way) as device:
        mapping = device.space.map_file(memory.fileno(), page, 2 * page)
        assert (mapping.address == 0) == mapping.by_file
        assert device.space.unmap(mapping.iova, mapping.length) == 2 * page


def test_what_is_no_memory_or_too_short_or_not_aligned(
    host: Host, function: BoundFunction, way: str, memory: MemoryFile, page: int
) -> None:
    with pyvfio.open_device(host, function.address, way=way) as device:
        before = device.space.mappings()
        event = EventFd()
        with pytest.raises(PyvfioError, match="the file is no memory"):
            device.space.map_file(event.fileno(), 0, page)
        event.close()
        with pytest.raises(PyvfioError, match="the file has"):
            device.space.map_file(memory.fileno(), 4 * page, page)
        with pytest.raises(PyvfioError, match=f"the file offset {page - 1:#x} is no multiple"):
            device.space.map_file(memory.fileno(), page - 1, page)
        assert device.space.mappings() == before


def test_a_device_reaches_the_file(edu_device: Device, memory: MemoryFile, page: int) -> None:
    with Edu(edu_device, interrupts="poll") as edu:
        mapping = edu_device.space.map_file(memory.fileno(), page, 2 * page, below=DMA_MASK + 1)
        edu.put(b"to the file")
        edu.transfer(mapping.iova + 5, 11, out=True)
        assert memory.read(page + 5, 11) == b"to the file"
        memory.write(2 * page, b"from the file")
        edu.transfer(mapping.iova + page, 13, out=False)
        assert edu.get(13) == b"from the file"
        edu_device.space.unmap(mapping.iova, mapping.length)
