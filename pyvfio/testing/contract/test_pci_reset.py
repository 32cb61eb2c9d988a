"""VFIO_DEVICE_RESET and the hot reset of a PCI function."""

from __future__ import annotations

import ctypes
import struct
from errno import EBADF, EFAULT, EINVAL, ENODEV, ENOSPC, ENOTTY

import pytest

from pyvfio.abi import pci_regs, vfio
from pyvfio.backend import Backend
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import EVERY_MODE, OpenDevice, group_mode, open_device

HEAD = ctypes.sizeof(vfio.PciHotResetInfo)


def hot_reset_info(device: OpenDevice, room: int) -> tuple[vfio.PciHotResetInfo, list[vfio.PciDependentDevice]]:
    """Ask with room for so many devices."""
    size = HEAD + room * ctypes.sizeof(vfio.PciDependentDevice)
    info, _, raw = requests.raw_info(
        device.backend, device.fd, vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, vfio.PciHotResetInfo, size
    )
    cls = vfio.PciDependentDevice
    return info, [cls.from_buffer_copy(raw, HEAD + index * ctypes.sizeof(cls)) for index in range(info.count)]


def hot_reset(device: OpenDevice, fds: list[int], argsz: int | None = None, flags: int = 0) -> None:
    size = HEAD + 4 * len(fds)
    head = vfio.PciHotReset(argsz=size if argsz is None else argsz, flags=flags, count=len(fds))
    device.backend.ioctl(
        device.fd, vfio.VFIO_DEVICE_PCI_HOT_RESET, bytearray(bytes(head) + struct.pack(f"={len(fds)}i", *fds))
    )


def test_info_too_small(opened: OpenDevice) -> None:
    with fails(EINVAL):
        requests.raw_info(
            opened.backend, opened.fd, vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, vfio.PciHotResetInfo, HEAD - 1
        )


@pytest.fixture
def resettable(guest_on_power: bool) -> None:
    """For tests of a bus that can be reset, by the bridge or the slot above it."""
    if guest_on_power:
        pytest.skip("nothing resets the bus of a guest's host bridge")


def test_a_bus_that_nothing_resets(opened: OpenDevice, guest_on_power: bool) -> None:
    if not guest_on_power:
        pytest.skip("this is no guest on POWER")
    with fails(ENODEV):
        hot_reset_info(opened, 16)
    for fds in ([opened.group], [opened.group, opened.group], [987]):
        with fails(ENODEV):
            hot_reset(opened, fds)


@pytest.mark.usefixtures("resettable")
def test_no_room_for_the_devices(opened: OpenDevice) -> None:
    with fails(ENOSPC):
        hot_reset_info(opened, 0)


@pytest.mark.usefixtures("resettable")
def test_the_count_is_told_when_there_is_no_room(backend: Backend, opened: OpenDevice) -> None:
    info = vfio.PciHotResetInfo.sized()
    with fails(ENOSPC):
        backend.ioctl(opened.fd, vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info)
    assert info.count == 1


@pytest.mark.parametrize(
    "number", [vfio.VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, vfio.VFIO_DEVICE_PCI_HOT_RESET], ids=["info", "reset"]
)
def test_a_wild_address(backend: Backend, opened: OpenDevice, wild: int, number: int) -> None:
    with fails(EFAULT):
        backend.ioctl(opened.fd, number, wild)


def test_no_groups(opened: OpenDevice) -> None:
    with fails(EINVAL):
        hot_reset(opened, [])


@pytest.mark.parametrize("argsz", [0, HEAD - 1])
def test_reset_too_small(opened: OpenDevice, argsz: int) -> None:
    with fails(EINVAL):
        hot_reset(opened, [opened.group], argsz=argsz)


def test_reset_with_flags(opened: OpenDevice) -> None:
    with fails(EINVAL):
        hot_reset(opened, [opened.group], flags=1)


@pytest.mark.usefixtures("resettable")
def test_a_number_that_is_closed(opened: OpenDevice) -> None:
    with fails(EBADF):
        hot_reset(opened, [987])


