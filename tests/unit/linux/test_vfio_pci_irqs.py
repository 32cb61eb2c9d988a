"""VFIO_DEVICE_SET_IRQS of vfio-pci: every refusal of the recorded kernel, then interrupts that arrive."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from pci_fixture import BELL, BOOL, EVENTFD, MSIX, NET, NONE, REQ, TRIGGER, Device, Pci, errno_of

from pyvfio.abi import vfio as abi
from pyvfio.pci import bell
from pyvfio.pci.bell import BellCommand
from pyvfio.process import EventFd

INTX, MSI, ERR = abi.VFIO_PCI_INTX_IRQ_INDEX, abi.VFIO_PCI_MSI_IRQ_INDEX, abi.VFIO_PCI_ERR_IRQ_INDEX
MASK, UNMASK = abi.VFIO_IRQ_SET_ACTION_MASK, abi.VFIO_IRQ_SET_ACTION_UNMASK


@pytest.fixture
def net(pci: Pci) -> Iterator[Device]:
    device = pci.open(NET)
    yield device
    device.close()


@pytest.fixture
def fds() -> Iterator[list[EventFd]]:
    events = [EventFd() for _ in range(4)]
    yield events
    for event in events:
        event.close()


def numbers(fds: list[EventFd]) -> list[int]:
    return [event.fileno() for event in fds]


@pytest.mark.parametrize(
    ("flags", "index", "start", "count", "data", "error"),
    [
        (EVENTFD | TRIGGER, INTX, 0, 1, bytes(4), "EINVAL"),
        (EVENTFD | TRIGGER, MSI, 0, 1, bytes(4), "EINVAL"),
        (EVENTFD | TRIGGER, ERR, 0, 1, bytes(4), "EINVAL"),
        (NONE | TRIGGER, INTX, 0, 0, b"", "EINVAL"),
        (NONE | TRIGGER, MSI, 0, 0, b"", "EINVAL"),
        (NONE | TRIGGER, 5, 0, 0, b"", "EINVAL"),
        (NONE | TRIGGER, MSIX, 0, 0, b"", "EINVAL"),
        (NONE | TRIGGER, MSIX, 0, 1, b"", "EINVAL"),
        (BOOL | TRIGGER, MSIX, 0, 1, b"\1", "EINVAL"),
        (EVENTFD | TRIGGER, MSIX, 0, 0, b"", "ERANGE"),
        (EVENTFD | TRIGGER, MSIX, 3, 2, bytes(8), "EINVAL"),
        (NONE | MASK, MSIX, 0, 1, b"", "ENOTTY"),
        (NONE | UNMASK, MSIX, 0, 1, b"", "ENOTTY"),
        (NONE | MASK, REQ, 0, 1, b"", "ENOTTY"),
        (NONE, REQ, 0, 1, b"", "ENOTTY"),
        (NONE | TRIGGER | UNMASK, MSIX, 0, 1, b"", "ENOTTY"),
        (NONE | BOOL | TRIGGER, MSIX, 0, 1, b"\1", "EINVAL"),
        (NONE | TRIGGER, REQ, 0, 1, b"", "EINVAL"),
        (NONE | TRIGGER, REQ, 0, 0, b"", "EINVAL"),
        (NONE | TRIGGER, REQ, 1, 0, b"", "EINVAL"),
        (BOOL | TRIGGER, REQ, 0, 0, b"", "EINVAL"),
        (EVENTFD | TRIGGER, REQ, 0, 1, struct.pack("=i", -2), "EINVAL"),
    ],
)
def test_what_the_kernel_refuses(
    net: Device, flags: int, index: int, start: int, count: int, data: bytes, error: str
) -> None:
    assert errno_of(net.set_irqs, flags, index, start, count, data) == error


def test_a_bad_descriptor_leaves_msix_off(pci: Pci, net: Device, fds: list[EventFd]) -> None:
    assert errno_of(net.eventfds, MSIX, 0, fds[0].fileno(), 999, fds[2].fileno()) == "EBADF"
    assert errno_of(net.eventfds, MSIX, 0, net.container) == "EINVAL"
    assert pci.irqs(NET) == []
    assert pci.config(NET, 0x98, 4) == "11840300"


def test_a_table_in_use_does_not_grow(net: Device, fds: list[EventFd]) -> None:
    net.eventfds(MSIX, 0, *numbers(fds[:2]))
    assert errno_of(net.eventfds, MSIX, 2, fds[2].fileno()) == "EINVAL"
    assert errno_of(net.eventfds, MSIX, 1, fds[1].fileno(), fds[2].fileno()) == "EINVAL"
    net.set_irqs(NONE | TRIGGER, MSIX, 0, 2)
    assert [event.read() for event in fds] == [1, 0, 0, 0]  # the failed block took vector 1 away


def test_msi_permission_of_the_device(pci: Pci, net: Device, fds: list[EventFd]) -> None:
    pci.write(f"/sys/bus/pci/devices/{NET}/msi_bus", "0")
    assert errno_of(net.eventfds, MSIX, 0, fds[0].fileno()) == "EINVAL"


def test_interrupt_numbers_and_the_devices_own_registers(pci: Pci, net: Device, fds: list[EventFd]) -> None:
    net.write(b"\6\0", 4)
    net.eventfds(MSIX, 1, *numbers(fds[:2]))
    assert pci.irqs(NET) == ["7", "8", "9"]
    assert pci.config(NET, 0x98, 4) == net.read(4, 0x98).hex() == "11840380"
    assert pci.config(NET, 4, 2) == net.read(2, 4).hex() == "0600"
    net.set_irqs(NONE | TRIGGER, MSIX, 1, 0)
    assert pci.irqs(NET) == []
    assert pci.config(NET, 0x98, 4) == "11840300"


def test_the_list_of_interrupts_is_there_until_the_driver_leaves(pci: Pci, net: Device, fds: list[EventFd]) -> None:
    folder = f"/sys/bus/pci/devices/{NET}"
    assert "msi_irqs" not in pci.host.listdir(folder)
    net.eventfds(MSIX, 0, fds[0].fileno())
    net.set_irqs(NONE | TRIGGER, MSIX, 0, 0)
    assert "msi_irqs" in pci.host.listdir(folder)


def test_loopback(net: Device, fds: list[EventFd]) -> None:
    net.eventfds(MSIX, 0, *numbers(fds))
    net.set_irqs(NONE | TRIGGER, MSIX, 0, 1)
    net.set_irqs(BOOL | TRIGGER, MSIX, 1, 3, b"\1\0\1")
    assert [event.read() for event in fds] == [1, 1, 0, 1]
    net.eventfds(MSIX, 0, -1)
    net.set_irqs(NONE | TRIGGER, MSIX, 0, 4)
    assert [event.read() for event in fds] == [0, 1, 1, 1]


def test_the_request_interrupt(net: Device, fds: list[EventFd]) -> None:
    net.eventfds(REQ, 0, fds[0].fileno())
    net.set_irqs(NONE | TRIGGER, REQ, 0, 1)
    net.set_irqs(BOOL | TRIGGER, REQ, 0, 1, b"\0")
    net.set_irqs(BOOL | TRIGGER, REQ, 0, 1, b"\1")
    assert fds[0].read() == 2
    net.eventfds(REQ, 0, -1)
    assert errno_of(net.set_irqs, NONE | TRIGGER, REQ, 0, 1) == "EINVAL"
    net.eventfds(REQ, 0, fds[1].fileno())
    net.set_irqs(NONE | TRIGGER, REQ, 0, 0)
    assert errno_of(net.set_irqs, NONE | TRIGGER, REQ, 0, 1) == "EINVAL"


def test_closing_the_device_frees_the_interrupts(pci: Pci, fds: list[EventFd]) -> None:
    device = pci.open(NET)
    device.eventfds(MSIX, 0, *numbers(fds))
    device.close()
    assert pci.irqs(NET) == []
    assert pci.config(NET, 4, 2) == "0200"


def test_the_bell_rings(pci: Pci, fds: list[EventFd]) -> None:
    device = pci.open(BELL)
    device.write(b"\6\0", 4)
    device.eventfds(MSIX, 0, *numbers(fds[:2]))
    for vector in (1, 0, 3):
        device.write(vector.to_bytes(4, "little"), bell.VECTOR, bell.BAR)
        device.write(int(BellCommand.INTERRUPT).to_bytes(4, "little"), bell.COMMAND, bell.BAR)
    assert [event.read() for event in fds] == [1, 1, 0, 0]


def test_an_interrupt_without_an_eventfd_waits(pci: Pci, fds: list[EventFd]) -> None:
    device = pci.open(BELL)
    device.write(b"\6\0", 4)
    device.eventfds(MSIX, 0, fds[0].fileno(), -1)
    device.write((1).to_bytes(4, "little"), bell.VECTOR, bell.BAR)
    device.write(int(BellCommand.INTERRUPT).to_bytes(4, "little"), bell.COMMAND, bell.BAR)
    assert device.read(8, 0x800, 1)[0] == 2
    device.eventfds(MSIX, 1, fds[1].fileno())
    assert fds[1].read() == 1


def test_interrupts_survive_a_reset(pci: Pci, fds: list[EventFd]) -> None:
    device = pci.open(BELL)
    device.write(b"\6\0", 4)
    device.eventfds(MSIX, 0, fds[0].fileno())
    pci.host.ioctl(device.fd, abi.VFIO_DEVICE_RESET)
    device.write(bytes(4), bell.VECTOR, bell.BAR)
    device.write(int(BellCommand.INTERRUPT).to_bytes(4, "little"), bell.COMMAND, bell.BAR)
    assert fds[0].read() == 1
