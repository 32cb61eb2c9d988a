"""Reset, hot reset, low power, ioeventfds, names: refusals, then what they do."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest
from pci_fixture import BELL, BLK, NET, Device, Pci, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_feature as feature
from pyvfio.pci import bell
from pyvfio.process import EventFd

GET, SET, PROBE = abi.VFIO_DEVICE_FEATURE_GET, abi.VFIO_DEVICE_FEATURE_SET, abi.VFIO_DEVICE_FEATURE_PROBE
ENTRY = feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
WAKEUP = feature.VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
EXIT = feature.VFIO_DEVICE_FEATURE_LOW_POWER_EXIT


@pytest.fixture
def net(pci: Pci) -> Iterator[Device]:
    device = pci.open(NET)
    yield device
    device.close()


def hot_reset(device: Device, *groups: int, argsz: int = 64, flags: int = 0) -> int:
    data = struct.pack(f"=3I{len(groups)}i", argsz, flags, len(groups), *groups)
    return device.host.ioctl(device.fd, abi.VFIO_DEVICE_PCI_HOT_RESET, bytearray(data))


def ask_feature(device: Device, flags: int, data: bytes = b"") -> int:
    head = struct.pack("=2I", 8 + len(data), flags)
    return device.host.ioctl(device.fd, abi.VFIO_DEVICE_FEATURE, bytearray(head + data))


def ioeventfd(device: Device, flags: int, offset: int, fd: int, argsz: int = 32) -> int:
    data = struct.pack("=2I2QiI", argsz, flags, offset, 0, fd, 0)
    return device.host.ioctl(device.fd, abi.VFIO_DEVICE_IOEVENTFD, bytearray(data))


def test_hot_reset_wants_the_devices_own_group(pci: Pci, net: Device) -> None:
    other = pci.open(BLK)
    assert errno_of(hot_reset, net, net.group, argsz=11) == "EINVAL"
    assert errno_of(hot_reset, net, net.group, flags=1) == "EINVAL"
    assert errno_of(hot_reset, net) == "EINVAL"
    assert errno_of(hot_reset, net, net.group, net.group) == "EINVAL"
    assert errno_of(hot_reset, net, other.group) == "EINVAL"
    assert errno_of(hot_reset, net, net.container) == "EINVAL"
    assert errno_of(hot_reset, net, 9999) == "EBADF"
    assert hot_reset(net, net.group) == 0


def test_a_reset_clears_the_device_and_keeps_configuration_space(pci: Pci) -> None:
    device = pci.open(BELL)
    for again in (lambda: pci.host.ioctl(device.fd, abi.VFIO_DEVICE_RESET), lambda: hot_reset(device, device.group)):
        device.write(b"\6\0", 4)
        device.write(b"\x10", 0x0C)
        device.write(b"\xff" * 8, bell.SOURCE, bell.BAR)
        again()
        assert device.read(8, bell.SOURCE, bell.BAR) == bytes(8)
        assert device.read(2, 4).hex() == "0600"
        assert device.read(1, 0x0C).hex() == "10"


def test_opening_resets_too(pci: Pci) -> None:
    device = pci.open(BELL)
    device.write(b"\xff" * 8, bell.SOURCE, bell.BAR)
    pci.host.close(device.fd)
    device.fd = device.get(BELL)
    assert device.read(8, bell.SOURCE, bell.BAR) == bytes(8)
    assert device.read(2, 4).hex() == "0200"


def test_a_device_without_a_reset_method(pci: Pci) -> None:
    pci.take(NET)
    pci.write(f"/sys/bus/pci/devices/{NET}/reset_method", "\n")
    device = Device(pci, NET)
    assert device.info()[0][1] == 0x82
    assert errno_of(pci.host.ioctl, device.fd, abi.VFIO_DEVICE_RESET) == "EINVAL"
    pci.write(f"/sys/bus/pci/devices/{NET}/reset_method", "default")
    assert errno_of(pci.host.ioctl, device.fd, abi.VFIO_DEVICE_RESET) == "EINVAL"  # asked once, at opening


def test_a_method_taken_away_later(pci: Pci, net: Device) -> None:
    pci.write(f"/sys/bus/pci/devices/{NET}/reset_method", "\n")
    assert errno_of(pci.host.ioctl, net.fd, abi.VFIO_DEVICE_RESET) == "ENOTTY"


@pytest.mark.parametrize("number", [ENTRY, WAKEUP, EXIT])
def test_low_power_is_only_set(net: Device, number: int) -> None:
    assert ask_feature(net, number | PROBE) == 0
    assert errno_of(ask_feature, net, number | PROBE | GET) == "EINVAL"
    assert errno_of(ask_feature, net, number | GET) == "EINVAL"
    assert errno_of(ask_feature, net, number) == "EINVAL"


@pytest.mark.parametrize("number", [feature.VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, 100])
def test_features_that_are_not_there(net: Device, number: int) -> None:
    assert errno_of(ask_feature, net, number | PROBE) == "ENOTTY"


def test_low_power_with_an_eventfd_wants_one(net: Device) -> None:
    assert errno_of(ask_feature, net, WAKEUP | SET) == "EINVAL"
    assert errno_of(ask_feature, net, WAKEUP | SET, struct.pack("=iI", -1, 0)) == "EINVAL"
    assert errno_of(ask_feature, net, WAKEUP | SET, struct.pack("=iI", 9999, 0)) == "EBADF"


def test_low_power_is_entered_once_and_left_at_will(net: Device) -> None:
    with EventFd() as wakeup:
        assert ask_feature(net, ENTRY | SET) == 0
        assert errno_of(ask_feature, net, ENTRY | SET) == "EINVAL"
        assert errno_of(ask_feature, net, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0)) == "EINVAL"
        assert net.read(4, 0, 4).hex() == "01000000"
        assert [ask_feature(net, EXIT | SET) for _ in range(2)] == [0, 0]
        assert ask_feature(net, WAKEUP | SET, struct.pack("=iI", wakeup.fileno(), 0)) == 0
        ask_feature(net, EXIT | SET)
        assert wakeup.read() == 0  # a kernel for s390 has no power management, so nothing has slept
        assert "power" not in net.host.listdir(f"/sys/bus/pci/devices/{net.name}")


@pytest.mark.parametrize(
    ("flags", "offset", "argsz"),
    [(4, 1 << 40, 32), (4, 0, 32), (4, 7 << 40, 32), (4, 4 << 40 | 0x3FFF, 32), (4, 4 << 40 | 0x4000, 32),
     (3, 4 << 40, 32), (16, 4 << 40, 32), (4, 4 << 40, 20)],
)  # fmt: skip
def test_ioeventfds_of_wrong_places_and_sizes(net: Device, flags: int, offset: int, argsz: int) -> None:
    assert errno_of(ioeventfd, net, flags, offset, 1, argsz) == "EINVAL"


def test_ioeventfds_of_functions_of_ibm_z(net: Device) -> None:
    place = 4 << 40 | 0x3000
    assert errno_of(ioeventfd, net, 4, place, -2) == "EINVAL"
    assert errno_of(ioeventfd, net, 4, place, -1) == "ENODEV"
    assert errno_of(ioeventfd, net, 4, place, 9999) == "EBADF"
    with EventFd() as event:
        assert ioeventfd(net, 4, place, event.fileno()) == 0
        assert errno_of(ioeventfd, net, 4, place, event.fileno()) == "EEXIST"
        event.signal()
        net.read(4, 0, 4)
        assert event.read() == 0
        assert ioeventfd(net, 4, place, -1) == 0


@pytest.mark.parametrize(
    ("name", "error"),
    [
        (f"{NET} foo", "EINVAL"),
        (f"{NET} vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3", "EINVAL"),
        (f"{NET} vf_token=1", "EINVAL"),
        (f"{NET}x", "ENODEV"),
        (NET[:-1], "ENODEV"),
        (BLK, "ENODEV"),
    ],
)
def test_names_that_do_not_open_the_device(net: Device, name: str, error: str) -> None:
    assert errno_of(net.get, name) == error


def test_a_blank_may_follow_the_name(pci: Pci, net: Device) -> None:
    second = net.get(f"{NET} ")
    assert pci.host.pread(second, 2, 7 << 40).hex() == "f41a"
    pci.host.close(second)


def test_the_device_node(pci: Pci) -> None:
    pci.take(NET)
    iommufd = pci.host.open("/dev/iommu", os.O_RDWR)
    fd = pci.host.open("/dev/vfio/devices/vfio0", os.O_RDWR)
    bind = abi.DeviceBindIommufd.sized(iommufd=iommufd)
    pci.host.ioctl(fd, abi.VFIO_DEVICE_BIND_IOMMUFD, bind)
    info = bytearray(struct.pack("=I", 64).ljust(64, b"\0"))
    pci.host.ioctl(fd, abi.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info)
    assert struct.unpack_from("=4I", info) == (64, 3, 1, bind.out_devid)
    reset = bytearray(struct.pack("=3I", 12, 0, 0))
    assert pci.host.ioctl(fd, abi.VFIO_DEVICE_PCI_HOT_RESET, reset) == 0
    assert errno_of(pci.host.ioctl, fd, abi.VFIO_DEVICE_PCI_HOT_RESET, bytearray(struct.pack("=3Ii", 16, 0, 1, 5))) == (
        "EINVAL"
    )
