"""Removing a channel device that is open: the request interrupt, a remover that waits, and what works meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EBUSY, EEXIST, EINVAL, ENODEV

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio import CcwIrq, IrqSetFlags
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.caller import Caller
from pyvfio.testing.channel import Channel, sense_id
from pyvfio.testing.devices import BoundMdev, BoundSubchannel
from pyvfio.testing.expect import fails, settles
from pyvfio.testing.modes import IOMMU, MODES, open_device


@pytest.fixture
def device(subchannel: BoundSubchannel) -> Iterator[BoundMdev]:
    """A mediated device for one test."""
    with subchannel.create() as made:
        yield made


def ask(backend: Backend, channel: Channel, event: EventFd) -> None:
    flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
    requests.set_irqs(backend, channel.fd, CcwIrq.REQ, flags, [event.fileno()])


@pytest.mark.parametrize("mode", MODES[1:])  # version 1 runs no programs
def test_remove_waits_until_it_is_closed(backend: Backend, device: BoundMdev, mode: str) -> None:
    with EventFd() as asked, Channel(backend, device, mode) as channel:
        ask(backend, channel, asked)
        remover = Caller(device.remove)
        assert asked.wait(10) == 1
        assert remover.alive
        assert channel.run(sense_id(channel.data)).scsw.ok  # its owner works on
        assert remover.alive
        channel.files.close(channel.fd)
        remover.join()
        assert remover.error is None
        assert not device.sysfs.exists(device.path)


def test_the_uuid_is_taken_meanwhile(backend: Backend, subchannel: BoundSubchannel, device: BoundMdev) -> None:
    with Channel(backend, device) as channel:
        remover = Caller(device.remove)
        settles(lambda: not device.sysfs.exists(f"{device.path}/vfio-dev"), 0.2)
        with fails(EEXIST):
            subchannel.create(device.uuid)
        channel.files.close(channel.fd)
        remover.join()


def test_the_subchannel_waits_too(backend: Backend, subchannel: BoundSubchannel, device: BoundMdev) -> None:
    try:
        with EventFd() as asked, Channel(backend, device) as channel:
            ask(backend, channel, asked)
            remover = Caller(subchannel.unbind)
            assert asked.wait(10) == 1
            assert remover.alive
            channel.files.close(channel.fd)
            remover.join()
        assert subchannel.driver is None
        assert not device.sysfs.exists(device.path)
    finally:
        subchannel.probe("vfio_ccw")


def test_an_open_group_alone_does_not_hold_it(backend: Backend, device: BoundMdev) -> None:
    with OpenFiles(backend) as files:
        group = files.open(device.group)
        device.remove()
        with fails(ENODEV):
            requests.group_flags(backend, group)


def test_an_open_node_holds_it(backend: Backend, device: BoundMdev) -> None:
    with OpenFiles(backend) as files:
        node = files.open(device.cdev)
        remover = Caller(device.remove)
        assert not settles(lambda: not remover.alive, 0.3)
        files.close(node)
        remover.join()


def test_the_group_has_lost_its_device(backend: Backend, device: BoundMdev) -> None:
    with OpenFiles(backend) as files:
        opened = open_device(backend, files, device, "type1v2")
        remover = Caller(device.remove)
        files.close(opened.fd)
        remover.join()
        with fails(ENODEV):
            requests.device_fd(backend, opened.group, device.uuid)


def test_the_group_is_opened_once(backend: Backend, device: BoundMdev) -> None:
    with OpenFiles(backend) as files:
        opened = open_device(backend, files, device, "type1v2")
        with fails(EBUSY):
            files.open(device.group)
        files.adopt(requests.device_fd(backend, opened.group, device.uuid))


def test_group_and_node_exclude_each_other(backend: Backend, device: BoundMdev) -> None:
    with OpenFiles(backend) as files:
        open_device(backend, files, device, "type1v2")
        node = files.open(device.cdev)
        with fails(EBUSY):
            requests.bind_iommufd(backend, node, files.open(IOMMU))
    with OpenFiles(backend) as files:
        open_device(backend, files, device, "iommufd")
        with fails(EBUSY):
            files.open(device.group)


def test_nothing_works_before_bind(backend: Backend, device: BoundMdev) -> None:
    with OpenFiles(backend) as files:
        node = files.open(device.cdev)
        with fails(EINVAL):
            requests.device_info(backend, node)
        with fails(EINVAL):
            backend.pread(node, 4, 0)


def test_detached_it_finds_no_memory(backend: Backend, device: BoundMdev) -> None:
    with Channel(backend, device, "iommufd") as channel:
        requests.detach_iommufd(backend, channel.fd)
        channel.load([sense_id(channel.data)])
        with pytest.raises(FileNotFoundError):
            channel.write(channel.orb())
        requests.attach_iommufd(backend, channel.fd, channel.device.ioas)
        assert channel.run(sense_id(channel.data)).scsw.ok


def test_a_mediated_device_has_all_addresses(backend: Backend, device: BoundMdev) -> None:
    for mode in MODES:
        with OpenFiles(backend) as files:
            assert open_device(backend, files, device, mode).ranges() == [requests.ALL_ADDRESSES]


def test_a_container_with_a_mediated_device_keeps_addresses(backend: Backend, device: BoundMdev) -> None:
    with OpenFiles(backend) as files:
        opened = open_device(backend, files, device, "type1v2")
        assert requests.check_extension(backend, opened.container, vfio.VFIO_UPDATE_VADDR) == 0
