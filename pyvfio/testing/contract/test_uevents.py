"""Uevents: the kernel's keys in the kernel's order, with rising serial numbers."""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import MDEV_UUID, BoundFunction, BoundSubchannel
from pyvfio.testing.plugin import Lab
from pyvfio.uevent import Uevent

VFIO = "/sys/bus/pci/drivers/vfio-pci"


@pytest.fixture
def during(backend: Backend) -> Callable[..., list[Uevent]]:
    """A function that does something and gives the events of some subsystems that it caused."""

    def watch(action: Callable[[], object], *subsystems: str) -> list[Uevent]:
        with backend.uevents(subsystems) as stream:
            action()
            return list(stream)

    return watch


@pytest.fixture
def device(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The PCI function without driver, with vfio-pci as its override."""
    found = BoundFunction(backend, lab.pci)
    found.unbind()
    found.sysfs.write(f"{found.path}/driver_override", "vfio-pci")
    yield found
    found.restore()


def summary(events: list[Uevent]) -> list[tuple[str, str]]:
    return [(event.action, event.subsystem) for event in events]


def test_nothing_happened(during: Callable[..., list[Uevent]], sysfs: Attributes, pci_path: str) -> None:
    assert during(lambda: sysfs.read(f"{pci_path}/vendor")) == []


def test_a_refused_bind_is_no_event(
    during: Callable[..., list[Uevent]], sysfs: Attributes, device: BoundFunction
) -> None:
    sysfs.write(f"{device.path}/driver_override", "contract-none")
    assert during(lambda: sysfs.write("/sys/bus/pci/drivers_probe", device.address), "pci") == []


@pytest.mark.usefixtures("iommufd")
def test_bind(during: Callable[..., list[Uevent]], sysfs: Attributes, device: BoundFunction) -> None:
    events = during(lambda: sysfs.write(f"{VFIO}/bind", device.address))
    assert summary(events) == [("add", "vfio"), ("add", "vfio-dev"), ("bind", "pci")]
    assert events[0].devpath == f"/devices/virtual/vfio/{device.group_number}"
    assert events[1].properties["DEVNAME"] == device.cdev.removeprefix("/dev/")


def test_the_keys_of_bind(during: Callable[..., list[Uevent]], sysfs: Attributes, device: BoundFunction) -> None:
    (event,) = during(lambda: sysfs.write(f"{VFIO}/bind", device.address), "pci")
    # a host with a device tree names the function's node in it, too
    assert [key for key in event.properties if not key.startswith("OF_")] == [
        *("ACTION", "DEVPATH", "SUBSYSTEM", "DRIVER", "PCI_CLASS", "PCI_ID", "PCI_SUBSYS_ID"),
        *("PCI_SLOT_NAME", "MODALIAS", "SEQNUM"),
    ]
    values = event.properties
    assert values["DRIVER"] == "vfio-pci"
    assert values["PCI_SLOT_NAME"] == device.address
    vendor, number = (sysfs.read(f"{device.path}/{name}")[2:].upper() for name in ("vendor", "device"))
    assert values["PCI_ID"] == f"{vendor}:{number}"
    assert values["MODALIAS"] == sysfs.read(f"{device.path}/modalias")
    assert values["DEVPATH"] == event.devpath
    assert event.devpath.endswith(f"/{device.address}")


def test_the_keys_of_a_node(during: Callable[..., list[Uevent]], sysfs: Attributes, device: BoundFunction) -> None:
    (event,) = during(lambda: sysfs.write(f"{VFIO}/bind", device.address), "vfio")
    assert list(event.properties) == ["ACTION", "DEVPATH", "SUBSYSTEM", "MAJOR", "MINOR", "DEVNAME", "SEQNUM"]
    assert sysfs.read(f"/sys{event.devpath}/dev") == f"{event.properties['MAJOR']}:{event.properties['MINOR']}"


def test_unbind(during: Callable[..., list[Uevent]], sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(f"{VFIO}/bind", device.address)
    events = during(lambda: sysfs.write(f"{VFIO}/unbind", device.address))
    assert summary(events) == [("remove", "vfio-dev"), ("remove", "vfio"), ("unbind", "pci")]
    assert "DRIVER" not in events[-1].properties
    assert "MODALIAS" not in events[-1].properties


def test_serial_numbers_rise_by_one(
    during: Callable[..., list[Uevent]], sysfs: Attributes, device: BoundFunction
) -> None:
    def both() -> None:
        sysfs.write(f"{VFIO}/bind", device.address)
        sysfs.write(f"{VFIO}/unbind", device.address)

    numbers = [event.seqnum for event in during(both)]
    assert numbers == list(range(numbers[0], numbers[0] + 6))


def test_the_serial_number_in_sysfs(
    during: Callable[..., list[Uevent]], sysfs: Attributes, device: BoundFunction
) -> None:
    events = during(lambda: sysfs.write(f"{VFIO}/bind", device.address))
    assert sysfs.read("/sys/kernel/uevent_seqnum") == str(events[-1].seqnum)


@pytest.mark.parametrize("action", ["add", "change", "remove", "online"])
def test_a_synthetic_event(
    during: Callable[..., list[Uevent]], sysfs: Attributes, device: BoundFunction, action: str
) -> None:
    (event,) = during(lambda: sysfs.write(f"{device.path}/uevent", action), "pci")
    assert event.action == action
    assert event.properties["SYNTH_UUID"] == "0"


def test_two_streams_get_the_same(backend: Backend, sysfs: Attributes, device: BoundFunction) -> None:
    with backend.uevents(["pci"]) as one, backend.uevents() as two:
        sysfs.write(f"{VFIO}/bind", device.address)
        assert [event.lines() for event in one] == [event.lines() for event in two if event.subsystem == "pci"]


def test_a_stream_can_be_polled(backend: Backend, sysfs: Attributes, device: BoundFunction) -> None:
    with backend.uevents(["pci"]) as stream:
        assert select.select([stream.fileno()], [], [], 0)[0] == []
        sysfs.write(f"{VFIO}/bind", device.address)
        assert select.select([stream.fileno()], [], [], 5)[0] == [stream.fileno()]
        event = stream.read(timeout=5)
        assert event is not None
        assert event.action == "bind"
        assert stream.read(timeout=0.05) is None


def test_a_closed_stream(backend: Backend) -> None:
    stream = backend.uevents()
    stream.close()
    assert stream.fileno() == -1
    stream.close()


@pytest.fixture
def vfio_subchannel(subchannel: BoundSubchannel) -> BoundSubchannel:
    return subchannel


def test_the_subchannel_of_a_mediated_device(
    during: Callable[..., list[Uevent]], sysfs: Attributes, vfio_subchannel: BoundSubchannel
) -> None:
    def again() -> None:
        vfio_subchannel.unbind()
        vfio_subchannel.probe("vfio_ccw")

    events = during(again, "css")
    assert [(event.action, event.properties.get("MDEV_STATE")) for event in events] == [
        ("change", "unregistered"),
        ("unbind", None),
        ("change", "registered"),
        ("bind", None),
    ]
    assert list(events[-2].properties) == [
        *("ACTION", "DEVPATH", "SUBSYSTEM", "MDEV_STATE", "DRIVER", "ST", "MODALIAS", "SEQNUM"),
    ]
    assert events[-1].properties["ST"] == "0"


def test_a_mediated_device(
    during: Callable[..., list[Uevent]], sysfs: Attributes, vfio_subchannel: BoundSubchannel
) -> None:
    def make_and_remove() -> None:
        with vfio_subchannel.create():
            pass

    events = during(make_and_remove)
    assert summary(events) == [
        ("add", "mdev"),
        ("add", "vfio"),
        ("add", "vfio-dev"),
        ("bind", "mdev"),
        ("remove", "vfio-dev"),
        ("remove", "vfio"),
        ("unbind", "mdev"),
        ("remove", "mdev"),
    ]
    assert events[0].name == MDEV_UUID
    assert events[3].properties["DRIVER"] == "vfio_ccw_mdev"
