"""Channel paths in sysfs: what they show, and varying one off and on below an offline device."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from errno import EACCES, EINVAL

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.expect import fails, settles

CSS = "/sys/devices/css0"
TEXTS = ("chid", "chid_external", "cmg", "esc", "shared", "speed_bps", "type")


def _subchannels(sysfs: Attributes, chpid: str) -> list[str]:
    found = []
    for name in sysfs.backend.listdir("/sys/bus/css/devices"):
        path = f"{CSS}/{name}"
        if sysfs.exists(f"{path}/chpids"):
            pim = int(sysfs.read(f"{path}/pimpampom").split()[0], 16)
            numbers = sysfs.read(f"{path}/chpids").split()
            if any(number == chpid and pim & 0x80 >> place for place, number in enumerate(numbers)):
                found.append(path)
    return found


def _find(sysfs: Attributes) -> tuple[str, str] | None:
    """A subchannel with one path, below which is an offline device, and which alone uses that path; and the device."""
    for name in sorted(sysfs.backend.listdir(CSS)):
        users = _subchannels(sysfs, name[-2:]) if re.fullmatch(r"chp0\.[0-9a-f]{2}", name) else []
        if len(users) != 1 or sysfs.read(f"{users[0]}/pimpampom").split()[0] != "80":
            continue
        online = f"{users[0]}/{sysfs.read(f'{users[0]}/dev_busid')}/online"
        if sysfs.exists(online) and sysfs.read(online) == "0":
            return users[0], online
    return None


@pytest.fixture
def subchannel(sysfs: Attributes) -> Iterator[str]:
    """A subchannel as `_find` finds it; its path is online afterwards."""
    found = _find(sysfs) if sysfs.exists(CSS) else None
    if found is None:
        pytest.skip("this host has no channel path that only an offline device uses")
    subchannel, online = found
    yield subchannel
    sysfs.write(f"{CSS}/chp0.{sysfs.read(f'{subchannel}/chpids')[:2]}/status", "online")
    assert settles(lambda: sysfs.exists(online))


@pytest.fixture
def path(sysfs: Attributes, subchannel: str) -> str:
    """The channel path of the subchannel."""
    return f"{CSS}/chp0.{sysfs.read(f'{subchannel}/chpids')[:2]}"


@pytest.mark.parametrize(
    "text",
    [" ", "\n", "o", "of", "y", "2", "01", "+1", "-1", "0x1", "11", "garbage", "x" * 4000, "1x", "force"],
)
def test_what_is_no_status(sysfs: Attributes, path: str, text: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"{path}/status", text)
    assert sysfs.read(f"{path}/status") == "online"


@pytest.mark.parametrize("text", ["2", "-1", "+1", "", "x", "1 2", "1x", "0x1", "on", "\n"])
def test_what_is_no_configuration(backend: Backend, sysfs: Attributes, path: str, text: str) -> None:
    if not text:
        assert sysfs.write(f"{path}/configure", text) == 0
        return
    with fails(EINVAL):
        sysfs.write(f"{path}/configure", text)


@pytest.mark.parametrize("name", TEXTS)
def test_what_cannot_be_written(sysfs: Attributes, path: str, name: str) -> None:
    with fails(EACCES):
        sysfs.write(f"{path}/{name}", "1")


@pytest.mark.parametrize("text", ["off", "OFF", "offline\n", "Offal", "0", "0\n", " 0", "off on", "0\0x"])
def test_ways_to_say_off(sysfs: Attributes, path: str, text: str) -> None:
    assert sysfs.write(f"{path}/status", text) == len(text)
    assert sysfs.read(f"{path}/status") == "offline"


@pytest.mark.parametrize("text", ["on", "ON", "online\n", "onlinexxx", "once", "1", "1\n", "\t1 0"])
def test_ways_to_say_on(sysfs: Attributes, path: str, text: str) -> None:
    sysfs.write(f"{path}/status", "off")
    assert sysfs.write(f"{path}/status", text) == len(text)
    assert sysfs.read(f"{path}/status") == "online"


def test_a_zero_byte_is_nothing(sysfs: Attributes, path: str) -> None:
    assert sysfs.write(f"{path}/status", "\0") == 1
    assert sysfs.read(f"{path}/status") == "online"


def test_no_offset(backend: Backend, sysfs: Attributes, path: str, files: OpenFiles) -> None:
    fd = files.open(f"{path}/status", os.O_WRONLY)
    assert backend.pwrite(fd, b"off", 7) == 3
    assert sysfs.read(f"{path}/status") == "offline"


def test_what_it_shows(backend: Backend, sysfs: Attributes, path: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{1,2}", sysfs.read(f"{path}/type"))
    assert re.fullmatch(r"[0-9]+|unknown", sysfs.read(f"{path}/cmg"))
    assert re.fullmatch(r"[01]|unknown", sysfs.read(f"{path}/shared"))
    assert re.fullmatch(r"[0-9]+[KMGT]?", sysfs.read(f"{path}/speed_bps"))
    assert re.fullmatch(r"[0-9a-f]{4}|", sysfs.read(f"{path}/chid"))
    assert re.fullmatch(r"[01]|", sysfs.read(f"{path}/chid_external"))
    assert sysfs.read(f"{path}/esc") == "0"
    assert backend.lstat(f"{path}/util_string").st_size == 64
    assert backend.lstat(f"{path}/status").st_mode & 0o777 == 0o644
    assert backend.lstat(f"{path}/configure").st_mode & 0o777 == 0o644


def test_the_only_path_of_an_offline_device(backend: Backend, sysfs: Attributes, path: str, subchannel: str) -> None:
    device = f"{subchannel}/{sysfs.read(f'{subchannel}/dev_busid')}"
    driver = sysfs.link(f"{device}/driver")
    masks = sysfs.read(f"{subchannel}/pimpampom")
    with backend.uevents() as stream:
        sysfs.write(f"{path}/status", "offline")
        assert settles(lambda: not sysfs.exists(device))
        off = [(event.action, f"/sys{event.devpath}") for event in stream]
    bound = [("unbind", device)] if driver is not None else []
    assert [pair for pair in off if pair[1] == device] == [*bound, ("remove", device)]
    assert sysfs.read(f"{subchannel}/pimpampom") == masks  # the machine does not know
    assert sysfs.read(f"{subchannel}/vpm") == "00"
    with backend.uevents() as stream:
        sysfs.write(f"{path}/status", "online")
        assert settles(lambda: sysfs.exists(device) and sysfs.link(f"{device}/driver") == driver)
        on = [(event.action, f"/sys{event.devpath}") for event in stream]
    bound = [("bind", device)] if driver is not None else []
    assert [pair for pair in on if pair[1] == device] == [("add", device), *bound]
    assert sysfs.read(f"{device}/online") == "0"


def test_varying_twice_is_no_error(sysfs: Attributes, path: str) -> None:
    for text in ("off", "off", "on", "on"):
        assert sysfs.write(f"{path}/status", text) == len(text)
    assert sysfs.read(f"{path}/status") == "online"


def test_a_path_off_keeps_a_device_from_going_online(sysfs: Attributes, path: str, subchannel: str) -> None:
    """The device is not there any more, so nothing can be written to it."""
    device = f"{subchannel}/{sysfs.read(f'{subchannel}/dev_busid')}"
    sysfs.write(f"{path}/status", "off")
    assert settles(lambda: not sysfs.exists(device))
    with pytest.raises(FileNotFoundError):
        sysfs.write(f"{device}/online", "1")
