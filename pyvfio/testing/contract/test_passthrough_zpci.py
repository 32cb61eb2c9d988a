"""A guest's PCI functions on top of vfio-pci: refusals, then a device that does DMA by its tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import pyvfio
from pyvfio.backend import Backend
from pyvfio.host import Host
from pyvfio.passthrough import GuestMemory, GuestPci
from pyvfio.passthrough.zpci_function import GuestFunction
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.devices import BoundFunction
from pyvfio.testing.entropy import STORAGE_SIZE, EntropySource
from pyvfio.zpci import clp
from pyvfio.zpci.fib import Fib, FunctionControl
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, FunctionOperation, OperandException, Request, Status

SOURCE = "0040:00:00.0"
FID = 0x123
FREE = 0x10000


@pytest.fixture(scope="module")
def source(backend: Backend, sysfs: Attributes) -> Iterator[BoundFunction]:
    if not sysfs.exists(f"/sys/bus/pci/devices/{SOURCE}"):
        pytest.skip(f"this host has no function {SOURCE}")
    with BoundFunction(backend, SOURCE) as one:
        yield one


class Guest:
    def __init__(self, pci: GuestPci, memory: GuestMemory) -> None:
        self.pci = pci
        self.memory = memory
        self.interrupts: list[int] = []

    def until(self, done: Callable[[], bool]) -> bool:
        end = time.monotonic() + 20
        while not done() and time.monotonic() < end:
            self.pci.wait(0.2)
        return done()


@pytest.fixture
def guest(host: Host, source: BoundFunction, way: str) -> Iterator[Guest]:
    with GuestMemory(0x20000) as memory:
        seen: list[int] = []
        with GuestPci(memory, on_interruption=seen.append) as pci:
            pci.attach(pyvfio.open_device(host, source.address, way=way), uid=7, fid=FID)
            one = Guest(pci, memory)
            one.interrupts = seen
            yield one


@pytest.fixture
def driver(guest: Guest) -> EntropySource:
    return EntropySource(guest.pci, guest.memory, 0, FID)


@pytest.fixture
def running(driver: EntropySource) -> EntropySource:
    driver.start()
    return driver


def test_the_guest_finds_it_under_its_own_names(guest: Guest) -> None:
    answer = clp.ListResponse.from_bytes(guest.pci.clp(clp.ListRequest().to_bytes(), 4096)[1])
    (entry,) = answer.entries
    assert (entry.fid, entry.vendor, entry.device, entry.configured) == (FID, 0x1AF4, 0x1044, 1)
    assert entry.fh & 0x80FF0000 == 0x00010000


def test_a_query_tells_the_hosts_facts(driver: EntropySource, sysfs: Attributes, source: BoundFunction) -> None:
    facts = driver.facts
    assert (facts.uid, facts.fid) == (7, FID)
    for name in ("pchid", "pfgid", "pft", "vfn"):
        assert getattr(facts, name) == int(sysfs.read(f"{source.path}/{name}"), 16), name
    assert facts.bar_sizes == bytes((0, 12, 0, 0, 14, 0))
    assert facts.sdma < facts.edma


def test_configuration_space_is_the_devices(driver: EntropySource, sysfs: Attributes, source: BoundFunction) -> None:
    assert driver.load(CONFIG_SPACE, 0, 4) == 0x10441AF4
    assert driver.load(CONFIG_SPACE, 2, 2) == 0x1044
    assert driver.load(CONFIG_SPACE, 3, 1) == 0x10
    assert driver.load(CONFIG_SPACE, 8, 4) >> 8 == int(sysfs.read(f"{source.path}/class"), 16)


@pytest.mark.parametrize(("offset", "length"), [(0, 3), (0, 0), (0, 8), (2, 4), (3, 2), (1 << 20, 4)])
def test_configuration_accesses_that_are_wrong(driver: EntropySource, offset: int, length: int) -> None:
    with pytest.raises(OperandException):
        driver.cpu.pcilg(Request(driver.fh, CONFIG_SPACE, length), offset)


@pytest.mark.parametrize("space", [0, 2, 3, 5, 6, 14])
def test_spaces_that_are_not_there(driver: EntropySource, space: int) -> None:
    assert driver.cpu.pcilg(Request(driver.fh, space, 4), 0) == Answer(1, Status.INVALID_ADDRESS_SPACE)


def test_a_handle_of_before_is_none(driver: EntropySource) -> None:
    assert driver.cpu.pcilg(Request(driver.fh & 0x7FFFFFFF, CONFIG_SPACE, 4), 0) == Answer(3)
    assert driver.cpu.rpcit(driver.fh ^ 1, driver.facts.sdma, 4096) == Answer(3)


def test_limits_of_dma_are_the_hosts(driver: EntropySource) -> None:
    facts = driver.facts
    for pba, pal in ((0, facts.edma), (facts.sdma, facts.edma + 4096), (facts.sdma + 4096, facts.sdma)):
        with pytest.raises(OperandException):
            driver.cpu.mpcifc(driver.fh, 0, FunctionOperation.REGISTER_TRANSLATION, Fib(pba=pba, pal=pal, iota=0x804))


def test_the_device_answers_by_dma_and_interrupts(guest: Guest, running: EntropySource) -> None:
    running.ask(64)
    assert guest.until(lambda: running.answered == 1)
    assert 0 < running.written(0) <= 64
    assert any(running.buffer(64))
    assert guest.until(lambda: bool(guest.interrupts))
    assert guest.interrupts == [3]
    assert running.bits == (0x80, 0x80)


def test_several_requests(guest: Guest, running: EntropySource) -> None:
    seen = set()
    for number in range(1, 10):
        running.clear_bits()
        running.ask(16)
        assert guest.until(partial(running.has_answered, number))
        assert guest.until(lambda: running.bits == (0x80, 0x80))
        seen.add(running.buffer(16))
    assert len(seen) > 1


def test_a_page_mapped_elsewhere(guest: Guest, running: EntropySource) -> None:
    running.map(9, FREE)
    running.ask(32, page=9)
    assert guest.until(lambda: running.answered == 1)
    assert any(guest.memory.read(FREE, 32))
    assert not any(running.buffer(64))
    running.map(9, FREE + 0x1000)
    running.ask(32, page=9)
    assert guest.until(lambda: running.answered == 2)
    assert any(guest.memory.read(FREE + 0x1000, 32))


def test_the_state_is_stored(running: EntropySource) -> None:
    answer, fib = running.cpu.stpcifc(running.fh, 0)
    assert isinstance(fib, Fib)
    assert answer == Answer()
    assert fib.fc == FunctionControl.ENABLED | FunctionControl.DMA_REGISTERED
    assert (fib.isc, fib.noi, fib.sum, fib.pba) == (3, 1, 1, running.facts.sdma)


def test_disabling_gives_all_mappings_back(guest: Guest, running: EntropySource, way: str) -> None:
    function = guest.pci.function(FID)
    assert isinstance(function, GuestFunction)
    device = function.device
    assert len(device.space.mappings()) == 2
    answer = running.cpu.clp(clp.SetRequest(handle=running.fh, operation=1).to_bytes(), 160)[1]
    assert int.from_bytes(answer[2:4], "big") == clp.ClpCode.OK
    assert device.space.mappings() == []
    assert running.cpu.pcilg(Request(running.fh, CONFIG_SPACE, 4), 0) == Answer(3)


def test_it_can_be_enabled_again(guest: Guest, running: EntropySource) -> None:
    running.cpu.clp(clp.SetRequest(handle=running.fh, operation=1).to_bytes(), 160)
    again = EntropySource(guest.pci, guest.memory, 0, FID)
    guest.memory.write(0x9000, bytes(0x3000))
    again.start()
    again.ask(64)
    assert guest.until(lambda: again.answered == 1)
    assert any(again.buffer(64))


def test_the_storage_is_enough() -> None:
    assert STORAGE_SIZE <= FREE
