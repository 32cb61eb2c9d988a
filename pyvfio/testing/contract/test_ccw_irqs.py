"""VFIO_DEVICE_SET_IRQS of a channel device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EBADF, EFAULT, EINVAL

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio import CcwIrq, IrqSetFlags
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.channel import Channel, sense_id
from pyvfio.testing.expect import fails

EVENTFD = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
TRIGGER = IrqSetFlags.DATA_NONE | IrqSetFlags.ACTION_TRIGGER
BOOL = IrqSetFlags.DATA_BOOL | IrqSetFlags.ACTION_TRIGGER
ALL = pytest.mark.parametrize("index", list(CcwIrq), ids=lambda index: index.name)


@pytest.fixture
def event() -> Iterator[EventFd]:
    with EventFd() as made:
        yield made


@pytest.mark.parametrize("argsz", [0, 19])
def test_too_small(backend: Backend, channel: Channel, argsz: int) -> None:
    with fails(EINVAL):
        requests.set_irqs(backend, channel.fd, CcwIrq.IO, TRIGGER, count=1, argsz=argsz)


def test_too_small_for_the_data(backend: Backend, channel: Channel, event: EventFd) -> None:
    with fails(EINVAL):
        requests.set_irqs(backend, channel.fd, CcwIrq.IO, EVENTFD, [event.fileno()], argsz=20)


@pytest.mark.parametrize(
    ("index", "start", "count"), [(3, 0, 1), (0, 0, 2), (0, 1, 1), (100, 0, 1)], ids=["index", "count", "start", "far"]
)
def test_what_is_not_there(
    backend: Backend, channel: Channel, event: EventFd, index: int, start: int, count: int
) -> None:
    with fails(EINVAL):
        requests.set_irqs(backend, channel.fd, index, EVENTFD, [event.fileno()] * count, start=start, count=count)


@ALL
@pytest.mark.parametrize("action", [IrqSetFlags.ACTION_MASK, IrqSetFlags.ACTION_UNMASK], ids=["mask", "unmask"])
def test_masking(backend: Backend, channel: Channel, index: int, action: int) -> None:
    with fails(EINVAL):
        requests.set_irqs(backend, channel.fd, index, IrqSetFlags.DATA_NONE | action, count=1)


@pytest.mark.parametrize("flags", [0, IrqSetFlags.ACTION_TRIGGER, 1 << 6 | TRIGGER], ids=["none", "no-data", "bit-6"])
def test_wrong_flags(backend: Backend, channel: Channel, flags: int) -> None:
    with fails(EINVAL):
        requests.set_irqs(backend, channel.fd, CcwIrq.IO, flags, count=1)


@ALL
def test_a_number_that_is_closed(backend: Backend, channel: Channel, index: int) -> None:
    with fails(EBADF):
        requests.set_irqs(backend, channel.fd, index, EVENTFD, [987])


@ALL
def test_a_negative_number(backend: Backend, channel: Channel, index: int) -> None:
    with fails(EINVAL):
        requests.set_irqs(backend, channel.fd, index, EVENTFD, [-2])


def test_a_descriptor_that_is_no_eventfd(backend: Backend, channel: Channel, pci_path: str) -> None:
    fd = channel.files.open(f"{pci_path}/vendor", os.O_RDONLY)
    with fails(EINVAL):
        requests.set_irqs(backend, channel.fd, CcwIrq.IO, EVENTFD, [fd])


def test_a_count_of_none_is_not_looked_at(backend: Backend, channel: Channel, event: EventFd) -> None:
    # the driver reads one descriptor whatever the count says
    with fails(EBADF):
        requests.set_irqs(backend, channel.fd, CcwIrq.REQ, EVENTFD, [987], count=0)
    requests.set_irqs(backend, channel.fd, CcwIrq.REQ, EVENTFD, [event.fileno()], count=0)
    requests.set_irqs(backend, channel.fd, CcwIrq.REQ, TRIGGER, count=1)
    assert event.read() == 1


def test_a_wild_address(backend: Backend, channel: Channel, wild: int) -> None:
    with fails(EFAULT):
        backend.ioctl(channel.fd, vfio.VFIO_DEVICE_SET_IRQS, wild)


@ALL
def test_loopback(backend: Backend, channel: Channel, event: EventFd, index: int) -> None:
    requests.set_irqs(backend, channel.fd, index, EVENTFD, [event.fileno()])
    requests.set_irqs(backend, channel.fd, index, TRIGGER, count=1)
    assert event.read() == 1
    requests.set_irqs(backend, channel.fd, index, BOOL, b"\x01", count=1)
    assert event.read() == 1
    requests.set_irqs(backend, channel.fd, index, BOOL, b"\x00", count=1)
    assert event.read() == 0


@ALL
def test_taken_away(backend: Backend, channel: Channel, event: EventFd, index: int) -> None:
    requests.set_irqs(backend, channel.fd, index, EVENTFD, [event.fileno()])
    for _ in range(2):
        requests.set_irqs(backend, channel.fd, index, EVENTFD, [-1])
    requests.set_irqs(backend, channel.fd, index, TRIGGER, count=1)
    assert event.read() == 0


def test_another_eventfd_takes_over(backend: Backend, channel: Channel, event: EventFd) -> None:
    requests.set_irqs(backend, channel.fd, CcwIrq.IO, EVENTFD, [event.fileno()])
    channel.load([sense_id(channel.data)])
    channel.write(channel.orb())
    assert event.wait(10) == 1
    assert channel.event.read() == 0


def test_a_program_without_an_eventfd(backend: Backend, channel: Channel) -> None:
    requests.set_irqs(backend, channel.fd, CcwIrq.IO, EVENTFD, [-1])
    channel.load([sense_id(channel.data)])
    channel.write(channel.orb())
    requests.set_irqs(backend, channel.fd, CcwIrq.IO, EVENTFD, [channel.event.fileno()])
    assert channel.ret_code == 0


def test_one_interrupt_for_one_program(channel: Channel) -> None:
    channel.run(sense_id(channel.data))
    assert channel.event.read() == 0


def test_no_interrupt_for_a_refused_program(channel: Channel) -> None:
    channel.load([])
    with pytest.raises(OSError, match="Invalid argument"):
        channel.write(channel.orb(cpa=channel.hole))
    assert channel.event.read() == 0
