"""The driver of edu while its endpoint freezes, at each of its accesses: what it answers is right all the same."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator

import pytest
from pnv_fixture import EDU, Pnv

import pyvfio
from pyvfio.abi.opal import OpalFreezeAction
from pyvfio.drivers import AsyncEdu, Edu
from pyvfio.drivers.recovery import EndpointFailed, Recovery
from pyvfio.errors import NotAvailable
from pyvfio.ioda.pest import Cause, PestEntry, Transfer
from pyvfio.pci import edu as regs
from pyvfio.testing.devices import BoundFunction
from pyvfio.vfio import Device
from pyvfio_backends.software.hardware.devices.edu import Edu as Hardware
from pyvfio_backends.software.hardware.pcie.block import Block

MOST = 1000


def hardware_of(lab: Pnv) -> Hardware:
    """The registers inside the machine."""
    block = lab.hardware(EDU).bars[regs.BAR].registers
    found = block.parts[0] if isinstance(block, Block) else block
    assert isinstance(found, Hardware)
    return found


class Freezing:
    """Has the endpoint freeze at the n-th load, store, DMA or message from now on; `struck` counts that.

    The device loses what it has at a reset, as QEMU's does not and most others do.
    """

    def __init__(self, lab: Pnv) -> None:
        self.phb, self.endpoint = lab.phb(4), lab.pe(EDU).number
        hardware = hardware_of(lab)
        lost = dict(hardware._values)

        def reset() -> None:
            hardware.buffer[:] = bytes(len(hardware.buffer))
            hardware._values.update(lost)

        hardware.reset = reset  # type: ignore[method-assign]
        self.left: int | None = None
        self.struck = 0
        for name in ("transfer", "upstream"):
            self._hook(name)

    def _hook(self, name: str) -> None:
        real: Callable[..., object] = getattr(self.phb, name)

        def hooked(*arguments: object) -> object:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    self.left = None
                    self.struck += 1
                    self.phb.strike(self.endpoint, PestEntry(Transfer.OTHER, Cause.TIMEOUT))
            return real(*arguments)

        setattr(self.phb, name, hooked)


@pytest.fixture
def lab() -> Pnv:
    return Pnv()


@pytest.fixture
def device(lab: Pnv) -> Iterator[Device]:
    with pyvfio.Host(lab.host) as host, BoundFunction(host.backend, EDU), pyvfio.open_device(host, EDU) as opened:
        yield opened


def everything(edu: Edu, device: Device, value: int) -> None:
    """Each operation once, and the device's whole buffer."""
    data = bytes((value + number) % 251 for number in range(700))
    edu.put(data, 16)
    assert edu.factorial(value) == math.factorial(value) % (1 << 32)
    assert edu.interrupt(0x40) & 0x40
    with device.space.buffer(256, below=regs.DMA_MASK + 1) as memory:
        memory.view[:256] = bytes([value]) * 256
        edu.transfer(memory.iova, 256, 3000, out=False)
        memory.view[:256] = bytes(256)
        edu.transfer(memory.iova, 256, 3000, out=True)
        assert bytes(memory.view[:256]) == bytes([value]) * 256
    assert edu.get(700, 16) == data
    assert edu.get(256, 3000) == bytes([value]) * 256


@pytest.mark.parametrize("kind", ["msi", "intx", "poll"])
def test_a_freeze_at_each_access(lab: Pnv, device: Device, kind: str) -> None:
    """One run for each; with interrupts the number of looks differs from run to run, so there is an end to it."""
    freezing = Freezing(lab)
    with Recovery(device, most=MOST) as recovery, Edu(device, interrupts=kind, recovery=recovery) as edu:
        for at in range(400):
            freezing.left = at
            everything(edu, device, 2 + at % 29)
            if freezing.left is not None:
                break
        else:
            pytest.fail("there are more accesses than that")
        assert freezing.struck >= 30
        assert len(recovery.history) >= freezing.struck
        assert recovery.failed is None


