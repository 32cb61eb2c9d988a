"""BARs through pread and pwrite."""

from __future__ import annotations

from errno import EINVAL, EIO

import pytest

from pyvfio.abi import pci_regs, vfio
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice

BARS = range(vfio.VFIO_PCI_BAR0_REGION_INDEX, vfio.VFIO_PCI_ROM_REGION_INDEX)


class Bar:
    """The largest BAR of the function; `fd`, `base` and `size` for pread and pwrite."""

    def __init__(self, device: OpenDevice) -> None:
        self.backend, self.fd = device.backend, device.fd
        infos = [requests.region_info(self.backend, self.fd, index)[0] for index in BARS]
        largest = max(infos, key=lambda info: info.size)
        self.index, self.base, self.size = largest.index, largest.offset, largest.size
        self.config = requests.region_info(self.backend, self.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset

    def command(self, value: int) -> None:
        self.backend.pwrite(self.fd, value.to_bytes(2, "little"), self.config + pci_regs.PCI_COMMAND)

    def read(self, size: int, at: int = 0) -> bytes:
        return self.backend.pread(self.fd, size, self.base + at)


@pytest.fixture
def bar(opened: OpenDevice) -> Bar:
    found = Bar(opened)
    if not found.size:
        pytest.skip("the function has no BAR")
    found.command(pci_regs.PCI_COMMAND_MEMORY)
    return found


@pytest.mark.parametrize("index", [*BARS, vfio.VFIO_PCI_ROM_REGION_INDEX])
def test_an_empty_region(backend: Backend, opened: OpenDevice, index: int) -> None:
    info, _ = requests.region_info(backend, opened.fd, index)
    if info.size:
        assert info.flags & vfio.VFIO_REGION_INFO_FLAG_READ
        return
    with fails(EINVAL):
        backend.pread(opened.fd, 4, info.offset)
    with fails(EINVAL):
        backend.pwrite(opened.fd, bytes(4), info.offset)


def test_past_the_end(bar: Bar) -> None:
    with fails(EINVAL):
        bar.read(4, bar.size)
    with fails(EINVAL):
        bar.backend.pwrite(bar.fd, bytes(4), bar.base + bar.size)


def test_across_the_end_is_cut(bar: Bar) -> None:
    assert len(bar.read(8, bar.size - 4)) == 4


def test_without_memory_decode(bar: Bar) -> None:
    bar.command(0)
    with fails(EIO):
        bar.read(4)
    with fails(EIO):
        bar.backend.pwrite(bar.fd, bytes(4), bar.base)
    bar.command(pci_regs.PCI_COMMAND_MEMORY)
    assert len(bar.read(4)) == 4


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 16])
def test_sizes(bar: Bar, size: int) -> None:
    assert len(bar.read(size)) == size


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_unaligned(bar: Bar, at: int) -> None:
    assert bar.read(4, at) == bar.read(8)[at : at + 4]


def test_nothing(bar: Bar) -> None:
    assert bar.read(0) == b""


def test_the_msix_table_is_hidden(backend: Backend, opened: OpenDevice, bar: Bar) -> None:
    info, _ = requests.region_info(backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)
    config = backend.pread(opened.fd, 256, info.offset)
    at = config[pci_regs.PCI_CAPABILITY_LIST]
    while at and config[at] != pci_regs.PCI_CAP_ID_MSIX:
        at = config[at + 1]
    if not at:
        pytest.skip("the function has no MSI-X")
    table = int.from_bytes(config[at + 4 : at + 8], "little")
    place, _ = requests.region_info(backend, opened.fd, table & 7)
    start = place.offset + (table & ~7)
    assert backend.pread(opened.fd, 16, start) == b"\xff" * 16
    assert backend.pwrite(opened.fd, bytes(16), start) == 16  # dropped
    assert backend.pread(opened.fd, 16, start) == b"\xff" * 16
