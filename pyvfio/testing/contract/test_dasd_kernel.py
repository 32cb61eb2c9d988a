"""The kernel's own driver has the disk, gives it to vfio_ccw, and gets it back with what was written meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.ccw import CcwDevice
from pyvfio.dasd import dasds
from pyvfio.drivers import Dasd
from pyvfio.host import Host
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import settles
from pyvfio.testing.plugin import Lab

SIZE, BLOCK = 4096, 330 * 15 * 12
DRIVER = "dasd-eckd"


@pytest.fixture
def kernel_disk(disk_backend: Backend, lab: Lab) -> Iterator[str]:
    """The sysfs directory of the disk while the kernel has it, online; offline as before at the end."""
    sysfs, path = Attributes(disk_backend), f"/sys/bus/ccw/devices/{lab.dasd}"
    if sysfs.link(f"{path}/driver") != DRIVER:
        pytest.skip(f"{DRIVER} has not got {lab.dasd}")
    before = sysfs.read(f"{path}/online")
    sysfs.write(f"{path}/online", "1")
    assert settles(lambda: sysfs.exists(f"{path}/block"))
    yield path
    if sysfs.exists(path):
        sysfs.write(f"{path}/online", before)


def node(backend: Backend, path: str) -> str:
    """The node of the kernel's block device."""
    (name,) = backend.listdir(f"{path}/block")
    return f"/dev/{name}"


def read_block(backend: Backend, path: str, block: int) -> bytes:
    """Read a block as everybody does."""
    fd = backend.open(node(backend, path), os.O_RDONLY)
    try:
        return backend.pread(fd, SIZE, block * SIZE)
    finally:
        backend.close(fd)


# what the kernel says of it


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cutype", "3990/c2"),
        ("devtype", "3390/02"),
        ("modalias", "ccw:t3990mC2dt3390dm02"),
        ("availability", "good"),
        ("status", "online"),
        ("discipline", "ECKD"),
        ("vendor", "HRC"),
        ("readonly", "0"),
        ("use_diag", "0"),
        ("raw_track_access", "0"),
        ("uid", "HRC.ZZ000000000001.0a00.00"),
    ],
)
def test_attributes_of_a_disk_that_is_online(disk_backend: Backend, kernel_disk: str, name: str, value: str) -> None:
    assert Attributes(disk_backend).read(f"{kernel_disk}/{name}") == value


def test_its_size(disk_backend: Backend, kernel_disk: str) -> None:
    (name,) = disk_backend.listdir(f"{kernel_disk}/block")
    assert Attributes(disk_backend).read(f"/sys/block/{name}/size") == str(200340 * 8)


def test_the_library_lists_it(disk_host: Host, kernel_disk: str, lab: Lab) -> None:
    (found,) = (one for one in dasds(disk_host.sysfs) if one.name == lab.dasd)
    assert (found.discipline, found.online, found.block_size, found.sectors) == ("ECKD", True, SIZE, 200340 * 8)


def test_the_kernel_reads_the_label(disk_backend: Backend, kernel_disk: str) -> None:
    assert read_block(disk_backend, kernel_disk, 2)[4:14] == "VOL1LAB001".encode("cp037")


# there and back


def written(host: Host, number: str, data: bytes) -> None:
    """Take the disk, write blocks by the driver, and give it back, online."""
    pyvfio.ccw_take(host, number)
    try:
        with pyvfio.open_device(host, number) as device, CcwDevice(device) as channel, Dasd(channel) as disk:
            disk.write_blocks(BLOCK, data)
    finally:
        pyvfio.ccw_give_back(host, number, online=True)


def test_what_the_driver_writes_the_kernel_reads(disk_backend: Backend, kernel_disk: str, lab: Lab) -> None:
    for data in (bytes(range(256)) * 16, b"\x5a" * SIZE):
        with Host(disk_backend) as host:
            written(host, lab.dasd, data)
        assert settles(lambda: Attributes(disk_backend).read(f"{kernel_disk}/online") == "1")
        assert read_block(disk_backend, kernel_disk, BLOCK) == data


def test_what_the_kernel_writes_the_driver_reads(disk_backend: Backend, kernel_disk: str, lab: Lab) -> None:
    fd = disk_backend.open(node(disk_backend, kernel_disk), os.O_RDWR | os.O_SYNC)
    try:
        disk_backend.pwrite(fd, b"kernel!!" * 512, (BLOCK + 1) * SIZE)
    finally:
        disk_backend.close(fd)
    with Host(disk_backend) as host:
        pyvfio.ccw_take(host, lab.dasd)
        try:
            with pyvfio.open_device(host, lab.dasd) as device, CcwDevice(device) as channel, Dasd(channel) as disk:
                assert disk.read_blocks(BLOCK + 1) == b"kernel!!" * 512
        finally:
            pyvfio.ccw_give_back(host, lab.dasd, online=True)


def test_a_take_of_a_disk_that_is_online(disk_backend: Backend, kernel_disk: str, lab: Lab) -> None:
    """It is set offline first, and online again at the end."""
    with Host(disk_backend) as host:
        taken = pyvfio.ccw_take(host, lab.dasd)
        assert taken.was_online
        assert not Attributes(disk_backend).exists(kernel_disk)
        pyvfio.ccw_give_back(host, lab.dasd)
    assert settles(lambda: Attributes(disk_backend).read(f"{kernel_disk}/online") == "1")
