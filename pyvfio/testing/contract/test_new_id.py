"""new_id and remove_id of a PCI driver: dynamic identities, which the library never uses but others do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from errno import EEXIST, EINVAL, ENODEV

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab

VFIO = "/sys/bus/pci/drivers/vfio-pci"
NOBODY = "fffe fffd"


@pytest.fixture
def device(backend: Backend, sysfs: Attributes, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    found = BoundFunction(backend, lab.pci)
    yield found
    for identity in (NOBODY, identity_of(sysfs, found)):
        with suppress(OSError):
            sysfs.write(f"{VFIO}/remove_id", identity)
    found.restore()


def identity_of(sysfs: Attributes, device: BoundFunction) -> str:
    return " ".join(sysfs.read(f"{device.path}/{name}")[2:] for name in ("vendor", "device"))


@pytest.mark.parametrize("text", ["", "nonsense", "1af4", "\n", "zz zz"])
@pytest.mark.parametrize("file", ["new_id", "remove_id"])
def test_what_is_no_identity(sysfs: Attributes, device: BoundFunction, file: str, text: str) -> None:
    if not text:
        assert sysfs.write(f"{VFIO}/{file}", text) == 0
        return
    with fails(EINVAL):
        sysfs.write(f"{VFIO}/{file}", text)


def test_remove_what_is_not_there(sysfs: Attributes, device: BoundFunction) -> None:
    with fails(ENODEV):
        sysfs.write(f"{VFIO}/remove_id", NOBODY)


def test_twice(sysfs: Attributes, device: BoundFunction) -> None:
    assert sysfs.write(f"{VFIO}/new_id", NOBODY) == len(NOBODY)
    with fails(EEXIST):
        sysfs.write(f"{VFIO}/new_id", NOBODY)


def test_remove_once(sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(f"{VFIO}/new_id", NOBODY)
    assert sysfs.write(f"{VFIO}/remove_id", NOBODY) == len(NOBODY)
    with fails(ENODEV):
        sysfs.write(f"{VFIO}/remove_id", NOBODY)


def test_a_bound_device_stays(sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(f"{VFIO}/new_id", identity_of(sysfs, device))
    assert device.driver == device.driver_before


def test_a_device_without_driver_is_taken_at_once(sysfs: Attributes, device: BoundFunction) -> None:
    device.unbind()
    sysfs.write(f"{VFIO}/new_id", identity_of(sysfs, device))
    assert device.driver == "vfio-pci"


def test_the_identity_allows_bind(sysfs: Attributes, device: BoundFunction) -> None:
    identity = identity_of(sysfs, device)
    sysfs.write(f"{VFIO}/new_id", identity)
    device.unbind()
    sysfs.write(f"{VFIO}/bind", device.address)
    assert device.driver == "vfio-pci"
    device.unbind()
    sysfs.write(f"{VFIO}/remove_id", identity)
    with fails(ENODEV):
        sysfs.write(f"{VFIO}/bind", device.address)


def test_removal_leaves_the_device_bound(sysfs: Attributes, device: BoundFunction) -> None:
    identity = identity_of(sysfs, device)
    device.unbind()
    sysfs.write(f"{VFIO}/new_id", identity)
    sysfs.write(f"{VFIO}/remove_id", identity)
    assert device.driver == "vfio-pci"


def test_an_override_is_stronger(sysfs: Attributes, device: BoundFunction) -> None:
    device.unbind()
    sysfs.write(f"{device.path}/driver_override", "contract-none")
    sysfs.write(f"{VFIO}/new_id", identity_of(sysfs, device))
    assert device.driver is None
