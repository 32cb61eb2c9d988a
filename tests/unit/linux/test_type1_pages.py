"""Pages of type 1: locked memory, pins of mediated devices, dirty pages, moving memory.  First what is refused."""

from __future__ import annotations

import errno
import os
import struct
import sys

import pytest
from vfio_fixture import FIRST, PAGE, Lab, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.linux.vfio_state import vfio_core

ALL, VADDR, DIRTY = t1.VFIO_DMA_UNMAP_FLAG_ALL, t1.VFIO_DMA_UNMAP_FLAG_VADDR, t1.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
START, STOP, GET = (
    t1.VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
    t1.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
    t1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
)


def dirty_pages(lab: Lab, fd: int, flags: int) -> None:
    lab.host.ioctl(fd, t1.VFIO_IOMMU_DIRTY_PAGES, t1.IommuType1DirtyBitmap.sized(flags=flags))


def get_bitmap(
    lab: Lab, fd: int, iova: int, size: int, *, room: int = 8, page: int = PAGE, before: int = 0, address: int = 0
) -> set[int]:
    """The numbers of the bits that are set after GET_BITMAP."""
    with AnonymousMemory(PAGE) as answer:
        answer.view[:8] = before.to_bytes(8, sys.byteorder)
        request = bytearray(struct.pack("=IIQQQQQ", 48, GET, iova, size, page, room, address or answer.address))
        lab.host.ioctl(fd, t1.VFIO_IOMMU_DIRTY_PAGES, request)
        words = [int.from_bytes(answer.view[at : at + 8], sys.byteorder) for at in range(0, room, 8)]
    return {number * 64 + bit for number, word in enumerate(words) for bit in range(64) if word >> bit & 1}


# ---- locked memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", [0, 3])
def test_the_limit_is_met_at_the_same_page(room: int) -> None:
    lab = Lab(memlock=room * PAGE + PAGE - 1)
    with lab.host, AnonymousMemory(16 * PAGE) as memory:
        container, _ = lab.ready("p0")
        assert errno_of(lab.map, container, FIRST, (room + 1) * PAGE, memory.address) == errno.ENOMEM
        if room:
            lab.map(container, FIRST, room * PAGE, memory.address)
            assert errno_of(lab.map, container, FIRST + 0x10000, PAGE, memory.address) == errno.ENOMEM
            assert lab.unmap(container, FIRST, room * PAGE) == room * PAGE
            lab.map(container, FIRST, PAGE, memory.address)
        # A page that is not there is found first, if it comes before the limit.
        assert errno_of(lab.map, container, FIRST + 0x10000, 8 * PAGE, PAGE) == errno.EFAULT


def test_mediated_devices_lock_what_they_pin() -> None:
    lab = Lab(memlock=2 * PAGE)
    with lab.host, AnonymousMemory(16 * PAGE) as memory:
        container, group = lab.ready("m0")
        lab.device_fd(group, "m0")
        device = lab.fake("m0")
        lab.map(container, 0, 16 * PAGE, memory.address)
        assert errno_of(device.pin, 0, 3) == errno.ENOMEM
        device.pin(0, 2)
        device.pin_pages(0, 2, True)  # pinned already: costs nothing
        assert errno_of(device.pin, 2 * PAGE) == errno.ENOMEM
        device.unpin_pages(0, 2)
        device.unpin_pages(0, 2)
        device.held.clear()
        device.pin(2 * PAGE, 2)
        # A zPCI function cannot have address 0.
        assert errno_of(lab.set_container, lab.group("p0"), container) == errno.EINVAL
        assert lab.unmap(container, 0, 16 * PAGE) == 16 * PAGE
        assert device.unmaps == [(0, 16 * PAGE)]
        assert vfio_core(lab.kernel).locked.room(("process", os.getpid())) == 2


