"""The library's driver for edu: what it is, factorials, DMA both ways, and interrupts of each kind."""

from __future__ import annotations

import asyncio
import math

import pytest

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.drivers import AsyncEdu, Edu, Nvme
from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio.pci.edu import BUFFER_SIZE, DMA_MASK
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device

KINDS = ("msi", "intx", "poll")


def test_it_says_what_it_is(edu_device: Device) -> None:
    with Edu(edu_device) as edu:
        assert str(edu.identity) == "edu 1.0"
        assert edu.alive()


@pytest.mark.parametrize("number", [0, 1, 5, 12, 13, 33, 34, 1000])
def test_factorials_of_32_bits(edu_device: Device, number: int) -> None:
    with Edu(edu_device) as edu:
        assert edu.factorial(number) == math.factorial(number) % (1 << 32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("access", ["auto", "pread"])
def test_each_kind_of_interrupt(edu_device: Device, kind: str, access: str) -> None:
    with Edu(edu_device, interrupts=kind, access=access) as edu:
        assert edu.interrupts == kind
        assert [edu.factorial(number) for number in (5, 6)] == [120, 720]
        assert [edu.interrupt(bits) for bits in (0x2, 0x80000000, 0x2)] == [0x2, 0x80000000, 0x2]
        edu.put(b"by interrupt")
        assert edu.get(12) == b"by interrupt"


@pytest.mark.parametrize(("offset", "count"), [(0, 1), (0, BUFFER_SIZE), (1, 17), (BUFFER_SIZE - 1, 1), (0x800, 0x800)])
def test_dma_both_ways(edu_device: Device, offset: int, count: int) -> None:
    data = bytes(at * 7 + 1 & 0xFF for at in range(count))
    with Edu(edu_device, interrupts="poll") as edu:
        edu.put(data, offset)
        assert edu.get(count, offset) == data


def test_dma_of_memory_of_ones_own(edu_device: Device) -> None:
    with edu_device.space.buffer(2 * BUFFER_SIZE, below=DMA_MASK + 1) as memory, Edu(edu_device) as edu:
        memory.view[:6] = b"source"
        edu.transfer(memory.iova, 6, 32, out=False)
        edu.transfer(memory.iova + BUFFER_SIZE, 6, 32, out=True)
        assert bytes(memory.view[BUFFER_SIZE : BUFFER_SIZE + 6]) == b"source"


def test_addresses_beyond_28_bits_are_refused(edu_device: Device) -> None:
    with Edu(edu_device) as edu:
        assert edu_device.space.mappings()[0].iova <= DMA_MASK
        for iova, count in ((DMA_MASK + 1, 1), (DMA_MASK, 2)):
            with pytest.raises(Misuse, match="reaches addresses up to 0xfffffff"):
                edu.transfer(iova, count, out=True)


@pytest.mark.parametrize(("offset", "count"), [(0, BUFFER_SIZE + 1), (BUFFER_SIZE, 1), (-1, 1), (0, 0)])
def test_what_is_not_in_the_buffer_is_refused(edu_device: Device, offset: int, count: int) -> None:
    with Edu(edu_device) as edu, pytest.raises(Misuse, match="not within the buffer"):
        edu.get(count, offset)


def test_dma_to_an_address_that_is_not_mapped_reaches_nothing(edu_device: Device) -> None:
    with edu_device.space.buffer(BUFFER_SIZE, below=DMA_MASK + 1) as memory:
        gone = memory.iova
    with Edu(edu_device) as edu:
        edu.put(b"kept", 0)
        if edu_device.space.mapping_at(gone) is None:
            edu.transfer(gone, 4, out=True)
        edu.transfer(DMA_MASK - BUFFER_SIZE + 1, 4, out=True)
        assert edu.get(4) == b"kept"
        assert edu.factorial(6) == 720


def test_with_asyncio(edu_device: Device) -> None:
    async def use() -> None:
        async with AsyncEdu(edu_device) as edu:
            assert edu.alive()
            assert await edu.factorial(10) == math.factorial(10)
            assert await edu.interrupt(4) == 4
            await edu.put(b"later", 5)
            assert await edu.get(5, 5) == b"later"

    asyncio.run(use())


def test_nothing_is_left(edu_device: Device) -> None:
    with Edu(edu_device) as edu:
        assert edu_device.config.command & regs.Command.MASTER
        assert edu.factorial(3) == 6
    assert not edu_device.config.command & regs.Command.MASTER
    assert edu_device.space.mappings() == []
    assert not any(irq.enabled for irq in edu_device.irqs())
    with pytest.raises(Misuse, match="not started"):
        edu.factorial(3)
    edu.close()
    with edu:
        assert edu.factorial(4) == 24


def test_it_drives_nothing_else(express_host: Host, nvme_function: BoundFunction, edu_device: Device) -> None:
    with pyvfio.open_device(express_host, nvme_function.address) as other:
        with pytest.raises(Misuse, match="no edu"), Edu(other):
            pass
        assert other.space.mappings() == []
    with pytest.raises(Misuse, match="no NVMe controller"), Nvme(edu_device):
        pass
    assert edu_device.space.mappings() == []
