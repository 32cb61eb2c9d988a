"""Mediated devices through the library: types, plans, attributes, and the definitions of active ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pyvfio.binding import run, undo
from pyvfio.binding.mediated import mdev_parent, plan_mdev_attributes, plan_mdev_create, plan_mdev_remove
from pyvfio.errors import DeviceBusy, NoSuchDevice, StepFailed
from pyvfio.host import Host
from pyvfio.mdev import free_parent
from pyvfio.mdev_attributes import attributes_of
from pyvfio.persistence import PersistentMdev, definition_of
from pyvfio.testing.devices import MDEV_UUID, BoundMdev, BoundSubchannel

TYPE = "vfio_ccw-io"
OTHER = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def parent(host: Host, subchannel: BoundSubchannel) -> Iterator[str]:
    """The name of a parent; no mediated device is left afterwards."""
    yield subchannel.address
    for device in host.mdevs():
        BoundMdev(host.backend, device.name).remove()


def test_no_such_parent(host: Host, parent: str) -> None:
    with pytest.raises(NoSuchDevice, match=parent):
        mdev_parent(host.sysfs, "no-such-parent")
    with pytest.raises(NoSuchDevice):
        plan_mdev_create(host, TYPE, "no-such-parent")


def test_no_such_type(host: Host, parent: str) -> None:
    with pytest.raises(NoSuchDevice, match=TYPE):
        plan_mdev_create(host, "no-such-type", parent)
    with pytest.raises(NoSuchDevice, match=TYPE):
        free_parent(host.sysfs, "no-such-type")


def test_no_instance_left(host: Host, parent: str) -> None:
    run(plan_mdev_create(host, TYPE, parent, uuid=MDEV_UUID), journal=None)
    with pytest.raises(DeviceBusy, match=MDEV_UUID):
        plan_mdev_create(host, TYPE, parent, uuid=OTHER)
    with pytest.raises(DeviceBusy, match=MDEV_UUID):
        free_parent(host.sysfs, TYPE)


def test_an_attribute_that_it_has_not(host: Host, parent: str) -> None:
    with pytest.raises(StepFailed):
        run(plan_mdev_create(host, TYPE, parent, uuid=MDEV_UUID, attributes=[("no_such", "1")]), journal=None)
    assert host.mdevs() == []
    run(plan_mdev_create(host, TYPE, parent, uuid=MDEV_UUID), journal=None)
    with pytest.raises(NoSuchDevice):
        plan_mdev_attributes(host.mdev(MDEV_UUID), [("no_such", "1")])


def test_remove_of_one_that_is_open(host: Host, parent: str) -> None:
    run(plan_mdev_create(host, TYPE, parent, uuid=MDEV_UUID), journal=None)
    device = host.mdev(MDEV_UUID)
    group = device.group
    assert group is not None
    node = f"/dev/vfio/devices/{device.vfio_name}"
    fd = host.backend.open(node, 2)
    try:
        assert node in str(plan_mdev_remove(device))
        with pytest.raises(DeviceBusy, match=node):
            run(plan_mdev_remove(device), journal=None)
        assert device.exists
    finally:
        host.backend.close(fd)


def test_the_types_of_a_parent(host: Host, parent: str) -> None:
    (kind,) = mdev_parent(host.sysfs, parent).types()
    facts = kind.as_dict()
    assert facts == {
        "parent": parent,
        "type": TYPE,
        "device_api": "vfio-ccw",
        "available_instances": 1,
        "name": "I/O subchannel (Non-QDIO)",
        "description": "",
        "devices": [],
    }


def test_create_on_a_parent_with_room(host: Host, parent: str) -> None:
    plan = plan_mdev_create(host, TYPE, uuid=MDEV_UUID)
    assert host.mdevs() == []
    run(plan, journal=None)
    device = host.mdev(MDEV_UUID)
    assert (device.parent.name, device.type.id) == (parent, TYPE)
    assert plan_mdev_create(host, TYPE, uuid=MDEV_UUID).empty
    undo(plan)
    assert host.mdevs() == []
    assert free_parent(host.sysfs, TYPE).device.name == parent


def test_it_has_no_attributes_of_its_own(host: Host, parent: str) -> None:
    run(plan_mdev_create(host, TYPE, parent, uuid=MDEV_UUID), journal=None)
    assert attributes_of(host.mdev(MDEV_UUID)) == []


def test_remove_and_back(host: Host, parent: str) -> None:
    run(plan_mdev_create(host, TYPE, parent, uuid=MDEV_UUID), journal=None)
    device = host.mdev(MDEV_UUID)
    plan = plan_mdev_remove(device)
    run(plan, journal=None)
    assert host.mdevs() == []
    undo(plan)
    assert device.exists
    assert device.parent.name == parent


def test_the_definition_of_an_active_one(host: Host, parent: str) -> None:
    run(plan_mdev_create(host, TYPE, parent, uuid=MDEV_UUID), journal=None)
    device = host.mdev(MDEV_UUID)
    assert definition_of(device, "auto") == PersistentMdev(device.address, parent, TYPE, "auto")
