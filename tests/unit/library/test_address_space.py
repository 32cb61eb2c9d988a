"""An address space keeps account of what the kernel did, also when that is not what was asked."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from small_machine import BELL, DISK, machine_of

import pyvfio
from pyvfio.errors import Misuse, NotAvailable, PartialUnmap
from pyvfio.process import AnonymousMemory

Boot = Callable[..., pyvfio.Host]
PAGE = 1 << 12


@pytest.fixture
def memory() -> Iterator[AnonymousMemory]:
    with AnonymousMemory(16 * PAGE) as made:
        yield made


@pytest.fixture
def container(boot: Boot) -> Iterator[tuple[pyvfio.Container, pyvfio.Group]]:
    host = boot()
    with pyvfio.Container(host) as opened, pyvfio.Group(host, 0) as group:
        opened.attach(group)
        yield opened, group


def test_before_there_is_an_iommu(container: tuple[pyvfio.Container, pyvfio.Group]) -> None:
    with pytest.raises(Misuse, match="no IOMMU is set"):
        _ = container[0].space


def test_an_iommu_is_set_once(container: tuple[pyvfio.Container, pyvfio.Group]) -> None:
    container[0].set_iommu(2)
    with pytest.raises(Misuse, match="it is set"):
        container[0].set_iommu(1)


def test_an_iommu_without_a_group(boot: Boot) -> None:
    with pyvfio.Container(boot()) as container, pytest.raises(Misuse, match="no group is attached"):
        container.set_iommu()


def test_part_of_a_mapping_in_version_1(
    container: tuple[pyvfio.Container, pyvfio.Group], memory: AnonymousMemory
) -> None:
    space = container[0].set_iommu(1)
    mapping = space.map(memory.address, 4 * PAGE)
    with pytest.raises(PartialUnmap) as caught:
        space.unmap(mapping.iova, PAGE)
    assert (caught.value.asked, caught.value.done) == (PAGE, 4 * PAGE)
    assert space.mappings() == []
    assert space.map(memory.address, 4 * PAGE).iova == mapping.iova


def test_a_range_of_several_mappings(container: tuple[pyvfio.Container, pyvfio.Group], memory: AnonymousMemory) -> None:
    space = container[0].set_iommu(2)
    first = space.ranges()[0].start
    for number in range(4):
        space.map(memory.address + number * PAGE, PAGE, iova=first + number * PAGE)
    assert space.unmap(first + PAGE, 2 * PAGE) == 2 * PAGE
    assert [mapping.iova for mapping in space.mappings()] == [first, first + 3 * PAGE]
    assert space.allocator.allocate(2 * PAGE) == first + PAGE


def test_mappings_come_back_with_the_group(
    container: tuple[pyvfio.Container, pyvfio.Group], memory: AnonymousMemory
) -> None:
    opened, group = container
    space = opened.set_iommu(2)
    mapping = space.map(memory.address, PAGE)
    opened.detach(group)
    with pytest.raises(Misuse, match="no device is in it"):
        space.map(memory.address + PAGE, PAGE)
    assert space.mappings() == [mapping]
    opened.attach(group)
    assert space.mappings() == [mapping]
    assert space.unmap(mapping.iova, PAGE) == PAGE  # the kernel has it again


def test_what_was_unmapped_while_nobody_was_there_stays_so(
    container: tuple[pyvfio.Container, pyvfio.Group], memory: AnonymousMemory
) -> None:
    opened, group = container
    space = opened.set_iommu(2)
    gone, stays = space.map(memory.address, PAGE), space.map(memory.address + PAGE, PAGE)
    opened.detach(group)
    space.unmap(gone.iova, PAGE)
    opened.attach(group)
    assert space.mappings() == [stays]
    assert space.unmap_all() == PAGE


def test_unmap_all_gives_every_address_back(
    container: tuple[pyvfio.Container, pyvfio.Group], memory: AnonymousMemory
) -> None:
    space = container[0].set_iommu(2)
    before = space.allocator.free_bytes
    for number in range(5):
        space.map(memory.address + number * PAGE, PAGE)
    assert space.unmap_all() == 5 * PAGE
    assert (space.mappings(), space.allocator.free_bytes) == ([], before)


def test_a_closed_space(boot: Boot, memory: AnonymousMemory) -> None:
    with pyvfio.open_device(boot(), BELL, way="group") as device:
        space = device.space
    with pytest.raises(Misuse, match="it was closed"):
        space.map(memory.address, PAGE)


def test_which_mapping_holds_an_address(
    container: tuple[pyvfio.Container, pyvfio.Group], memory: AnonymousMemory
) -> None:
    space = container[0].set_iommu(2)
    mapping = space.map(memory.address, 2 * PAGE)
    assert space.holding(mapping.iova + PAGE, PAGE) == mapping
    assert space.mapping_at(mapping.iova) == mapping
    assert space.mapping_at(mapping.iova + PAGE) is None
    for iova, length in ((mapping.iova - 1, 1), (mapping.iova + PAGE, PAGE + 1), (mapping.iova + 2 * PAGE, 1)):
        with pytest.raises(Misuse):
            space.holding(iova, length)


def test_memory_at_a_multiple(boot: Boot) -> None:
    with pyvfio.open_device(boot(), BELL, way="group") as device, device.space.buffer(PAGE):
        for alignment in (None, 1, 4 * PAGE, 1 << 21):
            with device.space.buffer(PAGE, alignment=alignment) as memory:
                assert memory.iova % max(alignment or 0, PAGE) == 0
        with pytest.raises(Misuse, match="makes no sense"):
            device.space.buffer(PAGE, alignment=3 * PAGE)


def test_below_a_limit(boot: Boot) -> None:
    with pyvfio.open_device(boot(), BELL, way="group") as device:
        start = device.space.ranges()[0].start
        with device.space.buffer(PAGE, below=start + 2 * PAGE) as low:
            assert low.iova + low.length <= start + 2 * PAGE
        with pytest.raises(NotAvailable):
            device.space.buffer(PAGE, below=start)
        assert device.space.mappings() == []


def test_mappings_smaller_than_a_page(boot: Boot, memory: AnonymousMemory) -> None:
    # an IOAS without a device takes single bytes; the account must hold all the same
    with pyvfio.Iommufd(boot()) as iommufd, iommufd.allocate() as space:
        assert space.allocator.free_bytes
        first = space.map(memory.address, 16, iova=0x10_0001)
        second = space.map(memory.address + 64, 16, iova=0x10_0020)
        assert [mapping.iova for mapping in space.mappings()] == [0x10_0001, 0x10_0020]
        assert 0x10_0000 not in {space.map(memory.address, PAGE).iova for _ in range(3)}
        space.unmap(first.iova, 16)
        space.unmap(second.iova, 16)
        assert len(space.mappings()) == 3
        space.allocator.reserve(0x10_0000, PAGE)


@pytest.mark.parametrize("way", ["group", "iommufd"])
def test_a_machine_with_larger_pages(boot: Boot, way: str) -> None:
    host = boot(page_size=1 << 16)
    with pyvfio.open_device(host, BELL, way=way) as device:
        assert device.space.granule == 1 << 16
        with device.space.buffer(1) as buffer:
            assert buffer.length == len(buffer.view) == 1 << 16
            assert buffer.iova % (1 << 16) == buffer.address % (1 << 16) == 0


def test_a_buffer_whose_view_is_still_used(boot: Boot) -> None:
    with pyvfio.open_device(boot(), BELL) as device:
        buffer = device.space.buffer(PAGE)
        part = buffer.view[:16]
        with pytest.raises(BufferError):
            buffer.close()
        assert device.space.mappings() == []  # no device sees it any more
        part.release()
        buffer.close()
        with pytest.raises(ValueError, match="closed"):
            _ = buffer.view


def test_an_address_space_of_another_kind(boot: Boot) -> None:
    host = boot()
    pyvfio.bind(host.function(DISK))
    with pyvfio.open_device(host, BELL, way="group") as device:
        with pytest.raises(pyvfio.PyvfioError, match="shared by its Container"):
            pyvfio.open_device(host, DISK, space=device.space)


def test_the_closing_order(boot: Boot) -> None:
    host = boot()
    faults = machine_of(host).faults
    with pyvfio.open_device(host, BELL, way="group") as device:
        device.space.buffer(PAGE)
        faults.log = []
    calls = [(verb, path) for verb, path in faults.log if verb in ("close", "ioctl")]
    unmap = ("ioctl", "/dev/vfio/vfio")
    assert calls[0] == ("close", "anon_inode:[vfio-device]")
    assert unmap in calls[1:]
    assert calls[-3:] == [("ioctl", "/dev/vfio/0"), ("close", "/dev/vfio/0"), ("close", "/dev/vfio/vfio")]


@pytest.mark.parametrize(
    ("machine", "name", "way"),
    [
        ("q35-switch", "0000:00:02.0", "iommufd"),
        ("q35-switch", "0000:00:02.0", "group"),
        ("power9-phb4", "0000:01:00.0", "group"),
    ],
)
def test_threads_map_and_unmap_at_once(machine: str, name: str, way: str) -> None:
    wrong: list[BaseException] = []
    with pyvfio.Host("software", machine=machine) as host:
        pyvfio.bind(host.device(name))
        with pyvfio.open_device(host, name, way=way) as device:

            def work() -> None:
                try:
                    for _ in range(100):
                        device.space.buffer(1 << 16).close()
                except Exception as error:  # all of them are wrong here
                    wrong.append(error)

            threads = [threading.Thread(target=work) for _ in range(4)]
            before = sys.getswitchinterval()
            sys.setswitchinterval(1e-5)
            try:
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
            finally:
                sys.setswitchinterval(before)
            assert wrong == []
            assert device.space.mappings() == []