def test_an_iommu_that_comes_later_pins_all_and_gives_it_back() -> None:
    lab = Lab(memlock=8 * PAGE)
    with lab.host, AnonymousMemory(16 * PAGE) as memory:
        container, group = lab.ready("m0")
        lab.device_fd(group, "m0")
        lab.map(container, FIRST, 8 * PAGE, memory.address)
        device = lab.fake("m0")
        device.pin(FIRST, 2)
        second = lab.group("p0")
        lab.set_container(second, container)
        assert errno_of(lab.map, container, FIRST + 0x10000, PAGE, memory.address) == errno.ENOMEM
        lab.host.close(second)
        device.pin(FIRST + 2 * PAGE, 6)
        assert lab.unmap(container, 0, 0, ALL) == 8 * PAGE
        lab.map(container, FIRST, PAGE, PAGE)  # nobody pins it
        assert errno_of(lab.set_container, lab.group("p0"), container) == errno.EFAULT


# ---- mediated devices ------------------------------------------------------------------------------------------------


def test_pins_that_are_refused(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    device = lab.fake("m0")
    assert errno_of(device.pin, 0) == errno.EINVAL  # not open
    assert errno_of(device.dma_read, 0, 1) == errno.EINVAL
    container, group = lab.ready("m0")
    lab.device_fd(group, "m0")
    lab.map(container, 0, 2 * PAGE, dma_memory.address)
    lab.map(container, 0x10000, PAGE, dma_memory.address, t1.VFIO_DMA_MAP_FLAG_READ)
    lab.map(container, 0x11000, PAGE, dma_memory.address, t1.VFIO_DMA_MAP_FLAG_WRITE)
    lab.map(container, 0x12000, PAGE, PAGE)
    assert errno_of(device.pin, 0, 0) == errno.EINVAL
    assert errno_of(device.pin, 0, 513) == errno.E2BIG
    assert errno_of(device.pin, 0, 3) == errno.EINVAL
    assert errno_of(device.pin, 0x10000) == errno.EPERM
    assert errno_of(device.pin, 0x11000) == errno.EPERM
    assert errno_of(device.pin, 0x12000) == errno.EFAULT
    assert errno_of(device.dma_read, PAGE, PAGE + 1) == errno.EINVAL
    assert errno_of(device.dma_read, 0x11000, 1) == errno.EPERM
    assert errno_of(device.dma_write, 0x10000, b"x") == errno.EPERM
    assert errno_of(device.dma_write, 0x11000, b"x") == errno.EPERM
    assert errno_of(device.dma_write, 0x12000, b"x") == errno.EFAULT
    assert errno_of(device.dma_read, 0, 0) == errno.EINVAL
    assert lab.unmap(container, 0, 2 * PAGE) == 2 * PAGE
    assert device.unmaps == []  # nothing was pinned


def test_version_1_pins_nothing(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    container, group = vfio_lab.ready("m0", abi.VFIO_TYPE1_IOMMU)
    vfio_lab.device_fd(group, "m0")
    vfio_lab.map(container, 0, PAGE, dma_memory.address)
    assert errno_of(vfio_lab.fake("m0").pin, 0) == errno.EACCES
    vfio_lab.fake("m0").dma_write(0, b"copies work")
    assert bytes(dma_memory.view[:11]) == b"copies work"


def test_pins_name_the_memory(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, group = lab.ready("m0")
    lab.device_fd(group, "m0")
    lab.map(container, 0, 2 * PAGE, dma_memory.address)
    pages = lab.fake("m0").pin(0x10, 2)
    lab.kernel.memory.write(pages[1] + 3, b"absolute")
    assert bytes(dma_memory.view[PAGE + 3 : PAGE + 11]) == b"absolute"
    assert lab.fake("m0").dma_read(PAGE + 3, 8) == b"absolute"


# ---- dirty pages -----------------------------------------------------------------------------------------------------


def test_bitmaps_that_are_refused(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, _ = lab.ready("m0")
    lab.map(container, 4 * PAGE, 4 * PAGE, dma_memory.address)
    refused = lambda *a, **k: errno_of(lambda: get_bitmap(lab, container, *a, **k))  # noqa: E731
    assert refused(4 * PAGE, 4 * PAGE) == errno.EINVAL  # not tracking
    dirty_pages(lab, container, START)
    dirty_pages(lab, container, START)  # again is no error
    assert refused(4 * PAGE, 4 * PAGE, page=2 * PAGE) == errno.EINVAL
    assert refused(4 * PAGE, 4 * PAGE, page=0) == errno.EINVAL
    assert refused(4 * PAGE, 4 * PAGE, room=0) == errno.EINVAL
    assert refused(4 * PAGE, 4 * PAGE, room=(1 << 28) + 8, address=dma_memory.address) == errno.EINVAL
    assert refused(0, 65 * PAGE) == errno.EINVAL  # more than 64 pages do not fit in 8 bytes
    assert refused(4 * PAGE, 0) == errno.EINVAL
    assert refused(4 * PAGE + 1, 4 * PAGE) == errno.EINVAL
    assert refused(5 * PAGE, 3 * PAGE) == errno.EINVAL  # would cut the mapping
    assert refused(4 * PAGE, 3 * PAGE) == errno.EINVAL
    assert refused((1 << 64) - PAGE, PAGE) == errno.EINVAL
    assert refused(4 * PAGE, 4 * PAGE, address=PAGE) == errno.EFAULT
    short = bytearray(struct.pack("=IIQQQQQ", 47, GET, 0, 0, 0, 0, 0))
    assert errno_of(lab.host.ioctl, container, t1.VFIO_IOMMU_DIRTY_PAGES, short) == errno.EINVAL
    dirty_pages(lab, container, STOP)
    assert refused(4 * PAGE, 4 * PAGE) == errno.EINVAL


def test_what_a_mediated_device_writes_is_dirty_once(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, group = lab.ready("m0")
    lab.device_fd(group, "m0")
    device = lab.fake("m0")
    lab.map(container, 2 * PAGE, 8 * PAGE, dma_memory.address)
    device.pin(3 * PAGE)
    dirty_pages(lab, container, START)
    lab.map(container, 10 * PAGE, 8 * PAGE, dma_memory.address)
    device.dma_write(5 * PAGE - 1, b"two pages")
    device.pin(12 * PAGE, 2)
    device.dma_read(9 * PAGE, 1)
    # Bits count from the start of what was asked; the pages between mappings keep what the caller had there.
    assert get_bitmap(lab, container, 0, 18 * PAGE, before=0b11) == {0, 1, 3, 4, 5, 12, 13}
    again = get_bitmap(lab, container, 0, 18 * PAGE)
    assert {bit for bit in again if bit < 18} == {3, 12, 13}  # pinned pages may change at any time
    device.unpin_pages(3 * PAGE, 1)
    del device.held[3 * PAGE]
    assert get_bitmap(lab, container, 2 * PAGE, 8 * PAGE) == {1}
    assert get_bitmap(lab, container, 2 * PAGE, 8 * PAGE) == set()


def test_a_device_behind_an_iommu_dirties_everything(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, _ = lab.ready("p0")
    lab.map(container, FIRST, 4 * PAGE, dma_memory.address)
    dirty_pages(lab, container, START)
    for _ in range(2):
        assert get_bitmap(lab, container, FIRST, 4 * PAGE) == {0, 1, 2, 3}


def test_bits_behind_a_shifted_mapping_stay_as_recorded(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    # Linux 6.12 shifts a mapping's own bitmap and only clears as many bits as the mapping has pages.
    lab = vfio_lab
    container, _ = lab.ready("p0")
    lab.map(container, FIRST, 4 * PAGE, dma_memory.address)
    lab.map(container, FIRST + 6 * PAGE, 8 * PAGE, dma_memory.address)
    dirty_pages(lab, container, START)
    first = {*range(4), *range(6, 14)}
    assert get_bitmap(lab, container, FIRST, 14 * PAGE) == first
    assert get_bitmap(lab, container, FIRST, 80 * PAGE, room=16) == {*range(4), *range(6, 20)}


def test_unmap_with_bitmap(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    container, group = lab.ready("m0")
    lab.device_fd(group, "m0")
    device = lab.fake("m0")
    lab.map(container, 0, 4 * PAGE, dma_memory.address)
    with AnonymousMemory(PAGE) as answer:

        def unmap(flags: int, *, argsz: int = 48, page: int = PAGE, room: int = 8) -> int:
            data = bytearray(struct.pack("=IIQQQQQ", argsz, flags, 0, 4 * PAGE, page, room, answer.address))
            lab.host.ioctl(container, t1.VFIO_IOMMU_UNMAP_DMA, data)
            return int(struct.unpack_from("=Q", data, 16)[0])

        assert errno_of(unmap, DIRTY) == errno.EINVAL  # not tracking
        dirty_pages(lab, container, START)
        assert errno_of(unmap, DIRTY | ALL) == errno.EINVAL
        assert errno_of(unmap, DIRTY | VADDR) == errno.EINVAL
        assert errno_of(lambda: unmap(DIRTY, argsz=47)) == errno.EINVAL
        assert errno_of(lambda: unmap(DIRTY, page=2 * PAGE)) == errno.EINVAL
        assert errno_of(lambda: unmap(DIRTY, room=0)) == errno.EINVAL
        device.dma_write(PAGE, b"x")
        assert unmap(DIRTY) == 4 * PAGE
        assert int.from_bytes(answer.view[:8], sys.byteorder) == 0b10


# ---- memory that moves -----------------------------------------------------------------------------------------------


def test_moving_memory_that_is_refused(vfio_lab: Lab, dma_memory: AnonymousMemory) -> None:
    lab = vfio_lab
    mediated, _ = lab.ready("m0")
    lab.map(mediated, 0, PAGE, dma_memory.address)
    assert errno_of(lab.unmap, mediated, 0, PAGE, VADDR) == errno.EBUSY
    container, _ = lab.ready("p0")
    again = lambda iova, size: lab.map(container, iova, size, dma_memory.address, 4)  # noqa: E731
    assert errno_of(again, FIRST, PAGE) == errno.ENOENT
    lab.map(container, FIRST, 2 * PAGE, dma_memory.address)
    assert errno_of(again, FIRST, 2 * PAGE) == errno.EINVAL  # still valid
    assert lab.unmap(container, FIRST, 2 * PAGE, VADDR) == 2 * PAGE
    assert errno_of(lab.unmap, container, FIRST, 2 * PAGE, VADDR) == errno.EINVAL
    assert errno_of(again, FIRST, PAGE) == errno.EINVAL
    assert errno_of(lab.map, container, FIRST, 2 * PAGE, dma_memory.address) == errno.EEXIST
    assert errno_of(lab.set_container, lab.group("p1"), container) == errno.EBUSY


def test_memory_moves_and_dma_goes_on(vfio_lab: Lab) -> None:
    lab = vfio_lab
    container, _ = lab.ready("p0")
    dma = lab.fake("p0").dma
    assert dma is not None
    with AnonymousMemory(PAGE) as old, AnonymousMemory(PAGE) as new:
        lab.map(container, FIRST, PAGE, old.address)
        lab.map(container, FIRST + PAGE, PAGE, old.address)
        assert lab.unmap(container, 0, 0, ALL | VADDR) == 2 * PAGE
        dma.write(FIRST, b"meanwhile")  # what the IOMMU has stays
        lab.map(container, FIRST, PAGE, new.address, 4)
        dma.write(FIRST, b"moved")
        assert bytes(new.view[:5]) == b"moved"
        assert lab.unmap(container, 0, 0, ALL) == 2 * PAGE
    assert lab.available(container) == 65535
