"""read and pread: attributes, positions, and what is refused."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, EISDIR

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails


@pytest.fixture
def vendor(files: OpenFiles, pci_path: str) -> int:
    return files.open(f"{pci_path}/vendor", os.O_RDONLY)


def test_a_closed_number(backend: Backend) -> None:
    with fails(EBADF):
        backend.read(-1, 1)
    with fails(EBADF):
        backend.pread(-1, 1, 0)


def test_a_write_only_descriptor(backend: Backend, files: OpenFiles) -> None:
    fd = files.open("/sys/bus/pci/drivers_probe", os.O_WRONLY)
    with fails(EBADF):
        backend.read(fd, 1)
    with fails(EBADF):
        backend.pread(fd, 1, 0)


def test_a_directory(backend: Backend, files: OpenFiles, pci_path: str) -> None:
    fd = files.open(pci_path, os.O_RDONLY)
    with fails(EISDIR):
        backend.read(fd, 1)


def test_a_negative_offset(backend: Backend, vendor: int) -> None:
    with fails(EINVAL):
        backend.pread(vendor, 1, -1)


def test_nothing(backend: Backend, vendor: int) -> None:
    assert backend.read(vendor, 0) == b""
    assert backend.pread(vendor, 0, 3) == b""


def test_an_attribute_ends_with_a_newline(backend: Backend, vendor: int) -> None:
    text = backend.read(vendor, 100)
    assert text.startswith(b"0x")
    assert text.endswith(b"\n")
    assert len(text) == len(b"0x1af4\n")


def test_after_the_end(backend: Backend, vendor: int) -> None:
    backend.read(vendor, 100)
    assert backend.read(vendor, 100) == b""
    assert backend.pread(vendor, 100, 1000) == b""


def test_in_pieces(backend: Backend, vendor: int) -> None:
    pieces = [backend.read(vendor, 3) for _ in range(4)]
    assert [len(piece) for piece in pieces] == [3, 3, 1, 0]


def test_pread_leaves_the_position(backend: Backend, vendor: int) -> None:
    assert backend.pread(vendor, 100, 2) == backend.read(vendor, 100)[2:]


def test_an_attribute_is_made_at_the_first_read(backend: Backend, files: OpenFiles, pci_path: str) -> None:
    # a descriptor that has read its text keeps it, as seq_file does; a new pread at 0 asks again
    fd = files.open(f"{pci_path}/driver_override", os.O_RDWR)
    before = backend.pread(fd, 100, 0)
    backend.write(fd, b"contract-none")
    try:
        assert backend.pread(fd, 100, 0) == b"contract-none\n"
    finally:
        backend.write(fd, b"\n")
    assert backend.pread(fd, 100, 0) == before


def test_the_configuration_space_in_sysfs(backend: Backend, files: OpenFiles, pci_path: str) -> None:
    fd = files.open(f"{pci_path}/config", os.O_RDONLY)
    head = backend.pread(fd, 64, 0)
    assert len(head) == 64
    assert int.from_bytes(head[:2], "little") == int(_text(backend, files, f"{pci_path}/vendor"), 16)
    assert backend.pread(fd, 2, 2) == head[2:4]
    size = backend.stat(f"{pci_path}/config").st_size
    assert backend.pread(fd, 16, size) == b""
    assert len(backend.pread(fd, 16, size - 4)) == 4


def _text(backend: Backend, files: OpenFiles, path: str) -> str:
    return backend.read(files.open(path, os.O_RDONLY), 100).decode()


def test_a_container_has_no_bytes(backend: Backend, files: OpenFiles) -> None:
    fd = files.open("/dev/vfio/vfio")
    with fails(EINVAL):
        backend.read(fd, 1)
    with fails(EINVAL):
        backend.pread(fd, 1, 0)
