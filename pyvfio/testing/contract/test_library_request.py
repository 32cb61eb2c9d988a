"""A program that lets go when the kernel asks for its device: the unbind, made elsewhere, ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.abi.vfio import PciIrq
from pyvfio.backend import Backend
from pyvfio.ccw import CcwDevice
from pyvfio.css import Subchannel
from pyvfio.errors import KernelRefused, Misuse, PyvfioError
from pyvfio.host import Host
from pyvfio.testing.caller import Caller
from pyvfio.testing.devices import BoundFunction, BoundMdev, BoundSubchannel
from pyvfio.testing.plugin import Lab
from pyvfio.vfio import Device

VFIO = "/sys/bus/pci/drivers/vfio-pci"
LONG = 20.0


@pytest.fixture
def bound(backend: Backend, pci_path: str, lab: Lab) -> Iterator[BoundFunction]:
    """The function bound to vfio-pci, for one test."""
    with BoundFunction(backend, lab.pci) as function:
        yield function


@pytest.fixture
def made(subchannel: BoundSubchannel) -> Iterator[BoundMdev]:
    """A mediated device for one test."""
    with subchannel.create() as device:
        yield device


def unbind(bound: BoundFunction) -> Caller:
    return Caller(lambda: bound.sysfs.write(f"{VFIO}/unbind", bound.address))


def test_a_function_lets_go(host: Host, bound: BoundFunction, way: str) -> None:
    device = pyvfio.open_device(host, bound.address, way=way, let_go=True)
    unbind(bound).ends()
    assert bound.driver is None
    device.close()
    assert device.fileno() == -1
    with pytest.raises(Misuse):
        device.reset()


def test_a_function_that_was_not_told_to(host: Host, bound: BoundFunction, way: str) -> None:
    with pyvfio.open_device(host, bound.address, way=way) as device:
        elsewhere = unbind(bound)
        assert elsewhere.waits(0.1)
        assert device.config.vendor_id
    elsewhere.ends()


def test_a_program_that_finishes_its_work_first(host: Host, bound: BoundFunction, way: str) -> None:
    asked = threading.Event()
    with pyvfio.open_device(host, bound.address, way=way) as device:
        watch = device.on_request(lambda _: asked.set())
        elsewhere = unbind(bound)
        assert asked.wait(LONG)
        assert watch.count == 1
        assert device.config.vendor_id
        assert elsewhere.waits(0)
    elsewhere.ends()


def test_a_program_that_polls(host: Host, bound: BoundFunction) -> None:
    with pyvfio.open_device(host, bound.address) as device:
        request = device.request
        assert request is not None
        request.enable()
        assert request.poll() == 0
        elsewhere = unbind(bound)
        assert request.wait(LONG) == 1
    elsewhere.ends()


def test_memory_and_interrupts_are_let_go_too(host: Host, bound: BoundFunction, way: str) -> None:
    device = pyvfio.open_device(host, bound.address, way=way, let_go=True)
    buffer = device.space.buffer(host.page_size)
    irq = device.irq(PciIrq.MSIX)
    irq.enable(1)
    stopped: list[PyvfioError] = []

    def work() -> None:
        try:
            irq.wait(LONG)
        except PyvfioError as error:
            stopped.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    unbind(bound).ends()
    worker.join(LONG)
    assert [type(error) for error in stopped] == [Misuse]
    buffer.close()


def test_a_watch_that_is_closed(host: Host, bound: BoundFunction) -> None:
    asked = threading.Event()
    with pyvfio.open_device(host, bound.address) as device:
        with device.on_request(lambda _: asked.set()), pytest.raises(Misuse):
            device.on_request(Device.close)
        elsewhere = unbind(bound)
        assert elsewhere.waits(0.1)
        assert not asked.is_set()
    elsewhere.ends()


def test_closing_ends_the_thread(host: Host, bound: BoundFunction, way: str) -> None:
    before = threading.active_count()
    with pyvfio.open_device(host, bound.address, way=way, let_go=True):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_a_token_that_nobody_wants(host: Host, bound: BoundFunction, way: str) -> None:
    with pytest.raises(KernelRefused) as caught:
        pyvfio.open_device(host, bound.address, way=way, vf_token="bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3")
    assert caught.value.errno_name == "EINVAL"
    assert "takes no VF token" in caught.value.cause


def test_a_token_that_cannot_be_set(host: Host, bound: BoundFunction) -> None:
    with pyvfio.open_device(host, bound.address) as device, pytest.raises(Misuse):
        device.set_vf_token("bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3")


def test_a_mediated_device_lets_go(host: Host, made: BoundMdev, way: str) -> None:
    device = pyvfio.open_device(host, host.mdev(made.uuid), way=way, let_go=True)
    Caller(made.remove).ends()
    assert not made.sysfs.exists(made.path)
    device.close()


def test_a_subchannel_is_told(host: Host, made: BoundMdev, way: str) -> None:
    with Subchannel.open(host, host.mdev(made.uuid), way=way) as opened:
        assert not opened.is_wanted
        elsewhere = Caller(made.remove)
        assert opened.wanted(LONG) >= 1
        assert opened.sense_id().cu_type  # it works until it is closed
        assert elsewhere.waits(0.1)
    elsewhere.ends()
    assert not made.sysfs.exists(made.path)


def test_a_subchannel_lets_go(host: Host, subchannel: BoundSubchannel, made: BoundMdev) -> None:
    try:
        with pyvfio.open_device(host, host.mdev(made.uuid), let_go=True) as device, CcwDevice(device) as client:
            assert client.sense_id().cu_type
            Caller(subchannel.unbind).ends()
            with pytest.raises(PyvfioError):
                client.sense_id()
        assert subchannel.driver is None
    finally:
        subchannel.probe("vfio_ccw")
