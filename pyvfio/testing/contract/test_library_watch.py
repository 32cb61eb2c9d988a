"""Changes of devices, read from uevents while they happen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction, BoundSubchannel
from pyvfio.testing.plugin import Lab
from pyvfio.watch import Change, Watch

SOON = 1.0


@pytest.fixture
def bound(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The function, which is vfio-pci's or its own driver's as a test wants; given back at the end."""
    with BoundFunction(backend, lab.pci) as device:
        yield device


def during(host: Host, action: Callable[[], object], *devices: str) -> list[Change]:
    """What a watch sees of an action, until nothing more comes."""
    with Watch(host, devices=devices) as watch:
        action()
        found = []
        while (change := watch.read(SOON)) is not None:
            found.append(change)
    return found


def test_nothing_happens(host: Host) -> None:
    with Watch(host, subsystems=["mdev"]) as watch:
        assert watch.read() is None
        assert watch.read(0.02) is None
        assert list(watch.rest()) == []


def test_another_driver_is_one_change(host: Host, sysfs: Attributes, bound: BoundFunction) -> None:
    own = bound.driver_before
    assert own is not None

    def back_and_forth() -> None:
        bound.unbind()
        bound.probe("\n")

    (change,) = [one for one in during(host, back_and_forth, bound.address) if one.kind == "driver"]
    assert (change.device, change.before, change.after) == (bound.address, "vfio-pci", own)
    assert str(change) == f"{bound.address} driver vfio-pci -> {own}"
    assert [event.action for event in change.events] == ["unbind", "bind"]
    assert change.seqnum == change.events[1].seqnum


def test_no_driver(host: Host, bound: BoundFunction) -> None:
    changes = during(host, bound.unbind, bound.address)
    (change,) = [one for one in changes if one.kind == "driver"]
    assert (change.before, change.after) == ("vfio-pci", None)
    nodes = [one.text for one in changes if one.kind == "vfio"]
    assert any(text.startswith(f"{bound.address} node /dev/vfio/devices/vfio") for text in nodes)
    assert any(text.startswith("node /dev/vfio/") for text in nodes)
    assert all(text.endswith(" gone") for text in nodes)


def test_other_devices_are_left_out(host: Host, bound: BoundFunction) -> None:
    assert during(host, bound.unbind, "fffe:00:00.0") == []


def test_a_mediated_device(host: Host, subchannel: BoundSubchannel) -> None:
    def make_and_remove() -> None:
        with subchannel.create():
            pass

    texts = [change.text for change in during(host, make_and_remove) if change.kind in ("mdev", "driver")]
    uuid = texts[0].split()[0]
    assert texts == [
        f"{uuid} mdev created on {subchannel.address}",
        f"{uuid} driver none -> vfio_ccw_mdev",
        f"{uuid} driver vfio_ccw_mdev -> none",
        f"{uuid} mdev removed from {subchannel.address}",
    ]