def test_several_freezes_in_one_operation(lab: Pnv, device: Device) -> None:
    """Also in the recovery, and while the device is set up again."""
    chance, freezing = random.Random(5), Freezing(lab)
    with Recovery(device, most=MOST) as recovery, Edu(device, recovery=recovery) as edu:
        told = recovery._begin

        def again(reason: str) -> object:
            if freezing.struck % 4:
                freezing.left = chance.randrange(12)
            return told(reason)

        recovery._begin = again  # type: ignore[method-assign, assignment]
        for value in range(2, 30):
            freezing.left = chance.randrange(40)
            everything(edu, device, value)
        assert freezing.struck > 40


def test_asynchronously(lab: Pnv, device: Device) -> None:
    freezing = Freezing(lab)

    async def story() -> None:
        async with AsyncEdu(device, recovery=recovery) as edu:
            await edu.put(b"before", 0)
            for at in range(12):
                freezing.left = at
                assert await edu.factorial(10) == 3628800
                assert await edu.get(6, 0) == b"before"

    with Recovery(device, most=MOST) as recovery:
        asyncio.run(story())
        assert len(recovery.history) >= 10


def test_the_start_on_a_frozen_endpoint(lab: Pnv, device: Device) -> None:
    freezing = Freezing(lab)
    with Recovery(device) as recovery:
        with lab.machine.lock:
            freezing.phb.parity(freezing.endpoint)
        with Edu(device, recovery=recovery) as edu:
            assert edu.factorial(5) == 120
        assert len(recovery.history) == 1
        freezing.left = 1
        with Edu(device, recovery=recovery) as edu:
            assert edu.factorial(6) == 720
        assert len(recovery.history) == 2


def test_dma_alone_is_stopped(lab: Pnv, device: Device) -> None:
    """The device says that it has transferred, and nothing has moved."""
    with Recovery(device) as recovery, Edu(device, interrupts="poll", recovery=recovery) as edu:
        edu.put(b"first", 0)
        for data in (b"other", b"third"):
            with lab.machine.lock:
                lab.opal.pci_eeh_freeze_set(4, lab.pe(EDU).number, OpalFreezeAction.DMA)
            edu.put(data, 0)
            with lab.machine.lock:
                lab.opal.pci_eeh_freeze_set(4, lab.pe(EDU).number, OpalFreezeAction.DMA)
            assert edu.get(5, 0) == data
        assert len(recovery.history) == 4


def test_recovered_by_somebody_else(lab: Pnv, device: Device) -> None:
    """By the driver of another function, or the program: the device is set up again all the same."""
    with Recovery(device) as recovery, Edu(device, interrupts="msi", recovery=recovery) as edu:
        edu.put(b"mine", 100)
        with lab.machine.lock:
            lab.phb(4).parity(lab.pe(EDU).number)
        recovery.run()
        edu.work.registers.write(regs.STATUS, 0)  # as after a reset of a real device
        hardware_of(lab).buffer[:] = bytes(regs.BUFFER_SIZE)
        assert edu.factorial(7) == 5040
        assert edu.get(4, 100) == b"mine"
        assert len(recovery.history) == 1


def test_given_up(lab: Pnv, device: Device) -> None:
    freezing = Freezing(lab)
    with Recovery(device, most=2) as recovery, Edu(device, recovery=recovery) as edu:
        for _ in range(2):
            freezing.left = 0
            assert edu.factorial(5) == 120
        freezing.left = 0
        with pytest.raises(EndpointFailed):
            edu.factorial(5)
        with pytest.raises(EndpointFailed):
            edu.put(b"x")
        assert not edu.alive()


def test_without_a_recovery(lab: Pnv, device: Device) -> None:
    with Edu(device, timeout=0.05) as edu:
        with lab.machine.lock:
            lab.phb(4).parity(lab.pe(EDU).number)
        with pytest.raises(NotAvailable):
            _ = edu.identity
        assert not edu.alive()
