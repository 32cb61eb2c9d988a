"""Address spaces through the library: they outlive devices, are shared by several, and are exchanged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.errors import DeviceBusy, KernelRefused, Misuse
from pyvfio.host import Host
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.modes import require_mode, require_way


@pytest.fixture
def iommufd(host: Host) -> Iterator[pyvfio.Iommufd]:
    require_way(host.backend, "iommufd")
    with pyvfio.Iommufd(host) as opened:
        yield opened


def test_a_device_of_a_group_does_not_change_its_address_space(
    host: Host, function: BoundFunction, iommufd: pyvfio.Iommufd
) -> None:
    with pyvfio.open_device(host, function.address, way="group") as opened, iommufd.allocate() as space:
        with pytest.raises(Misuse, match="by group"):
            opened.attach(space)
        with pytest.raises(Misuse, match="by group"):
            opened.detach()


def test_an_address_space_of_another_iommufd(host: Host, function: BoundFunction, iommufd: pyvfio.Iommufd) -> None:
    with pyvfio.open_device(host, function.address, way="iommufd") as opened, iommufd.allocate() as space:
        before = opened.space
        with pytest.raises(Misuse, match="another iommufd"):
            opened.attach(space)  # its number is that of the device's own address space
        assert opened.space is before


def test_a_device_that_is_exchanged_into_one_that_cannot_hold_its_mappings(
    host: Host, function: BoundFunction, iommufd: pyvfio.Iommufd, page: int
) -> None:
    with iommufd.allocate() as good, iommufd.allocate() as bad:
        with pyvfio.open_device(host, function.address, space=good) as opened:
            first, last = good.ranges()[0].start, good.ranges()[-1].last
            outside = last + 1 if last + 1 < 1 << 60 else first - page
            if outside < 0:
                pytest.skip("this function can map all addresses")
            with bad.buffer(page, iova=outside):
                with pytest.raises(KernelRefused):
                    opened.attach(bad)
                assert opened.space is good
                with good.buffer(page) as memory:
                    assert good.mapping_at(memory.iova) is not None


def test_an_address_space_in_use_is_not_given_up(host: Host, function: BoundFunction, iommufd: pyvfio.Iommufd) -> None:
    space = iommufd.allocate()
    with pyvfio.open_device(host, function.address, space=space), pytest.raises(DeviceBusy) as caught:
        space.table.close()
    assert "a device is attached to it" in caught.value.cause
    space.close()


def test_mappings_outlive_the_devices_of_a_container(
    host: Host, function: BoundFunction, function2: BoundFunction, page: int
) -> None:
    with pyvfio.Container(host) as container:
        with pyvfio.open_device(host, function.address, space=container) as first:
            memory = first.space.buffer(page)
            memory.view[:4] = b"kept"
        for _ in range(2):
            for one in (function2, function):
                with pyvfio.open_device(host, one.address, space=container) as opened:
                    assert opened.space is container.space
                    assert opened.space.mapping_at(memory.iova) is not None
                    with pytest.raises(KernelRefused, match="EEXIST"):  # the kernel has it, too
                        opened.space.map(memory.address, page, iova=memory.iova)
        assert bytes(memory.view[:4]) == b"kept"
        memory.close()


def test_mappings_outlive_the_devices_of_an_ioas(
    host: Host, function: BoundFunction, function2: BoundFunction, iommufd: pyvfio.Iommufd, page: int
) -> None:
    with iommufd.allocate() as space:
        with pyvfio.open_device(host, function.address, space=space):
            memory = space.buffer(page)
        for one in (function2, function):
            with pyvfio.open_device(host, one.address, space=space) as opened:
                assert opened.space is space
                with pytest.raises(KernelRefused, match="EEXIST"):
                    space.map(memory.address, page, iova=memory.iova)
        memory.close()
        assert space.mappings() == []


@pytest.mark.usefixtures("iommufd")
def test_a_device_is_taken_out_and_put_back(host: Host, function: BoundFunction, page: int) -> None:
    with pyvfio.open_device(host, function.address, way="iommufd") as opened, opened.space.buffer(page) as memory:
        opened.detach()
        opened.detach()
        assert opened.space.mapping_at(memory.iova) is not None
        opened.attach(opened.space)
        with pytest.raises(KernelRefused, match="EEXIST"):
            opened.space.map(memory.address, page, iova=memory.iova)


@pytest.mark.parametrize("way", ["group", "type1", "type1v2", "noiommu"])
def test_an_address_space_of_iommufd_and_another_way(
    host: Host, function: BoundFunction, iommufd: pyvfio.Iommufd, way: str
) -> None:
    with iommufd.allocate() as space:
        with pytest.raises(Misuse, match="is of iommufd, and way is"):
            pyvfio.open_device(host, function.address, space=space, way=way)
        with pyvfio.open_device(host, function.address, space=space, way="iommufd") as opened:
            assert opened.way == "iommufd"


@pytest.mark.parametrize("kind", ["type1", "type1v2"])
def test_a_container_and_a_way(host: Host, function: BoundFunction, kind: str) -> None:
    require_mode(host.backend, kind)
    with pyvfio.Container(host) as container:
        for way in ("iommufd", "noiommu"):
            with pytest.raises(Misuse, match="a container was given"):
                pyvfio.open_device(host, function.address, space=container, way=way)
        assert container.groups == []
        with pyvfio.open_device(host, function.address, space=container, way=kind) as opened:
            assert opened.space.kind == kind
        other = "type1" if kind == "type1v2" else "type1v2"
        with pytest.raises(Misuse, match=rf"a container was given \({kind}\), and way is '{other}'"):
            pyvfio.open_device(host, function.address, space=container, way=other)
        with pyvfio.open_device(host, function.address, space=container, way="group") as opened:
            assert opened.way == "group"
