"""``cmb_enable``: with channel measurement on, a ccw device has the directory ``cmf``."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EINVAL

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab

AVERAGES = [
    "avg_control_unit_queuing_time",
    "avg_device_active_only_time",
    "avg_device_busy_time",
    "avg_device_connect_time",
    "avg_device_disconnect_time",
    "avg_function_pending_time",
    "avg_initial_command_response_time",
]


@pytest.fixture
def measured(sysfs: Attributes, lab: Lab) -> Iterator[str]:
    """The path of the channel device, measured; it is not afterwards."""
    path = f"/sys/bus/ccw/devices/{lab.ccw}"
    if not sysfs.exists(path):
        pytest.skip(f"this host has no ccw device {lab.ccw}")
    sysfs.write(f"{path}/cmb_enable", "1")
    yield path
    if sysfs.read(f"{path}/cmb_enable") == "1":
        sysfs.write(f"{path}/cmb_enable", "0")


def test_on(backend: Backend, sysfs: Attributes, measured: str) -> None:
    assert sysfs.read(f"{measured}/cmb_enable") == "1"
    others = ["avg_sample_interval", "avg_utilization", "sample_count", "ssch_rsch_count"]
    assert sorted(backend.listdir(f"{measured}/cmf")) == sorted([*AVERAGES, *others])


@pytest.mark.parametrize("name", AVERAGES)
def test_nothing_measured_yet(sysfs: Attributes, measured: str, name: str) -> None:
    assert sysfs.read(f"{measured}/cmf/{name}") == "0"


def test_no_samples_yet(sysfs: Attributes, measured: str) -> None:
    assert sysfs.read(f"{measured}/cmf/sample_count") == "0"
    assert sysfs.read(f"{measured}/cmf/avg_sample_interval") == "-1"
    assert sysfs.read(f"{measured}/cmf/avg_utilization") == "00.0%"


def test_off(sysfs: Attributes, measured: str) -> None:
    sysfs.write(f"{measured}/cmb_enable", "0")
    assert not sysfs.exists(f"{measured}/cmf")
    with fails(EINVAL):
        sysfs.write(f"{measured}/cmb_enable", "0")
