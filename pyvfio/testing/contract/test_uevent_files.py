"""The ``uevent`` files of buses, drivers and modules: what is written there becomes an event, or is refused."""

from __future__ import annotations

from errno import EINVAL

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails
from pyvfio.uevent import Uevent

FILES = [
    ("/bus/pci", "bus"),
    ("/bus/css", "bus"),
    ("/bus/mdev", "bus"),
    ("/bus/pci/drivers/vfio-pci", "drivers"),
    ("/bus/css/drivers/vfio_ccw", "drivers"),
    ("/module/vfio", "module"),
    ("/module/mdev", "module"),
]
UUID = "66826a94-72c4-557f-beca-d135a70628e9"


def _event(backend: Backend, path: str, text: str) -> Uevent:
    with backend.uevents() as stream:
        Attributes(backend).write(f"/sys{path}/uevent", text)
        events = [event for event in stream if event.devpath == path]
    assert len(events) == 1
    return events[0]


@pytest.mark.parametrize(("path", "subsystem"), FILES)
def test_an_event(backend: Backend, sysfs: Attributes, path: str, subsystem: str) -> None:
    if path.startswith("/bus/css") and not sysfs.exists("/sys/bus/css"):
        pytest.skip("this host has no channel subsystem")
    if "mdev" in path and not sysfs.exists("/sys/bus/mdev"):
        pytest.skip("this kernel has no mediated devices")
    event = _event(backend, path, "change\n")
    assert (event.action, event.subsystem) == ("change", subsystem)
    keys = ["ACTION", "DEVPATH", "SUBSYSTEM", "SYNTH_UUID", "SEQNUM"]
    assert list(event.properties) == keys
    assert event.properties["SYNTH_UUID"] == "0"


@pytest.mark.parametrize("path", ["/bus/pci", "/bus/pci/drivers/vfio-pci", "/module/vfio"])
def test_an_event_with_arguments(backend: Backend, path: str) -> None:
    event = _event(backend, path, f"add {UUID} A=b")
    assert event.properties["SYNTH_UUID"] == UUID
    assert event.properties["SYNTH_ARG_A"] == "b"


@pytest.mark.parametrize("text", ["bogus", "ADD", "add x", "\n"])
@pytest.mark.parametrize("path", ["/bus/pci", "/bus/pci/drivers/vfio-pci", "/module/vfio"])
def test_no_event(sysfs: Attributes, path: str, text: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"/sys{path}/uevent", text)
