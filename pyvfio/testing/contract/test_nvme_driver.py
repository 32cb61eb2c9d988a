"""The library's NVMe driver: what the controller is, blocks both ways, its errors, and what it leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from pyvfio.abi import pci_regs as regs
from pyvfio.drivers import AsyncNvme, Nvme, NvmeError, Recovery
from pyvfio.errors import Misuse, NotAvailable, Timeout
from pyvfio.host import Host
from pyvfio.ioda.status import host_status
from pyvfio.nvme.commands import AdminOpcode, Command, IoOpcode
from pyvfio.nvme.status import Status
from pyvfio.vfio import Device

KINDS = ("msix", "intx", "poll")


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def block(disk: Nvme | AsyncNvme) -> int:
    return 1 << disk.namespaces[1].order


def test_it_says_what_it_is(nvme_device: Device) -> None:
    with Nvme(nvme_device) as disk:
        assert disk.identity.serial
        assert disk.identity.model
        assert disk.identity.version >= 0x10300
        assert list(disk.namespaces) == [1]
        assert disk.namespaces[1].blocks * block(disk) >= 1 << 20
        assert disk.transfer % nvme_device.space.granule == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("access", ["auto", "pread"])
def test_each_kind_of_interrupt(nvme_device: Device, kind: str, access: str) -> None:
    with Nvme(nvme_device, interrupts=kind, access=access) as disk:
        assert disk.interrupts == kind
        for seed in range(40):  # more than the queue has entries, so that it goes round
            data = content(2 * block(disk), seed)
            disk.write(seed, data)
            assert disk.read(seed, 2) == data


@pytest.mark.parametrize(("first", "count"), [(0, 1), (7, 8), (1, 9), (3, 17), (8, 257), (0, 2048)])
def test_blocks_both_ways(nvme_device: Device, first: int, count: int) -> None:
    """One page, two, a list of pages, and several commands."""
    with Nvme(nvme_device) as disk:
        data = content(count * block(disk), count)
        done: list[int] = []
        disk.write(first, data, progress=done.append)
        assert sum(done) == count
        disk.flush()
        assert disk.read(first, count) == data
    with Nvme(nvme_device) as disk:
        assert disk.read(first, count) == data


@pytest.mark.parametrize("depth", [1, 2, 64])
def test_queues_of_each_depth(nvme_device: Device, depth: int) -> None:
    with Nvme(nvme_device, depth=depth, queues=2, transfer=nvme_device.space.granule) as disk:
        data = content(1 << 18, depth)
        disk.write(0, data)
        assert disk.read(0, len(data) // block(disk)) == data


def test_many_places_at_once(nvme_device: Device) -> None:
    with Nvme(nvme_device) as disk:
        data = content(1 << 18)
        disk.write(0, data)
        size, generator = block(disk), random.Random(2)
        places = [(generator.randrange(0, 500), generator.randrange(1, 9)) for _ in range(200)]
        assert disk.read_many(places) == [data[lba * size : (lba + count) * size] for lba, count in places]


def test_zeroes_and_deallocation(nvme_device: Device) -> None:
    with Nvme(nvme_device) as disk:
        data = content(16 * block(disk))
        disk.write(0, data)
        disk.write_zeroes(4, 8)
        assert disk.read(0, 16) == data[: 4 * block(disk)] + bytes(8 * block(disk)) + data[12 * block(disk) :]
        disk.deallocate([(0, 2), (14, 2)])
        assert disk.read(2, 2) == data[2 * block(disk) : 4 * block(disk)]
        assert disk.read(12, 2) == data[12 * block(disk) : 14 * block(disk)]


def test_blocks_that_are_not_there(nvme_device: Device) -> None:
    with Nvme(nvme_device) as disk:
        blocks = disk.namespaces[1].blocks
        for first, count in ((-1, 1), (blocks, 1), (blocks - 1, 2), (0, -1)):
            with pytest.raises(Misuse, match="the namespace has 0 to"):
                disk.read(first, count)
        with pytest.raises(Misuse, match="not whole blocks"):
            disk.write(0, b"short")
        with pytest.raises(Misuse, match="no namespace 7; there is 1"):
            disk.read(0, 1, nsid=7)


def failing(disk: Nvme, command: Command, count: int = 0) -> NvmeError:
    with pytest.raises(NvmeError) as caught:
        disk.io(command, count=count)
    return caught.value


def test_what_the_controller_refuses(nvme_device: Device) -> None:
    with Nvme(nvme_device) as disk:
        error = failing(disk, Command(IoOpcode.READ, nsid=1, cdw11=1 << 16), count=block(disk))
        assert (error.status, error.status_type, error.code) == (Status.LBA_OUT_OF_RANGE, 0, 0x80)
        assert error.final
        assert "LBA out of range (generic status 0x080); it would fail again" in str(error)
        assert "read of 1 blocks from 281474976710656 on of namespace 0x1" in str(error)
        assert error.as_dict()["status"] == "LBA out of range"
        assert failing(disk, Command(0x7F, nsid=1)).status == Status.INVALID_OPCODE
        assert failing(disk, Command(IoOpcode.FLUSH, nsid=0xFFFFFFF0)).status == Status.INVALID_NAMESPACE
        with pytest.raises(NvmeError, match="command specific") as caught:
            disk.admin(Command(AdminOpcode.DELETE_SQ, cdw10=60))
        assert caught.value.status == Status.INVALID_QUEUE_ID
        assert disk.read(0, 1)


def test_a_command_that_does_not_end_is_aborted(nvme_device: Device) -> None:
    with Nvme(nvme_device) as disk:
        with pytest.raises(Timeout, match=r"longer than 0.2 s"):
            disk.admin(Command(AdminOpcode.ASYNC_EVENT), timeout=0.2)
        assert disk.read(0, 1)
    assert nvme_device.space.mappings() == []


def test_the_health_log_counts(nvme_device: Device) -> None:
    with Nvme(nvme_device) as disk:
        before = disk.health()
        disk.read_many([(0, 1)] * 5)
        after = disk.health()
        assert after.reads == before.reads + 5
        assert 200 < after.temperature < 400
        assert isinstance(disk.errors(), list)


def test_many_tasks_at_once(nvme_device: Device) -> None:
    async def use() -> None:
        async with AsyncNvme(nvme_device, depth=8) as disk:
            size = block(disk)
            pieces = [content(4 * size, seed) for seed in range(100)]
            await asyncio.gather(*(disk.write(4 * number, data) for number, data in enumerate(pieces)))
            await disk.flush()
            assert await asyncio.gather(*(disk.read(4 * number, 4) for number in range(100))) == pieces
            with pytest.raises(Misuse, match="no namespace 2"):
                await disk.read(0, 1, nsid=2)
            assert await disk.read_many([(4, 4), (0, 4)]) == [pieces[1], pieces[0]]

    asyncio.run(use())
    assert nvme_device.space.mappings() == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancelled_task_leaves_the_others_alone(nvme_device: Device, kind: str) -> None:
    async def use() -> None:
        async with AsyncNvme(nvme_device, interrupts=kind) as disk:
            data = content(512 * block(disk))
            await disk.write(0, data)
            tasks = [asyncio.create_task(disk.read(0, 512)) for _ in range(4)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            tasks[2].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert [results[0], results[3]] == [data, data]
            assert await disk.read(0, 512) == data

    asyncio.run(use())
    assert nvme_device.space.mappings() == []


def test_nothing_is_left(nvme_device: Device) -> None:
    disk = Nvme(nvme_device)
    with pytest.raises(Misuse, match="not started"):
        _ = disk.identity
    with disk:
        assert nvme_device.config.command & regs.Command.MASTER
    assert not nvme_device.config.command & regs.Command.MASTER
    assert nvme_device.space.mappings() == []
    assert not any(irq.enabled for irq in nvme_device.irqs())
    with pytest.raises(Misuse, match="was closed"):
        disk.read(0, 1)
    disk.close()
    with disk:
        assert len(disk.read(0, 1)) == block(disk)


@pytest.fixture
def recovery(express_host: Host, nvme_device: Device) -> Iterator[Recovery | None]:
    """The recovery of the controller's endpoint, where there is EEH."""
    eeh = host_status(express_host.sysfs)
    if eeh is None or not eeh.enabled:
        yield None
        return
    with Recovery(nvme_device) as found:
        yield found


def test_a_queue_that_cannot_be_reached_ends_with_words(nvme_device: Device, recovery: Recovery | None) -> None:
    """The controller fails (CSTS, fatal) when it cannot fetch a command: the driver says so and starts again.

    A host bridge of POWER stops its endpoint besides (QEMU's does not), which is let go before that.
    """
    with Nvme(nvme_device, timeout=3) as disk:
        queue = disk.work.queues[1]
        mapping = nvme_device.space.mapping_at(queue.submission_address)
        assert mapping is not None
        nvme_device.space.unmap(mapping.iova, mapping.length)
        with pytest.raises((NotAvailable, Timeout)):
            disk.read(0, 1)
    if recovery is not None and recovery.frozen:
        recovery.run("a command could not be fetched")
    with Nvme(nvme_device) as disk:
        assert disk.read(0, 1)
