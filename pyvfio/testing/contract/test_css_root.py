"""Files of the channel subsystem's root, of its buses, and what every subchannel may be told."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EACCES, EBUSY, EINVAL, ENODEV

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab

ROOT = "/sys/devices/css0"


@pytest.fixture(autouse=True)
def root(sysfs: Attributes) -> str:
    if not sysfs.exists(ROOT):
        pytest.skip("this host has no channel subsystem")
    return ROOT


@pytest.mark.parametrize(("name", "mode"), [("pools", 0o444), ("real_cssid", 0o444), ("rescan", 0o200)])
def test_modes(backend: Backend, name: str, mode: int) -> None:
    assert backend.lstat(f"{ROOT}/{name}").st_mode & 0o777 == mode


@pytest.mark.parametrize("name", ["pools", "real_cssid"])
def test_what_cannot_be_written(sysfs: Attributes, name: str) -> None:
    with fails(EACCES):
        sysfs.write(f"{ROOT}/{name}", "1")


def test_rescan_cannot_be_read(sysfs: Attributes) -> None:
    with fails(EACCES):
        sysfs.read(f"{ROOT}/rescan")


@pytest.mark.parametrize("text", ["1", "0", "x", " ", "\n", "\0", "x" * 3000])
def test_whatever_is_written_a_rescan_finds_nothing_new(backend: Backend, sysfs: Attributes, text: str) -> None:
    with backend.uevents() as stream:
        assert sysfs.write(f"{ROOT}/rescan", text) == len(text)
        assert [event for event in stream if event.devpath.startswith(ROOT.removeprefix("/sys"))] == []


@pytest.mark.parametrize("bus", ["css", "ccw"])
@pytest.mark.parametrize(
    ("text", "shown"), [("0", "0"), ("1", "1"), ("x", "1"), ("0x", "0"), ("\n", "1"), (" 0", "1"), ("00", "0")]
)
def test_autoprobe(sysfs: Attributes, bus: str, text: str, shown: str) -> None:
    path = f"/sys/bus/{bus}/drivers_autoprobe"
    try:
        assert sysfs.write(path, text) == len(text)
        assert sysfs.read(path) == shown
    finally:
        sysfs.write(path, "1")


@pytest.mark.parametrize(("bus", "driver"), [("css", "io_subchannel"), ("css", "chsc_subchannel"), ("ccw", "3270")])
@pytest.mark.parametrize("verb", ["bind", "unbind"])
@pytest.mark.parametrize("text", ["0.0.9999", "x", "\n", "\0", "x" * 3000])
def test_no_such_device(sysfs: Attributes, bus: str, driver: str, verb: str, text: str) -> None:
    with fails(ENODEV):
        sysfs.write(f"/sys/bus/{bus}/drivers/{driver}/{verb}", text)


@pytest.fixture
def subchannel(backend: Backend, sysfs: Attributes, lab: Lab) -> Iterator[str]:
    """The subchannel of the channel device that the suite may take."""
    if not sysfs.exists(f"/sys/bus/ccw/devices/{lab.ccw}"):
        pytest.skip(f"this host has no ccw device {lab.ccw}")
    path = f"{ROOT}/{backend.readlink(f'/sys/bus/ccw/devices/{lab.ccw}').split('/')[-2]}"
    yield path
    sysfs.write(f"{path}/driver_override", "\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("abc", "abc"),
        ("abc\n", "abc"),
        ("abc\ndef", "abc"),
        (" x ", " x "),
        ("a\0b", "a"),
        ("\n", "(null)"),
        ("\0", "(null)"),
        ("\nabc", "(null)"),
        ("x" * 4094, "x" * 4094),
    ],
)
def test_overrides(sysfs: Attributes, subchannel: str, text: str, shown: str) -> None:
    assert sysfs.write(f"{subchannel}/driver_override", text) == len(text)
    assert sysfs.read(f"{subchannel}/driver_override") == shown


@pytest.mark.parametrize("size", [4095, 4096, 5000])
def test_an_override_that_is_too_long(sysfs: Attributes, subchannel: str, page: int, size: int) -> None:
    if page != 1 << 12:
        pytest.skip("the limit is a page")
    sysfs.write(f"{subchannel}/driver_override", "before")
    with fails(EINVAL):
        sysfs.write(f"{subchannel}/driver_override", "x" * size)
    assert sysfs.read(f"{subchannel}/driver_override") == "before"


def test_a_driver_of_another_type_is_not_bound(sysfs: Attributes, subchannel: str) -> None:
    with fails(ENODEV):
        sysfs.write("/sys/bus/css/drivers/chsc_subchannel/bind", subchannel.rsplit("/", 1)[-1])
    with fails(EBUSY):
        sysfs.write("/sys/bus/css/drivers/io_subchannel/bind", subchannel.rsplit("/", 1)[-1])


def test_vpm_and_logging(backend: Backend, sysfs: Attributes, subchannel: str) -> None:
    assert sysfs.read(f"{subchannel}/vpm") == sysfs.read(f"{subchannel}/pimpampom").split()[0]
    assert backend.lstat(f"{subchannel}/logging").st_mode & 0o777 == 0o200
    with fails(EACCES):
        sysfs.write(f"{subchannel}/vpm", "ff")
    with fails(EACCES):
        sysfs.read(f"{subchannel}/logging")


def test_the_device_for_calls_is_for_one_program(backend: Backend, sysfs: Attributes) -> None:
    if not sysfs.exists("/dev/chsc"):
        pytest.skip("this kernel has no driver of CHSC subchannels")
    fd = backend.open("/dev/chsc", 0)
    try:
        with fails(EBUSY):
            backend.open("/dev/chsc", 0)
        with fails(EINVAL):
            backend.read(fd, 1)
    finally:
        backend.close(fd)
    backend.close(backend.open("/dev/chsc", 0))
