"""drivers_probe and drivers_autoprobe of a bus."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EACCES, ENODEV

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab

PROBE = "/sys/bus/pci/drivers_probe"
AUTOPROBE = "/sys/bus/pci/drivers_autoprobe"


@pytest.fixture
def device(backend: Backend, sysfs: Attributes, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The PCI function without a driver."""
    found = BoundFunction(backend, lab.pci)
    autoprobe = sysfs.read(AUTOPROBE)
    found.unbind()
    yield found
    sysfs.write(AUTOPROBE, autoprobe)
    found.restore()


@pytest.mark.parametrize("name", ["ffff:00:00.0", "nonsense", "\n", "0.0.0000"])
def test_a_name_that_is_no_device(sysfs: Attributes, pci_path: str, name: str) -> None:
    with fails(ENODEV):
        sysfs.write(PROBE, name)


def test_it_cannot_be_read(sysfs: Attributes) -> None:
    with fails(EACCES):
        sysfs.read(PROBE)


def test_no_driver_is_no_error(sysfs: Attributes, device: BoundFunction) -> None:
    # what makes people believe that the probe worked
    sysfs.write(f"{device.path}/driver_override", "contract-none")
    assert sysfs.write(PROBE, device.address) == len(device.address)
    assert device.driver is None


def test_the_driver_of_the_ids(sysfs: Attributes, device: BoundFunction) -> None:
    assert sysfs.write(PROBE, device.address) == len(device.address)
    assert device.driver == device.driver_before


def test_the_driver_of_the_override(sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(f"{device.path}/driver_override", "vfio-pci")
    sysfs.write(PROBE, device.address + "\n")
    assert device.driver == "vfio-pci"


def test_a_bound_device_stays(sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(PROBE, device.address)
    sysfs.write(f"{device.path}/driver_override", "vfio-pci")
    assert sysfs.write(PROBE, device.address) == len(device.address)
    assert device.driver == device.driver_before


@pytest.mark.parametrize(("text", "reads"), [("0", "0"), ("1", "1"), ("0\n", "0"), ("7", "1")])
def test_autoprobe(sysfs: Attributes, device: BoundFunction, text: str, reads: str) -> None:
    assert sysfs.write(AUTOPROBE, text) == len(text)
    assert sysfs.read(AUTOPROBE) == reads


def test_autoprobe_does_not_forbid_a_probe(sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(AUTOPROBE, "0")
    sysfs.write(PROBE, device.address)
    assert device.driver == device.driver_before


def test_autoprobe_is_not_for_devices_that_are_there(sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(AUTOPROBE, "0")
    sysfs.write(AUTOPROBE, "1")
    assert device.driver is None
