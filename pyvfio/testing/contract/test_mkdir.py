"""mkdir and rmdir."""

from __future__ import annotations

import os
import stat
from errno import EBUSY, EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EROFS

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.expect import fails

SEQNUM = "/sys/kernel/uevent_seqnum"


@pytest.mark.parametrize("path", ["", "/tmp/no-such-directory/x", "/tmp/no-such-directory/."])
def test_mkdir_without_a_parent(backend: Backend, path: str) -> None:
    with fails(ENOENT):
        backend.mkdir(path)


def test_mkdir_through_a_file(backend: Backend) -> None:
    with fails(ENOTDIR):
        backend.mkdir(f"{SEQNUM}/x")


@pytest.mark.parametrize("path", ["/", "/tmp", "/tmp/", "/tmp/.", "/tmp/..", "/sys/kernel", SEQNUM])
def test_mkdir_of_what_is_there(backend: Backend, path: str) -> None:
    with fails(EEXIST):
        backend.mkdir(path)


@pytest.mark.parametrize("path", ["/sys/pyvfio", "/sys/pyvfio/", "/sys/bus/pci/pyvfio", "/sys/" + "x" * 256])
def test_mkdir_in_sysfs(backend: Backend, path: str) -> None:
    with fails(EPERM):
        backend.mkdir(path)


@pytest.mark.parametrize("path", ["/proc/pyvfio", "/proc/self/pyvfio"])
def test_mkdir_in_proc(backend: Backend, path: str) -> None:
    with fails(ENOENT):
        backend.mkdir(path)


def test_mkdir_with_a_name_too_long(backend: Backend, folder: str) -> None:
    with fails(ENAMETOOLONG):
        backend.mkdir(f"{folder}/{'x' * 256}")


def test_rmdir_of_what_is_not_there(backend: Backend, folder: str) -> None:
    with fails(ENOENT):
        backend.rmdir(f"{folder}/x")


def test_rmdir_of_a_file(backend: Backend) -> None:
    with fails(ENOTDIR):
        backend.rmdir(SEQNUM)


@pytest.mark.parametrize(
    ("path", "error"),
    [("/", EBUSY), ("/tmp/.", EINVAL), ("/tmp/..", ENOTEMPTY), ("/sys/bus", EPERM)],
)
def test_rmdir_of_what_must_stay(backend: Backend, path: str, error: int) -> None:
    with fails(error):
        backend.rmdir(path)


@pytest.mark.parametrize("path", ["/sys", "/proc"])
def test_rmdir_of_a_mount_point(backend: Backend, path: str) -> None:
    with fails(EBUSY, EROFS):  # the root of a test machine may not be writable
        backend.rmdir(path)


def test_rmdir_of_a_directory_with_entries(backend: Backend, folder: str) -> None:
    backend.mkdir(f"{folder}/a")
    backend.mkdir(f"{folder}/a/b")
    with fails(ENOTEMPTY):
        backend.rmdir(f"{folder}/a")
    backend.rmdir(f"{folder}/a/b")
    backend.rmdir(f"{folder}/a/")
    assert backend.listdir(folder) == []


def test_a_directory(backend: Backend, folder: str) -> None:
    backend.mkdir(f"{folder}/a")
    assert backend.listdir(folder) == ["a"]
    assert stat.S_ISDIR(backend.stat(f"{folder}/a").st_mode)
    with fails(EISDIR):
        backend.open(f"{folder}/a", os.O_WRONLY)
    with fails(EISDIR):
        backend.unlink(f"{folder}/a")


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o7777])
def test_the_mode_of_a_directory(backend: Backend, folder: str, mode: int) -> None:
    before = os.umask(0o022)
    try:
        backend.mkdir(f"{folder}/a", mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(backend.stat(f"{folder}/a").st_mode) == mode & 0o1755
