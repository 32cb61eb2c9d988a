"""Unbinding a function that is open: the driver asks by the request interrupt, and waits until it is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from errno import ENODEV

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio import IrqSetFlags, PciIrq
from pyvfio.backend import Backend
from pyvfio.process import EventFd
from pyvfio.testing import requests
from pyvfio.testing.attributes import Attributes, OpenFiles
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.expect import fails, settles
from pyvfio.testing.modes import EVERY_MODE, group_mode, open_device
from pyvfio.testing.plugin import Lab

VFIO = "/sys/bus/pci/drivers/vfio-pci"


class Remover:
    """A thread that unbinds the function, as another program would."""

    def __init__(self, device: BoundFunction) -> None:
        self.result: int | OSError | None = None
        self._device = device
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._device.sysfs.write(f"{VFIO}/unbind", self._device.address)
        except OSError as error:
            self.result = error

    def waits(self) -> bool:
        """Whether it is still in its write."""
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive(), "the remover still waits"


@pytest.fixture
def device(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The function bound to vfio-pci, for one test."""
    with BoundFunction(backend, lab.pci) as bound:
        yield bound


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_it_waits_until_the_device_is_closed(backend: Backend, device: BoundFunction, mode: str) -> None:
    with OpenFiles(backend) as files, EventFd() as asked:
        opened = open_device(backend, files, device, mode)
        flags = IrqSetFlags.DATA_EVENTFD | IrqSetFlags.ACTION_TRIGGER
        requests.set_irqs(backend, opened.fd, PciIrq.REQ, flags, [asked.fileno()])
        remover = Remover(device)
        assert asked.wait(10) == 1
        assert remover.waits()
        # the owner works on meanwhile
        config = requests.region_info(backend, opened.fd, vfio.VFIO_PCI_CONFIG_REGION_INDEX)[0]
        assert len(backend.pread(opened.fd, 4, config.offset)) == 4
        assert remover.waits()
        files.close(opened.fd)
        remover.join()
        assert remover.result == len(device.address)
        assert device.driver is None


def test_without_a_request_interrupt(backend: Backend, device: BoundFunction) -> None:
    with OpenFiles(backend) as files:
        opened = open_device(backend, files, device, group_mode(backend))
        remover = Remover(device)
        assert not settles(lambda: not remover.waits(), 0.3)
        files.close(opened.fd)
        remover.join()


def test_the_group_has_lost_its_device(backend: Backend, device: BoundFunction) -> None:
    with OpenFiles(backend) as files:
        opened = open_device(backend, files, device, group_mode(backend))
        node = device.group
        remover = Remover(device)
        files.close(opened.fd)
        remover.join()
        with fails(ENODEV):
            requests.group_flags(backend, opened.group)
        with fails(ENODEV):
            requests.device_fd(backend, opened.group, device.address)
        assert not device.sysfs.exists(node)


def test_an_open_group_alone_does_not_hold_it(backend: Backend, sysfs: Attributes, device: BoundFunction) -> None:
    with OpenFiles(backend) as files:
        group = files.open(device.group)
        sysfs.write(f"{VFIO}/unbind", device.address)
        assert device.driver is None
        with fails(ENODEV):
            requests.group_flags(backend, group)


@pytest.mark.usefixtures("iommufd")
def test_an_open_node_that_is_not_bound_holds_it(backend: Backend, device: BoundFunction) -> None:
    with OpenFiles(backend) as files:
        node = files.open(device.cdev)
        remover = Remover(device)
        assert not settles(lambda: not remover.waits(), 0.3)
        files.close(node)
        remover.join()


def test_bind_again(backend: Backend, sysfs: Attributes, device: BoundFunction) -> None:
    sysfs.write(f"{VFIO}/unbind", device.address)
    sysfs.write(f"{VFIO}/bind", device.address)
    with OpenFiles(backend) as files:
        assert (
            requests.device_info(backend, open_device(backend, files, device, group_mode(backend)).fd)[0].num_irqs == 5
        )
