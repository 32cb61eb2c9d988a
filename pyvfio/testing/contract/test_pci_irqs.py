"""VFIO_DEVICE_SET_IRQS of a PCI function: set up, loopback, disable, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from errno import EBADF, EFAULT, EINVAL, ENOTTY

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import OpenFiles
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import OpenDevice

EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
TRIGGER = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER
BOOL = IrqSetFlags.DATA_BOOL | IrqSetFlags.ACTION_TRIGGER


class Msix:
    """MSI-X of the open function, with an eventfd for each vector."""

    def __init__(self, device: OpenDevice) -> None:
        self.backend, self.fd = device.backend, device.fd
        self.count = requests.irq_info(self.backend, self.fd, PciIrq.MSIX).count
        self.events = [EventFd() for _ in range(self.count)]

    @property
    def fds(self) -> list[int]:
        return [event.fileno() for event in self.events]

    def set(self, flags: int, data: Sequence[int] | bytes = (), **more: int) -> None:
        requests.set_irqs(self.backend, self.fd, PciIrq.MSIX, flags, data, **more)

    def enable(self, vectors: int | None = None) -> None:
        self.set(EVENTFD, self.fds[:vectors])

    def disable(self) -> None:
        self.set(TRIGGER, count=0)

    def counts(self) -> list[int]:
        return [event.read() for event in self.events]


@pytest.fixture
def msix(opened: OpenDevice) -> Iterator[Msix]:
    found = Msix(opened)
    if found.count < 2:
        pytest.skip("the function has fewer than two MSI-X vectors")
    yield found
    for event in found.events:
        event.close()


@pytest.mark.parametrize("argsz", [0, 19])
def test_too_small_a_structure(msix: Msix, argsz: int) -> None:
    with fails(EINVAL):
        msix.set(TRIGGER, count=0, argsz=argsz)


def test_too_small_for_the_data(msix: Msix) -> None:
    with fails(EINVAL):
        msix.set(EVENTFD, msix.fds[:2], argsz=24)


@pytest.mark.parametrize(
    ("flags", "number"),
    [(IrqSetFlags.ACTION_TRIGGER, EINVAL), (0, EINVAL), (IrqSetFlags.DATA_NONE, ENOTTY)],
    ids=["data", "both", "action"],
)
def test_a_flag_is_missing(msix: Msix, flags: int, number: int) -> None:
    with fails(number):
        msix.set(flags, count=0)


def test_two_kinds_of_data(msix: Msix) -> None:
    with fails(EINVAL):
        msix.set(EVENTFD | IrqSetFlags.DATA_BOOL, msix.fds[:1])


def test_two_actions(msix: Msix) -> None:
    with fails(ENOTTY):
        msix.set(TRIGGER | IrqSetFlags.ACTION_MASK, count=1)


@pytest.mark.parametrize("flag", [1 << 6, 1 << 31])
def test_an_unknown_flag(msix: Msix, flag: int) -> None:
    with fails(EINVAL):
        msix.set(TRIGGER | flag, count=0)


@pytest.mark.parametrize("index", [vfio.VFIO_PCI_NUM_IRQS, 100])
def test_an_index_that_is_none(backend: Backend, msix: Msix, index: int) -> None:
    with fails(EINVAL):
        requests.set_irqs(backend, msix.fd, index, TRIGGER, count=0)


@pytest.mark.parametrize("index", [PciIrq.INTX, PciIrq.MSI], ids=["intx", "msi"])
def test_an_interrupt_the_function_has_not(backend: Backend, msix: Msix, index: int) -> None:
    if requests.irq_info(backend, msix.fd, index).count:
        pytest.skip("the function has it")
    with fails(EINVAL):
        requests.set_irqs(backend, msix.fd, index, EVENTFD, msix.fds[:1])


def test_past_the_table(msix: Msix) -> None:
    with fails(EINVAL):
        msix.set(EVENTFD, msix.fds[:1], start=msix.count)
    with fails(EINVAL):
        msix.set(EVENTFD, [*msix.fds, msix.fds[0]])
    with fails(EINVAL):
        msix.set(TRIGGER, start=0xFFFFFFFF, count=1)


def test_a_number_that_is_closed(msix: Msix) -> None:
    with fails(EBADF):
        msix.set(EVENTFD, [987])


def test_a_descriptor_that_is_no_eventfd(msix: Msix, files: OpenFiles, pci_path: str) -> None:
    with fails(EINVAL):
        msix.set(EVENTFD, [files.open(f"{pci_path}/vendor", os.O_RDONLY)])


def test_one_wrong_number_sets_up_nothing(msix: Msix) -> None:
    with fails(EBADF):
        msix.set(EVENTFD, [msix.fds[0], 987])
    with fails(EINVAL):
        msix.set(TRIGGER, count=1)
    assert msix.counts()[0] == 0


def test_masking(msix: Msix) -> None:
    msix.enable()
    for action in (IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK):
        with fails(ENOTTY):
            msix.set(IrqSetFlags.DATA_NONE | action, count=1)


def test_more_vectors_than_at_first(backend: Backend, msix: Msix) -> None:
    msix.enable(1)
    if not requests.irq_info(backend, msix.fd, PciIrq.MSIX).flags & vfio.IrqInfoFlags.NORESIZE:
        msix.set(EVENTFD, msix.fds[1:2], start=1)
        msix.set(TRIGGER, start=1, count=1)
        assert msix.counts()[:2] == [0, 1]
        return
    with fails(EINVAL):
        msix.set(EVENTFD, msix.fds[1:2], start=1)


@pytest.mark.parametrize("index", [PciIrq.INTX, PciIrq.MSI], ids=["intx", "msi"])
def test_another_kind_while_it_is_on(backend: Backend, msix: Msix, index: int) -> None:
    msix.enable()
    with fails(EINVAL):
        requests.set_irqs(backend, msix.fd, index, EVENTFD, msix.fds[:1])


def test_a_wild_address(backend: Backend, msix: Msix, wild: int) -> None:
    with fails(EFAULT):
        backend.ioctl(msix.fd, vfio.VFIO_DEVICE_SET_IRQS, wild)


def test_loopback(msix: Msix) -> None:
    msix.enable()
    for vector in range(msix.count):
        msix.set(TRIGGER, start=vector, count=1)
        assert msix.counts() == [int(place == vector) for place in range(msix.count)]


def test_loopback_of_all(msix: Msix) -> None:
    msix.enable()
    msix.set(TRIGGER, count=msix.count)
    assert msix.counts() == [1] * msix.count


def test_loopback_by_bytes(msix: Msix) -> None:
    msix.enable()
    msix.set(BOOL, bytes([0, 1, *[0] * (msix.count - 2)]), count=msix.count)
    assert msix.counts() == [0, 1, *[0] * (msix.count - 2)]


def test_loopback_without_set_up_does_nothing(msix: Msix) -> None:
    with fails(EINVAL):
        msix.set(TRIGGER, count=1)
    assert sum(msix.counts()) == 0


def test_set_up_again_replaces(msix: Msix) -> None:
    msix.enable()
    msix.set(EVENTFD, [msix.fds[1], msix.fds[0]])
    msix.set(TRIGGER, count=1)
    assert msix.counts()[:2] == [0, 1]


def test_one_vector_can_be_taken_away(msix: Msix) -> None:
    msix.enable()
    msix.set(EVENTFD, [-1])
    msix.set(TRIGGER, count=2)
    assert msix.counts()[:2] == [0, 1]


def test_the_set_up_may_begin_later(msix: Msix) -> None:
    msix.set(EVENTFD, [msix.fds[1]], start=1)
    msix.set(TRIGGER, start=1, count=1)
    assert msix.counts()[:2] == [0, 1]


def test_disable(msix: Msix) -> None:
    msix.enable()
    msix.disable()
    with fails(EINVAL):
        msix.set(TRIGGER, count=1)
    assert sum(msix.counts()) == 0


def test_disable_what_is_off(msix: Msix) -> None:
    with fails(EINVAL):
        msix.disable()
    msix.enable()
    msix.disable()
    with fails(EINVAL):
        msix.disable()


def test_disable_and_enable_with_more(msix: Msix) -> None:
    msix.enable(1)
    msix.disable()
    msix.enable()
    msix.set(TRIGGER, start=1, count=1)
    assert msix.counts()[:2] == [0, 1]


def test_the_eventfd_may_be_closed_before(msix: Msix) -> None:
    with EventFd() as event:
        msix.set(EVENTFD, [event.fileno()])
    msix.set(TRIGGER, count=1)
    msix.disable()


def test_counts_add_up(msix: Msix) -> None:
    msix.enable(1)
    for _ in range(3):
        msix.set(TRIGGER, count=1)
    assert msix.events[0].read() == 3


@pytest.mark.parametrize("data", ["none", "bool"])
def test_the_request_interrupt(backend: Backend, msix: Msix, data: str) -> None:
    event = msix.events[0]
    requests.set_irqs(backend, msix.fd, PciIrq.REQ, EVENTFD, [event.fileno()])
    if data == "none":
        requests.set_irqs(backend, msix.fd, PciIrq.REQ, TRIGGER, count=1)
    else:
        requests.set_irqs(backend, msix.fd, PciIrq.REQ, BOOL, b"\x01", count=1)
    assert event.read() == 1
    requests.set_irqs(backend, msix.fd, PciIrq.REQ, EVENTFD, [-1])
    with fails(EINVAL):
        requests.set_irqs(backend, msix.fd, PciIrq.REQ, TRIGGER, count=1)
    assert event.read() == 0


def test_no_error_interrupt_without_pci_express(backend: Backend, msix: Msix, express: bool) -> None:
    if express:
        pytest.skip("this is a function of PCI Express")
    with fails(EINVAL):
        requests.set_irqs(backend, msix.fd, PciIrq.ERR, EVENTFD, msix.fds[:1])


def test_the_error_interrupt(backend: Backend, msix: Msix, express: bool) -> None:
    if not express:
        pytest.skip("this is no function of PCI Express")
    event = msix.events[0]
    requests.set_irqs(backend, msix.fd, PciIrq.ERR, EVENTFD, [event.fileno()])
    requests.set_irqs(backend, msix.fd, PciIrq.ERR, TRIGGER, count=1)
    assert event.read() == 1
    requests.set_irqs(backend, msix.fd, PciIrq.ERR, EVENTFD, [-1])
    with fails(EINVAL):
        requests.set_irqs(backend, msix.fd, PciIrq.ERR, TRIGGER, count=1)


def test_reset_keeps_the_set_up(backend: Backend, msix: Msix) -> None:
    if not requests.device_info(backend, msix.fd)[0].flags & vfio.VFIO_DEVICE_FLAGS_RESET:
        pytest.skip("the function has no reset")
    msix.enable()
    backend.ioctl(msix.fd, vfio.VFIO_DEVICE_RESET)
    msix.set(TRIGGER, count=1)
    assert msix.counts()[0] == 1
