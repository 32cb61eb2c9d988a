"""VFIO_DEVICE_IOEVENTFD, an eventfd that writes a register: what is refused.  `test_pci_pin` has what it does."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from errno import EBADF, EFAULT, EINVAL, ENODEV

import pytest

from pyvfio.abi import pci_regs, vfio
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice

SIZE = ctypes.sizeof(vfio.DeviceIoeventfd)
VIRTIO_COMMON = 1


class Register:
    """The first register of virtio's common configuration (device_feature_select: 32 bits, plain storage)."""

    def __init__(self, device: OpenDevice, event: EventFd) -> None:
        self.backend, self.fd, self.event = device.backend, device.fd, event
        config = requests.region_info(self.backend, self.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
        data = self.backend.pread(self.fd, 256, config)
        at = data[pci_regs.PCI_CAPABILITY_LIST]
        while at and (data[at] != 9 or data[at + 3] != VIRTIO_COMMON):
            at = data[at + 1]
        self.found = bool(at) and int.from_bytes(data[:2], "little") == 0x1AF4
        self.bar = data[at + 4]
        self.info = requests.region_info(self.backend, self.fd, self.bar)[0]
        self.offset = self.info.offset + int.from_bytes(data[at + 8 : at + 12], "little")
        self.backend.pwrite(self.fd, b"\x02\x00", config + pci_regs.PCI_COMMAND)

    def send(
        self,
        offset: int | None = None,
        *,
        data: int = 5,
        fd: int | None = None,
        flags: int = vfio.VFIO_DEVICE_IOEVENTFD_32,
        argsz: int = SIZE,
    ) -> int:
        argument = vfio.DeviceIoeventfd(
            argsz=argsz,
            flags=flags,
            offset=self.offset if offset is None else offset,
            data=data,
            fd=self.event.fileno() if fd is None else fd,
        )
        return self.backend.ioctl(self.fd, vfio.VFIO_DEVICE_IOEVENTFD, argument)


@pytest.fixture
def register(opened: OpenDevice) -> Iterator[Register]:
    with EventFd() as event:
        found = Register(opened, event)
        if not found.found:
            pytest.skip("the function is no virtio function")
        yield found


@pytest.mark.parametrize("argsz", [0, 20, SIZE - 9])
def test_too_small(register: Register, argsz: int) -> None:
    with fails(EINVAL):
        register.send(argsz=argsz)


@pytest.mark.parametrize("flags", [0, 3, 12, 1 << 4, 1 << 31 | 4])
def test_not_exactly_one_width(register: Register, flags: int) -> None:
    with fails(EINVAL):
        register.send(flags=flags)


@pytest.mark.parametrize("region", [vfio.VFIO_PCI_CONFIG_REGION_INDEX, vfio.VFIO_PCI_ROM_REGION_INDEX])
def test_a_region_that_is_no_bar(backend: Backend, register: Register, region: int) -> None:
    with fails(EINVAL):
        register.send(requests.region_info(backend, register.fd, region)[0].offset)


def test_an_empty_bar(backend: Backend, register: Register) -> None:
    for index in range(6):
        info = requests.region_info(backend, register.fd, index)[0]
        if not info.size:
            with fails(EINVAL):
                register.send(info.offset)


def test_past_the_end(register: Register) -> None:
    with fails(EINVAL):
        register.send(register.info.offset + register.info.size)
    with fails(EINVAL):
        register.send(register.info.offset + register.info.size - 2)


def test_the_msix_table(backend: Backend, register: Register) -> None:
    config = requests.region_info(backend, register.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0].offset
    data = backend.pread(register.fd, 256, config)
    at = data[pci_regs.PCI_CAPABILITY_LIST]
    while at and data[at] != pci_regs.PCI_CAP_ID_MSIX:
        at = data[at + 1]
    table = int.from_bytes(data[at + 4 : at + 8], "little")
    with fails(EINVAL):
        register.send(requests.region_info(backend, register.fd, table & 7)[0].offset + (table & ~7))


@pytest.mark.parametrize(("fd", "number"), [(987, EBADF), (-2, EINVAL)])
def test_a_number_that_is_no_eventfd(register: Register, fd: int, number: int) -> None:
    with fails(number):
        register.send(fd=fd)


def test_a_wild_address(backend: Backend, register: Register, wild: int) -> None:
    with fails(EFAULT):
        backend.ioctl(register.fd, vfio.VFIO_DEVICE_IOEVENTFD, wild)


def test_taking_away_what_is_not_there(register: Register) -> None:
    with fails(ENODEV):
        register.send(fd=-1)
