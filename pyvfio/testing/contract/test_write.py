"""write and pwrite on attributes: what is refused, and that nothing is written by nothing."""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, ENODEV, ESPIPE

import pytest

from pyvfio.backend import Backend
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.expect import fails


@pytest.fixture
def override(files: OpenFiles, pci_path: str) -> int:
    return files.open(f"{pci_path}/driver_override", os.O_RDWR)


def test_a_closed_number(backend: Backend) -> None:
    with fails(EBADF):
        backend.write(-1, b"1")
    with fails(EBADF):
        backend.pwrite(-1, b"1", 0)


def test_a_read_only_descriptor(backend: Backend, files: OpenFiles, pci_path: str) -> None:
    fd = files.open(f"{pci_path}/driver_override", os.O_RDONLY)
    with fails(EBADF):
        backend.write(fd, b"x")
    with fails(ESPIPE):  # seq_open() takes FMODE_PWRITE away, kernfs gives it back only to writers
        backend.pwrite(fd, b"x", 0)


def test_a_directory(backend: Backend, files: OpenFiles, pci_path: str) -> None:
    fd = files.open(pci_path, os.O_RDONLY)
    with fails(EBADF):
        backend.write(fd, b"x")


def test_a_value_that_is_none(sysfs: Attributes, pci_path: str) -> None:
    with fails(EINVAL):
        sysfs.write(f"{pci_path}/enable", "maybe")


def test_a_negative_offset(backend: Backend, override: int) -> None:
    with fails(EINVAL):
        backend.pwrite(override, b"x", -1)


def test_nothing_is_no_write(backend: Backend, override: int) -> None:
    before = backend.pread(override, 100, 0)
    assert backend.write(override, b"") == 0
    assert backend.pread(override, 100, 0) == before


def test_it_takes_all_bytes(backend: Backend, override: int) -> None:
    assert backend.write(override, b"contract-none") == 13
    assert backend.pwrite(override, b"\n", 0) == 1


def test_an_offset_does_not_move_the_text(backend: Backend, override: int) -> None:
    # an attribute's store gets what was written, wherever the position is
    assert backend.pwrite(override, b"contract-none", 5) == 13
    assert backend.pread(override, 100, 0) == b"contract-none\n"
    backend.write(override, b"\n")
    assert backend.pread(override, 100, 0) == b"(null)\n"


def test_a_store_that_fails_changes_nothing(sysfs: Attributes, pci_path: str) -> None:
    driver = sysfs.link(f"{pci_path}/driver")
    with fails(ENODEV):
        sysfs.write(f"{pci_path}/driver/unbind", "no such device")
    assert sysfs.link(f"{pci_path}/driver") == driver
