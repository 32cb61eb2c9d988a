"""Mediated devices: types, create and remove."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EACCES, EEXIST, EINVAL, ENOENT, EUSERS

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import MDEV_UUID, BoundMdev, BoundSubchannel
from pyvfio.testing.expect import fails

OTHER = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def types(sysfs: Attributes, subchannel: BoundSubchannel) -> Iterator[str]:
    """The directory of vfio_ccw's type; no mediated device is left afterwards."""
    yield subchannel.types
    for uuid in sysfs.backend.listdir("/sys/bus/mdev/devices"):
        BoundMdev(sysfs.backend, uuid).remove()


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "\n",
        MDEV_UUID[:-1],
        MDEV_UUID.replace("-", ""),
        MDEV_UUID + "xy",
        MDEV_UUID.replace("6", "g"),
        "{" + MDEV_UUID + "}",
        MDEV_UUID.replace("-", "_"),
    ],
    ids=["nonsense", "newline", "short", "no-dashes", "long", "no-hex", "braces", "underscores"],
)
def test_what_is_no_uuid(sysfs: Attributes, types: str, text: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"{types}/create", text)
    assert sysfs.read(f"{types}/available_instances") == "1"


def test_create_cannot_be_read(sysfs: Attributes, types: str) -> None:
    with fails(EACCES):
        sysfs.read(f"{types}/create")


@pytest.mark.parametrize("name", ["available_instances", "device_api", "name"])
def test_what_cannot_be_written(sysfs: Attributes, types: str, name: str) -> None:
    with fails(EACCES):
        sysfs.write(f"{types}/{name}", "1")


def test_the_same_uuid(sysfs: Attributes, types: str) -> None:
    sysfs.write(f"{types}/create", MDEV_UUID)
    with fails(EEXIST):
        sysfs.write(f"{types}/create", MDEV_UUID)


def test_a_second_one_on_the_subchannel(sysfs: Attributes, types: str) -> None:
    sysfs.write(f"{types}/create", MDEV_UUID)
    with fails(EUSERS):
        sysfs.write(f"{types}/create", OTHER)
    assert sysfs.backend.listdir("/sys/bus/mdev/devices") == [MDEV_UUID]


@pytest.mark.parametrize("text", ["0", "0\n"])
def test_remove_with_zero_removes_nothing(sysfs: Attributes, types: str, text: str) -> None:
    sysfs.write(f"{types}/create", MDEV_UUID)
    assert sysfs.write(f"/sys/bus/mdev/devices/{MDEV_UUID}/remove", text) == len(text)
    assert sysfs.exists(f"/sys/bus/mdev/devices/{MDEV_UUID}")


@pytest.mark.parametrize("text", ["yes", "\n"])
def test_remove_with_no_number(sysfs: Attributes, types: str, text: str) -> None:
    sysfs.write(f"{types}/create", MDEV_UUID)
    with fails(EINVAL):
        sysfs.write(f"/sys/bus/mdev/devices/{MDEV_UUID}/remove", text)


def test_remove_twice(sysfs: Attributes, types: str) -> None:
    sysfs.write(f"{types}/create", MDEV_UUID)
    sysfs.write(f"/sys/bus/mdev/devices/{MDEV_UUID}/remove", "1")
    with fails(ENOENT):
        sysfs.write(f"/sys/bus/mdev/devices/{MDEV_UUID}/remove", "1")


def test_the_type(sysfs: Attributes, types: str, subchannel: BoundSubchannel) -> None:
    assert sysfs.backend.listdir(f"{subchannel.path}/mdev_supported_types") == ["vfio_ccw-io"]
    assert sysfs.read(f"{types}/name") == "I/O subchannel (Non-QDIO)"
    assert sysfs.read(f"{types}/device_api") == "vfio-ccw"
    assert sysfs.read(f"{types}/available_instances") == "1"
    assert sorted(sysfs.backend.listdir(types)) == ["available_instances", "create", "device_api", "devices", "name"]


def test_the_parent_is_listed(sysfs: Attributes, types: str, subchannel: BoundSubchannel) -> None:
    assert subchannel.address in sysfs.backend.listdir("/sys/class/mdev_bus")


@pytest.mark.parametrize(
    "text",
    # the kernel allows one byte after the UUID and does not look at it
    [MDEV_UUID, MDEV_UUID + "\n", MDEV_UUID + "x", MDEV_UUID.upper()],
    ids=["plain", "newline", "any-byte", "upper"],
)
def test_create(sysfs: Attributes, types: str, subchannel: BoundSubchannel, text: str) -> None:
    assert sysfs.write(f"{types}/create", text) == len(text)
    assert sysfs.read(f"{types}/available_instances") == "0"
    assert sysfs.backend.listdir(f"{types}/devices") == [MDEV_UUID]
    assert sysfs.backend.listdir("/sys/bus/mdev/devices") == [MDEV_UUID]
    assert sysfs.backend.readlink(f"/sys/bus/mdev/devices/{MDEV_UUID}").endswith(f"/{subchannel.address}/{MDEV_UUID}")


def test_what_it_has(backend: Backend, sysfs: Attributes, types: str, subchannel: BoundSubchannel) -> None:
    made = subchannel.create()
    assert {"driver", "iommu_group", "mdev_type", "remove", "subsystem", "uevent"} <= set(backend.listdir(made.path))
    assert sysfs.link(f"{made.path}/driver") == "vfio_ccw_mdev"
    assert sysfs.link(f"{made.path}/mdev_type") == "vfio_ccw-io"
    assert sysfs.exists(made.group)
    assert sysfs.exists(made.cdev)
    assert sysfs.read(f"/sys/kernel/iommu_groups/{made.group_number}/name") == "vfio-noiommu"
    assert backend.listdir(f"/sys/kernel/iommu_groups/{made.group_number}/devices") == [MDEV_UUID]


def test_remove(backend: Backend, sysfs: Attributes, types: str, subchannel: BoundSubchannel) -> None:
    nodes = set(backend.listdir("/dev/vfio"))
    made = subchannel.create()
    group = made.group
    assert sysfs.write(f"{made.path}/remove", "1\n") == 2
    assert not sysfs.exists(made.path)
    assert not sysfs.exists(group)
    assert set(backend.listdir("/dev/vfio")) == nodes
    assert sysfs.read(f"{types}/available_instances") == "1"


def test_it_goes_with_its_parent(backend: Backend, sysfs: Attributes, types: str, subchannel: BoundSubchannel) -> None:
    subchannel.create()
    subchannel.unbind()
    try:
        assert backend.listdir("/sys/bus/mdev/devices") == []
        assert not sysfs.exists(f"{subchannel.path}/mdev_supported_types")
        assert subchannel.address not in backend.listdir("/sys/class/mdev_bus")
    finally:
        subchannel.probe("vfio_ccw")


def test_no_ccw_device_while_vfio_ccw_has_it(sysfs: Attributes, types: str, subchannel: BoundSubchannel) -> None:
    assert not sysfs.exists(subchannel.ccw)
    assert subchannel.driver == "vfio_ccw"
    assert sysfs.read(f"{subchannel.path}/dev_busid") == subchannel.device_number
