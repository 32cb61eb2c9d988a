"""open: what is refused, and that a descriptor is a real one of this process."""

from __future__ import annotations

import os
from errno import EACCES, EBADF, EEXIST, EISDIR, ELOOP, ENOENT, ENOTDIR

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/sys/bus/pci/devices/zzzz",
        "/sys/no/such/place",
        "/dev/vfio/no-such-group",
        "/dev/vfio/devices/vfio999",
        "/sys/bus/pci/devices/ffff:00:00.0/vendor",
    ],
    ids=["empty", "device", "directory", "group", "cdev", "attribute"],
)
def test_what_is_not_there(backend: Backend, path: str) -> None:
    with fails(ENOENT):
        backend.open(path, os.O_RDONLY)


def test_a_path_through_a_file(backend: Backend, pci_path: str) -> None:
    with fails(ENOTDIR):
        backend.open(f"{pci_path}/vendor/x", os.O_RDONLY)


def test_a_path_through_a_node(backend: Backend) -> None:
    with fails(ENOTDIR):
        backend.open(f"{CONTAINER}/x", os.O_RDONLY)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR], ids=["write", "read-write"])
def test_a_directory_for_writing(backend: Backend, pci_path: str, flags: int) -> None:
    with fails(EISDIR):
        backend.open(pci_path, flags)


def test_a_file_as_directory(backend: Backend, pci_path: str) -> None:
    with fails(ENOTDIR):
        backend.open(f"{pci_path}/vendor", os.O_RDONLY | os.O_DIRECTORY)


def test_a_link_without_following(backend: Backend, pci_path: str) -> None:
    with fails(ELOOP):
        backend.open(f"{pci_path}/driver", os.O_RDONLY | os.O_NOFOLLOW)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR], ids=["write", "read-write"])
def test_an_attribute_without_a_store(backend: Backend, pci_path: str, flags: int) -> None:
    # kernfs looks at the mode bits even when the caller is root
    with fails(EACCES):
        backend.open(f"{pci_path}/vendor", flags)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR], ids=["read", "read-write"])
def test_an_attribute_without_a_show(backend: Backend, flags: int) -> None:
    with fails(EACCES):
        backend.open("/sys/bus/pci/drivers_probe", flags)


def test_no_new_files_in_sysfs(backend: Backend) -> None:
    with fails(EACCES):
        backend.open("/sys/bus/pci/new-file", os.O_WRONLY | os.O_CREAT)


def test_exclusive_creation_of_what_is_there(backend: Backend, pci_path: str) -> None:
    with fails(EEXIST):
        backend.open(f"{pci_path}/vendor", os.O_RDONLY | os.O_CREAT | os.O_EXCL)


def test_a_closed_descriptor(backend: Backend, pci_path: str) -> None:
    fd = backend.open(f"{pci_path}/vendor", os.O_RDONLY)
    backend.close(fd)
    with fails(EBADF):
        backend.read(fd, 1)


def test_close_twice(backend: Backend, pci_path: str) -> None:
    fd = backend.open(f"{pci_path}/vendor", os.O_RDONLY)
    backend.close(fd)
    with fails(EBADF):
        backend.close(fd)


def test_it_is_close_on_exec(files: OpenFiles, pci_path: str) -> None:
    assert not os.get_inheritable(files.open(f"{pci_path}/vendor", os.O_RDONLY))
    assert not os.get_inheritable(files.open(CONTAINER))


def test_it_is_a_descriptor_of_this_process(files: OpenFiles, pci_path: str) -> None:
    fd = files.open(f"{pci_path}/vendor", os.O_RDONLY)
    os.fstat(fd)
    assert str(fd) in os.listdir("/proc/self/fd")


def test_two_opens_have_two_positions(backend: Backend, files: OpenFiles, pci_path: str) -> None:
    one, two = (files.open(f"{pci_path}/vendor", os.O_RDONLY) for _ in range(2))
    assert one != two
    assert backend.read(one, 4) == backend.read(two, 4)


def test_a_duplicate_shares_the_position(backend: Backend, files: OpenFiles, pci_path: str) -> None:
    fd = files.open(f"{pci_path}/vendor", os.O_RDONLY)
    other = os.dup(fd)
    try:
        whole = backend.pread(fd, 100, 0)
        assert backend.read(fd, 2) + backend.read(other, 100) == whole
    finally:
        os.close(other)


def test_a_duplicate_outlives_the_original(backend: Backend, pci_path: str) -> None:
    fd = backend.open(f"{pci_path}/vendor", os.O_RDONLY)
    other = os.dup(fd)
    backend.close(fd)
    try:
        assert backend.read(other, 2) == b"0x"
    finally:
        backend.close(other)
