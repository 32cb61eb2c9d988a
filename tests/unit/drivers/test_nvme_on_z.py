"""The NVMe driver on a PCI function of IBM Z, whose registers are reached by PCI instructions: the same code."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

import pyvfio
from pyvfio.drivers import AsyncNvme, Nvme, NvmeError
from pyvfio.errors import NotAvailable
from pyvfio.nvme.commands import Command, IoOpcode
from pyvfio.nvme.status import Status
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device

ADDRESS = "4000:00:00.0"


@pytest.fixture(params=["group", "iommufd"])
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    with (
        pyvfio.Host("software", machine="z17-pci") as host,
        BoundFunction(host.backend, ADDRESS),
        pyvfio.open_device(host, ADDRESS, way=request.param) as opened,
    ):
        yield opened


@pytest.mark.parametrize("kind", ["auto", "poll"])
def test_blocks_both_ways(device: Device, kind: str) -> None:
    with Nvme(device, interrupts=kind) as disk:
        assert disk.interrupts == ("msix" if kind == "auto" else "poll")
        assert disk.access == "pread"
        assert disk.identity.serial == "00004000"
        data = random.Random(1).randbytes(300 << 10)
        disk.write(5, data)
        disk.flush()
        assert disk.read(5, 600) == data
        disk.write_zeroes(5, 8)
        assert disk.read(4, 10) == bytes(9 * 512) + data[8 * 512 : 9 * 512]
    assert device.space.mappings() == []


def test_what_the_controller_refuses(device: Device) -> None:
    with Nvme(device) as disk:
        with pytest.raises(NvmeError) as caught:
            disk.io(Command(IoOpcode.READ, nsid=9), count=512)
        assert caught.value.status == Status.INVALID_NAMESPACE
        assert disk.read(0, 1) == bytes(512)


def test_there_is_no_pin(device: Device) -> None:
    with pytest.raises(NotAvailable, match="has no intx"), Nvme(device, interrupts="intx"):
        pass


def test_with_asyncio(device: Device) -> None:
    async def use() -> None:
        async with AsyncNvme(device) as disk:
            await asyncio.gather(*(disk.write(n, bytes([n]) * 512) for n in range(64)))
            assert await asyncio.gather(*(disk.read(n) for n in range(64))) == [bytes([n]) * 512 for n in range(64)]

    asyncio.run(use())
