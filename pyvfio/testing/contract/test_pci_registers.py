"""The registers of a virtio function through vfio-pci: where a register begins, and in which byte order they are."""

from __future__ import annotations

from typing import Literal

import pytest

from pyvfio.abi import vfio, virtio_pci
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.modes import OpenDevice

_DEVICE_CONFIGURATION = 0x2000
_SECTORS = 2048
_FIRST_MODERN = 0x1040


@pytest.fixture
def registers(backend: Backend, opened: OpenDevice) -> int:
    """Where the registers are in the device's file."""
    return requests.region_info(backend, opened.fd, vfio.VFIO_PCI_BAR4_REGION_INDEX)[0].offset


@pytest.fixture
def early_order(sysfs: Attributes, pci_path: str) -> Literal["big", "little"]:
    """The byte order before features are accepted: that of a transitional device's guest, little of a modern one."""
    return "big" if int(sysfs.read(f"{pci_path}/device"), 16) < _FIRST_MODERN else "little"


@pytest.mark.parametrize("within", [virtio_pci.VIRTIO_PCI_COMMON_DF, virtio_pci.VIRTIO_PCI_COMMON_MSIX])
def test_a_register_answers_at_its_first_byte(
    backend: Backend, opened: OpenDevice, registers: int, within: int
) -> None:
    assert backend.pread(opened.fd, 2, registers + within) != bytes(2)
    assert backend.pread(opened.fd, 1, registers + within + 1) == b"\0"


def test_a_wide_read_is_one_register(backend: Backend, opened: OpenDevice, registers: int) -> None:
    at = registers + virtio_pci.VIRTIO_PCI_COMMON_MSIX
    assert backend.pread(opened.fd, 4, at) == b"\xff\xff\0\0"
    assert backend.pread(opened.fd, 2, at + 2) == b"\1\0"  # the number of queues, which the wide read left out


def test_the_configuration_before_features_are_accepted(
    backend: Backend, opened: OpenDevice, registers: int, early_order: Literal["big", "little"]
) -> None:
    capacity = backend.pread(opened.fd, 8, registers + _DEVICE_CONFIGURATION)
    assert capacity == _SECTORS.to_bytes(8, early_order)


def test_the_configuration_after(
    backend: Backend, opened: OpenDevice, registers: int, early_order: Literal["big", "little"]
) -> None:
    select = virtio_pci.VIRTIO_PCI_COMMON_GFSELECT
    features = virtio_pci.VIRTIO_PCI_COMMON_GF
    for word, value in ((0, 0), (1, 1)):
        backend.pwrite(opened.fd, word.to_bytes(4, "little"), registers + select)
        backend.pwrite(opened.fd, value.to_bytes(4, "little"), registers + features)
    capacity = backend.pread(opened.fd, 8, registers + _DEVICE_CONFIGURATION)
    assert capacity == _SECTORS.to_bytes(8, "little")
    backend.pwrite(opened.fd, b"\0", registers + virtio_pci.VIRTIO_PCI_COMMON_STATUS)
    assert backend.pread(opened.fd, 8, registers + _DEVICE_CONFIGURATION) == _SECTORS.to_bytes(8, early_order)
