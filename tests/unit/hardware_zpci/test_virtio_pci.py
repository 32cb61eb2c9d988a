"""The virtio functions: identity byte by byte, and the registers of BAR 4."""

from __future__ import annotations

import pytest

from pyvfio.abi import virtio_pci as abi
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.devices.virtio_kinds import virtio_blk, virtio_net, virtio_rng
from pyvfio_backends.software.hardware.devices.virtio_pci import DEVICE, ISR, NOTIFY, VirtioPci

CAPABILITIES = (
    "09001001040000000000000000100000" "09401003040000000010000000100000" "09501004040000000020000000100000"
    "0960140204000000003000000010000004000000" "0970140500000000000000000000000000000000"
)  # fmt: skip


@pytest.fixture
def net() -> VirtioPci:
    return VirtioPci(virtio_net("52:54:00:12:34:56"))


@pytest.mark.parametrize(
    ("device", "header", "vectors"),
    [
        (VirtioPci(virtio_net()), "f41a0010000010000000000200000000010000000000000000000000000000000c000000", 3),
        (VirtioPci(virtio_blk()), "f41a0110000010000000000100000000010000000000000000000000000000000c000000", 1),
        (VirtioPci(virtio_rng()), "f41a0510000010000000ff0000000000010000000000000000000000000000000c000000", 1),
        (VirtioPci(virtio_rng(), legacy=False), "f41a4410000010000100ff00" + "00" * 20 + "0c000000", 1),
    ],
    ids=["net", "blk", "rng", "modern rng"],
)
def test_configuration_space_is_the_recorded_one(device: VirtioPci, header: str, vectors: int) -> None:
    data = bytes(device.config.data)
    assert data[:36].hex() == header
    assert data[0x34] == 0x98
    assert data[0x3D] == 1
    assert data[0x40:0x98].hex() == CAPABILITIES
    assert data[0x98:0xA4].hex() == f"1184{vectors:02x}000100000001080000"
    assert not any(data[0xA4:])


def test_a_register_is_written_at_its_first_byte_only(net: VirtioPci) -> None:
    net.write(abi.VIRTIO_PCI_COMMON_DFSELECT, 4, 1)
    net.write(abi.VIRTIO_PCI_COMMON_DFSELECT + 2, 2, 7)
    net.write(abi.VIRTIO_PCI_COMMON_DF, 4, 0x55)
    assert net.read(0, 8) == 0x00000101_00000001
    net.write(abi.VIRTIO_PCI_COMMON_DFSELECT, 8, 0x99 << 32)
    assert net.read(0, 8) == 0x30BF8024 << 32


def test_only_two_words_of_features_exist(net: VirtioPci) -> None:
    net.write(abi.VIRTIO_PCI_COMMON_DFSELECT, 4, 2)
    net.write(abi.VIRTIO_PCI_COMMON_GFSELECT, 4, 2)
    net.write(abi.VIRTIO_PCI_COMMON_GF, 4, 0xFFFF)
    assert (net.read(abi.VIRTIO_PCI_COMMON_DF, 4), net.read(abi.VIRTIO_PCI_COMMON_GF, 4)) == (0, 0)


def test_a_queue_that_does_not_exist_has_size_0(net: VirtioPci) -> None:
    assert net.read(abi.VIRTIO_PCI_COMMON_NUMQ, 2) == 3
    sizes = []
    for queue in range(5):
        net.write(abi.VIRTIO_PCI_COMMON_Q_SELECT, 2, queue)
        net.write(abi.VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1)
        sizes.append((net.read(abi.VIRTIO_PCI_COMMON_Q_SIZE, 2), net.read(abi.VIRTIO_PCI_COMMON_Q_ENABLE, 2)))
    assert sizes == [(256, 1), (256, 1), (64, 1), (0, 0), (0, 0)]


def test_queue_addresses_are_kept_by_halves_and_status_0_forgets_them(net: VirtioPci) -> None:
    net.write(abi.VIRTIO_PCI_COMMON_Q_DESCLO, 8, 0x1_0000_2000)
    net.write(abi.VIRTIO_PCI_COMMON_Q_USEDHI, 4, 9)
    net.write(abi.VIRTIO_PCI_COMMON_Q_MSIX, 2, 4)  # past the table
    assert net.read(abi.VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0x1_0000_2000
    assert net.read(abi.VIRTIO_PCI_COMMON_Q_USEDLO, 8) == 9 << 32
    assert net.read(abi.VIRTIO_PCI_COMMON_Q_MSIX, 2) == 0xFFFF
    net.write(abi.VIRTIO_PCI_COMMON_STATUS, 1, 0)
    assert net.read(abi.VIRTIO_PCI_COMMON_Q_DESCLO, 8) == 0


def test_reading_the_interrupt_status_clears_it(net: VirtioPci) -> None:
    net.interrupt = 1
    assert [net.read(ISR, 1), net.read(ISR, 1), net.read(ISR + 1, 2)] == [1, 0, 0]


def test_the_device_configuration_ends_in_ones(net: VirtioPci) -> None:
    assert net.read(DEVICE, 8).to_bytes(8, "little").hex() == "5254001234560001"
    assert net.read(DEVICE + 8, 4) == 0xFFFFFFFF


def test_the_device_configuration_is_little_endian_once_version_1_is_accepted(net: VirtioPci) -> None:
    net.write(abi.VIRTIO_PCI_COMMON_GFSELECT, 4, 1)
    net.write(abi.VIRTIO_PCI_COMMON_GF, 4, 1)
    assert net.read(DEVICE, 8).to_bytes(8, "little").hex() == "5254001234560100"
    net.write(abi.VIRTIO_PCI_COMMON_STATUS, 1, 0)
    assert net.read(DEVICE, 8).to_bytes(8, "little").hex() == "5254001234560001"


def test_notifying_a_live_queue_says_that_it_is_not_modelled(net: VirtioPci) -> None:
    net.write(NOTIFY, 4, 0)
    net.write(abi.VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1)
    with pytest.raises(NotModelled):
        net.write(NOTIFY, 4, 0)


def test_the_window_in_configuration_space_reaches_the_registers(net: VirtioPci) -> None:
    net.write(abi.VIRTIO_PCI_COMMON_DFSELECT, 4, 1)
    config = net.config
    assert config.read(0x94, 4) == 0  # length 0: closed
    config.write(0x88, 1, 4)
    config.write(0x8C, 4, abi.VIRTIO_PCI_COMMON_DF)
    config.write(0x90, 4, 4)
    assert config.read(0x94, 4) == 0x101
    config.write(0x8C, 4, abi.VIRTIO_PCI_COMMON_DFSELECT)
    config.write(0x94, 4, 0)
    assert net.device_select == 0


def test_the_window_onto_what_no_register_answers_keeps_its_data(net: VirtioPci) -> None:
    """As in QEMU (``virtio_address_space_read`` finds no region): here between MSI-X table and pending bits."""
    config = net.config
    for place, length, value in ((0x88, 1, 1), (0x8C, 4, 0x400), (0x90, 4, 4), (0x94, 4, 0x12345678)):
        config.write(place, length, value)
    assert config.read(0x94, 4) == 0x12345678
