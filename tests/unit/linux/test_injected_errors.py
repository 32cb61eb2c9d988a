"""Errors that ``VFIO_EEH_PE_INJECT_ERR`` asks for, with type, function, address and mask: what they strike.

Source: ``phb3_err_inject`` in ``hw/phb3.c``, ``phb4_err_inject`` in ``hw/phb4.c`` of skiboot; ``pnv_eeh_err_inject`` of
Linux 6.12.  The bridge of the edu and of the NVMe is a PHB3, which makes errors of memory, configuration space and DMA.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from pnv_fixture import Pnv, power_spec

import pyvfio
from pyvfio.abi.eeh import EehErrorFunction, EehErrorType
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.address import PciAddress
from pyvfio.drivers import AsyncNvme, Recovery
from pyvfio.drivers.freeze import Stage
from pyvfio.errors import KernelRefused, Misuse, NotAvailable
from pyvfio.ioda import Pe
from pyvfio.ioda.injection import Place, in_config, in_dma, in_memory, needed_type, parse_place, strikes
from pyvfio.ioda.pest import Cause, Transfer
from pyvfio.iommu.spapr import SpaprTable
from pyvfio.pci import edu as registers
from pyvfio.vfio import Device

DISK, EDU = "0000:01:00.0", "0001:01:00.0"
IDENTITY = 0x010000ED
ONES = 0xFFFFFFFF
LIVENESS = 0x04
ALL = (1 << 64) - 1
F = EehErrorFunction


class Rig(Pnv):
    """The machine power9-phb4, two bridges of which are a PHB3; `edu` and its endpoint are open."""

    def __init__(self, model: str = "PHB3") -> None:
        spec = power_spec("power9-phb4")
        phbs = [dataclasses.replace(one, model=model) if one.segment < 2 else one for one in spec.pcie_phbs]
        super().__init__("power9-phb4", pcie_phbs=phbs)
        self.stack = ExitStack()
        self.stack.enter_context(self.host)
        self.opened = self.stack.enter_context(pyvfio.Host(self.host))
        pyvfio.bind(self.opened.device(EDU))
        self.edu: Device = self.stack.enter_context(pyvfio.open_device(self.opened, EDU))
        self.edu.config.write_u16(4, 6)
        self.endpoint = self.stack.enter_context(Pe(self.edu))
        self.of_edu = self.opened.function(EDU)

    def inject(self, function: EehErrorFunction, place: Place) -> None:
        self.endpoint.inject(function, **place._asdict())

    def struck(self) -> tuple[Transfer, Cause] | None:
        """What froze the edu, once; it is as before then."""
        if self.endpoint.state is EehState.NORMAL:
            return None
        phb = self.phb(1)
        entry = phb.endpoints.log[-1][1]
        assert phb.endpoints.frozen == {self.pe(EDU).number}
        self.endpoint.unfreeze_io()
        self.endpoint.unfreeze_dma()
        return entry.transfer, entry.causes

    def load(self, offset: int) -> int:
        return self.edu.bar(0).read_u32(offset)


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    with rig.stack:
        yield rig


def test_a_load_of_one_register(rig: Rig) -> None:
    """The address is the processor's: of four bytes of base address 0, no other load, and no store."""
    place = in_memory(rig.of_edu, 0, LIVENESS)
    assert place == (EehErrorType.BITS_32, rig.device(EDU).resources[0].start + LIVENESS, ALL & -4)
    rig.inject(F.LD_MEM_DATA, place)
    assert rig.load(0) == IDENTITY
    rig.edu.bar(0).write_u32(LIVENESS, 1)
    assert rig.struck() is None
    assert rig.load(LIVENESS) == ONES
    assert rig.struck() == (Transfer.LOAD, Cause.MMIO | Cause.PARITY)
    assert rig.load(LIVENESS) == ~1 & ONES  # it strikes once, and the store before it was done


def test_a_store_into_a_page(rig: Rig) -> None:
    rig.inject(F.ST_MEM_ADDR, in_memory(rig.of_edu, 0, 0, 0x80))
    rig.edu.bar(0).write_u32(registers.COUNT, 5)
    assert rig.struck() is None
    rig.edu.bar(0).write_u32(LIVENESS, 7)
    assert rig.struck() == (Transfer.STORE, Cause.MMIO | Cause.UNSUPPORTED_REQUEST)
    assert rig.load(LIVENESS) != ~7 & ONES


