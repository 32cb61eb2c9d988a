"""bind: a driver takes a device by name."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EBUSY, ENODEV

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab

VFIO = "/sys/bus/pci/drivers/vfio-pci"


@pytest.fixture(scope="module")
def driverless(backend: Backend, sysfs: Attributes, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The PCI function without a driver."""
    device = BoundFunction(backend, lab.pci)
    device.unbind()
    yield device
    device.restore()


@pytest.mark.parametrize(
    "name",
    ["ffff:00:00.0", "nonsense", "\n", "0.0.0000", " {pci}", "{pci} ", "{pci}\n\n", "{pci}x"],
    ids=["absent", "nonsense", "newline", "other-bus", "blank-before", "blank-after", "two-newlines", "longer"],
)
def test_a_name_that_is_no_device(sysfs: Attributes, driverless: BoundFunction, name: str) -> None:
    with fails(ENODEV):
        sysfs.write(f"{VFIO}/bind", name.format(pci=driverless.address))
    assert driverless.driver is None


def test_no_id_and_no_override(sysfs: Attributes, driverless: BoundFunction) -> None:
    with fails(ENODEV):
        sysfs.write(f"{VFIO}/bind", driverless.address)


def test_override_names_another_driver(sysfs: Attributes, driverless: BoundFunction) -> None:
    sysfs.write(f"{driverless.path}/driver_override", "contract-none")
    try:
        for driver in ("vfio-pci", driverless.driver_before):
            with fails(ENODEV):
                sysfs.write(f"/sys/bus/pci/drivers/{driver}/bind", driverless.address)
    finally:
        sysfs.write(f"{driverless.path}/driver_override", "\n")


def test_bound_to_another_driver(sysfs: Attributes, driverless: BoundFunction) -> None:
    own = f"/sys/bus/pci/drivers/{driverless.driver_before}"
    sysfs.write(f"{own}/bind", driverless.address)
    sysfs.write(f"{driverless.path}/driver_override", "vfio-pci")
    try:
        with fails(EBUSY):
            sysfs.write(f"{VFIO}/bind", driverless.address)
        assert driverless.driver == driverless.driver_before
    finally:
        sysfs.write(f"{driverless.path}/driver_override", "\n")
        sysfs.write(f"{own}/unbind", driverless.address)


def test_bound_to_the_same_driver(sysfs: Attributes, driverless: BoundFunction) -> None:
    sysfs.write(f"{driverless.path}/driver_override", "vfio-pci")
    sysfs.write(f"{VFIO}/bind", driverless.address)
    try:
        with fails(EBUSY):
            sysfs.write(f"{VFIO}/bind", driverless.address)
    finally:
        sysfs.write(f"{VFIO}/unbind", driverless.address)
        sysfs.write(f"{driverless.path}/driver_override", "\n")


@pytest.mark.parametrize("ending", ["", "\n", "\0"], ids=["plain", "newline", "zero-byte"])
def test_it_takes_the_whole_text(sysfs: Attributes, driverless: BoundFunction, ending: str) -> None:
    text = driverless.address + ending
    own = f"/sys/bus/pci/drivers/{driverless.driver_before}"
    assert sysfs.write(f"{own}/bind", text) == len(text)
    assert driverless.driver == driverless.driver_before
    assert driverless.address in sysfs.backend.listdir(own)
    assert sysfs.write(f"{own}/unbind", text) == len(text)
    assert driverless.driver is None


@pytest.mark.usefixtures("iommufd")
def test_what_vfio_pci_makes(sysfs: Attributes, driverless: BoundFunction) -> None:
    nodes = set(sysfs.backend.listdir("/dev/vfio"))
    sysfs.write(f"{driverless.path}/driver_override", "vfio-pci")
    assert sysfs.write(f"{VFIO}/bind", driverless.address) == len(driverless.address)
    try:
        assert driverless.driver == "vfio-pci"
        assert set(sysfs.backend.listdir("/dev/vfio")) - nodes >= {str(driverless.group_number)}
        assert sysfs.exists(driverless.cdev)
        assert sysfs.exists(f"/sys/class/vfio/{driverless.group_number}")
        assert sysfs.exists(f"/sys/class/vfio-dev/{driverless.cdev.rsplit('/', 1)[-1]}")
    finally:
        sysfs.write(f"{VFIO}/unbind", driverless.address)
        sysfs.write(f"{driverless.path}/driver_override", "\n")
    assert set(sysfs.backend.listdir("/dev/vfio")) == nodes
    assert not sysfs.exists(f"{driverless.path}/vfio-dev")


def test_a_mediated_device_driver_takes_no_function(sysfs: Attributes, driverless: BoundFunction) -> None:
    if not sysfs.exists("/sys/bus/mdev/drivers/vfio_ccw_mdev"):
        pytest.skip("this kernel has no driver of mediated channel devices")
    with fails(ENODEV):
        sysfs.write("/sys/bus/mdev/drivers/vfio_ccw_mdev/bind", driverless.address)


def test_an_empty_name(sysfs: Attributes, driverless: BoundFunction) -> None:
    assert sysfs.write(f"{VFIO}/bind", b"") == 0
    with fails(ENODEV):
        sysfs.write(f"{VFIO}/bind", b"\0")
