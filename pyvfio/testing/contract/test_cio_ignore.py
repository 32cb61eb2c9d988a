"""``/proc/cio_ignore``: which devices are left alone, what becomes of those that are there; ``/proc/cio_settle``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from errno import EINVAL, EIO, ESPIPE

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.expect import fails, settles

IGNORE = "/proc/cio_ignore"
SETTLE = "/proc/cio_settle"
ALL = ["0.0.0000-0.0.ffff", "0.1.0000-0.1.ffff", "0.2.0000-0.2.ffff", "0.3.0000-0.3.ffff"]


@pytest.fixture(autouse=True)
def proc(sysfs: Attributes) -> Iterator[Attributes]:
    """The files, with nothing ignored before and after."""
    if not sysfs.exists(IGNORE):
        pytest.skip("this host has no channel subsystem")
    before = sysfs.read(IGNORE)
    if before:
        pytest.skip("this host ignores devices")
    yield sysfs
    sysfs.write(IGNORE, "free all")
    sysfs.write(SETTLE, "1")


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "\n", "nonsense", "addx 1", "freeze 1", "ADD 1", " add 1", "add\t1", "add  1", "add 1 2", "add x",
        "add -", "add 1-", "add -1", "add 10000", "add 12g", "add 0.0.200", "add 0.0.20000", "add 0.4.2000",
        "add 1.0.2000", "add fd.0.2000", "add 000.0.2000", "add 0.0.1-0.0.2", "add 0.0.2003-0.0.2000", "add 1-2-3",
        "add ipl", "add !", "add 0.0.2000\xff",
    ],
)  # fmt: skip
def test_what_is_refused(proc: Attributes, text: str) -> None:
    with fails(EINVAL):
        fd = proc.backend.open(IGNORE, os.O_WRONLY)
        try:
            proc.backend.write(fd, text.encode("latin-1"))
        finally:
            proc.backend.close(fd)
    assert proc.read(IGNORE) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("add 1,", ["0.0.0001"]),
        ("add ,1", ["0.0.0001"]),
        ("add 1,x,2", ["0.0.0001-0.0.0002"]),
        ("add 2,10000,!3", ["0.0.0002"]),
    ],
)
def test_what_is_right_counts_though_the_write_is_refused(proc: Attributes, text: str, shown: list[str]) -> None:
    with fails(EINVAL):
        proc.write(IGNORE, text)
    assert proc.read(IGNORE).splitlines() == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("add", []),
        ("add ", []),
        ("free", []),
        ("purge x", []),
        ("add ipldev,condev", []),
        ("add 2000", ["0.0.2000"]),
        ("add 0.0.2000\n", ["0.0.2000"]),
        ("add 00.0.2000", ["0.0.2000"]),
        ("add 0x2000", ["0.0.2000"]),
        ("add 0X12", ["0.0.0012"]),
        ("add 0x", ["0.0.0000"]),
        ("add 0.0.00FF", ["0.0.00ff"]),
        ("add 2000-2003", ["0.0.2000-0.0.2003"]),
        ("add 2000-0.0.2003 \n \n", ["0.0.2000-0.0.2003"]),
        ("add 0.0.2000-2003", ["0.0.2000-0.0.2003"]),
        ("add 2,1", ["0.0.0001-0.0.0002"]),
        ("add 1,2,3,4,6", ["0.0.0001-0.0.0004", "0.0.0006"]),
        ("add 0.0.fffe-0.1.0001", ["0.0.fffe-0.0.ffff", "0.1.0000-0.1.0001"]),
        ("add 0.1.2000-0.3.0001", ["0.1.2000-0.1.ffff", "0.2.0000-0.2.ffff", "0.3.0000-0.3.0001"]),
        ("add all", ALL),
        ("add !all", []),
        ("add all,!0.0.1000-0.0.1001", ["0.0.0000-0.0.0fff", "0.0.1002-0.0.ffff", *ALL[1:]]),
        ("add all,!2000-20ff,2010", ["0.0.0000-0.0.1fff", "0.0.2010", "0.0.2100-0.0.ffff", *ALL[1:]]),
        ("free all,!1000", ["0.0.1000"]),
        ("add 2000\0,2001", ["0.0.2000"]),
    ],
)
def test_lists(proc: Attributes, text: str, shown: list[str]) -> None:
    assert proc.write(IGNORE, text) == len(text)
    assert proc.read(IGNORE).splitlines() == shown


def test_devices_are_freed_one_by_one(proc: Attributes) -> None:
    proc.write(IGNORE, "add 2000-200f")
    proc.write(IGNORE, "free 2004,200c-200d")
    assert proc.read(IGNORE).splitlines() == ["0.0.2000-0.0.2003", "0.0.2005-0.0.200b", "0.0.200e-0.0.200f"]


def test_the_position(backend: Backend, proc: Attributes, files: OpenFiles) -> None:
    fd = files.open(IGNORE, os.O_RDWR)
    assert backend.write(fd, b"add 1") == 5
    assert backend.write(fd, b"add 3") == 5
    with fails(ESPIPE):
        backend.pwrite(fd, b"add 5", 0)
    assert backend.pread(fd, 4, 0) == b"0.0."
    assert backend.pread(fd, 100, 9) == b"0.0.0003\n"
    assert backend.read(fd, 100) == b"0.0.0001\n0.0.0003\n"
    with fails(EINVAL):
        backend.write(fd, b"add 5")


@pytest.mark.parametrize("text", ["1", "x", "\n", "x" * 9000])
def test_settling(proc: Attributes, text: str) -> None:
    assert proc.write(SETTLE, text) == len(text)


def test_the_file_to_settle_is_for_writing_at_its_begin(backend: Backend, proc: Attributes, files: OpenFiles) -> None:
    fd = files.open(SETTLE, os.O_RDWR)
    with fails(EIO):
        backend.read(fd, 1)
    with fails(ESPIPE):
        backend.pwrite(fd, b"1", 5)
    assert oct(backend.lstat(SETTLE).st_mode & 0o777) == "0o200"
    assert oct(backend.lstat(IGNORE).st_mode & 0o777) == "0o644"


# devices that are there


@pytest.fixture
def offline(proc: Attributes) -> str:
    """An offline device, by its bus id."""
    for name in sorted(proc.backend.listdir("/sys/bus/ccw/devices")):
        path = f"/sys/bus/ccw/devices/{name}"
        if proc.read(f"{path}/online") == "0" and proc.read(f"{path}/availability") == "good":
            return name
    pytest.skip("this host has no offline channel device")


def _events(backend: Backend, action: Callable[[], object], ended: Callable[[], object]) -> list[tuple[str, str]]:
    with backend.uevents() as stream:
        action()
        assert settles(ended)
        found = [(event.action, event.devpath) for event in stream]
    return [(what, where) for what, where in found if where.startswith("/devices/css0/0.")]


def test_an_online_device_is_not_purged(proc: Attributes, lab_online: str) -> None:
    proc.write(IGNORE, f"add {lab_online}")
    assert proc.write(IGNORE, "purge") == 5
    proc.write(SETTLE, "1")
    assert proc.read(f"/sys/bus/ccw/devices/{lab_online}/online") == "1"


@pytest.fixture
def lab_online(proc: Attributes) -> str:
    """An online device, by its bus id."""
    for name in sorted(proc.backend.listdir("/sys/bus/ccw/devices")):
        if proc.read(f"/sys/bus/ccw/devices/{name}/online") == "1":
            return name
    pytest.skip("this host has no online channel device")


def test_purging_and_freeing(backend: Backend, proc: Attributes, offline: str) -> None:
    device = f"/sys/bus/ccw/devices/{offline}"
    below = backend.readlink(device).removeprefix("../../..")
    above = below.rsplit("/", 1)[0]
    driver = proc.link(f"{device}/driver")
    proc.write(IGNORE, f"add {offline}")
    assert proc.exists(device)
    gone = _events(backend, lambda: proc.write(IGNORE, "purge"), lambda: not proc.exists(f"/sys{above}"))
    unbind = [("unbind", below)] if driver is not None else []
    assert gone == [*unbind, ("remove", below), ("unbind", above), ("remove", above)]
    proc.write("/sys/devices/css0/rescan", "1")
    proc.write(SETTLE, "1")
    assert not proc.exists(f"/sys{above}")
    back = _events(
        backend,
        lambda: proc.write(IGNORE, f"free {offline}"),
        lambda: proc.exists(device) and proc.link(f"{device}/driver") == driver,
    )
    bind = [("bind", below)] if driver is not None else []
    assert back == [("add", above), ("bind", above), ("add", below), *bind]
    assert proc.read(f"{device}/online") == "0"
