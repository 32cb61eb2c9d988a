"""unlink."""

from __future__ import annotations

import os
from errno import EISDIR, ENOENT, ENOTDIR, EPERM, EROFS

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails


@pytest.mark.parametrize("path", ["", "/tmp/no-such-file", "/sys/bus/pci/no-such-file", "/tmp/no-such-file/"])
def test_what_is_not_there(backend: Backend, path: str) -> None:
    with fails(ENOENT):
        backend.unlink(path)


@pytest.mark.parametrize("path", ["/", "/tmp/.", "/tmp/..", "/sys/bus", "/sys/bus/"])
def test_a_directory(backend: Backend, path: str) -> None:
    with fails(EISDIR):
        backend.unlink(path)


def test_a_mount_point(backend: Backend) -> None:
    with fails(EISDIR, EROFS):  # the root of a test machine may not be writable
        backend.unlink("/sys")


def test_an_attribute(backend: Backend) -> None:
    with fails(EPERM):
        backend.unlink("/sys/kernel/uevent_seqnum")
    with fails(ENOTDIR):
        backend.unlink("/sys/kernel/uevent_seqnum/")


def test_a_link_of_sysfs(backend: Backend, pci_path: str) -> None:
    with fails(EPERM):
        backend.unlink(pci_path)


def test_a_file_of_proc(backend: Backend) -> None:
    with fails(EPERM):
        backend.unlink("/proc/cmdline")


def test_an_open_file_outlives_its_name(backend: Backend, files: OpenFiles, folder: str) -> None:
    fd = files.open(f"{folder}/a", os.O_RDWR | os.O_CREAT)
    backend.write(fd, b"kept")
    backend.unlink(f"{folder}/a")
    assert backend.listdir(folder) == []
    assert backend.pread(fd, 10, 0) == b"kept"
    with fails(ENOENT):
        backend.stat(f"{folder}/a")
