"""The NVMe driver and a controller that does not do what it should: nothing hangs, nothing is left."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator

import pytest
from q35_card import device_inside, host_of

import pyvfio
from pyvfio.drivers import AsyncNvme, Nvme
from pyvfio.errors import Misuse, NotAvailable, Timeout
from pyvfio.nvme import registers as regs
from pyvfio.nvme.commands import AdminOpcode, Command
from pyvfio.nvme.identity import NamespaceIdentity
from pyvfio.nvme.registers import Capabilities
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.nvme.storage import Namespace

ADDRESS = "0000:01:00.0"
RID = 0x0100


@pytest.fixture
def host() -> Iterator[pyvfio.Host]:
    with host_of(ADDRESS) as opened:
        yield opened


@pytest.fixture
def device(host: pyvfio.Host) -> Iterator[Device]:
    with pyvfio.open_device(host, ADDRESS) as opened:
        yield opened


@pytest.fixture
def controller(host: pyvfio.Host) -> NvmeController:
    """The controller inside the machine."""
    return device_inside(host, ADDRESS, regs.BAR, NvmeController)


def lazy(delay: float, work: Callable[[], None]) -> None:
    """A controller that puts everything off for ever."""


def descriptors() -> int:
    gc.collect()  # what earlier tests left is not this one's
    return len(os.listdir("/proc/self/fd"))


def test_a_controller_that_does_no_command(device: Device, controller: NvmeController) -> None:
    controller._schedule = lazy
    with pytest.raises(Timeout, match=r"identify(.|\n)*aborting it did not help, and the controller was reset"):
        Nvme(device, timeout=0.2).__enter__()
    assert device.space.mappings() == []
    assert not controller.configuration.enable
    controller._schedule = None
    with Nvme(device) as disk:
        assert disk.read(0, 1) == bytes(512)


def test_a_command_that_takes_too_long_ends_the_others(device: Device, controller: NvmeController) -> None:
    async def use() -> None:
        async with AsyncNvme(device, timeout=0.3) as disk:
            controller._schedule = lazy
            came = await asyncio.gather(
                disk.read(0, 1), disk.admin(Command(AdminOpcode.ASYNC_EVENT)), disk.read(1, 1), return_exceptions=True
            )
            assert all(isinstance(one, (Timeout, Misuse)) for one in came)
            assert any(isinstance(one, Timeout) for one in came)
            with pytest.raises(Misuse, match="the controller was reset, because it did not end"):
                await disk.read(0, 1)

    asyncio.run(use())
    assert device.space.mappings() == []


def test_a_controller_that_does_not_get_ready(device: Device, controller: NvmeController) -> None:
    controller.capabilities = Capabilities(timeout=1)
    controller.reset()
    controller._configure = lambda value: None  # type: ignore[method-assign]
    with pytest.raises(Timeout, match=r"enable it(.|\n)*longer than the 0.5 s that it said"), Nvme(device):
        pass
    assert device.space.mappings() == []


def test_a_controller_that_fails_at_work(device: Device, controller: NvmeController) -> None:
    with Nvme(device) as disk:
        controller._schedule = lazy
        controller.fail()
        with pytest.raises((NotAvailable, Timeout), match="has failed"):
            disk.read_many([(0, 1)] * 3)
    assert device.space.mappings() == []
    controller._schedule = None
    with Nvme(device) as disk:
        assert disk.read(0, 1) == bytes(512)


@pytest.mark.parametrize("interrupts", ["msix", "intx", "poll"])
def test_one_that_is_taken_out_is_noticed_long_before_the_timeout(host: pyvfio.Host, interrupts: str) -> None:
    """By the status register, which reads as ones; and the device is closed, though its capabilities read so too."""
    assert isinstance(host.backend, SoftwareBackend)
    machine = host.backend.machine
    began = time.monotonic()
    with pyvfio.open_device(host, ADDRESS) as device, Nvme(device, interrupts=interrupts, timeout=30) as disk:
        function = machine.pcie.function(0, RID)
        assert function is not None
        assert function.bus is not None
        with machine.lock:
            function.bus.bridge.unplug()  # type: ignore[union-attr]
        with pytest.raises(NotAvailable, match=r"its registers read as ones(.|\n)*taken out"):
            disk.read(0, 1)
    assert time.monotonic() - began < 10


def test_an_asyncio_driver_notices_it_too(device: Device, host: pyvfio.Host) -> None:
    async def use() -> None:
        async with AsyncNvme(device, timeout=30) as disk:
            assert isinstance(host.backend, SoftwareBackend)
            with host.backend.machine.lock:
                host.backend.machine.pcie.function(0, RID).bus.bridge.unplug()  # type: ignore[union-attr]
            came = await asyncio.gather(disk.read(0, 1), disk.read(1, 1), return_exceptions=True)
            assert [type(one) for one in came] == [NotAvailable, NotAvailable]

    began = time.monotonic()
    asyncio.run(use())
    assert time.monotonic() - began < 10


def test_a_function_that_does_not_answer(device: Device) -> None:
    with Nvme(device) as disk:
        assert disk.read(0, 1) == bytes(512)
        device.config.command = 0
        disk.work.device.region(regs.BAR).close()
        with pytest.raises(pyvfio.PyvfioError):
            disk.read(0, 1)
    assert device.space.mappings() == []


def test_a_controller_without_namespaces() -> None:
    with (
        pyvfio.Host("software", machine="lab-x86") as host,
        BoundFunction(host.backend, "0000:04:00.0") as bound,
        pyvfio.open_device(host, bound.address) as device,
        Nvme(device) as disk,
    ):
        assert disk.namespaces == {}
        with pytest.raises(NotAvailable, match="no active namespace"):
            disk.read(0, 1)


def test_blocks_with_metadata_are_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their data would be longer than a block says."""
    monkeypatch.setattr(Namespace, "identity", NamespaceIdentity(1024, 9, metadata=8))
    with Nvme(device) as disk:
        assert disk.namespaces[1].metadata == 8
        for use in (lambda: disk.read(0), lambda: disk.write(0, bytes(512)), lambda: disk.write_zeroes(0)):
            with pytest.raises(NotAvailable, match="8 bytes of metadata in each block"):
                use()
        assert disk.health().temperature


