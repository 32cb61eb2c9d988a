"""The channel subsystem in sysfs: subchannels, their channel paths and drivers."""

from __future__ import annotations

import re
from errno import EACCES, EBUSY, ENODEV

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails
from pyvfio.testing.plugin import Lab

CSS = "/sys/bus/css"


@pytest.fixture(scope="module")
def schid(backend: Backend, sysfs: Attributes, lab: Lab) -> str:
    """The subchannel of the channel device, with its own driver."""
    if not sysfs.exists(f"/sys/bus/ccw/devices/{lab.ccw}"):
        pytest.skip(f"this host has no ccw device {lab.ccw}")
    return backend.readlink(f"/sys/bus/ccw/devices/{lab.ccw}").split("/")[-2]


@pytest.fixture(scope="module")
def path(schid: str) -> str:
    return f"{CSS}/devices/{schid}"


@pytest.mark.parametrize("name", ["type", "chpids", "pimpampom", "dev_busid", "modalias"])
def test_what_cannot_be_written(sysfs: Attributes, path: str, name: str) -> None:
    with fails(EACCES):
        sysfs.write(f"{path}/{name}", "1")


def test_a_subchannel_that_another_driver_has(sysfs: Attributes, schid: str) -> None:
    with fails(EBUSY):
        sysfs.write(f"{CSS}/drivers/vfio_ccw/bind", schid)
    assert sysfs.link(f"{CSS}/devices/{schid}/driver") == "io_subchannel"


@pytest.mark.parametrize("name", ["0.0.ffff", "nonsense", "\n"])
def test_bind_of_what_is_not_there(sysfs: Attributes, path: str, name: str) -> None:
    with fails(ENODEV):
        sysfs.write(f"{CSS}/drivers/vfio_ccw/bind", name)


@pytest.mark.parametrize("name", ["0.0.ffff", "nonsense"])
def test_probe_of_what_is_not_there(sysfs: Attributes, path: str, name: str) -> None:
    with fails(ENODEV):
        sysfs.write(f"{CSS}/drivers_probe", name)


def test_an_io_subchannel(sysfs: Attributes, path: str, lab: Lab) -> None:
    assert sysfs.read(f"{path}/type") == "0"
    assert sysfs.read(f"{path}/modalias") == "css:t0"
    assert sysfs.read(f"{path}/dev_busid") == lab.ccw
    assert sysfs.link(f"{path}/driver") == "io_subchannel"
    assert sysfs.link(f"{path}/subsystem") == "css"


def test_channel_paths(sysfs: Attributes, path: str) -> None:
    chpids = sysfs.read(f"{path}/chpids").split()
    assert len(chpids) == 8
    assert all(re.fullmatch("[0-9a-f]{2}", chpid) for chpid in chpids)
    pim, pam, pom = (int(mask, 16) for mask in sysfs.read(f"{path}/pimpampom").split())
    assert pim
    assert pam & pim
    assert pom & pim


def test_the_text_of_the_masks_ends_with_a_newline(backend: Backend, sysfs: Attributes, path: str) -> None:
    fd = backend.open(f"{path}/chpids", 0)
    try:
        assert re.fullmatch(rb"([0-9a-f]{2} ){8}\n|([0-9a-f]{2} ){7}[0-9a-f]{2}\n", backend.read(fd, 100))
    finally:
        backend.close(fd)


def test_every_installed_path_is_an_object(sysfs: Attributes, path: str) -> None:
    chpids = sysfs.read(f"{path}/chpids").split()
    pim = int(sysfs.read(f"{path}/pimpampom").split()[0], 16)
    for place, chpid in enumerate(chpids):
        if pim & 0x80 >> place:
            assert sysfs.read(f"/sys/devices/css0/chp0.{chpid}/status") == "online"


def test_the_uevent_file(sysfs: Attributes, path: str) -> None:
    assert sysfs.read(f"{path}/uevent").splitlines() == ["DRIVER=io_subchannel", "ST=0", "MODALIAS=css:t0"]


def test_the_drivers(backend: Backend, sysfs: Attributes) -> None:
    if not sysfs.exists(CSS):
        pytest.skip("this host has no channel subsystem")
    assert {"io_subchannel", "vfio_ccw"} <= set(backend.listdir(f"{CSS}/drivers"))


def test_the_device_is_below_the_subchannel(backend: Backend, path: str, schid: str, lab: Lab) -> None:
    assert lab.ccw in backend.listdir(path)
    assert backend.readlink(path) == f"../../../devices/css0/{schid}"
    assert backend.readlink(f"/sys/bus/ccw/devices/{lab.ccw}") == f"../../../devices/css0/{schid}/{lab.ccw}"


def test_the_list_of_subchannels(backend: Backend, schid: str) -> None:
    names = backend.listdir(f"{CSS}/devices")
    assert schid in names
    assert all(re.fullmatch(r"[0-9a-f]\.[0-3]\.[0-9a-f]{4}|defunct", name) for name in names)


def test_cssid_of_the_image(sysfs: Attributes, schid: str) -> None:
    assert sysfs.read("/sys/devices/css0/uevent") == ""
    assert sysfs.exists("/sys/devices/css0/defunct")


def test_an_override_is_obeyed(backend: Backend, sysfs: Attributes, path: str, schid: str) -> None:
    sysfs.write(f"{path}/driver_override", "contract-none")
    try:
        with fails(ENODEV):
            sysfs.write(f"{CSS}/drivers/vfio_ccw/bind", schid)
    finally:
        sysfs.write(f"{path}/driver_override", "\n")
