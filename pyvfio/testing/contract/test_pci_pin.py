"""Interrupts of edu through the seam: its pin with masking, MSI, eventfds that write registers, mapped registers."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from errno import EBADF, EBUSY, EEXIST, EINVAL, ENODEV, ENOTTY, ERANGE

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio.abi import vfio
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.errors import Timeout
from pyvfio.host import Host
from pyvfio.pci import edu
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import open_device

INTX, MSI, MSIX, ERR, REQ = PciIrq.INTX, PciIrq.MSI, PciIrq.MSIX, PciIrq.ERR, PciIrq.REQ
NONE, BOOL, EVENTFD = IrqSetFlags.DATA_NONE, IrqSetFlags.DATA_BOOL, IrqSetFlags.DATA_EVENTFD
TRIGGER, MASK, UNMASK = IrqSetFlags.ACTION_TRIGGER, IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK
CONFIG = vfio.VFIO_PCI_CONFIG_REGION_INDEX << 40
DISABLE = regs.PCI_COMMAND_INTX_DISABLE
VALUE = 0x12345678


def _disables(command: bytes) -> bool:
    return bool(int.from_bytes(command, "little") & DISABLE)


def _complement(value: int) -> bytes:
    return (~value & 0xFFFFFFFF).to_bytes(4, "little")


class Card:
    """An open edu with memory on, and an eventfd for its interrupt."""

    def __init__(self, host: Host, files: OpenFiles, bound: BoundFunction) -> None:
        self.backend, self.path = host.backend, bound.path
        self.device = open_device(host.backend, files, bound, "type1v2")
        self.fd = self.device.fd
        self.event = EventFd()
        self.command(regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_MASTER)
        self.store(edu.ACK, 0xFFFFFFFF)

    def command(self, value: int) -> None:
        self.backend.pwrite(self.fd, value.to_bytes(2, "little"), CONFIG + regs.PCI_COMMAND)

    def load(self, offset: int) -> bytes:
        return self.backend.pread(self.fd, 4, offset)

    def store(self, offset: int, value: int) -> None:
        self.backend.pwrite(self.fd, value.to_bytes(4, "little"), offset)

    def set(self, index: int, flags: int, data: tuple[int, ...] | bytes = (), **more: int) -> None:
        requests.set_irqs(self.backend, self.fd, index, flags, data, **more)

    def trigger(self, index: int = INTX) -> None:
        self.set(index, EVENTFD | TRIGGER, (self.event.fileno(),))

    def ask(self, action: int) -> None:
        self.set(INTX, NONE | action, count=1)

    def fired(self, patience: float = 5.0) -> int:
        try:
            return self.event.wait(patience)
        except Timeout:
            return 0

    def quiet(self) -> bool:
        return self.fired(0.2) == 0

    @property
    def disabled(self) -> tuple[bool, bool]:
        """The INTx disable bit as the program sees it, and as the device has it."""
        own = self.backend.pread(self.fd, 2, CONFIG + regs.PCI_COMMAND)
        with requests.opened_file(self.backend, f"{self.path}/config") as fd:
            real = self.backend.pread(fd, 2, regs.PCI_COMMAND)
        return _disables(own), _disables(real)

    def write_when(self, size: int, offset: int, data: int, fd: int) -> None:
        """``VFIO_DEVICE_IOEVENTFD``."""
        argsz = ctypes.sizeof(vfio.DeviceIoeventfd)
        argument = vfio.DeviceIoeventfd(argsz=argsz, flags=size, offset=offset, data=data, fd=fd)
        self.backend.ioctl(self.fd, vfio.VFIO_DEVICE_IOEVENTFD, argument)


@pytest.fixture
def card(express_host: Host, edu_function: BoundFunction) -> Iterator[Card]:
    with OpenFiles(express_host.backend) as files:
        found = Card(express_host, files, edu_function)
        with found.event:
            yield found


def test_the_kinds(card: Card) -> None:
    found = [requests.irq_info(card.backend, card.fd, index) for index in (INTX, MSI, MSIX, REQ)]
    assert [(int(info.flags), int(info.count)) for info in found] == [(7, 1), (9, 1), (9, 0), (9, 1)]
    with fails(EINVAL):
        requests.irq_info(card.backend, card.fd, ERR)


def test_it_is_masked_when_it_fires(card: Card) -> None:
    card.trigger()
    card.store(edu.RAISE, 1)
    assert card.fired() == 1
    assert card.disabled == (False, True)
    card.store(edu.RAISE, 2)
    assert card.quiet()
    card.store(edu.ACK, 3)
    card.ask(UNMASK)
    assert card.disabled == (False, False)
    card.store(edu.RAISE, 1)
    assert card.fired() == 1


def test_a_pending_one_is_told_again_when_it_is_unmasked(card: Card) -> None:
    card.trigger()
    card.store(edu.RAISE, 1)
    assert card.fired() == 1
    for _ in range(3):
        card.ask(UNMASK)
        assert card.fired() == 1
        assert card.disabled == (False, True)


def test_masking(card: Card) -> None:
    card.trigger()
    card.ask(MASK)
    card.store(edu.RAISE, 1)
    assert card.quiet()
    assert card.disabled == (False, True)
    card.set(INTX, BOOL | UNMASK, b"\0")
    assert card.quiet()
    card.set(INTX, BOOL | UNMASK, b"\1")
    assert card.fired() == 1


def test_an_eventfd_unmasks(card: Card) -> None:
    with EventFd() as resample:
        card.trigger()
        card.set(INTX, EVENTFD | UNMASK, (resample.fileno(),))
        with fails(EBUSY):
            card.set(INTX, EVENTFD | UNMASK, (resample.fileno(),))
        card.store(edu.RAISE, 1)
        assert card.fired() == 1
        resample.signal()
        assert card.fired() == 1
        card.store(edu.ACK, 1)
        resample.signal()
        card.store(edu.RAISE, 1)
        assert card.fired() == 1
        assert resample.read() == 0
        card.set(INTX, EVENTFD | UNMASK, (-1,))


def test_the_programs_own_bit_forbids_it(card: Card) -> None:
    card.trigger()
    card.command(regs.PCI_COMMAND_MEMORY | DISABLE)
    assert card.disabled == (True, True)
    card.store(edu.RAISE, 1)
    card.ask(UNMASK)
    assert card.quiet()
    card.command(regs.PCI_COMMAND_MEMORY)
    assert card.fired() == 1


def test_loopback(card: Card) -> None:
    card.trigger()
    card.ask(TRIGGER)
    assert card.fired() == 1
    card.set(INTX, BOOL | TRIGGER, b"\1")
    assert card.fired() == 1
    assert card.disabled == (False, False)


@pytest.mark.parametrize(
    ("index", "flags", "data", "more", "number"),
    [
        (MSI, NONE | MASK, (), {"count": 1}, ENOTTY),
        (INTX, NONE | UNMASK, (), {"count": 1}, EINVAL),
        (MSI, NONE | TRIGGER, (), {"count": 1}, EINVAL),
        (MSIX, EVENTFD | TRIGGER, (-1,), {}, EINVAL),
        (MSI, EVENTFD | TRIGGER, (-1, -1), {}, EINVAL),
        (INTX, EVENTFD | TRIGGER, (-1,), {"start": 1}, EINVAL),
        (INTX, NONE, (), {"count": 1}, ENOTTY),
        (INTX, NONE | TRIGGER | MASK, (), {"count": 1}, ENOTTY),
        (INTX, TRIGGER, (), {"count": 1}, EINVAL),
        (INTX, EVENTFD | TRIGGER, (987,), {}, EBADF),
        (MSI, EVENTFD | TRIGGER, (), {}, ERANGE),
        (ERR, EVENTFD | TRIGGER, (-1,), {}, EINVAL),
        (REQ, NONE | MASK, (), {"count": 1}, ENOTTY),
    ],
)
def test_misuse(card: Card, index: int, flags: int, data: tuple[int, ...], more: dict[str, int], number: int) -> None:
    with fails(number):
        card.set(index, flags, data, **more)


def test_one_kind_at_a_time(card: Card) -> None:
    card.trigger()
    with fails(EINVAL):
        card.trigger(MSI)
    card.set(INTX, NONE | TRIGGER, count=0)
    with fails(EINVAL):
        card.set(INTX, NONE | TRIGGER, count=0)
    card.trigger(MSI)
    with fails(EINVAL):
        card.trigger(INTX)
    card.store(edu.RAISE, 1)
    assert card.fired() == 1
    card.set(MSI, NONE | TRIGGER, count=0)


def test_a_message_has_a_number_of_its_own(card: Card) -> None:
    card.trigger(MSI)
    (number,) = card.backend.listdir(f"{card.path}/msi_irqs")
    with requests.opened_file(card.backend, f"{card.path}/irq") as fd:
        assert card.backend.read(fd, 64).decode() == f"{number}\n"
    with requests.opened_file(card.backend, "/proc/interrupts") as fd:
        text = card.backend.read(fd, 1 << 16).decode()
    (line,) = (line for line in text.splitlines() if "vfio-msi[0]" in line)
    assert line.split()[0] == f"{number}:"
    assert line.split()[-3:-1] == [f"IR-PCI-MSI-{os.path.basename(card.path)}", "0-edge"]


def test_a_signal_writes_a_register(card: Card) -> None:
    with EventFd() as event:
        card.write_when(4, edu.LIVE, VALUE, event.fileno())
        with fails(EEXIST):
            card.write_when(4, edu.LIVE, VALUE, event.fileno())
        card.write_when(4, edu.LIVE, 5, event.fileno())
        event.signal()
        assert card.load(edu.LIVE) == _complement(VALUE)  # the one that was added last is first
        assert event.read() == 0
        card.write_when(4, edu.LIVE, VALUE, -1)
        with fails(ENODEV):
            card.write_when(4, edu.LIVE, VALUE, -1)
        event.signal()
        assert card.load(edu.LIVE) == _complement(5)


def test_an_eventfd_that_was_signalled_before_writes_at_once(card: Card) -> None:
    with EventFd(1) as event:
        card.write_when(4, edu.LIVE, VALUE, event.fileno())
        assert card.load(edu.LIVE) == _complement(VALUE)
        assert event.read() == 1


def test_mapped_registers(card: Card, page: int) -> None:
    info = requests.region_info(card.backend, card.fd, edu.BAR)[0]
    assert (int(info.flags), int(info.size)) == (7, edu.BAR_SIZE)
    area = card.backend.mmap(card.fd, page, offset=info.offset)
    assert area[edu.ID : edu.ID + 4] == struct.pack("<I", edu.IDENTIFICATION)
    area[edu.LIVE : edu.LIVE + 4] = struct.pack("<I", VALUE)
    assert area[edu.LIVE : edu.LIVE + 4] == _complement(VALUE)
    assert card.load(edu.LIVE) == _complement(VALUE)
    area.close()
