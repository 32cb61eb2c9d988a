"""Closing leaves nothing behind: no descriptor, no holder, no use of a group."""

from __future__ import annotations

import gc
import os
import select
from errno import ENOENT

import pytest

from pyvfio.abi import vfio
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails
from pyvfio.testing.modes import CONTAINER, EVERY_MODE, group_mode, open_device
from pyvfio.testing.plugin import Lab


def descriptors() -> int:
    gc.collect()  # what earlier tests left is not this one's
    return len(os.listdir("/proc/self/fd"))


def test_attributes(backend: Backend, sysfs: Attributes, pci_path: str) -> None:
    sysfs.read(f"{pci_path}/vendor")
    before = descriptors()
    for _ in range(10):
        sysfs.read(f"{pci_path}/vendor")
    assert descriptors() == before


def test_a_failed_open(backend: Backend) -> None:
    before = descriptors()
    for path in ("/sys/none", "/dev/vfio/none"):
        with pytest.raises(FileNotFoundError):
            backend.open(path, os.O_RDWR)
    assert descriptors() == before


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_an_open_device(backend: Backend, function: BoundFunction, mode: str) -> None:
    before = descriptors()
    with OpenFiles(backend) as files:
        open_device(backend, files, function, mode)
        assert descriptors() > before
    assert descriptors() == before


def test_interrupts(backend: Backend, function: BoundFunction) -> None:
    before = descriptors()
    with OpenFiles(backend) as files, EventFd() as event:
        device = open_device(backend, files, function, group_mode(backend))
        flags = vfio.IrqSetFlags.DATA_EVENTFD | vfio.IrqSetFlags.ACTION_TRIGGER
        requests.set_irqs(backend, device.fd, vfio.VFIO_PCI_MSIX_IRQ_INDEX, flags, [event.fileno()])
    assert descriptors() == before


def test_the_backend_itself(lab: Lab) -> None:
    before = descriptors()
    with lab.open() as other:
        other.listdir("/sys/bus")
    assert descriptors() == before


def test_the_backend_with_a_stream(lab: Lab) -> None:
    before = descriptors()
    with lab.open() as other:
        assert other.uevents().fileno() >= 0
    assert descriptors() == before


def test_closing_twice_is_allowed_for_the_backend(lab: Lab) -> None:
    other = lab.open()
    other.close()
    other.close()


def test_a_holder_while_it_is_open(backend: Backend, files: OpenFiles) -> None:
    fd = files.open(CONTAINER)
    mine = [holder for holder in backend.holders(CONTAINER) if holder.pid == os.getpid()]
    assert [holder.fd for holder in mine] == [fd]
    files.close(fd)
    assert [holder for holder in backend.holders(CONTAINER) if holder.pid == os.getpid()] == []


def test_no_holders_of_nothing(backend: Backend) -> None:
    with fails(ENOENT):
        backend.holders("/dev/vfio/no-such-group")


def test_poll_of_an_attribute(files: OpenFiles, pci_path: str) -> None:
    fd = files.open(f"{pci_path}/vendor", os.O_RDONLY)
    assert select.select([fd], [], [], 0)[0] == [fd]
