"""Plain files: creation, positions, appending, truncation, and what fsync accepts."""

from __future__ import annotations

import os
import stat
from errno import EBADF, EEXIST, EINVAL, EISDIR, ENOENT, ENOTDIR

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, IOMMU, require_node


def _new(folder: str, files: OpenFiles, flags: int = 0) -> int:
    return files.open(f"{folder}/a", os.O_RDWR | os.O_CREAT | flags)


def test_what_is_not_there(backend: Backend, folder: str) -> None:
    with fails(ENOENT):
        backend.open(f"{folder}/a", os.O_RDWR)
    with fails(ENOENT):
        backend.open(f"{folder}/a/b", os.O_RDWR | os.O_CREAT)


def test_creation_that_is_refused(backend: Backend, files: OpenFiles, folder: str) -> None:
    _new(folder, files)
    for flags, name, error in [
        (os.O_CREAT | os.O_EXCL, "a", EEXIST),
        (os.O_CREAT | os.O_EXCL, "", EISDIR),
        (os.O_CREAT, "", EISDIR),
        (os.O_CREAT, ".", EISDIR),
        (os.O_CREAT, "a/b", ENOTDIR),
        (os.O_CREAT | os.O_DIRECTORY, "b", EINVAL),
        (os.O_DIRECTORY, "a", ENOTDIR),
    ]:
        with fails(error):
            backend.open(f"{folder}/{name}", flags)
    assert backend.listdir(folder) == ["a"]


@pytest.mark.parametrize("path", ["/proc/pyvfio", "/proc/self/pyvfio"])
def test_no_new_files_in_proc(backend: Backend, path: str) -> None:
    with fails(ENOENT):
        backend.open(path, os.O_WRONLY | os.O_CREAT)


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDONLY])
def test_truncation_of_a_directory(backend: Backend, folder: str, flags: int) -> None:
    with fails(EISDIR):
        backend.open(folder, flags | os.O_TRUNC)


@pytest.mark.parametrize("mode", [0o777, 0o640, 0])
def test_the_mode_of_a_new_file(backend: Backend, folder: str, mode: int) -> None:
    before = os.umask(0o027)
    try:
        backend.close(backend.open(f"{folder}/a", os.O_WRONLY | os.O_CREAT, mode))
    finally:
        os.umask(before)
    status = backend.stat(f"{folder}/a")
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == mode & 0o750
    assert (status.st_nlink, status.st_size) == (1, 0)


def test_reading_and_writing_move_the_position(backend: Backend, files: OpenFiles, folder: str) -> None:
    fd = _new(folder, files)
    assert backend.write(fd, b"one") == 3
    assert backend.write(fd, b"two") == 3
    assert backend.read(fd, 10) == b""
    assert backend.pread(fd, 10, 2) == b"etwo"
    assert backend.pwrite(fd, b"E", 2) == 1
    other = files.open(f"{folder}/a", os.O_RDONLY)
    assert backend.read(other, 3) + backend.read(other, 10) == b"onEtwo"
    assert backend.stat(f"{folder}/a").st_size == 6


def test_writing_beyond_the_end_leaves_zeros(backend: Backend, files: OpenFiles, folder: str) -> None:
    fd = _new(folder, files)
    assert backend.pwrite(fd, b"", 100) == 0
    assert backend.stat(f"{folder}/a").st_size == 0
    backend.pwrite(fd, b"x", 3)
    assert backend.pread(fd, 10, 0) == b"\0\0\0x"


def test_appending(backend: Backend, files: OpenFiles, folder: str) -> None:
    backend.write(_new(folder, files), b"abc")
    fd = files.open(f"{folder}/a", os.O_RDWR | os.O_APPEND)
    assert backend.read(fd, 1) == b"a"
    backend.write(fd, b"d")
    backend.pwrite(fd, b"e", 0)  # Linux appends here, too
    assert backend.read(fd, 10) == b"e"
    assert backend.pread(fd, 10, 0) == b"abcde"


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDONLY])
def test_truncation(backend: Backend, files: OpenFiles, folder: str, flags: int) -> None:
    backend.write(_new(folder, files), b"abc")
    files.open(f"{folder}/a", flags | os.O_TRUNC)
    assert backend.stat(f"{folder}/a").st_size == 0


def test_the_access_mode_binds(backend: Backend, files: OpenFiles, folder: str) -> None:
    _new(folder, files)
    reading, writing = files.open(f"{folder}/a", os.O_RDONLY), files.open(f"{folder}/a", os.O_WRONLY)
    with fails(EBADF):
        backend.write(reading, b"x")
    with fails(EBADF):
        backend.pwrite(reading, b"x", 0)
    with fails(EBADF):
        backend.read(writing, 1)


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/sys/kernel/uevent_seqnum", 0),
        ("/sys/kernel", EINVAL),
        ("/proc/cmdline", EINVAL),
        ("/proc", EINVAL),
        ("/dev", 0),
        ("/tmp", 0),
        (CONTAINER, EINVAL),
        (IOMMU, EINVAL),
    ],
)
def test_fsync(backend: Backend, files: OpenFiles, path: str, error: int) -> None:
    require_node(backend, path)
    fd = files.open(path, os.O_RDONLY)
    if error:
        with fails(error):
            backend.fsync(fd)
    else:
        backend.fsync(fd)


def test_fsync_of_a_plain_file(backend: Backend, files: OpenFiles, folder: str) -> None:
    backend.fsync(_new(folder, files))
    backend.fsync(files.open(f"{folder}/a", os.O_RDONLY))
    with fails(EBADF):
        backend.fsync(files.open(folder, os.O_PATH))


def test_fsync_of_no_descriptor(backend: Backend, files: OpenFiles, folder: str) -> None:
    fd = _new(folder, files)
    files.close(fd)
    with fails(EBADF):
        backend.fsync(fd)
