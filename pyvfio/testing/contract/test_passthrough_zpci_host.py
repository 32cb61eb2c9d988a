"""A guest's PCI functions when their host has something to say: limits, requests, several functions, fallbacks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.passthrough import GuestMemory, GuestPci
from pyvfio.passthrough.zpci_function import GuestFunction
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.entropy import EntropySource
from pyvfio.zpci import clp
from pyvfio.zpci.event import AvailabilityCode, AvailabilityEvent
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, Request, Status
from pyvfio.zpci.table import FRAME

SOURCE, OTHER = "0040:00:00.0", "0030:00:00.0"
FID = 0x123
LIMIT = "/sys/module/vfio_iommu_type1/parameters/dma_entry_limit"
VFIO = "/sys/bus/pci/drivers/vfio-pci"
FREE = 0x10000


@pytest.fixture
def source(backend: Backend, sysfs: Attributes) -> Iterator[BoundFunction]:
    if not sysfs.exists(f"/sys/bus/pci/devices/{SOURCE}"):
        pytest.skip(f"this host has no function {SOURCE}")
    with BoundFunction(backend, SOURCE) as one:
        yield one


@pytest.fixture
def limit(sysfs: Attributes) -> Iterator[Callable[[int], int]]:
    before = sysfs.read(LIMIT)
    yield lambda number: sysfs.write(LIMIT, str(number))
    sysfs.write(LIMIT, before)


class Guest:
    """A guest with storage and nothing attached yet."""

    def __init__(self) -> None:
        self.memory = GuestMemory(0x30000)
        self.events: list[AvailabilityEvent] = []
        self.interrupts: list[int] = []
        self.pci = GuestPci(self.memory, on_interruption=self.interrupts.append, on_availability=self.events.append)

    def until(self, done: Callable[[], bool]) -> bool:
        end = time.monotonic() + 20
        while not done() and time.monotonic() < end:
            self.pci.wait(0.2)
        return done()

    def codes(self) -> list[int]:
        return [event.pec for event in self.events]

    def close(self) -> None:
        self.pci.close()
        self.memory.close()


@pytest.fixture
def guest(source: BoundFunction) -> Iterator[Guest]:
    one = Guest()
    yield one
    one.close()


def give(host: Host, guest: Guest, way: str = "auto") -> Any:
    return guest.pci.attach(pyvfio.open_device(host, SOURCE, way=way), uid=7, fid=FID)


def test_instructions_are_intercepted_here(host: Host, guest: Guest, source: BoundFunction, way: str) -> None:
    """An emulated machine interprets nothing for guests; an attachment falls back, and says so."""
    function = give(host, guest, way)
    assert (function.interpreted, function.forwarding_assist) == (False, False)
    assert "interprets" in function.why
    driver = EntropySource(guest.pci, guest.memory, 0, FID)
    before = guest.pci.accesses.intercepted
    driver.load(CONFIG_SPACE, 0, 4)
    assert (guest.pci.accesses.intercepted, guest.pci.accesses.interpreted) == (before + 1, 0)


def test_mappings_that_run_out_and_come_back(
    host: Host, guest: Guest, source: BoundFunction, limit: Callable[[int], int]
) -> None:
    limit(3)
    function = give(host, guest, "group")
    driver = EntropySource(guest.pci, guest.memory, 0, FID)
    driver.start()
    space = function.device.space
    assert space.available == 1
    driver.map(4, FREE)
    assert space.available == 0
    driver.map(6, FREE + 0x1000, refresh=False)
    first = driver.facts.sdma
    for _ in range(2):
        answer = guest.pci.rpcit(driver.fh, first + 6 * FRAME, FRAME)
        assert answer == Answer(1, Status.INSUFFICIENT_RESOURCES)
    driver.ask(16, page=4)
    assert guest.until(lambda: driver.answered == 1)
    driver.map(4, None)
    assert guest.pci.rpcit(driver.fh, first + 6 * FRAME, FRAME) == Answer()
    driver.ask(16, page=6)
    assert guest.until(lambda: driver.answered == 2)
    assert any(guest.memory.read(FREE + 0x1000, 16))


def test_pages_side_by_side_are_one_mapping(
    host: Host, guest: Guest, source: BoundFunction, limit: Callable[[int], int]
) -> None:
    limit(3)
    function = give(host, guest, "group")
    driver = EntropySource(guest.pci, guest.memory, 0, FID)
    driver.start()
    for page in range(16):
        driver.map(32 + page, FREE + page * FRAME, refresh=False)
    assert guest.pci.rpcit(driver.fh, driver.facts.sdma + 32 * FRAME, 16 * FRAME) == Answer()
    assert function.device.space.available == 0
    driver.ask(32, page=47)
    assert guest.until(lambda: driver.answered == 1)
    assert any(guest.memory.read(FREE + 15 * FRAME, 32))


def test_an_unbind_asks_the_guest_and_waits_for_it(
    host: Host, guest: Guest, source: BoundFunction, sysfs: Attributes, way: str
) -> None:
    give(host, guest, way)
    driver = EntropySource(guest.pci, guest.memory, 0, FID)
    driver.start()
    thread = threading.Thread(target=lambda: sysfs.write(f"{VFIO}/unbind", SOURCE), daemon=True)
    thread.start()
    assert guest.until(lambda: AvailabilityCode.DECONFIGURE_REQUESTED in guest.codes())
    assert thread.is_alive()
    driver.ask(16)  # it works until the guest lets it go
    assert guest.until(lambda: driver.answered == 1)
    guest.pci.clp(clp.SetRequest(handle=driver.fh, operation=1).to_bytes(), 160)
    guest.pci.deconfigure(FID)
    thread.join(20)
    assert not thread.is_alive()
    assert guest.codes()[-1] == AvailabilityCode.RESERVED
    assert guest.pci.pcilg(Request(driver.fh, CONFIG_SPACE, 4), 0) == Answer(3)
    assert guest.pci.rpcit(driver.fh, driver.facts.sdma, FRAME) == Answer(3)


def test_a_device_that_is_closed_under_the_guest(host: Host, guest: Guest, source: BoundFunction, way: str) -> None:
    function = give(host, guest, way)
    driver = EntropySource(guest.pci, guest.memory, 0, FID)
    driver.start()
    function.device.close()
    assert guest.pci.pcilg(Request(driver.fh, CONFIG_SPACE, 4), 0) == Answer(1, Status.BLOCKED)
    assert guest.pci.pcistg(0, Request(driver.fh, CONFIG_SPACE, 4), 4) == Answer(1, Status.BLOCKED)
    assert guest.pci.rpcit(driver.fh, driver.facts.sdma, FRAME) == Answer(3)
    assert guest.pci.stpcifc(driver.fh, 0)[0] == Answer(1, Status.FUNCTION_IN_ERROR)
    guest.pci.poll()
    guest.pci.deconfigure(FID)


def test_a_reset_of_the_function_keeps_its_names(host: Host, guest: Guest, source: BoundFunction, way: str) -> None:
    give(host, guest, way)
    for _ in range(3):
        driver = EntropySource(guest.pci, guest.memory, 0, FID)
        guest.memory.write(0x9000, bytes(0x3000))
        driver.start()
        driver.ask(16)
        assert guest.until(partial(driver.has_answered, 1))
        assert (driver.facts.uid, driver.facts.fid) == (7, FID)
        code = guest.pci.clp(clp.SetRequest(handle=driver.fh, operation=1).to_bytes(), 160)[1][2:4]
        assert int.from_bytes(code, "big") == clp.ClpCode.OK


def test_two_functions_in_one_guest(host: Host, guest: Guest, backend: Backend, source: BoundFunction) -> None:
    """Each with its own tables, which map the same DMA addresses to different storage."""
    with ExitStack() as stack:
        stack.enter_context(BoundFunction(backend, OTHER))
        stack.callback(guest.pci.close)
        give(host, guest)
        other = guest.pci.attach(pyvfio.open_device(host, OTHER), uid=8, fid=FID + 1)
        listed = clp.ListResponse.from_bytes(guest.pci.clp(clp.ListRequest().to_bytes(), 4096)[1])
        assert [entry.fid for entry in listed.entries] == [FID, FID + 1]
        assert len({entry.fh & 0xFFFF for entry in listed.entries}) == 2
        driver = EntropySource(guest.pci, guest.memory, 0, FID)
        driver.start()
        second = EntropySource(guest.pci, guest.memory, 0x20000, FID + 1)
        second.register_tables()
        assert second.facts.sdma == driver.facts.sdma
        first = guest.pci.function(FID)
        assert isinstance(first, GuestFunction)
        assert first.space is not None
        assert other.space is not None
        places = [{run.iova: run.address for run in space.mapped()} for space in (first.space, other.space)]
        assert places[0].keys() == places[1].keys()
        assert set(places[0].values()).isdisjoint(places[1].values())
        driver.ask(16)
        assert guest.until(lambda: driver.answered == 1)


def test_waiting_in_an_event_loop(host: Host, guest: Guest, source: BoundFunction) -> None:
    give(host, guest)
    driver = EntropySource(guest.pci, guest.memory, 0, FID)
    driver.start()

    async def work() -> bool:
        driver.ask(16)
        return await guest.pci.wait_async(20)

    assert asyncio.run(work())
    assert guest.interrupts == [3]
