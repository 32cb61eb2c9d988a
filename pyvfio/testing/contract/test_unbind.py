"""unbind: a driver lets a device go."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EACCES, ENODEV

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab


@pytest.fixture
def device(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The PCI function, with the driver that the host gave it."""
    found = BoundFunction(backend, lab.pci)
    yield found
    found.restore()


@pytest.mark.parametrize("name", ["ffff:00:00.0", "nonsense", "\n"], ids=["absent", "nonsense", "newline"])
def test_a_name_that_is_no_device(sysfs: Attributes, device: BoundFunction, name: str) -> None:
    with fails(ENODEV):
        sysfs.write(f"/sys/bus/pci/drivers/{device.driver}/unbind", name)


def test_a_device_of_another_driver(sysfs: Attributes, device: BoundFunction) -> None:
    with fails(ENODEV):
        sysfs.write("/sys/bus/pci/drivers/vfio-pci/unbind", device.address)
    assert device.driver == device.driver_before


def test_a_device_without_driver(sysfs: Attributes, device: BoundFunction) -> None:
    device.unbind()
    with fails(ENODEV):
        sysfs.write(f"/sys/bus/pci/drivers/{device.driver_before}/unbind", device.address)


def test_it_cannot_be_read(sysfs: Attributes, device: BoundFunction) -> None:
    with fails(EACCES):
        sysfs.read(f"{device.path}/driver/unbind")


def test_the_links_go(sysfs: Attributes, device: BoundFunction) -> None:
    driver = f"/sys/bus/pci/drivers/{device.driver}"
    assert device.address in sysfs.backend.listdir(driver)
    assert sysfs.write(f"{driver}/unbind", device.address) == len(device.address)
    assert not sysfs.exists(f"{device.path}/driver")
    assert device.address not in sysfs.backend.listdir(driver)


def test_through_the_link_of_the_device(sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(f"{device.path}/driver/unbind", device.address)
    assert device.driver is None


def test_the_override_stays(sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(f"{device.path}/driver_override", "vfio-pci")
    device.unbind()
    assert sysfs.read(f"{device.path}/driver_override") == "vfio-pci"


def test_the_children_go(sysfs: Attributes, device: BoundFunction) -> None:
    before = set(sysfs.backend.listdir(device.path))
    device.unbind()
    gone = before - set(sysfs.backend.listdir(device.path))
    assert "driver" in gone
    assert not set(sysfs.backend.listdir(device.path)) - before


@pytest.mark.parametrize("member", ["iommu_group", "subsystem"])
def test_what_belongs_to_the_device_stays(sysfs: Attributes, device: BoundFunction, member: str) -> None:
    before = sysfs.link(f"{device.path}/{member}")
    device.unbind()
    assert sysfs.link(f"{device.path}/{member}") == before
