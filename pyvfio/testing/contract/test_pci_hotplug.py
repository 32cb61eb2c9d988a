"""A function that goes and comes: remove and rescan, the slot's power, recover."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import EACCES, EINVAL, EIO, ENOENT

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails, settles
from pyvfio.testing.modes import open_device
from pyvfio.testing.plugin import Lab
from pyvfio.uevent import Uevent

RESCAN = "/sys/bus/pci/rescan"


class Pluggable:
    """A function with its slot; `restore` brings it back with the driver it had."""

    def __init__(self, backend: Backend, sysfs: Attributes, address: str) -> None:
        self.backend, self.sysfs, self.address = backend, sysfs, address
        self.path = f"/sys/bus/pci/devices/{address}"
        self.driver_before = sysfs.link(f"{self.path}/driver")
        slots = backend.listdir("/sys/bus/pci/slots")
        mine = [name for name in slots if sysfs.read(f"/sys/bus/pci/slots/{name}/address") == address.rsplit(".", 1)[0]]
        self.power = f"/sys/bus/pci/slots/{mine[0]}/power" if mine else ""

    def expected(self, *actions: str) -> list[tuple[str, str]]:
        """Events of the function; no driver is bound or unbound that was not there."""
        return [
            (each, self.address) for each in actions if self.driver_before is not None or each not in ("bind", "unbind")
        ]

    def there(self) -> bool:
        return self.sysfs.exists(self.path)

    def restore(self) -> None:
        if not self.there() and self.power and self.sysfs.read(self.power) == "0":
            self.sysfs.write(self.power, "1")
        if not self.there():
            self.sysfs.write(RESCAN, "1")
        assert self.there(), f"{self.address} did not come back"
        assert settles(lambda: self.sysfs.link(f"{self.path}/driver") == self.driver_before)


@pytest.fixture
def plug(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[Pluggable]:
    if not sysfs.exists(f"/sys/bus/pci/devices/{lab.pci2}"):
        pytest.skip(f"this host has no PCI function {lab.pci2}")
    found = Pluggable(backend, sysfs, lab.pci2)
    yield found
    found.restore()


@pytest.fixture
def slot(plug: Pluggable) -> str:
    if not plug.power:
        pytest.skip("the function is in no slot")
    return plug.power


def events(backend: Backend, action: Callable[[], object]) -> list[tuple[str, str]]:
    def known(event: Uevent) -> bool:
        return event.subsystem == "pci"

    with backend.uevents() as stream:
        action()
        return [(event.action, event.name) for event in stream if known(event)]


@pytest.mark.parametrize("text", ["nonsense", "\n", "-1"])
@pytest.mark.parametrize("file", ["remove", "rescan"])
def test_what_is_no_number(sysfs: Attributes, plug: Pluggable, file: str, text: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"{plug.path}/{file}", text)
    assert plug.there()


@pytest.mark.parametrize("file", ["remove", "rescan", "recover"])
def test_what_cannot_be_read(sysfs: Attributes, plug: Pluggable, file: str) -> None:
    if not sysfs.exists(f"{plug.path}/{file}"):
        pytest.skip(f"this function has no {file}")
    with fails(EACCES):
        sysfs.read(f"{plug.path}/{file}")


@pytest.mark.parametrize(("text", "number"), [("2", EINVAL), ("1", EIO)], ids=["2", "on-already"])
def test_power_that_cannot_be(sysfs: Attributes, slot: str, text: str, number: int) -> None:
    with fails(number):
        sysfs.write(slot, text)


def test_power_off_twice(sysfs: Attributes, slot: str) -> None:
    sysfs.write(slot, "0")
    with fails(EIO):
        sysfs.write(slot, "0")


def test_power_of_an_open_function(backend: Backend, sysfs: Attributes, plug: Pluggable, slot: str) -> None:
    with BoundFunction(backend, plug.address) as bound, OpenFiles(backend) as files:
        node = files.open(bound.group)
        assert node >= 0
        sysfs.write(slot, "0")
        assert not plug.there()
        files.close(node)
        sysfs.write(slot, "1")


def test_remove_with_zero_removes_nothing(sysfs: Attributes, plug: Pluggable) -> None:
    assert sysfs.write(f"{plug.path}/remove", "0") == 1
    assert plug.there()


def test_remove_and_rescan(sysfs: Attributes, plug: Pluggable) -> None:
    assert sysfs.write(f"{plug.path}/remove", "1") == 1
    assert not plug.there()
    with fails(ENOENT):
        sysfs.read(f"{plug.path}/vendor")
    assert sysfs.write(RESCAN, "1") == 1
    assert plug.there()
    assert sysfs.link(f"{plug.path}/driver") == plug.driver_before


def test_a_removed_function_leaves_its_group(backend: Backend, sysfs: Attributes, plug: Pluggable) -> None:
    number = sysfs.link(f"{plug.path}/iommu_group")
    sysfs.write(f"{plug.path}/remove", "1")
    folder = f"/sys/kernel/iommu_groups/{number}/devices"
    assert not sysfs.exists(folder) or plug.address not in backend.listdir(folder)


def test_the_override_goes_with_the_function(sysfs: Attributes, plug: Pluggable) -> None:
    sysfs.write(f"{plug.path}/driver_override", "contract-none")
    sysfs.write(f"{plug.path}/remove", "1")
    sysfs.write(RESCAN, "1")
    assert sysfs.read(f"{plug.path}/driver_override") == "(null)"


def test_rescan_of_what_is_there(backend: Backend, sysfs: Attributes, plug: Pluggable) -> None:
    assert events(backend, lambda: sysfs.write(RESCAN, "1")) == []


def test_events_of_remove_and_rescan(backend: Backend, sysfs: Attributes, plug: Pluggable) -> None:
    seen = events(backend, lambda: sysfs.write(f"{plug.path}/remove", "1"))
    assert seen == plug.expected("unbind", "remove")
    seen = events(backend, lambda: sysfs.write(RESCAN, "1"))
    assert seen == plug.expected("add", "bind")


def test_power_off_and_on(backend: Backend, sysfs: Attributes, plug: Pluggable, slot: str) -> None:
    assert sysfs.read(slot) == "1"
    off = events(backend, lambda: sysfs.write(slot, "0"))
    assert off == plug.expected("unbind", "remove")
    assert not plug.there()
    assert sysfs.read(slot) == "0"
    on = events(backend, lambda: sysfs.write(slot, "1"))
    assert on == plug.expected("add", "bind")
    assert plug.there()
    assert sysfs.read(slot) == "1"


def test_no_rescan_brings_back_what_has_no_power(sysfs: Attributes, plug: Pluggable, slot: str) -> None:
    sysfs.write(slot, "0")
    sysfs.write(RESCAN, "1")
    assert not plug.there()


def test_recover(backend: Backend, sysfs: Attributes, plug: Pluggable) -> None:
    if not sysfs.exists(f"{plug.path}/recover"):
        pytest.skip("this function has no recover")
    seen = events(backend, lambda: sysfs.write(f"{plug.path}/recover", "1"))
    assert seen == plug.expected("unbind", "remove", "add", "bind")
    assert plug.there()


def test_it_can_be_taken_afterwards(backend: Backend, sysfs: Attributes, plug: Pluggable) -> None:
    sysfs.write(f"{plug.path}/remove", "1")
    sysfs.write(RESCAN, "1")
    with BoundFunction(backend, plug.address) as bound, OpenFiles(backend) as files:
        assert open_device(backend, files, bound, "iommufd").devid == 1
