"""The NVMe driver through freezes of its endpoint: what was acknowledged is there, and nothing is done that was not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest
from spapr_nvme import BLOCKS, ORDER, NvmeLab, polled

from pyvfio.drivers import AsyncNvme, Nvme
from pyvfio.drivers.freeze import Stage
from pyvfio.drivers.nvme import NvmeInterrupted
from pyvfio.drivers.recovery import EndpointFailed, Recovery
from pyvfio.errors import Misuse, NotAvailable
from pyvfio.nvme.commands import AdminOpcode, Command
from pyvfio.vfio.device import Device

SIZE = 1 << ORDER


@pytest.fixture
def rig() -> Iterator[tuple[NvmeLab, Device]]:
    with polled() as found:
        yield found


def test_without_a_freeze(rig: tuple[NvmeLab, Device]) -> None:
    lab, device = rig
    with Recovery(device) as recovery, Nvme(device, recovery=recovery) as disk:
        disk.write(3, b"a" * SIZE)
        assert disk.read(3) == b"a" * SIZE
        assert recovery.history == []
    assert lab.storage.read(3 * SIZE, SIZE) == b"a" * SIZE


@pytest.mark.parametrize("kind", ["dma", "mmio", "config"])
@pytest.mark.parametrize("after", [0, 1, 2, 5, 9])
def test_a_freeze_in_the_midst(rig: tuple[NvmeLab, Device], kind: str, after: int) -> None:
    lab, device = rig
    data = random.Random(after).randbytes(64 * SIZE)
    with Recovery(device) as recovery, Nvme(device, recovery=recovery, transfer=4096) as disk:
        lab.countdown[kind] = after
        while not lab.freezes:
            disk.write(100, data)
            disk.flush()
            _ = device.config.vendor_id
        assert disk.read(100, 64) == data
        assert recovery.history
        assert {one.stage for one in recovery.history} == {Stage.RESUMED}


def test_a_freeze_during_the_start(rig: tuple[NvmeLab, Device]) -> None:
    lab, device = rig
    with Recovery(device, most=50) as recovery:
        for after in (0, 3, 8, 12, 30):
            lab.countdown["mmio"] = after
            with Nvme(device, recovery=recovery) as disk:
                disk.write(0, bytes(SIZE))
        assert len(recovery.history) >= 4


def test_somebody_else_recovers(rig: tuple[NvmeLab, Device]) -> None:
    """The endpoint was reset, but not by this driver: it begins anew all the same."""
    lab, device = rig
    with Recovery(device) as recovery, Nvme(device, recovery=recovery, timeout=5) as disk:
        disk.write(0, b"a" * SIZE)
        lab.freeze()
        recovery.run()
        assert disk.read(0) == b"a" * SIZE
        recovery.run("on purpose")
        disk.write(1, b"b" * SIZE)
        assert disk.read(0, 2) == b"a" * SIZE + b"b" * SIZE
        assert len(recovery.history) == 2


def test_a_driver_without_recovery(rig: tuple[NvmeLab, Device]) -> None:
    lab, device = rig
    with Nvme(device, timeout=0.2) as disk:
        lab.freeze()
        with pytest.raises(NotAvailable, match="registers read as ones"):
            disk.read(0)


def test_given_up(rig: tuple[NvmeLab, Device]) -> None:
    lab, device = rig
    with Recovery(device, most=1) as recovery, Nvme(device, recovery=recovery) as disk:
        lab.freeze()
        disk.write(0, bytes(SIZE))
        lab.freeze()
        with pytest.raises(EndpointFailed):
            disk.write(0, bytes(SIZE))
        with pytest.raises(Misuse, match="lost after a freeze"):
            disk.read(0)


def test_commands_that_are_not_sent_again(rig: tuple[NvmeLab, Device]) -> None:
    """Whatever is not known to be harmless twice is not done twice."""
    lab, device = rig
    with Recovery(device) as recovery, Nvme(device, recovery=recovery) as disk:
        lab.freeze()
        with pytest.raises(NvmeInterrupted, match="may have been done or not"):
            disk.admin(Command(AdminOpcode.SET_FEATURES, cdw10=4, cdw11=300))
        lab.freeze()
        assert disk.health()
        lab.freeze()
        with pytest.raises(NvmeInterrupted):
            disk.io(Command(0x81, nsid=1))


def test_writes_of_the_same_blocks(rig: tuple[NvmeLab, Device]) -> None:
    """Two at once of the same blocks: either could undo the other, so both end with an error; a third one is done."""
    lab, device = rig

    async def main() -> list[object]:
        with Recovery(device) as recovery:
            async with AsyncNvme(device, recovery=recovery) as disk:
                lab.freeze()
                return list(
                    await asyncio.gather(
                        disk.write(5, b"1" * 2 * SIZE),
                        disk.write(6, b"2" * SIZE),
                        disk.write(7, b"3" * SIZE),
                        disk.read(5),
                        return_exceptions=True,
                    )
                )

    one, two, three, read = asyncio.run(main())
    assert [type(one), type(two), three] == [NvmeInterrupted, NvmeInterrupted, None]
    assert read == bytes(SIZE)
    assert lab.storage.read(5 * SIZE, 3 * SIZE) == bytes(2 * SIZE) + b"3" * SIZE


def test_a_caller_that_gave_up(rig: tuple[NvmeLab, Device]) -> None:
    """Who is cancelled while it recovers leaves it to the next one."""
    lab, device = rig

    async def main() -> tuple[bytes, int]:
        with Recovery(device) as recovery:
            async with AsyncNvme(device, recovery=recovery) as disk:
                await disk.write(1, b"x" * SIZE)
                for pause in (0.0, 0.05, 0.06, 0.08):
                    lab.freeze()
                    task = asyncio.create_task(disk.read(1))
                    await asyncio.sleep(pause)
                    task.cancel()
                    assert await disk.read(1) == b"x" * SIZE
                return await disk.read(1), len(recovery.history)

    data, freezes = asyncio.run(main())
    assert (data, freezes) == (b"x" * SIZE, 4)


@pytest.mark.parametrize("seed", range(3))
def test_random_freezes_with_32_in_flight(rig: tuple[NvmeLab, Device], seed: int) -> None:
    """Every block that is read is what the last acknowledged write put there, at any time and at the end."""
    lab, device = rig
    chance = random.Random(seed)
    model: dict[int, bytes] = {}

    async def write(disk: AsyncNvme, lba: int, count: int) -> None:
        data = chance.randbytes(count * SIZE)
        await disk.write(lba, data)
        for at in range(count):
            model[lba + at] = data[at * SIZE : (at + 1) * SIZE]

    async def read(disk: AsyncNvme, lba: int, count: int) -> None:
        wanted = b"".join(model.get(lba + at, bytes(SIZE)) for at in range(count))
        assert await disk.read(lba, count) == wanted

    async def main() -> int:
        with Recovery(device, most=1000) as recovery:
            async with AsyncNvme(device, recovery=recovery, queues=2, depth=32, transfer=4096) as disk:
                disk.look_every = 0.005
                for _ in range(12):
                    places = chance.sample(range(0, BLOCKS, 16), 32)
                    lab.countdown[chance.choice(["dma", "mmio", "config"])] = chance.randrange(200)
                    jobs = [chance.choice([write, write, read])(disk, lba, chance.randint(1, 16)) for lba in places]
                    await asyncio.gather(*jobs)
                for lba, data in model.items():
                    assert lab.storage.read(lba * SIZE, SIZE) == data
                await asyncio.gather(*(read(disk, lba, 16) for lba in range(0, BLOCKS, 16)))
            return len(recovery.history)

    freezes = asyncio.run(main())
    assert freezes >= 4


def test_the_recovery_of_another_device(rig: tuple[NvmeLab, Device]) -> None:
    _, device = rig
    with polled() as (_, other), Recovery(other) as recovery, pytest.raises(Misuse, match="not of this device"):
        Nvme(device, recovery=recovery)
