"""The way of commands through the NVMe controller: turns, pages of each size, hosts that act within an interrupt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from nvme_rig import DATA, READY, NvmeHost, running

from pyvfio.nvme import registers as regs
from pyvfio.nvme.commands import AdminOpcode, Command, IoOpcode
from pyvfio.nvme.status import Status
from pyvfio_backends.software.hardware.devices.nvme.controller import NvmeController
from pyvfio_backends.software.hardware.devices.nvme.storage import MemoryStorage, Namespace
from pyvfio_backends.software.hardware.pcie.upstream import Source


def test_queues_take_turns() -> None:
    queue: list[Callable[[], None]] = []
    device = NvmeController([Namespace(MemoryStorage(0x8000))], schedule=lambda delay, work: queue.append(work))
    host = NvmeHost(device)
    host.enable()

    def settle() -> None:
        while queue:
            queue.pop(0)()

    for number in (1, 2):
        _, completion = host.rings(1)
        host.begin(number, 8)
        if number == 1:
            host.put(0, Command(AdminOpcode.CREATE_CQ, prp1=completion, cdw10=7 << 16 | 1, cdw11=3))
        at = host.rings(number)[0]
        host.put(0, Command(AdminOpcode.CREATE_SQ, prp1=at, cdw10=7 << 16 | number, cdw11=1 << 16 | 1))
        settle()
    assert all(one.ok for one in host.take(0))
    for number in (1, 1, 1, 2, 2):
        host.put(number, Command(IoOpcode.FLUSH, nsid=1))
    assert host.take(1) == [], "nothing is done yet"
    settle()
    assert [one.queue for one in host.take(1)] == [1, 2, 1, 2, 1]


@pytest.mark.parametrize("page", [12, 13, 16])
def test_pages_of_each_size(page: int) -> None:
    size = 1 << page
    device = NvmeController([Namespace(MemoryStorage(0x40000))])
    host = NvmeHost(device)
    host.rings = lambda queue: (0x20000 + queue * 0x20000, 0x30000 + queue * 0x20000)  # type: ignore[method-assign]
    assert host.enable(replace(READY, page=page)) == 1
    host.create_queue(1)
    host.memory[0x80000 : 0x80000 + 2 * size] = bytes(range(256)) * (2 * size // 256)
    one = host.io(IoOpcode.WRITE, 0, 2 * size // 512, prp1=0x80000, prp2=0x80000 + size)
    assert one.ok
    assert host.io(IoOpcode.READ, 0, 2 * size // 512, prp1=0xA0000, prp2=0xC0000).ok
    half = bytes(range(256)) * (size // 256)
    assert bytes(host.memory[0xA0000 : 0xA0000 + size]) == bytes(host.memory[0xC0000 : 0xC0000 + size]) == half
    wrong = host.io(IoOpcode.READ, 0, 2 * size // 512, prp1=0x80000, prp2=0x80000 + size // 2)
    assert wrong.code == Status.PRP_OFFSET_INVALID


def within_interrupts(host: NvmeHost, act: Callable[[], None]) -> None:
    """Have the host do something for each message, within it."""

    def message(source: Source, address: int, data: int) -> None:
        act()

    host.host.message = message  # type: ignore[method-assign]


def test_a_host_that_rings_within_the_interrupt() -> None:
    host = NvmeHost()
    host.enable_msix(0x2000, 1)
    host.enable()
    host.create_queue(1)
    taken: list[int] = []

    def act() -> None:
        taken.extend(one.code for one in host.take(1))
        if len(taken) < 5000:
            host.put(1, Command(IoOpcode.FLUSH, nsid=1))

    within_interrupts(host, act)
    host.put(1, Command(IoOpcode.FLUSH, nsid=1))
    assert taken == [Status.SUCCESS] * 5000


def test_a_host_that_resets_the_controller_within_the_interrupt() -> None:
    host = NvmeHost()
    host.enable_msix(0x2000, 1)
    host.enable()
    host.create_queue(1)
    within_interrupts(host, lambda: host.store(regs.CC, 0))
    host.put(1, Command(IoOpcode.FLUSH, nsid=1))
    assert host.load(regs.CSTS) == 0
    assert host.device.submissions == {}
    assert host.enable() == 1


def test_data_that_is_the_own_doorbells() -> None:
    """A command whose data goes to the controller itself: it is answered, and the controller can be reset."""
    host = running()
    bar = host.function.address(host.function.bars[0])
    for offset in (0, 0x1000):
        for opcode in (IoOpcode.READ, IoOpcode.WRITE, IoOpcode.COMPARE):
            host.put(1, Command(opcode, nsid=1, prp1=bar + offset, cdw12=0))
            host.take(1)
    host.store(regs.CC, 0)
    assert host.enable() == 1
    host.create_queue(1)
    assert host.io(IoOpcode.READ, 0, 1, prp1=DATA).ok


def test_without_a_function_nothing_is_done() -> None:
    """As a device that is being built: registers work, doorbells find nobody to act through."""
    device = NvmeController([])
    for register, value in ((regs.AQA, 0x10001), (regs.ASQ, 0x1000), (regs.ACQ, 0x2000), (regs.CC, READY.value)):
        device.write(register, 4, value)
    assert device.read(regs.CSTS, 4) == 1
    device.write(regs.DOORBELLS, 4, 1)
    assert device.read(regs.CSTS, 4) == 1
