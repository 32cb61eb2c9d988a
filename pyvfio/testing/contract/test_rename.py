"""rename: the order of its checks, and that it replaces."""

from __future__ import annotations

import os
from errno import EBUSY, EINVAL, EISDIR, ENOENT, ENOTDIR, ENOTEMPTY, EPERM, EROFS, EXDEV

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.expect import fails

SEQNUM = "/sys/kernel/uevent_seqnum"
BUS = "/sys/bus/pci"


def _make(backend: Backend, path: str, data: bytes = b"") -> str:
    fd = backend.open(path, os.O_WRONLY | os.O_CREAT)
    if data:
        backend.write(fd, data)
    backend.close(fd)
    return path


@pytest.mark.parametrize(
    ("source", "target", "error"),
    [
        (f"{BUS}/none", f"{BUS}/other", ENOENT),
        (f"{BUS}/none/x", "/tmp/x", ENOENT),
        (f"{BUS}/none", "/tmp/x", EXDEV),
        (f"{BUS}/uevent", "/tmp/x", EXDEV),
        (f"{BUS}/uevent", f"{BUS}/other", EPERM),
        (f"{BUS}/uevent", f"{BUS}/rescan", EPERM),
        (f"{BUS}/uevent", f"{BUS}/devices", EISDIR),
        (f"{BUS}/drivers", f"{BUS}/uevent", ENOTDIR),
        (f"{BUS}/drivers", f"{BUS}/drivers/x", EINVAL),
        (f"{BUS}/drivers", BUS, ENOTEMPTY),
        (f"{BUS}/uevent/", f"{BUS}/other", ENOTDIR),
        (f"{BUS}/uevent/x", f"{BUS}/other", ENOTDIR),
        (f"{BUS}/.", f"{BUS}/other", EBUSY),
        (f"{BUS}/uevent", f"{BUS}/..", EBUSY),
        ("/proc/cmdline", "/proc/pyvfio", ENOENT),
        ("/proc/cmdline", "/proc/cmdline/x", ENOTDIR),
    ],
)
def test_what_is_refused(backend: Backend, source: str, target: str, error: int) -> None:
    with fails(error):
        backend.rename(source, target)


def test_a_mount_point(backend: Backend) -> None:
    with fails(EBUSY, EROFS):  # the root of a test machine may not be writable
        backend.rename("/sys", "/pyvfio")


def test_the_same_name(backend: Backend, folder: str) -> None:
    backend.rename(SEQNUM, SEQNUM)
    path = _make(backend, f"{folder}/a", b"one")
    backend.rename(path, path)
    assert backend.listdir(folder) == ["a"]


def test_a_file_replaces_a_file(backend: Backend, sysfs: Attributes, folder: str) -> None:
    _make(backend, f"{folder}/a", b"new")
    _make(backend, f"{folder}/b", b"old")
    inode = backend.stat(f"{folder}/a").st_ino
    backend.rename(f"{folder}/a", f"{folder}/b")
    assert backend.listdir(folder) == ["b"]
    assert sysfs.read(f"{folder}/b") == "new"
    assert backend.stat(f"{folder}/b").st_ino == inode


def test_files_and_directories(backend: Backend, folder: str) -> None:
    _make(backend, f"{folder}/file")
    for name in ("empty", "full", "full/below"):
        backend.mkdir(f"{folder}/{name}")
    for source, target, error in [
        ("file", "empty", EISDIR),
        ("empty", "file", ENOTDIR),
        ("empty", "full", ENOTEMPTY),
        ("full", "full/below/x", EINVAL),
        ("full/below", "full", ENOTEMPTY),
        ("file", "new/", ENOTDIR),
        ("none", "new", ENOENT),
        ("file", "none/x", ENOENT),
        ("file", "file/x", ENOTDIR),
    ]:
        with fails(error):
            backend.rename(f"{folder}/{source}", f"{folder}/{target}")
    backend.rename(f"{folder}/full", f"{folder}/empty")
    backend.rename(f"{folder}/empty", f"{folder}/new/")
    assert sorted(backend.listdir(folder)) == ["file", "new"]
    assert backend.listdir(f"{folder}/new") == ["below"]
