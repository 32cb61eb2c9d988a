"""BARs through vfio-pci's file: refusals, the MSI-X table, splitting, and the bell's registers."""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import pytest
from pci_fixture import BELL, NET, Device, Pci, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.pci import bell


@pytest.fixture
def net(pci: Pci) -> Iterator[Device]:
    device = pci.open(NET)
    yield device
    device.close()


@pytest.mark.parametrize("region", [0, 2, 3, 5, 6, 8, 9, 200])
def test_regions_that_are_not_there(net: Device, region: int) -> None:
    assert errno_of(net.read, 4, 0, region) == "EINVAL"
    assert errno_of(net.write, b"abcd", 0, region) == "EINVAL"


@pytest.mark.parametrize(("region", "size"), [(1, 0x1000), (4, 0x4000)])
def test_a_bar_ends(net: Device, region: int, size: int) -> None:
    assert errno_of(net.read, 1, size, region) == "EINVAL"
    assert errno_of(net.write, b"a", size, region) == "EINVAL"
    assert len(net.read(8, size - 4, region)) == 4
    assert net.write(b"abcdefgh", size - 4, region) == 4


@pytest.mark.parametrize("region", range(10))
def test_nothing_can_be_mapped(pci: Pci, net: Device, region: int) -> None:
    assert errno_of(pci.host.mmap, net.fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ, region << 40) == "EINVAL"


def test_without_memory_decoding_only_the_msix_table_answers(net: Device) -> None:
    net.write(bytes(2), 4)
    assert errno_of(net.read, 4, 0, 4) == "EIO"
    assert errno_of(net.write, b"abcd", 0, 4) == "EIO"
    assert net.read(4, 0, 1) == b"\xff" * 4
    assert net.write(b"abcd", 0, 1) == 4
    assert errno_of(net.read, 4, 0x40, 1) == "EIO"


def test_the_msix_table_is_all_ones_and_the_pending_bits_are_not(net: Device) -> None:
    assert net.read(16, 0x38, 1) == b"\xff" * 16  # the table's end, and what nobody answers
    assert net.read(16, 0x7F8, 1) == b"\xff" * 8 + bytes(8)
    assert net.write(b"abcdefgh", 0x800, 1) == 8
    assert net.read(8, 0x800, 1) == bytes(8)


def test_a_transfer_is_cut_into_aligned_accesses(net: Device) -> None:
    expected = bytes.fromhex("01000000010100000100000001010000")
    assert [net.read(n, 0, 4) for n in (1, 2, 3, 4, 8, 16)] == [expected[:n] for n in (1, 2, 3, 4, 8, 16)]
    assert net.read(4, 2, 4).hex() == "00000101"


def test_a_virtio_register_is_written_whole(net: Device) -> None:
    net.write(b"\2\0\0\0", 0, 4)
    net.write(b"\1\0", 2, 4)
    assert net.read(4, 0, 4).hex() == "02000000"
    net.write(b"\1\0\0\0\x55\0\0\0", 0, 4)
    assert net.read(8, 0, 4).hex() == "0100000001010000"


def test_the_bell_wants_whole_registers(pci: Pci) -> None:
    device = pci.open(BELL)
    device.write(bytes(range(8)), bell.SOURCE, bell.BAR)
    assert device.read(8, bell.SOURCE, bell.BAR) == bytes(range(8))
    assert device.read(2, bell.SOURCE, bell.BAR) == b"\xff\xff"  # the function refuses, Linux reads ones
    device.write(b"\xff\xff", bell.SOURCE, bell.BAR)
    assert device.read(8, bell.SOURCE, bell.BAR) == bytes(range(8))
    assert device.read(4, bell.MAGIC, bell.BAR) == bell.MAGIC_VALUE.to_bytes(4, "little")


def test_a_long_read_ends_with_the_bar(net: Device) -> None:
    assert len(net.read(1 << 20, 0, 4)) == 0x4000


def test_region_numbers_of_the_abi(net: Device) -> None:
    assert (abi.VFIO_PCI_ROM_REGION_INDEX, abi.VFIO_PCI_VGA_REGION_INDEX) == (6, 8)
