"""What vfio-pci tells: device, regions, interrupts, hot reset; wrong sizes first."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from pci_fixture import BELL, NET, Device, Pci, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_zdev as zdev
from pyvfio_backends.software.description import FunctionSpec


@pytest.fixture
def net(pci: Pci) -> Iterator[Device]:
    device = pci.open(NET)
    yield device
    device.close()


@pytest.mark.parametrize(
    ("request_", "argument"),
    [
        (abi.VFIO_DEVICE_GET_INFO, abi.DeviceInfo(argsz=15)),
        (abi.VFIO_DEVICE_GET_REGION_INFO, abi.RegionInfo(argsz=31)),
        (abi.VFIO_DEVICE_GET_REGION_INFO, abi.RegionInfo(argsz=32, index=8)),
        (abi.VFIO_DEVICE_GET_REGION_INFO, abi.RegionInfo(argsz=32, index=9)),
        (abi.VFIO_DEVICE_GET_IRQ_INFO, abi.IrqInfo(argsz=15)),
        (abi.VFIO_DEVICE_GET_IRQ_INFO, abi.IrqInfo(argsz=16, index=3)),
        (abi.VFIO_DEVICE_GET_IRQ_INFO, abi.IrqInfo(argsz=16, index=5)),
        (abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, abi.PciHotResetInfo(argsz=11)),
    ],
)
def test_wrong_sizes_and_indexes(net: Device, request_: int, argument: object) -> None:
    assert errno_of(net.ask, request_, argument) == "EINVAL"


def test_unknown_requests_and_wild_addresses(pci: Pci, net: Device) -> None:
    assert errno_of(pci.host.ioctl, net.fd, abi.VFIO_DEVICE_GET_INFO + 90) == "ENOTTY"
    assert errno_of(pci.host.ioctl, net.fd, abi.VFIO_DEVICE_GET_INFO, 8) == "EFAULT"


@pytest.mark.parametrize("argsz", [16, 20, 24, 127])
def test_a_short_info_says_how_much_there_is(net: Device, argsz: int) -> None:
    fields, chain = net.info(argsz)
    assert (fields[:4], chain) == ((128, 0x83, 9, 5), [])


def test_zpci_capabilities(net: Device) -> None:
    fields, chain = net.info()
    assert fields == (1024, 0x83, 9, 5, 24, 0)
    assert [(cap.id, cap.version, cap.offset) for cap in chain] == [(1, 2, 24), (2, 2, 64), (4, 1, 112)]
    base = chain[0].read(zdev.DeviceInfoCapZpciBase)
    assert (base.start_dma, base.end_dma, base.gid, base.fh) == (0x1_0000_0000, 0x1_1FFF_FFFF, 0xFF, 0x80020000)
    group = chain[1].read(zdev.DeviceInfoCapZpciGroup)
    assert (group.msi_addr, group.flags, group.mui, group.noi) == (0xFE00_0000_0000_0000, 1, 4000, 128)
    assert (group.maxstbl, group.imaxstbl) == (128, 128)
    assert chain[2].trailing_bytes(zdev.DeviceInfoCapZpciPfip, 4) == bytes(4)


def test_a_function_with_a_utility_string_has_one_more() -> None:
    lab = Pci(FunctionSpec(0x99, 0x99, "virtio-bell", options={"util_str": "c1c2", "pfip": "0a0b0c0d"}))
    device = lab.open("0099:00:00.0")
    _, chain = device.info()
    assert [cap.id for cap in chain] == [1, 2, 3, 4]
    util = chain[2]
    assert util.read(zdev.DeviceInfoCapZpciUtil).size == 64
    assert util.trailing_bytes(zdev.DeviceInfoCapZpciUtil, 64) == b"\xc1\xc2".ljust(64, b"\0")
    assert chain[3].trailing_bytes(zdev.DeviceInfoCapZpciPfip, 4).hex() == "0a0b0c0d"
    lab.host.close()


@pytest.mark.parametrize(
    ("index", "flags", "size"),
    [(0, 0, 0), (1, 3, 0x1000), (2, 0, 0), (3, 0, 0), (4, 3, 0x4000), (5, 0, 0), (6, 0, 0), (7, 3, 256)],
)
def test_regions(net: Device, index: int, flags: int, size: int) -> None:
    info = abi.RegionInfo(argsz=32, flags=0xFF, index=index, cap_offset=0xFF, size=0xFF, offset=0xFF)
    net.ask(abi.VFIO_DEVICE_GET_REGION_INFO, info)
    assert (info.flags, info.size, info.offset, info.cap_offset) == (flags, size, index << 40, 0xFF)


def test_looking_at_the_rom_leaves_a_trace(pci: Pci, net: Device) -> None:
    net.ask(abi.VFIO_DEVICE_GET_REGION_INFO, abi.RegionInfo(argsz=32, index=6))
    assert pci.attr(NET, "resource").splitlines()[6].endswith("0x0000000020046200")


@pytest.mark.parametrize(("index", "flags", "count"), [(0, 7, 0), (1, 9, 0), (2, 9, 4), (4, 9, 1)])
def test_interrupts(net: Device, index: int, flags: int, count: int) -> None:
    info = abi.IrqInfo(argsz=16, index=index)
    net.ask(abi.VFIO_DEVICE_GET_IRQ_INFO, info)
    assert (info.flags, info.count) == (flags, count)


def test_hot_reset_concerns_the_device_alone(pci: Pci, net: Device) -> None:
    small = bytearray(struct.pack("=3I", 12, 9, 9))
    assert errno_of(pci.host.ioctl, net.fd, abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, small) == "ENOSPC"
    assert struct.unpack("=3I", small) == (12, 0, 1)
    large = bytearray(struct.pack("=I", 64).ljust(64, b"\0"))
    pci.host.ioctl(net.fd, abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, large)
    assert struct.unpack_from("=4IHBB", large) == (64, 0, 1, 0, 0x11, 0, 0)


def test_the_bell_has_two_bars(pci: Pci) -> None:
    device = pci.open(BELL)
    sizes = []
    for index in range(8):
        info = abi.RegionInfo(argsz=32, index=index)
        device.ask(abi.VFIO_DEVICE_GET_REGION_INFO, info)
        sizes.append(info.size)
    assert sizes == [0x1000, 0x1000, 0, 0, 0, 0, 0, 256]
