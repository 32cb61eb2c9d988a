"""Disks: their files in sysfs, their nodes, who may open them, and what is left when their driver goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from errno import EBUSY, ENOENT, ENOSPC, EPERM

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails, settles
from pyvfio.testing.plugin import Lab

SECTOR = 512


class Disk:
    """The disk of a PCI function: its name as it is now, its sysfs path and its node."""

    def __init__(self, function: BoundFunction) -> None:
        self.function = function
        self.sysfs = function.sysfs

    @property
    def names(self) -> list[str]:
        """What hangs below the function as a disk (the kernel adds it a moment after the driver)."""
        try:
            child = next(name for name in self.sysfs.backend.listdir(self.function.path) if name.startswith("virtio"))
            return self.sysfs.backend.listdir(f"{self.function.path}/{child}/block")
        except (OSError, StopIteration):
            return []

    @property
    def name(self) -> str:
        assert settles(lambda: self.names), "the disk did not come"
        return self.names[0]

    @property
    def path(self) -> str:
        return f"/sys/class/block/{self.name}"

    @property
    def node(self) -> str:
        return f"/dev/{self.name}"

    @property
    def size(self) -> int:
        return int(self.sysfs.read(f"{self.path}/size")) * SECTOR

    def rebind(self) -> None:
        driver = self.function.driver_before
        self.function.unbind()
        self.sysfs.write(f"/sys/bus/pci/drivers/{driver}/bind", self.function.address)


@pytest.fixture
def disk(backend: Backend, pci_path: str, lab: Lab) -> Iterator[Disk]:
    """The disk of the PCI function, with the driver that the host gave it."""
    found = Disk(BoundFunction(backend, lab.pci))
    if found.function.driver != "virtio-pci" or not settles(lambda: found.names, 2):
        pytest.skip(f"PCI function {lab.pci} has no disk")
    yield found
    if found.function.driver is not None:
        found.function.unbind()
    found.sysfs.write("/sys/bus/pci/drivers_probe", found.function.address)
    found.function.restore()


def test_opening_past_an_exclusive_opener(disk: Disk, files: OpenFiles) -> None:
    first = files.open(disk.node, os.O_RDONLY | os.O_EXCL)
    with fails(EBUSY):
        files.open(disk.node, os.O_RDONLY | os.O_EXCL)
    files.open(disk.node, os.O_RDWR)
    files.close(first)
    files.open(disk.node, os.O_RDWR | os.O_EXCL)


def test_writing_past_the_end(disk: Disk, files: OpenFiles, backend: Backend) -> None:
    fd = files.open(disk.node)
    with fails(ENOSPC):
        backend.pwrite(fd, b"x", disk.size)
    assert backend.pwrite(fd, b"", disk.size) == 0


def test_writing_to_a_read_only_disk(sysfs: Attributes, files: OpenFiles, backend: Backend) -> None:
    disks = [name for name in backend.listdir("/sys/block") if name.startswith("vd")]
    names = [name for name in disks if sysfs.read(f"/sys/block/{name}/ro") == "1"]
    if not names:
        pytest.skip("this host has no read-only disk")
    for name in names:
        with fails(EBUSY, EPERM):  # a mounted disk does not even open
            backend.pwrite(files.open(f"/dev/{name}", os.O_WRONLY), bytes(SECTOR), 0)


def test_its_files(disk: Disk, backend: Backend) -> None:
    assert set(backend.listdir(disk.path)) >= {
        "alignment_offset", "bdi", "cache_type", "capability", "dev", "device", "discard_alignment", "diskseq",
        "events", "events_async", "events_poll_msecs", "ext_range", "hidden", "holders", "inflight", "mq", "partscan",
        "queue", "range", "removable", "ro", "serial", "size", "slaves", "stat", "subsystem", "uevent",
    }  # fmt: skip
    assert backend.listdir(f"{disk.path}/holders") == []
    assert backend.listdir(f"{disk.path}/slaves") == []


def test_its_uevent_file(disk: Disk) -> None:
    lines = disk.sysfs.read(f"{disk.path}/uevent").splitlines()
    assert [line.partition("=")[0] for line in lines] == ["MAJOR", "MINOR", "DEVNAME", "DEVTYPE", "DISKSEQ"]
    assert f"DEVNAME={disk.name}" in lines
    assert "DEVTYPE=disk" in lines


def test_all_ways_lead_to_it(disk: Disk, backend: Backend) -> None:
    number = disk.sysfs.read(f"{disk.path}/dev")
    ways = [f"/sys/block/{disk.name}", f"/sys/class/block/{disk.name}", f"/sys/dev/block/{number}"]
    assert len({backend.readlink(way).rpartition("/devices/")[2] for way in ways}) == 1


def test_its_node(disk: Disk, backend: Backend) -> None:
    status = backend.stat(disk.node)
    major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
    assert stat.S_ISBLK(status.st_mode)
    assert disk.sysfs.read(f"{disk.path}/dev") == f"{major}:{minor}"
    assert status.st_size == 0


def test_it_can_be_read_to_its_end(disk: Disk, files: OpenFiles, backend: Backend) -> None:
    fd, size = files.open(disk.node, os.O_RDONLY), disk.size
    assert len(backend.pread(fd, SECTOR, 0)) == SECTOR
    assert len(backend.pread(fd, 2 * SECTOR, size - SECTOR)) == SECTOR
    assert backend.pread(fd, SECTOR, size) == b""
    assert backend.pread(fd, SECTOR, size + (1 << 20)) == b""
    assert len(backend.read(fd, 100)) == 100


def test_it_goes_with_its_driver(disk: Disk, backend: Backend) -> None:
    name, path, node = disk.name, disk.path, disk.node
    disk.function.unbind()
    assert not disk.sysfs.exists(path)
    assert not disk.sysfs.exists(f"/sys/block/{name}")
    with fails(ENOENT):
        backend.open(node, os.O_RDONLY)


def test_who_has_it_open_keeps_something_empty(disk: Disk, files: OpenFiles, backend: Backend) -> None:
    fd = files.open(disk.node)
    assert backend.pread(fd, SECTOR, 0)
    disk.function.unbind()
    assert backend.pread(fd, SECTOR, 0) == b""
    with fails(ENOSPC):
        backend.pwrite(fd, b"x", 0)


def test_its_name_is_taken_while_somebody_has_it_open(disk: Disk, files: OpenFiles) -> None:
    before = disk.name
    fd = files.open(disk.node, os.O_RDONLY)
    disk.rebind()
    assert disk.name != before
    files.close(fd)
    disk.rebind()
    assert disk.name == before


def test_its_number_in_sequence_is_its_own(disk: Disk) -> None:
    before = int(disk.sysfs.read(f"{disk.path}/diskseq"))
    disk.rebind()
    assert int(disk.sysfs.read(f"{disk.path}/diskseq")) > before