def test_one_register_of_configuration_space(rig: Rig) -> None:
    place = in_config(PciAddress.parse(EDU), 0x0C)
    assert place == (EehErrorType.BITS_32, 0x100 << 44 | 0x0C << 32, 0xFFFF << 44 | 0xFFC << 32)
    rig.inject(F.LD_CFG_ADDR, place)
    assert rig.edu.config.read_u8(0x3C) != 0xFF
    assert rig.struck() is None
    assert rig.edu.config.read_u8(0x0C) == 0xFF
    assert rig.struck() == (Transfer.LOAD, Cause.CONFIG_READ | Cause.UNSUPPORTED_REQUEST)
    rig.inject(F.ST_CFG_DATA, in_config(PciAddress.parse(EDU)))
    rig.edu.config.write_u8(0x0C, 0x10)
    assert rig.struck() == (Transfer.STORE, Cause.CONFIG_WRITE | Cause.PARITY)


@pytest.mark.parametrize("window", [0, 1])
def test_dma_of_one_page(rig: Rig, window: int) -> None:
    """In the first window with type 32, in the second with type 64."""
    table = rig.edu.space.table
    assert isinstance(table, SpaprTable)
    start = table.add_window(1 << 30).start if window else 0x100000
    device, phb = rig.hardware(EDU), rig.phb(1)
    with rig.edu.space.buffer(0x20000, iova=start) as memory:
        place = in_dma(start + 0x3000)
        assert place == (EehErrorType(window), start + 0x3000, ALL & -0x1000)
        rig.inject(F.DMA_WR_TARGET, place)
        device.dma_write(start + 0x4000, b"fine")
        assert device.dma_read(start + 0x3000, 4) == bytes(4)
        assert phb.injector.armed is not None
        device.dma_write(start + 0x2FFE, b"lost")
        assert rig.struck() == (Transfer.DMA_WRITE, Cause.COMPLETER_ABORT)
        assert bytes(memory.view[0x2FFE:0x3002]) == b"lo\0\0"  # no request crosses a multiple of 4 KiB
        device.dma_write(start + 0x2FFE, b"good")
        assert bytes(memory.view[0x2FFE:0x3002]) == b"good"


def test_an_address_that_is_not_the_endpoint_s_is_any(rig: Rig) -> None:
    """That of the bus is such a one; and without an address the mask does not count."""
    on_bus = rig.edu.config.read_u32(0x10) & ~0xF
    for address, mask in ((on_bus + LIVENESS, 0xFFFFFFFC), (0, 0), (0, 0xFFFFFFFF)):
        rig.endpoint.inject(F.LD_MEM_ADDR, address=address, mask=mask)
        assert rig.load(0) == ONES
        assert rig.struck() is not None


def test_the_type_is_looked_up(rig: Rig) -> None:
    """Both windows have addresses of more than 32 bits; that of the disk is in the one for 32 bits of the bus."""
    start = rig.device(EDU).resources[0].start
    assert needed_type(rig.of_edu, F.LD_MEM_ADDR, start + 8) is EehErrorType.BITS_32
    assert needed_type(None, F.LD_MEM_ADDR, start + 8) is EehErrorType.BITS_64
    assert needed_type(rig.of_edu, F.DMA_RD_ADDR, 1 << 59) is EehErrorType.BITS_64
    assert needed_type(rig.of_edu, F.DMA_RD_ADDR, 0x80000000) is EehErrorType.BITS_32
    rig.endpoint.inject(F.LD_MEM_ADDR, address=start + LIVENESS, mask=ALL & -4)
    assert (rig.load(0), rig.struck()) == (IDENTITY, None)
    assert rig.load(LIVENESS) == ONES


def test_another_error_takes_the_place(rig: Rig) -> None:
    """``PHB_PAPR_ERR_INJ_CTL`` is one register, and cleared by whoever asks next."""
    rig.endpoint.inject(F.LD_MEM_ADDR)
    rig.endpoint.inject(F.ST_MEM_ADDR)
    assert rig.load(0) == IDENTITY
    with pytest.raises(KernelRefused):
        rig.endpoint.inject(F.LD_IO_ADDR)
    rig.edu.bar(0).write_u32(LIVENESS, 7)
    assert rig.struck() is None


