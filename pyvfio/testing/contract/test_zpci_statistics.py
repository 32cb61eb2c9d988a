"""``/sys/kernel/debug/pci/DEVICE/statistics``: a function's measurements, as the kernel shows them and as values."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.devices import PciFunction
from pyvfio.errors import NotAvailable
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails, let_pass
from pyvfio.testing.plugin import Lab
from pyvfio.zpci.statistics import DEBUGFS, Statistics, measure, read_statistics, restart, statistics_path

ROOT = f"{DEBUGFS}/pci"
COMMON = ["load operations", "store operations", "store block operations", "refresh operations"]
LOOK = 0x40  # in configuration space: vfio-pci asks the device each time
PAGES = 16


@pytest.fixture
def function(host: Host, lab: Lab) -> Iterator[PciFunction]:
    """A function that its driver has enabled; it is measured afterwards."""
    if not host.sysfs.exists(ROOT):
        pytest.skip("debugfs has no PCI functions here")
    if not host.sysfs.exists(f"/sys/bus/pci/devices/{lab.pci2}"):
        pytest.skip(f"this host has no PCI function {lab.pci2}")
    found = host.function(lab.pci2)
    if not host.sysfs.exists(statistics_path(found.name)):
        pytest.skip(f"{found} is not enabled")
    yield found
    measure(found, True)


@pytest.fixture
def path(function: PciFunction) -> str:
    return statistics_path(function.name)


def interval(function: PciFunction) -> float:
    """A little more than the seconds from one update to the next."""
    return read_statistics(function).interval / 1000 + 0.5


# what is refused


@pytest.mark.parametrize("text", ["", "\n", "x", "-1", " 1", "1 1", "0x1", "1\n\n"])
def test_what_is_no_number(sysfs: Attributes, path: str, text: str) -> None:
    before = sysfs.read(path)
    with fails(errno.EINVAL):
        sysfs.write(path, text)
    assert sysfs.read(path).splitlines()[0] == before.splitlines()[0]


def test_too_large_a_number(sysfs: Attributes, path: str) -> None:
    with fails(errno.ERANGE):
        sysfs.write(path, str(1 << 64))


def test_on_and_off_twice(sysfs: Attributes, path: str) -> None:
    with fails(errno.EINVAL):
        sysfs.write(path, "1")
    assert sysfs.write(path, "+0\n") == 3
    assert sysfs.read(path) == "FMB statistics disabled"
    with fails(errno.EINVAL):
        sysfs.write(path, "0")
    assert sysfs.write(path, "01") == 2


def test_other_numbers_do_nothing(sysfs: Attributes, path: str) -> None:
    before = sysfs.read(path).splitlines()[0]
    assert sysfs.write(path, "2\n") == 2
    assert sysfs.read(path).splitlines()[0] == before


def test_calls_that_the_file_does_not_have(backend: Backend, path: str) -> None:
    with OpenFiles(backend) as files:
        fd = files.open(path)
        with fails(errno.ESPIPE):
            backend.pwrite(fd, b"1", 0)
        assert backend.pread(fd, 8, 7) == b"interval"
        assert backend.read(fd, 6) == b"Update"


def test_nothing_can_be_made_or_removed(backend: Backend, path: str) -> None:
    with fails(errno.EPERM):
        backend.mkdir(f"{ROOT}/new")
    with fails(errno.EACCES):
        backend.close(backend.open(f"{ROOT}/new", os.O_CREAT | os.O_WRONLY))
    with fails(errno.EPERM):
        backend.unlink(path)


def test_modes(backend: Backend, path: str) -> None:
    assert backend.stat(DEBUGFS).st_mode & 0o777 == 0o700
    assert backend.stat(ROOT).st_mode & 0o777 == 0o755
    found = backend.stat(path)
    assert (found.st_mode & 0o777, found.st_size, found.st_nlink) == (0o644, 0, 1)


# the text and the value


def test_the_text(sysfs: Attributes, path: str) -> None:
    lines = sysfs.read(path).splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["Update interval", "Samples", "Last update TOD"]
    assert [line.split(":")[0].strip().lower() for line in lines[3:7]] == COMMON
    assert all(line.index(":") == 26 for line in lines[3:])


def test_the_value(function: PciFunction) -> None:
    found = read_statistics(function)
    assert found.enabled
    assert found.interval > 0
    assert list(found.counters)[:4] == COMMON
    assert "mapped pages" in found.software


def test_it_begins_with_nothing(function: PciFunction) -> None:
    restart(function)
    found = read_statistics(function)
    assert (found.samples, found.updated, found.seconds) == (0, 0, None)
    assert not any(found.counters.values())


def test_the_machine_updates_it(host: Host, function: PciFunction) -> None:
    restart(function)
    let_pass(host.backend, interval(function))
    first = read_statistics(function)
    assert first.updated
    let_pass(host.backend, interval(function))
    second = read_statistics(function)
    assert second.samples == first.samples + 1
    assert second.seconds is not None
    assert first.seconds is not None
    assert second.seconds - first.seconds == pytest.approx(first.interval / 1000, rel=0.1)


def test_off_and_on(function: PciFunction) -> None:
    assert measure(function, False)
    assert not measure(function, False)
    assert read_statistics(function) == Statistics(False)
    assert measure(function, True)
    assert not measure(function, True)


# a function that a program has


def test_only_while_it_is_enabled(host: Host, backend: Backend, function: PciFunction, path: str) -> None:
    with BoundFunction(backend, function.name):
        assert not host.sysfs.exists(path)
        with pytest.raises(NotAvailable) as caught:
            read_statistics(function)
        assert "enabled" in str(caught.value.cause)
        with pyvfio.open_device(host, function):
            assert read_statistics(function).enabled
        assert not host.sysfs.exists(path)


def test_a_reset_ends_it_and_nobody_notices(host: Host, backend: Backend, function: PciFunction) -> None:
    """What opens a function through VFIO resets it, if Linux can (not what came by hotplug)."""
    resets = host.sysfs.exists(f"{function.path}/reset")
    with BoundFunction(backend, function.name), pyvfio.open_device(host, function):
        let_pass(backend, interval(function))
        assert bool(read_statistics(function).updated) is not resets
        restart(function)
        let_pass(backend, interval(function))
        assert read_statistics(function).updated


@pytest.mark.parametrize("how", ["group", "iommufd"])
def test_what_is_counted(host: Host, backend: Backend, function: PciFunction, how: str) -> None:
    with BoundFunction(backend, function.name), pyvfio.open_device(host, function, way=how) as device:
        restart(function)
        for _ in range(10):
            device.config.read(LOOK, 4)
        with device.space.buffer(PAGES * host.page_size):
            now = read_statistics(function).software
            assert (now["mapped pages"], now["unmapped pages"]) == (PAGES, 0)
            assert 1 <= now["sync map rpcits"] <= PAGES
        now = read_statistics(function).software
        assert (now["mapped pages"], now["unmapped pages"]) == (PAGES, PAGES)
        assert now["sync rpcits"] == 1
        let_pass(backend, interval(function))
        after = read_statistics(function)
        assert after.counters["load operations"] == 10
        assert after.counters["store operations"] == 0
        refreshes = after.software["sync map rpcits"] + after.software["sync rpcits"]
        assert after.counters["refresh operations"] == refreshes
        restart(function)
        assert not any(read_statistics(function).software.values())
