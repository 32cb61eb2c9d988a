"""open and mmap with odd flags and paths: O_PATH, access mode 3, names too long, and mappings a descriptor forbids."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EACCES, EBADF, EISDIR, ENAMETOOLONG, ENODEV, ENOENT, ENOTDIR

import pytest

from pyvfio.backend import MAP_SHARED, PROT_READ, PROT_WRITE, Backend
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, IOMMU, require_node

_NEITHER = 3


def _verbs(backend: Backend, fd: int) -> list[Callable[[], object]]:
    return [
        lambda: backend.read(fd, 1),
        lambda: backend.pread(fd, 1, 0),
        lambda: backend.write(fd, b"x"),
        lambda: backend.ioctl(fd, 0, bytearray(8)),
    ]


@pytest.mark.parametrize("path", ["/sys/bus/pci/drivers_autoprobe", "/sys/bus/pci", CONTAINER, IOMMU])
def test_a_place_only(backend: Backend, files: OpenFiles, path: str) -> None:
    require_node(backend, path)
    fd = files.open(path, os.O_PATH)
    for verb in _verbs(backend, fd):
        with fails(EBADF):
            verb()


def test_a_place_that_must_be_a_directory(files: OpenFiles) -> None:
    with fails(ENOTDIR):
        files.open(CONTAINER, os.O_PATH | os.O_DIRECTORY)


@pytest.mark.parametrize("path", ["/sys/bus/pci/drivers_autoprobe", "/sys/bus/pci/drivers_probe"])
def test_neither_reading_nor_writing(backend: Backend, files: OpenFiles, path: str) -> None:
    fd = files.open(path, _NEITHER)
    with fails(EBADF):
        backend.read(fd, 1)
    with fails(EBADF):
        backend.write(fd, b"1")


def test_a_long_name_in_sysfs(backend: Backend) -> None:
    with fails(ENOENT):
        backend.stat("/sys/" + "x" * 300)


@pytest.mark.parametrize("path", ["/" + "x" * 256, "/dev/" + "x" * 256, "/sys/" + "y/" * 2100])
def test_a_name_too_long(backend: Backend, path: str) -> None:
    with fails(ENAMETOOLONG):
        backend.open(path, os.O_RDONLY)
    with fails(ENAMETOOLONG):
        backend.stat(path)


@pytest.mark.parametrize("path", ["/sys/bus/", f"{CONTAINER}/"])
def test_a_new_file_that_is_a_directory(backend: Backend, path: str) -> None:
    with fails(EISDIR):
        backend.open(path, os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize(
    ("flags", "protection", "error"),
    [
        (os.O_RDONLY, PROT_READ | PROT_WRITE, EACCES),
        (os.O_WRONLY, PROT_READ, EACCES),
        (os.O_RDONLY, PROT_READ, ENODEV),
        (os.O_RDWR, PROT_READ | PROT_WRITE, ENODEV),
    ],
)
@pytest.mark.parametrize("path", [CONTAINER, IOMMU])
def test_a_mapping(
    backend: Backend, files: OpenFiles, page: int, path: str, flags: int, protection: int, error: int
) -> None:
    require_node(backend, path)
    fd = files.open(path, flags)
    with fails(error):
        backend.mmap(fd, page, MAP_SHARED, protection)


def test_a_write_longer_than_a_page(sysfs: Attributes, page: int) -> None:
    # Only a page is taken, and the caller is told so.
    before = sysfs.read("/sys/bus/pci/drivers_autoprobe")
    assert sysfs.write("/sys/bus/pci/drivers_autoprobe", before.encode() + b"\0" * page) == page
