"""The NVMe driver on machine power9-phb4 while its endpoint freezes: blocks are what acknowledged writes put there."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from pnv_fixture import Pnv

import pyvfio
from pyvfio.abi.eeh import EehErrorFunction
from pyvfio.abi.vfio_spapr import EehState
from pyvfio.drivers import AsyncNvme, Nvme
from pyvfio.drivers.freeze import Stage
from pyvfio.drivers.recovery import EndpointFailed, Recovery
from pyvfio.ioda import Pe
from pyvfio.ioda.bridge_log import read_bridge_log
from pyvfio.ioda.pest import Cause, PestEntry, Transfer
from pyvfio.ioda.status import asked_by_vfio, read_status
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device

ADDRESS = "0000:01:00.0"
SIZE = 512
KINDS = ("mmio", "dma", "config", "message")


class Freezing:
    """The machine, with errors at a random place: at the n-th load or store, DMA, or message from now on."""

    def __init__(self, lab: Pnv) -> None:
        self.lab, self.phb = lab, lab.phb(0)
        self.endpoint = lab.pe(ADDRESS).number
        self.counts: dict[str, int] = {}
        self.struck: Counter[str] = Counter()
        self._hook("transfer", "mmio", Transfer.STORE)
        self._hook("upstream", "dma", Transfer.DMA_READ)

    def _hook(self, name: str, kind: str, transfer: Transfer) -> None:
        real: Callable[..., object] = getattr(self.phb, name)

        def hooked(*arguments: object) -> object:
            if kind in self.counts:
                self.counts[kind] -= 1
                if self.counts[kind] < 0:
                    del self.counts[kind]
                    self.struck[kind] += 1
                    self.phb.strike(self.endpoint, PestEntry(transfer, Cause.TIMEOUT))
            return real(*arguments)

        setattr(self.phb, name, hooked)

    def config(self, device: Device, recovery: Recovery) -> None:
        """An error of configuration space, made by the host bridge as VFIO asks for it."""
        recovery.pe.inject(EehErrorFunction.LD_CFG_ADDR)
        self.struck["config"] += 1
        _ = device.config.read_u16(0x44)

    def message(self) -> None:
        """A message that is another endpoint's: the vectors are given to the root port's."""
        opal, other = self.lab.opal, self.lab.bridge(0).endpoints.root
        for vector in range(8):
            opal.pci_set_xive_pe(0, other, vector)
        self.struck["message"] += 1

    def mend(self) -> None:
        """The vectors are the device's again."""
        for vector in range(8):
            self.lab.opal.pci_set_xive_pe(0, self.endpoint, vector)


@pytest.fixture
def lab() -> Pnv:
    return Pnv("power9-phb4")


@pytest.fixture
def host(lab: Pnv) -> Iterator[pyvfio.Host]:
    with pyvfio.Host(lab.host) as opened, BoundFunction(opened.backend, ADDRESS):
        yield opened


@pytest.fixture
def device(host: pyvfio.Host) -> Iterator[Device]:
    with pyvfio.open_device(host, ADDRESS) as opened:
        yield opened


@pytest.mark.parametrize("seed", range(2))
def test_32_in_flight(lab: Pnv, device: Device, seed: int) -> None:
    chance, freezing = random.Random(seed), Freezing(lab)
    model: dict[int, bytes] = {}
    ended: Counter[str] = Counter()

    async def write(disk: AsyncNvme, lba: int, count: int) -> None:
        data = chance.randbytes(count * SIZE)
        await disk.write(lba, data)
        ended["write"] += 1
        for at in range(count):
            model[lba + at] = data[at * SIZE : (at + 1) * SIZE]

    async def read(disk: AsyncNvme, lba: int, count: int) -> None:
        wanted = b"".join(model.get(lba + at, bytes(SIZE)) for at in range(count))
        assert await disk.read(lba, count) == wanted
        ended["read"] += 1

    def strike(kind: str, recovery: Recovery) -> None:
        if kind == "config":
            freezing.config(device, recovery)
        elif kind == "message":
            freezing.message()
        else:
            freezing.counts[kind] = chance.randrange(40 if kind == "mmio" else 150)

    def told(freeze: object, stage: Stage) -> None:
        if stage is Stage.RESET:
            freezing.mend()

    async def main() -> list[Stage]:
        with Recovery(device, most=1000, told=told) as recovery:
            async with AsyncNvme(device, recovery=recovery, queues=2, depth=32) as disk:
                assert disk.interrupts == "msix"
                for turn in range(16):
                    places = chance.sample(range(0, 2048, 8), 32)
                    jobs = [chance.choice([write, write, read])(disk, lba, chance.randint(1, 8)) for lba in places]
                    strike(KINDS[turn % len(KINDS)], recovery)
                    await asyncio.gather(*jobs)
                freezing.counts.clear()
                freezing.mend()
                await asyncio.gather(*(read(disk, lba, 8) for lba in range(0, 2048, 8)))
            return [one.stage for one in recovery.history]

    stages = asyncio.run(main())
    assert ended["write"] + ended["read"] == 16 * 32 + 2048 // 8
    assert set(stages) == {Stage.RESUMED}
    assert len(stages) >= 8
    assert all(freezing.struck[kind] for kind in KINDS)


