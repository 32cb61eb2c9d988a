"""The ways into a device through the library: which is taken, why not the others, and descriptors of other programs."""

from __future__ import annotations

import os
import socket

import pytest

import pyvfio
from pyvfio.errors import DeviceBusy, KernelRefused, Misuse, NotAvailable
from pyvfio.host import Host
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.modes import require_mode
from pyvfio.testing.plugin import Lab
from pyvfio.vfio import Device
from pyvfio.vfio.ways import Obstacle, Way, ways


def by_name(found: list[Way] | tuple[Way, ...]) -> dict[str, Way]:
    return {way.name: way for way in found}


def test_a_device_that_has_an_iommu_needs_no_other_way(host: Host, function: BoundFunction) -> None:
    with pytest.raises(Misuse, match="IOMMU group"):
        pyvfio.open_device(host, function.address, way="noiommu")


@pytest.mark.parametrize("fd", [-1, 1 << 20])
def test_a_descriptor_that_is_not_open(host: Host, function: BoundFunction, fd: int) -> None:
    with pytest.raises(Misuse):
        pyvfio.open_device(host, function.address, fd=fd)


@pytest.mark.usefixtures("iommufd")
def test_a_descriptor_of_another_file(host: Host, function: BoundFunction, files: OpenFiles) -> None:
    container = files.open("/dev/vfio/vfio")
    for fd in (container, files.open("/dev/iommu")):
        with pytest.raises((KernelRefused, Misuse)):
            pyvfio.open_device(host, function.address, fd=fd)
        assert os.fstat(fd)


@pytest.mark.usefixtures("iommufd")
def test_a_descriptor_and_a_way_for_groups(host: Host, function: BoundFunction, files: OpenFiles) -> None:
    node = files.open(function.cdev)
    with pytest.raises(Misuse):
        pyvfio.open_device(host, function.address, fd=node, way="group")
    with pyvfio.Container(host) as container, pytest.raises(Misuse):
        pyvfio.open_device(host, function.address, fd=node, space=container)


@pytest.mark.usefixtures("iommufd")
def test_a_descriptor_of_a_device_in_use_by_group(host: Host, function: BoundFunction, files: OpenFiles) -> None:
    with pyvfio.open_device(host, function.address, way="group"):
        node = files.open(function.cdev)
        with pytest.raises(DeviceBusy):
            pyvfio.open_device(host, function.address, fd=node)
        assert os.fstat(node)  # it is still the caller's


def test_ways_without_a_vfio_driver(host: Host, lab: Lab) -> None:
    for other in host.functions():
        if other.driver not in (None, "vfio-pci"):
            found = by_name(ways(other))
            assert {name: found[name].obstacle for name in ("iommufd", "group")} == {
                "iommufd": Obstacle.NO_DRIVER,
                "group": Obstacle.NO_DRIVER,
            }
            assert not found["noiommu"].open
            with pytest.raises(NotAvailable, match=r"no VFIO driver has .*\n.*next: +pyvfio bind"):
                pyvfio.open_device(host, other)
            return
    pytest.skip("every function of this host is vfio-pci's")


@pytest.mark.usefixtures("iommufd")
def test_ways_of_a_function(host: Host, function: BoundFunction) -> None:
    found = by_name(ways(host.device(function.address)))
    assert (found["iommufd"].obstacle, found["iommufd"].node) == (None, function.cdev)
    assert (found["group"].obstacle, found["group"].node) == (None, function.group)
    assert found["noiommu"].obstacle is Obstacle.HAS_IOMMU
    assert found["iommufd"].as_dict()["open"] is True


@pytest.mark.usefixtures("iommufd")
def test_which_way_was_taken_and_why_not_the_others(host: Host, function: BoundFunction) -> None:
    with pyvfio.open_device(host, function.address) as opened:
        found = by_name(opened.ways)
        assert (opened.way, found["iommufd"].open) == ("iommufd", True)
        assert (found["group"].obstacle, found["group"].reason) == (Obstacle.NOT_NEEDED, "iommufd was taken")
        assert found["noiommu"].obstacle is Obstacle.HAS_IOMMU
    with pyvfio.open_device(host, function.address, way="group") as opened:
        found = by_name(opened.ways)
        assert (opened.way, opened.space.kind, opened.why) == ("group", "type1v2", "asked for")
        assert found["iommufd"].obstacle is Obstacle.NOT_NEEDED


@pytest.mark.parametrize("kind", ["type1", "type1v2"])
def test_a_version_of_type_1_that_is_insisted_on(host: Host, function: BoundFunction, kind: str) -> None:
    require_mode(host.backend, kind)
    with pyvfio.open_device(host, function.address, way=kind) as opened:
        assert (opened.way, opened.space.kind) == ("group", kind)


def works(device: Device) -> bool:
    return device.config.vendor_id == int.from_bytes(device.config.read(0, 2), "little") != 0xFFFF


@pytest.mark.usefixtures("iommufd")
def test_a_descriptor_of_the_devices_node(host: Host, function: BoundFunction, page: int) -> None:
    node = host.backend.open(function.cdev, os.O_RDWR)
    with pyvfio.open_device(host, function.address, fd=node) as opened:
        assert (opened.way, opened.fileno()) == ("iommufd", node)
        assert works(opened)
        with opened.space.buffer(page) as memory:
            assert memory.iova


@pytest.mark.usefixtures("iommufd")
def test_one_that_came_over_a_socket_with_an_iommufd(host: Host, function: BoundFunction, page: int) -> None:
    """As a manager gives both to a program that may open neither."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        node, iommu = (host.backend.open(path, os.O_RDWR) for path in (function.cdev, "/dev/iommu"))
        socket.send_fds(ours, [b"device"], [node, iommu])
        _, received, _, _ = socket.recv_fds(theirs, 16, 2)
    with (
        pyvfio.Iommufd(host, fd=received[1]) as iommufd,
        iommufd.allocate() as space,
        pyvfio.open_device(host, function.address, fd=received[0], space=space) as opened,
        space.buffer(page) as memory,
    ):
        host.backend.close(node)
        host.backend.close(iommu)
        assert works(opened)
        assert opened.space is space
        assert space.mapping_at(memory.iova) is not None


def test_one_that_may_be_used_already(host: Host, function: BoundFunction, way: str, page: int) -> None:
    with pyvfio.open_device(host, function.address, way=way) as opener:
        copy = os.dup(opener.fileno())
        with pyvfio.open_device(host, function.address, fd=copy) as opened:
            assert opened.way == "handed-over"
            assert works(opened)
            with pytest.raises(Misuse, match="who opened the device has its address space"):
                opened.space.buffer(page)
        assert works(opener)


def test_memory_of_a_bar_is_exported_by_later_kernels(host: Host, function: BoundFunction) -> None:
    with pyvfio.open_device(host, function.address) as opened:
        bar = max((opened.bar(number) for number in range(6)), key=lambda region: region.size)
        with pytest.raises(NotAvailable, match=r"6\.19") as caught:
            opened.export_dma_buf(bar.index)
        assert caught.value.errno_name == "ENOTTY"


def test_one_that_may_be_used_already_has_an_address_space(host: Host, function: BoundFunction, way: str) -> None:
    with pyvfio.open_device(host, function.address, way=way) as opener:
        copy = os.dup(opener.fileno())
        with pytest.raises(Misuse, match="address space"):
            pyvfio.open_device(host, function.address, fd=copy, space=opener.space)
        host.backend.close(copy)
