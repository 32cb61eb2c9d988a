"""DMA windows of a guest on POWER (pseries), whose tables a hypervisor keeps: what is otherwise than on bare metal.

The default window stays the hypervisor's.  A program's first window is that one if it fits, and else begins where
second ones do.  Groups share no windows.  Once the hypervisor has refused a window, Linux 6.12 asks for none any more
until the next boot: so that test is the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EINVAL, ENODEV, ENXIO, EPERM

import pytest

import pyvfio
from pyvfio.abi import vfio
from pyvfio.backend import Backend
from pyvfio.errors import PermissionDenied
from pyvfio.host import Host
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.spapr import SECOND_WINDOW, TceContainer, add_group, locked, open_tce, require_tce

GIB = 1 << 30
SHIFT_4K, SHIFT_64K = 12, 16
SHIFTS = (SHIFT_4K, SHIFT_64K, 21, 24)
MOST_PAGES = 1 << 37
"""The largest block that QEMU's hypervisor says it has."""
ENTRIES_END = 1 << 32
"""More entries of a table than that it counts as none, and refuses."""


@pytest.fixture
def container(backend: Backend, files: OpenFiles, function: BoundFunction, guest_on_power: bool) -> TceContainer:
    """A container of version 2."""
    require_tce(backend)
    if not guest_on_power:
        pytest.skip("this is no guest on POWER")
    return open_tce(backend, files, function, vfio.VFIO_SPAPR_TCE_v2_IOMMU)


@pytest.fixture
def memory(container: TceContainer, page: int) -> Iterator[AnonymousMemory]:
    """A page that may be mapped."""
    with AnonymousMemory(page) as found:
        container.register(found.address, page)
        yield found
        container.unregister(found.address, page)


def mapped(container: TceContainer, memory: AnonymousMemory, iova: int) -> None:
    """Map and unmap a page there."""
    assert container.map(iova, memory.address, memory.length) == 0
    assert container.unmap(iova, memory.length) == (0, memory.length)


def test_what_there_is(container: TceContainer) -> None:
    info = container.info()
    assert (info.dma32_window_start, info.dma32_window_size) == (0, GIB)
    assert info.ddw.pgsizes == sum(1 << shift for shift in SHIFTS)
    assert (info.ddw.max_dynamic_windows_supported, info.ddw.levels) == (2, 1)


def test_a_smaller_default_window(container: TceContainer, memory: AnonymousMemory) -> None:
    container.remove(0)
    assert container.create(SHIFT_4K, GIB // 4) == 0
    mapped(container, memory, GIB // 4 - memory.length)
    with fails(ENXIO):
        container.map(GIB // 4, memory.address, memory.length)


@pytest.mark.parametrize(("shift", "size"), [(SHIFT_64K, GIB), (SHIFT_4K, 2 * GIB)], ids=["pages", "size"])
def test_a_first_window_that_is_no_default_one(container: TceContainer, shift: int, size: int) -> None:
    container.remove(0)
    assert container.create(shift, size) == SECOND_WINDOW


def test_no_first_window_beside_a_dynamic_one(container: TceContainer, memory: AnonymousMemory) -> None:
    """The hypervisor would take the dynamic one away."""
    assert container.create(SHIFT_4K, GIB) == SECOND_WINDOW
    container.remove(0)
    for shift, size in ((SHIFT_4K, GIB), (SHIFT_64K, 4 * GIB)):
        with fails(EPERM):
            container.create(shift, size)
    mapped(container, memory, SECOND_WINDOW)
    container.remove(SECOND_WINDOW)
    assert container.create(SHIFT_4K, GIB) == 0
    mapped(container, memory, 0)


@pytest.mark.parametrize("levels", [2, 5])
def test_no_levels(container: TceContainer, levels: int) -> None:
    with fails(EINVAL):
        container.create(SHIFT_4K, GIB, levels=levels)


def test_more_pages_than_there_can_be(container: TceContainer, memory: AnonymousMemory) -> None:
    """That is asked of the hypervisor before; a program may try a smaller one then."""
    with fails(EINVAL):
        container.create(SHIFT_4K, MOST_PAGES * 2 << SHIFT_4K)
    assert container.create(SHIFT_4K, GIB) == SECOND_WINDOW
    mapped(container, memory, SECOND_WINDOW)


def test_a_second_group_comes_while_there_are_windows(
    backend: Backend, files: OpenFiles, container: TceContainer, memory: AnonymousMemory, function2: BoundFunction
) -> None:
    container.map(0, memory.address, memory.length)
    with fails(EPERM):
        add_group(backend, files, container.fd, function2)
    assert container.unmap(0, memory.length) == (0, memory.length)
    mapped(container, memory, 0)


def test_two_groups_get_no_window(
    backend: Backend, files: OpenFiles, container: TceContainer, memory: AnonymousMemory, function2: BoundFunction
) -> None:
    other = add_group(backend, files, container.fd, function2)
    with fails(EPERM):
        container.map(0, memory.address, memory.length)
    backend.ioctl(other, vfio.VFIO_GROUP_UNSET_CONTAINER)


def test_the_library_says_why_two_groups_get_no_window(
    host: Host, function: BoundFunction, function2: BoundFunction, guest_on_power: bool, page: int
) -> None:
    if not guest_on_power:
        pytest.skip("this is no guest on POWER")
    with (
        pyvfio.Container(host) as container,
        pyvfio.open_device(host, function.address, space=container) as device,
        pyvfio.open_device(host, function2.address, space=container),
        pytest.raises(PermissionDenied) as caught,
    ):
        device.space.buffer(page)
    assert (caught.value.errno, caught.value.next_step) == (EPERM, "a container for each group")


def test_what_the_hypervisor_refuses_once(backend: Backend, container: TceContainer, memory: AnonymousMemory) -> None:
    """The last test: this host bridge has no windows for programs after it.

    What was counted as locked for the window stays counted.
    """
    mapped(container, memory, 0)
    before = locked(backend)
    with fails(ENODEV):
        container.create(SHIFT_4K, ENTRIES_END << SHIFT_4K)
    assert locked(backend) - before == 8 * ENTRIES_END
    with fails(ENODEV):
        container.create(SHIFT_4K, GIB)
    mapped(container, memory, 0)  # what is there stays
    container.remove(0)
    with fails(ENODEV):
        container.create(SHIFT_4K, GIB)
