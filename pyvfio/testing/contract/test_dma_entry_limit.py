"""dma_entry_limit of vfio_iommu_type1: how many mappings a container may have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import EINVAL, ENOSPC, ERANGE

import pytest

from pyvfio.backend import Backend
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice, open_device

pytestmark = pytest.mark.usefixtures("type1")

LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"


@pytest.fixture
def limit(sysfs: Attributes) -> Iterator[str]:
    """The parameter, restored afterwards."""
    before = sysfs.read(LIMIT)
    yield LIMIT
    sysfs.write(LIMIT, before)


@pytest.mark.parametrize(
    ("text", "number"), [("nonsense", EINVAL), ("\n", EINVAL), ("-1", EINVAL), ("4294967296", ERANGE)]
)
def test_what_is_no_number(sysfs: Attributes, limit: str, text: str, number: int) -> None:
    before = sysfs.read(limit)
    with fails(number):
        sysfs.write(limit, text)
    assert sysfs.read(limit) == before


def test_the_default(sysfs: Attributes) -> None:
    assert sysfs.read(LIMIT) == "65535"


@pytest.mark.parametrize(("text", "reads"), [("4", "4"), ("4\n", "4"), ("0x10", "16")])
def test_it_can_be_changed(sysfs: Attributes, limit: str, text: str, reads: str) -> None:
    assert sysfs.write(limit, text) == len(text)
    assert sysfs.read(limit) == reads


@pytest.mark.parametrize("version", ["type1", "type1v2"])
def test_it_holds_for_new_containers(
    backend: Backend,
    sysfs: Attributes,
    files: OpenFiles,
    function: BoundFunction,
    limit: str,
    memory: Callable[[int], AnonymousMemory],
    page: int,
    version: str,
) -> None:
    sysfs.write(limit, "4")
    space = open_device(backend, files, function, version)
    address = memory(1).address
    for index in range(4):
        space.map(space.base + index * page, address, page)
    with fails(ENOSPC):
        space.map(space.base + 4 * page, address, page)
    space.unmap(space.base, page)
    space.map(space.base + 4 * page, address, page)


def test_it_leaves_older_containers(
    sysfs: Attributes, limit: str, opened: OpenDevice, memory: Callable[[int], AnonymousMemory], page: int
) -> None:
    sysfs.write(limit, "1")
    for index in range(2):
        opened.map(opened.base + index * page, memory(1).address, page)


def test_a_refused_mapping_does_not_count(
    sysfs: Attributes,
    backend: Backend,
    files: OpenFiles,
    function: BoundFunction,
    limit: str,
    memory: Callable[[int], AnonymousMemory],
    page: int,
) -> None:
    sysfs.write(limit, "1")
    space = open_device(backend, files, function, "type1v2")
    with fails(EINVAL):
        space.map(space.base - page, memory(1).address, page)
    space.map(space.base, memory(1).address, page)
    with fails(ENOSPC):
        space.map(space.base + page, memory(1).address, page)