def test_blocks_that_no_command_moves_are_refused(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Namespace, "identity", NamespaceIdentity(1024, 13))
    with Nvme(device, transfer=4096) as disk:
        for use in (lambda: disk.read(0), lambda: disk.write(0, bytes(8192)), lambda: disk.read_many([(0, 1)])):
            with pytest.raises(NotAvailable, match="has 8192 bytes, one command moves 4096"):
                use()


def test_more_entries_than_an_admin_queue_can_have(device: Device, controller: NvmeController) -> None:
    controller.capabilities = Capabilities(entries=1 << 16)
    controller.reset()
    with Nvme(device, depth=5000, transfer=4096) as disk:
        assert [queue.size for queue in disk.work.queues] == [4096, 5001]
        assert disk.read_many([(at, 1) for at in range(64)]) == [bytes(512)] * 64


def test_a_controller_with_larger_pages(device: Device, controller: NvmeController) -> None:
    controller.capabilities = Capabilities(least_page=14)
    controller.reset()
    with device.space.buffer(4096), Nvme(device, queues=2) as disk:
        assert disk.work.page == 1 << 14
        for queue in disk.work.queues:
            assert queue.submission_address % disk.work.page == queue.completion_address % disk.work.page == 0
        data = os.urandom(200 << 9)
        disk.write(3, data)
        assert disk.read(3, 200) == data


def test_a_command_that_comes_before_its_abort(device: Device, controller: NvmeController) -> None:
    put_off: list[Callable[[], None]] = []
    with Nvme(device, timeout=0.1) as disk:
        controller._schedule = lambda delay, work: put_off.append(work)
        ring = disk.work.collect

        def late(vector: int = -1) -> None:
            ring(vector)
            if len(put_off) > 1:  # the abort was sent, too
                controller._schedule = None
                while put_off:
                    put_off.pop(0)()
                ring(vector)

        disk.work.collect = late  # type: ignore[method-assign]
        assert disk.read(0, 1) == bytes(512)
        assert disk.read(1, 1) == bytes(512)


def test_arguments(device: Device) -> None:
    for words in ({"interrupts": "morse"}, {"depth": 0}, {"queues": 0}):
        with pytest.raises(Misuse):
            Nvme(device, **words)
    with pytest.raises(Misuse, match="registers are accessed by"), Nvme(device, access="ioctl"):
        pass
    with pytest.raises(NotAvailable, match="has no msi"), Nvme(device, interrupts="msi"):
        pass
    assert device.space.mappings() == []
    with Nvme(device, transfer=5000) as disk:
        assert disk.transfer == 4096
        with pytest.raises(Misuse, match="one command reads 1 to 8 blocks here, not 9"):
            disk.read_many([(0, 9)])
        with pytest.raises(Misuse, match="brings or gives up to 4096 bytes"):
            disk.io(Command(2, nsid=1), count=4097)
        with pytest.raises(Misuse, match="gives up to 4096 bytes here, not 4097"):
            disk.admin(Command(AdminOpcode.IDENTIFY), data=4097)


def test_no_descriptor_is_left(host: pyvfio.Host) -> None:
    with pyvfio.open_device(host, ADDRESS) as device, Nvme(device) as disk:
        disk.read(0, 1)
    before = descriptors()
    for _ in range(3):
        with pyvfio.open_device(host, ADDRESS) as device:
            with Nvme(device, queues=3) as disk:
                disk.write(0, bytes(512))
            with pytest.raises(NotAvailable), Nvme(device, access="mmap"):
                pass
    assert descriptors() == before
