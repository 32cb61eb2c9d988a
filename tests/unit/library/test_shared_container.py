"""Two devices of one group in a container of the caller's: the group stays until the last of them is closed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.errors import DeviceBusy
from pyvfio.host import Host
from pyvfio.vfio import Container, Device, Group, open_device

ONE, TWO = "0000:00:07.0", "0000:00:07.1"
PAGE = 1 << 12


@pytest.fixture
def host() -> Iterator[Host]:
    with pyvfio.Host("software", machine="lab-x86") as opened:
        for name in (ONE, TWO):
            pyvfio.bind(opened.device(name))
        yield opened


@pytest.fixture
def container(host: Host) -> Iterator[Container]:
    with Container(host) as opened:
        yield opened


@pytest.mark.parametrize("first", [0, 1])
def test_the_one_that_stays_keeps_the_group(host: Host, container: Container, first: int) -> None:
    devices: list[Device] = [open_device(host, name, space=container) for name in (ONE, TWO)]
    gone, stays = devices[first], devices[1 - first]
    memory = stays.space.buffer(PAGE)
    gone.close()
    assert [group.number for group in container.groups] == [stays.group.number if stays.group else None]
    assert container.space.mapping_at(memory.iova) is not None
    with stays.space.buffer(PAGE):
        assert stays.config.vendor_id == 0x1B36
    again = open_device(host, gone.name, space=container)
    assert again.group is stays.group
    stays.close()
    again.close()
    assert container.groups == []
    with Group(host, 4), pytest.raises(DeviceBusy):
        Group(host, 4)
    memory.close()


def test_a_group_of_the_caller_is_not_closed(host: Host, container: Container) -> None:
    with Group(host, 4) as group:
        container.attach(group)
        container.set_iommu()
        for name in (ONE, TWO):
            with open_device(host, name, space=container) as device:
                assert device.group is group
        assert group.fileno() >= 0
        assert container.groups == [group]


def test_a_group_that_another_container_has(host: Host, container: Container) -> None:
    with Container(host) as other, open_device(host, ONE, space=other), pytest.raises(DeviceBusy):
        open_device(host, TWO, space=container)
    with open_device(host, TWO, space=container) as device:
        assert device.group is not None