@pytest.mark.usefixtures("resettable")
def test_more_groups_than_the_bus_has(opened: OpenDevice) -> None:
    with fails(EINVAL):
        hot_reset(opened, [opened.group, opened.group])


@pytest.mark.usefixtures("resettable")
def test_a_descriptor_that_is_no_group(opened: OpenDevice) -> None:
    with fails(EINVAL):
        hot_reset(opened, [opened.container])


@pytest.mark.usefixtures("resettable")
def test_info_by_group(opened: OpenDevice, function: BoundFunction) -> None:
    info, devices = hot_reset_info(opened, 16)
    assert info.flags == 0
    domain, bus, rest = function.address.split(":")
    device, number = rest.split(".")
    mine = (int(domain, 16), int(bus, 16), int(device, 16) << 3 | int(number))
    assert (function.group_number, *mine) in [(item.group_id, item.segment, item.bus, item.devfn) for item in devices]


@pytest.mark.parametrize("mode", ["iommufd"], indirect=True)
def test_info_by_cdev(space: OpenDevice) -> None:
    info, devices = hot_reset_info(space, 16)
    assert info.flags == vfio.VFIO_PCI_HOT_RESET_FLAG_DEV_ID | vfio.VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED
    assert space.devid in [item.devid for item in devices]


@pytest.mark.parametrize("mode", ["iommufd"], indirect=True)
def test_groups_with_a_cdev(space: OpenDevice, files: OpenFiles, function2: BoundFunction) -> None:
    with fails(EINVAL):
        hot_reset(space, [files.open(function2.group)])


def test_reset(backend: Backend, opened: OpenDevice) -> None:
    if not requests.device_info(backend, opened.fd)[0].flags & vfio.VFIO_DEVICE_FLAGS_RESET:
        with fails(EINVAL):
            backend.ioctl(opened.fd, vfio.VFIO_DEVICE_RESET)
        return
    config = requests.region_info(backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
    backend.pwrite(opened.fd, b"\x06\x00", config + pci_regs.PCI_COMMAND)
    before = backend.pread(opened.fd, 64, config)
    assert backend.ioctl(opened.fd, vfio.VFIO_DEVICE_RESET) == 0
    assert backend.pread(opened.fd, 64, config) == before  # vfio-pci saves and restores it
    backend.pwrite(opened.fd, b"\x02\x00", config + pci_regs.PCI_COMMAND)


@pytest.mark.parametrize("argument", [0, 1, 0xFFFFFFFF])
def test_reset_takes_no_argument(backend: Backend, opened: OpenDevice, argument: int) -> None:
    if requests.device_info(backend, opened.fd)[0].flags & vfio.VFIO_DEVICE_FLAGS_RESET:
        assert backend.ioctl(opened.fd, vfio.VFIO_DEVICE_RESET, argument) == 0


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_reset_in_every_mode(backend: Backend, space: OpenDevice) -> None:
    if requests.device_info(backend, space.fd)[0].flags & vfio.VFIO_DEVICE_FLAGS_RESET:
        assert backend.ioctl(space.fd, vfio.VFIO_DEVICE_RESET) == 0


def test_no_gfx_and_no_ioeventfd_on_config(backend: Backend, opened: OpenDevice) -> None:
    with fails(ENOTTY):
        backend.ioctl(opened.fd, vfio.VFIO_DEVICE_FEATURE + 50, 0)


def test_the_handle_of_the_function_survives_a_reset(
    backend: Backend, files: OpenFiles, function2: BoundFunction
) -> None:
    if not function2.sysfs.exists(f"{function2.path}/function_handle"):
        pytest.skip("this function is no zPCI function")
    device = open_device(backend, files, function2, group_mode(backend))
    before = function2.sysfs.read(f"{function2.path}/function_handle")
    if requests.device_info(backend, device.fd)[0].flags & vfio.VFIO_DEVICE_FLAGS_RESET:
        backend.ioctl(device.fd, vfio.VFIO_DEVICE_RESET)
    assert function2.sysfs.read(f"{function2.path}/function_handle") == before
