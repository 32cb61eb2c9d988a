"""online of a ccw device, and the device's identity."""

from __future__ import annotations

import re
from collections.abc import Iterator
from errno import EACCES, EINVAL

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails, settles
from pyvfio.testing.plugin import Lab


@pytest.fixture
def path(sysfs: Attributes, lab: Lab) -> Iterator[str]:
    """The ccw device, online as before afterwards."""
    found = f"/sys/bus/ccw/devices/{lab.ccw}"
    if not sysfs.exists(found):
        pytest.skip(f"this host has no ccw device {lab.ccw}")
    before = sysfs.read(f"{found}/online")
    yield found
    if sysfs.read(f"{found}/online") != before:
        sysfs.write(f"{found}/online", before)
    assert sysfs.read(f"{found}/online") == before


@pytest.mark.parametrize("text", ["2", "-1", "nonsense", "\n", "forced"])
def test_what_is_no_state(sysfs: Attributes, path: str, text: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"{path}/online", text)
    assert sysfs.read(f"{path}/online") == "1"


def test_online_when_it_is(sysfs: Attributes, path: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"{path}/online", "1")


def test_offline_when_it_is(sysfs: Attributes, path: str) -> None:
    sysfs.write(f"{path}/online", "0")
    with fails(EINVAL):
        sysfs.write(f"{path}/online", "0")


@pytest.mark.parametrize("name", ["cutype", "devtype", "availability", "modalias"])
def test_what_cannot_be_written(sysfs: Attributes, path: str, name: str) -> None:
    with fails(EACCES):
        sysfs.write(f"{path}/{name}", "1")


@pytest.mark.parametrize("ending", ["", "\n"], ids=["plain", "newline"])
def test_off_and_on(sysfs: Attributes, path: str, ending: str) -> None:
    children = set(sysfs.backend.listdir(path))
    assert sysfs.write(f"{path}/online", "0" + ending) == 1 + len(ending)
    assert sysfs.read(f"{path}/online") == "0"
    assert children - set(sysfs.backend.listdir(path))
    assert sysfs.write(f"{path}/online", "1" + ending) == 1 + len(ending)
    assert sysfs.read(f"{path}/online") == "1"
    assert settles(lambda: len(sysfs.backend.listdir(path)) == len(children))


def test_the_driver_stays_when_offline(sysfs: Attributes, path: str) -> None:
    driver = sysfs.link(f"{path}/driver")
    sysfs.write(f"{path}/online", "0")
    assert sysfs.link(f"{path}/driver") == driver


def test_identity(sysfs: Attributes, path: str) -> None:
    assert re.fullmatch("[0-9a-f]{4}/[0-9a-f]{2}", sysfs.read(f"{path}/cutype"))
    assert re.fullmatch("[0-9a-f]{4}/[0-9a-f]{2}|n/a", sysfs.read(f"{path}/devtype"))
    assert sysfs.read(f"{path}/availability") == "good"
    cu_type, cu_model = sysfs.read(f"{path}/cutype").split("/")
    assert sysfs.read(f"{path}/modalias").startswith(f"ccw:t{cu_type.upper()}m{cu_model.upper()}d")


def test_identity_when_offline(sysfs: Attributes, path: str) -> None:
    before = sysfs.read(f"{path}/cutype")
    sysfs.write(f"{path}/online", "0")
    assert sysfs.read(f"{path}/cutype") == before
    assert sysfs.read(f"{path}/availability") == "good"


def test_events(backend: Backend, sysfs: Attributes, path: str) -> None:
    place = backend.readlink(path).removeprefix("../../..")
    children = [name for name in backend.listdir(path) if sysfs.exists(f"{path}/{name}/uevent")]
    with backend.uevents() as stream:
        sysfs.write(f"{path}/online", "0")
        off = [event for event in stream if event.devpath.startswith(place)]
    assert all(event.devpath.startswith(f"{place}/") for event in off)  # what is below it goes, it stays
    for name in children:
        if not sysfs.exists(f"{path}/{name}"):
            assert f"{place}/{name}" in [event.devpath for event in off if event.action == "remove"]


def test_the_uevent_file(sysfs: Attributes, path: str) -> None:
    keys = [line.partition("=")[0] for line in sysfs.read(f"{path}/uevent").splitlines()]
    assert keys == ["DRIVER", "CU_TYPE", "CU_MODEL", "DEV_TYPE", "DEV_MODEL", "MODALIAS"]