@pytest.mark.parametrize("model", ["PHB3", "PHB4 (small)"])
@pytest.mark.parametrize("type_", EehErrorType)
def test_what_is_taken(model: str, type_: EehErrorType) -> None:
    """PHB4 makes errors of configuration space; neither of I/O; of a DMA window that is not there none is made."""
    rig = Rig(model)
    with rig.stack, rig.edu.space.buffer(0x1000):  # the first window comes with the first mapping
        taken = set()
        for function in F:
            try:
                rig.endpoint.inject(function, type=type_)
            except KernelRefused:
                continue
            taken.add(strikes(function))
        old = {"config", "memory"} | ({"dma"} if type_ is EehErrorType.BITS_32 else set())
        assert taken == (old if model == "PHB3" else {"config"})


@pytest.mark.parametrize(
    ("function", "text", "error"),
    [
        (F.LD_MEM_ADDR, "bar0:0x100000", Misuse),
        (F.LD_MEM_ADDR, "bar0:0x3", Misuse),
        (F.LD_MEM_ADDR, "bar1:0", NotAvailable),
        (F.LD_MEM_ADDR, "config:0", Misuse),
        (F.LD_CFG_ADDR, "config:0x1000", Misuse),
        (F.LD_CFG_ADDR, "config:", Misuse),
        (F.LD_CFG_ADDR, "register:4", Misuse),
        (F.DMA_RD_ADDR, "bar0:0", Misuse),
        (F.DMA_RD_ADDR, "dma:-1", Misuse),
        (F.DMA_RD_ADDR, "dma:0x10000000000000000", Misuse),
        (F.LD_IO_ADDR, "bar0:0", Misuse),
    ],
)
def test_no_such_place(rig: Rig, function: EehErrorFunction, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_place(rig.of_edu, function, text)
    for bad in (lambda: in_dma(0x1234), lambda: in_dma(0, 3), lambda: in_memory(rig.of_edu, 0, 0, 12)):
        with pytest.raises(Misuse):
            bad()


def test_places_in_words(rig: Rig) -> None:
    edu = rig.of_edu
    assert parse_place(edu, F.LD_CFG_ADDR, "config:0x44") == in_config(PciAddress.parse(EDU), 0x44)
    assert parse_place(edu, F.ST_MEM_DATA, "bar0:8") == in_memory(edu, 0, 8)
    assert parse_place(edu, F.DMA_WR_ADDR, "dma:0x10000") == in_dma(0x10000, 0x10000)
    assert parse_place(edu, F.DMA_WR_ADDR, "dma:0") == in_dma(0, 0x1000)


@pytest.mark.parametrize("seed", range(2))
def test_a_disk_outlives_errors_in_the_midst_of_its_work(seed: int) -> None:
    """Loads, stores and DMA of an NVMe are struck as VFIO is asked; every block is what an acknowledged write made."""
    chance, size, blocks = random.Random(seed), 512, 4096
    model: dict[int, bytes] = {}
    functions = [F.LD_MEM_DATA, F.ST_MEM_ADDR, F.DMA_RD_ADDR, F.DMA_RD_DATA, F.DMA_WR_ADDR, F.DMA_WR_MASTER]
    rig = Rig()
    with rig.stack:
        pyvfio.bind(rig.opened.device(DISK))
        device = rig.stack.enter_context(pyvfio.open_device(rig.opened, DISK))
        endpoints = rig.phb(0).endpoints

        async def write(disk: AsyncNvme, lba: int, count: int) -> None:
            data = chance.randbytes(count * size)
            await disk.write(lba, data)
            model.update({lba + at: data[at * size : (at + 1) * size] for at in range(count)})

        async def read(disk: AsyncNvme, lba: int, count: int) -> None:
            wanted = b"".join(model.get(lba + at, bytes(size)) for at in range(count))
            assert await disk.read(lba, count) == wanted

        async def main() -> list[Stage]:
            with Recovery(device, most=1000) as recovery:
                async with AsyncNvme(device, recovery=recovery, depth=32, transfer=65536) as disk:
                    for function in chance.sample(functions, 4):
                        places = chance.sample(range(0, blocks, 256), 12)
                        jobs = [chance.choice([write, write, read])(disk, at, chance.randint(1, 256)) for at in places]
                        tasks = [asyncio.ensure_future(one) for one in jobs]
                        await asyncio.sleep(0)
                        recovery.pe.inject(function)
                        await asyncio.gather(*tasks)
                    await asyncio.gather(*(read(disk, at, 256) for at in range(0, blocks, 256)))
                return [one.stage for one in recovery.history]

        stages = asyncio.run(main())
        assert stages[-1] is Stage.RESUMED
        assert len({entry.transfer for _, entry in endpoints.log}) >= 2
        assert len(stages) >= 3