@pytest.mark.parametrize("interrupts", ["msix", "poll"])
def test_one_after_the_other(lab: Pnv, device: Device, interrupts: str) -> None:
    freezing = Freezing(lab)
    with Recovery(device, most=100) as recovery, Nvme(device, recovery=recovery, interrupts=interrupts) as disk:
        for number in range(6):
            freezing.counts["dma" if number % 2 else "mmio"] = number
            data = bytes([number]) * 64 * SIZE
            disk.write(number, data)
            assert disk.read(number, 64) == data
        assert recovery.freezes >= 5
        assert recovery.history[0].functions[0].answers


def test_the_program_is_the_one_who_recovers(lab: Pnv, host: pyvfio.Host) -> None:
    """Linux leaves an endpoint alone that a program has (``eeh_dev_check_failure``, ``eeh_pe_passed``).

    It unfreezes it for the next one.
    """
    with pyvfio.open_device(host, ADDRESS) as device, Pe(device) as pe:
        Freezing(lab).config(device, Recovery(device, pe=pe))
        assert pe.state is EehState.STOPPED
        found = read_status(host.function(ADDRESS))
        assert found is not None
        assert (found.endpoint, found.state) == (lab.pe(ADDRESS).number, EehState.STOPPED)
        pe.unfreeze_io()
        assert pe.state is EehState.STOPPED_DMA
        pe.unfreeze_dma()
        assert pe.state is EehState.NORMAL
        pe.reset("fundamental")
        pe.configure()
        assert device.config.vendor_id == 0x1B36
        pe.inject(EehErrorFunction.LD_CFG_ADDR)
        _ = device.config.read_u16(0x44)
        assert pe.frozen
    assert asked_by_vfio(host, host.function(ADDRESS)) is EehState.NORMAL


def test_too_many(lab: Pnv, device: Device) -> None:
    freezing = Freezing(lab)
    with Recovery(device, most=2) as recovery, Nvme(device, recovery=recovery) as disk:
        for _ in range(2):
            freezing.config(device, recovery)
            disk.write(0, bytes(SIZE))
        freezing.config(device, recovery)
        with pytest.raises(EndpointFailed, match="3 times"):
            disk.write(0, bytes(SIZE))
        assert recovery.pe.state is EehState.STOPPED


def test_the_log_of_the_host_bridge(lab: Pnv, device: Device) -> None:
    """Root has it printed, and reads why the endpoint froze."""
    freezing, backend = Freezing(lab), lab.host
    with Recovery(device, diagnosis=lambda: read_bridge_log(backend, 0)) as recovery:
        recovery.pe.inject(EehErrorFunction.LD_CFG_DATA)
        assert device.config.read_u16(0x44) == 0xFFFF
        assert recovery.wait(1)
        freeze = recovery.run()
    assert list(freeze.causes) == [freezing.endpoint]
    assert freeze.causes[freezing.endpoint].causes & Cause.CONFIG_READ
    assert read_bridge_log(backend, 9) is None
    with pyvfio.Host("software", machine="lab-x86") as other:
        assert read_bridge_log(other.backend, 0) is None


def pass_time(lab: Pnv, recovery: Recovery) -> None:
    """Let the kernel come to an end with its recovery: half a minute of the machine's time at most."""
    for _ in range(60):
        if recovery.pe.state is EehState.STOPPED and not lab.phb(0).fenced:
            return
        lab.machine.clock.advance(0.5)
        time.sleep(0.01)  # its thread


def test_a_fenced_host_bridge(lab: Pnv, device: Device) -> None:
    """Linux recovers it, and leaves the endpoints of programs frozen (``eeh_pe_reenable_devices``)."""
    with Recovery(device) as recovery, Nvme(device, recovery=recovery) as disk:
        disk.write(0, b"x" * SIZE)
        lab.phb(0).fence()
        assert recovery.wait(10)
        pass_time(lab, recovery)
        assert recovery.pe.state is EehState.STOPPED
        assert not lab.phb(0).fenced
        assert disk.read(0) == b"x" * SIZE
        assert recovery.history[-1].stage is Stage.RESUMED


def test_a_bridge_that_the_kernel_does_not_recover(lab: Pnv, device: Device) -> None:
    """The time of the machine stands still here; nothing is reset in the midst of the kernel's recovery."""
    with Recovery(device, patience=0.2) as recovery:
        lab.phb(0).fence()
        assert recovery.wait(10)
        with pytest.raises(EndpointFailed, match=r"not recovered a bridge above within 0\.2 s"):
            recovery.run()
        assert recovery.history[-1].resets == 0
        pass_time(lab, recovery)


def test_the_error_interrupt_wakes_who_waits(lab: Pnv, device: Device) -> None:
    with Recovery(device) as recovery:
        assert not recovery.wait(0.01)
        freezing, errors = Freezing(lab), device.error
        assert errors is not None

        def strike() -> None:
            freezing.phb.strike(freezing.endpoint, PestEntry(Transfer.STORE, Cause.TIMEOUT))
            errors.trigger()

        threading.Timer(0.1, strike).start()
        began = time.monotonic()
        assert recovery.wait(20, every=19)
        assert time.monotonic() - began < 15
        recovery.run()
