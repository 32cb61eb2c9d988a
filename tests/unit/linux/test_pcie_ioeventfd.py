"""VFIO_DEVICE_IOEVENTFD: eventfds that write to a BAR.

Asked of the x86 lab's kernel (6.12) with the same calls on `edu`; the limit is in drivers/vfio/pci/vfio_pci_priv.h.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest
from pci_fixture import Device, errno_of
from pcie_fixture import EDU, NVME, Pcie

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio as abi
from pyvfio.pci import edu
from pyvfio.process import EventFd
from pyvfio_backends.software.linux import vfio_pci_ioeventfd

VALUE = 0x12345678
COMPLEMENT = (~VALUE & 0xFFFFFFFF).to_bytes(4, "little")


@pytest.fixture
def lab() -> Iterator[Pcie]:
    pcie = Pcie()
    with pcie.host:
        yield pcie


def opened(lab: Pcie, name: str = EDU) -> Device:
    device = lab.open(name)
    device.write(regs.PCI_COMMAND_MEMORY.to_bytes(2, "little"), regs.PCI_COMMAND)
    return device


def ask(device: Device, size: int, offset: int, data: int, fd: int, *, region: int = 0, argsz: int = 32) -> int:
    argument = struct.pack("=2I2QiI", argsz, size, region << 40 | offset, data, fd, 0)
    return device.host.ioctl(device.fd, abi.VFIO_DEVICE_IOEVENTFD, bytearray(argument))


def test_a_signal_writes(lab: Pcie) -> None:
    device, event = opened(lab), EventFd()
    assert ask(device, 4, edu.LIVE, VALUE, event.fileno()) == 0
    event.signal()
    assert device.read(4, edu.LIVE, 0) == COMPLEMENT
    assert event.read() == 0  # the kernel reads the counter


def test_a_signal_writes_without_any_call(lab: Pcie) -> None:
    device, event = opened(lab), EventFd()
    ask(device, 4, edu.LIVE, VALUE, event.fileno())
    event.signal()
    registers, deadline = lab.hardware(EDU).bars[0], time.monotonic() + 5
    while registers.read(edu.LIVE, 4) != int.from_bytes(COMPLEMENT, "little"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_was_signalled_before_writes_at_once(lab: Pcie) -> None:
    device, event = opened(lab), EventFd(1)
    ask(device, 4, edu.LIVE, VALUE, event.fileno())
    assert lab.hardware(EDU).bars[0].read(edu.LIVE, 4) == int.from_bytes(COMPLEMENT, "little")
    assert event.read() == 1


def test_several_values_of_one_eventfd(lab: Pcie) -> None:
    """The last one to be added writes first."""
    device, event = opened(lab), EventFd()
    for value in (VALUE, 5, VALUE + 1):
        ask(device, 4, edu.LIVE, value, event.fileno())
    event.signal()
    assert device.read(4, edu.LIVE, 0) == COMPLEMENT
    assert ask(device, 4, edu.LIVE, VALUE, -1) == 0
    event.signal()
    assert device.read(4, edu.LIVE, 0) == (~5 & 0xFFFFFFFF).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("size", "offset", "region", "fd", "answer"),
    [
        (4, edu.LIVE, 0, None, "EEXIST"),
        (4, 8, 0, None, "0"),
        (4, 8, 0, -1, "ENODEV"),
        (4, 8, 0, -2, "EINVAL"),
        (4, 8, 0, 1000, "EBADF"),
        (5, 8, 0, None, "EINVAL"),
        (0, 8, 0, None, "EINVAL"),
        (8, 8, 0, None, "0"),
        (4, 2, 0, None, "0"),
        (8, 4, 0, None, "0"),
        (4, 4, abi.VFIO_PCI_CONFIG_REGION_INDEX, None, "EINVAL"),
        (4, 0, abi.VFIO_PCI_ROM_REGION_INDEX, None, "EINVAL"),
        (4, 0, abi.VFIO_PCI_VGA_REGION_INDEX, None, "EINVAL"),
        (4, 0, 1, None, "EINVAL"),
        (4, 1 << 20, 0, None, "EINVAL"),
        (4, (1 << 20) - 2, 0, None, "EINVAL"),
    ],
)
def test_answers(lab: Pcie, size: int, offset: int, region: int, fd: int | None, answer: str) -> None:
    device, event = opened(lab), EventFd()
    ask(device, 4, edu.LIVE, VALUE, event.fileno())
    assert errno_of(ask, device, size, offset, VALUE, event.fileno() if fd is None else fd, region=region) == answer


def test_a_short_argument_and_what_is_no_eventfd(lab: Pcie) -> None:
    device, event = opened(lab), EventFd()
    assert errno_of(ask, device, 4, 8, VALUE, event.fileno(), argsz=24) == "EINVAL"
    assert errno_of(ask, device, 4, 8, VALUE, device.container) == "EINVAL"


@pytest.mark.parametrize(("offset", "answer"), [(0x1FFC, "0"), (0x1FFE, "EINVAL"), (0x2000, "EINVAL"), (0x2410, "0")])
def test_not_in_the_table(lab: Pcie, offset: int, answer: str) -> None:
    """``vfio_pci_ioeventfd``; the table of `nvme` has 65 entries at 0x2000."""
    device, event = opened(lab, NVME), EventFd()
    assert errno_of(ask, device, 4, offset, VALUE, event.fileno()) == answer


def test_nothing_is_written_while_memory_is_off(lab: Pcie) -> None:
    device, event = opened(lab), EventFd()
    ask(device, 4, edu.LIVE, VALUE, event.fileno())
    device.write(bytes(2), regs.PCI_COMMAND)
    event.signal()
    device.write(regs.PCI_COMMAND_MEMORY.to_bytes(2, "little"), regs.PCI_COMMAND)
    assert device.read(4, edu.LIVE, 0) == bytes(4)
    assert event.read() == 0


def test_there_are_so_many(lab: Pcie, monkeypatch: pytest.MonkeyPatch) -> None:
    assert vfio_pci_ioeventfd._MOST == 1000
    monkeypatch.setattr(vfio_pci_ioeventfd, "_MOST", 3)
    device, event = opened(lab), EventFd()
    for value in range(3):
        ask(device, 4, edu.LIVE, value, event.fileno())
    assert errno_of(ask, device, 4, edu.LIVE, 3, event.fileno()) == "ENOSPC"
    assert errno_of(ask, device, 4, edu.LIVE, 1, event.fileno()) == "EEXIST"


def test_closing_the_device_ends_them(lab: Pcie) -> None:
    device, event = opened(lab), EventFd()
    ask(device, 4, edu.LIVE, VALUE, event.fileno())
    device.close()
    event.signal()
    assert event.read() == 1
