"""PCI functions of the host in a guest's Linux, and from there in its own guest: instructions, DMA, interrupts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

import pyvfio
from pyvfio.abi import pci_regs as regs
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.passthrough import GuestMemory, GuestPci
from pyvfio.testing.bell import Bell, BellFailed
from pyvfio.testing.entropy import EntropySource
from pyvfio.zpci import clp
from pyvfio.zpci.instructions import CONFIG_SPACE, Answer, OperandException, Request, Status
from pyvfio.zpci.node import ClpNode
from pyvfio_backends.software import SoftwareBackend, software_of
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.guest import GuestMachine

BELL, SOURCE = "0060:00:00.0", "0040:00:00.0"


@dataclass
class Storeys:
    """A host and the guest on it."""

    host: pyvfio.Host
    machine: GuestMachine
    guest: pyvfio.Host

    def give(self, address: str, uid: int, **options: Any) -> str:
        pyvfio.bind(self.host.device(address))
        self.machine.attach_pci(pyvfio.open_device(self.host, address), uid=uid, fid=uid, **options)
        return f"{uid:04x}:00:00.0"

    @property
    def hardware(self) -> Any:
        return software_of(self.host.backend).machine


def two_functions(interpretation: bool) -> MachineSpec:
    return MachineSpec(
        "host",
        interpretation=interpretation,
        functions=[
            FunctionSpec(uid=0x60, fid=0x60, model="virtio-bell", pchid=0x108),
            FunctionSpec(uid=0x40, fid=0x40, model="virtio-rng", options={"platform": True}),
        ],
    )


@pytest.fixture(params=[False, True], ids=["intercepted", "interpreted"])
def storeys(request: pytest.FixtureRequest) -> Iterator[Storeys]:
    with ExitStack() as stack:
        host = stack.enter_context(pyvfio.Host("software", machine=two_functions(request.param)))
        machine = GuestMachine()
        guest = stack.enter_context(pyvfio.Host(SoftwareBackend(machine)))
        stack.callback(machine.close)
        yield Storeys(host, machine, guest)


# ---- a guest's Linux ---------------------------------------------------------------------------------------------


def test_linux_finds_the_function_under_its_own_names(storeys: Storeys) -> None:
    address = storeys.give(BELL, 7)
    device = storeys.guest.device(address)
    path = f"/sys/bus/pci/devices/{address}"
    read = storeys.guest.sysfs.read_text
    assert (read(f"{path}/function_id").strip(), read(f"{path}/pchid").strip()) == ("0x00000007", "0x0108")
    assert device.name == address
    assert storeys.guest.backend.listdir("/sys/bus/pci/slots") == ["00000007"]
    handle = int(read(f"{path}/function_handle"), 16)
    given: Any = storeys.machine.guest_pci.function(7)
    assert handle == given.fh
    assert given.interpreted is storeys.hardware.spec.interpretation


def test_a_program_of_the_guest_drives_it(storeys: Storeys) -> None:
    """DMA by the tables that the guest's Linux keeps, and MSI-X through both kernels."""
    address = storeys.give(BELL, 7)
    pyvfio.bind(storeys.guest.device(address))
    with pyvfio.open_device(storeys.guest, address) as device, Bell(device) as bell:
        with device.space.buffer(0x3000) as memory:
            memory.view[:16] = bytes(range(16))
            assert bell.copy(memory.iova + 0x1FF8, memory.iova, 16) == 1
            assert bytes(memory.view[0x1FF8:0x2008]) == bytes(range(16))
            bell.fill(memory.iova, 0x55, 100)
            assert bytes(memory.view[:101]) == b"\x55" * 100 + b"\0"
        with pytest.raises(BellFailed):
            bell.fill(0x1_0000_0000, 1, 16)


def test_its_mappings_become_few_at_the_host(storeys: Storeys) -> None:
    address = storeys.give(BELL, 7)
    pyvfio.bind(storeys.guest.device(address))
    given: Any = storeys.machine.guest_pci.function(7)
    with pyvfio.open_device(storeys.guest, address) as device:
        with device.space.buffer(0x100000):
            assert len(given.device.space.mappings()) == 1
        assert given.device.space.mappings() == []


def test_linux_lets_a_function_go_when_it_is_asked(storeys: Storeys) -> None:
    address = storeys.give(BELL, 7)
    given: Any = storeys.machine.guest_pci.function(7)
    storeys.machine.request_pci(7)
    assert address not in storeys.guest.backend.listdir("/sys/bus/pci/devices")
    assert given.device.fileno() == -1
    assert storeys.machine.guest_pci.all_functions() == []
    assert storeys.give(BELL, 8) == "0008:00:00.0"


def test_a_function_goes_without_asking(storeys: Storeys) -> None:
    address = storeys.give(BELL, 7)
    storeys.machine.detach_pci(7)
    assert address not in storeys.guest.backend.listdir("/sys/bus/pci/devices")
    assert storeys.machine.guest_pci.all_functions() == []


def test_power_off_and_on(storeys: Storeys) -> None:
    address = storeys.give(BELL, 7)
    power = "/sys/bus/pci/slots/00000007/power"
    storeys.guest.sysfs.write_text(power, "0")
    assert address not in storeys.guest.backend.listdir("/sys/bus/pci/devices")
    assert storeys.machine.guest_pci.function(7).entry().configured == 0
    storeys.guest.sysfs.write_text(power, "1")
    assert address in storeys.guest.backend.listdir("/sys/bus/pci/devices")


def test_beside_emulated_functions() -> None:
    emulated = MachineSpec("guest", functions=[FunctionSpec(uid=1, fid=1, model="virtio-bell")])
    with ExitStack() as stack:
        host = stack.enter_context(pyvfio.Host("software", machine=two_functions(False)))
        machine = GuestMachine(emulated)
        guest = stack.enter_context(pyvfio.Host(SoftwareBackend(machine)))
        stack.callback(machine.close)
        pair = Storeys(host, machine, guest)
        with pytest.raises(Misuse, match="taken"):
            pair.give(BELL, 1)
        passed = pair.give(SOURCE, 2)
        assert guest.backend.listdir("/sys/bus/pci/devices") == ["0001:00:00.0", passed]
        with ClpNode(guest.backend) as node:
            handles = {entry.fid: entry.fh for entry in node.list()}
            assert handles == {1: 0x80020000, 2: 0x80010001}
            assert {node.function(fh).uid for fh in handles.values()} == {1, 2}
        pyvfio.bind(guest.device("0001:00:00.0"))
        with pyvfio.open_device(guest, "0001:00:00.0") as device, Bell(device) as bell:
            with device.space.buffer(0x1000) as memory:
                bell.fill(memory.iova, 9, 9)
                assert memory.view[8] == 9
        machine.zpci.plug(FunctionSpec(uid=3, fid=3, model="virtio-bell"))
        assert len({function.fh & 0xFFFF for function in machine.zpci.all_functions()}) == 3


# ---- a guest of the guest ----------------------------------------------------------------------------------------


@dataclass
class Inner:
    """The guest of the guest."""

    cpu: GuestPci
    memory: GuestMemory
    interrupts: list[int]


@pytest.fixture
def inner(storeys: Storeys) -> Iterator[Inner]:
    address = storeys.give(SOURCE, 7)
    pyvfio.bind(storeys.guest.device(address))
    interrupts: list[int] = []
    with GuestMemory(0x20000) as memory, GuestPci(memory, on_interruption=interrupts.append) as cpu:
        cpu.attach(pyvfio.open_device(storeys.guest, address), uid=0x99, fid=0x123)
        yield Inner(cpu, memory, interrupts)


def test_instructions_go_through_all_storeys(inner: Inner) -> None:
    driver = EntropySource(inner.cpu, inner.memory, 0, 0x123)
    assert (driver.facts.uid, driver.facts.fid) == (0x99, 0x123)
    assert not inner.cpu.function(0x123).interpreted  # type: ignore[attr-defined]
    assert driver.load(CONFIG_SPACE, 0, 4) == 0x10441AF4
    assert driver.cpu.pcilg(Request(driver.fh, 3, 4), 0) == Answer(1, Status.INVALID_ADDRESS_SPACE)
    assert driver.cpu.pcilg(Request(driver.fh ^ 1, CONFIG_SPACE, 4), 0) == Answer(3)
    with pytest.raises(OperandException):
        driver.cpu.pcilg(Request(driver.fh, CONFIG_SPACE, 3), 0)


def test_dma_and_interruptions_through_all_storeys(inner: Inner, storeys: Storeys) -> None:
    driver = EntropySource(inner.cpu, inner.memory, 0, 0x123)
    driver.start()
    for number in range(1, 4):
        driver.clear_bits()
        driver.ask(32)
        assert driver.answered == number
        inner.cpu.wait(5)
        assert (inner.interrupts, driver.bits) == ([3] * number, (0x80, 0x80))
    assert any(driver.buffer(32))
    driver.map(9, 0x10000)
    driver.ask(16, page=9)
    assert any(inner.memory.read(0x10000, 16))
    driver.map(9, 0x11000)
    driver.ask(16, page=9)
    assert any(inner.memory.read(0x11000, 16))


def test_disabling_gives_all_back_on_all_storeys(inner: Inner, storeys: Storeys) -> None:
    driver = EntropySource(inner.cpu, inner.memory, 0, 0x123)
    driver.start()
    outer: Any = storeys.machine.guest_pci.function(7)
    assert outer.device.space.mappings()
    inner.cpu.clp(clp.SetRequest(handle=driver.fh, operation=1).to_bytes(), 160)
    assert outer.device.space.mappings() == []
    again = EntropySource(inner.cpu, inner.memory, 0, 0x123)
    inner.memory.write(0x9000, bytes(0x3000))
    again.start()
    again.ask(8)
    assert again.answered == 1


def test_linux_takes_an_error_in_when_nobody_holds_the_guests_functions(storeys: Storeys) -> None:
    """It may wait for others then, who look at the functions before they give the machine back."""
    name = storeys.give(BELL, 7)
    pyvfio.bind(storeys.guest.device(name))
    tell, free = storeys.machine.zpci.on_event, []
    assert tell is not None

    def told(event: Any) -> None:
        other = threading.Thread(target=storeys.machine.guest_pci.filenos, daemon=True)
        other.start()
        other.join(5)
        free.append(not other.is_alive())
        tell(event)

    storeys.machine.zpci.on_event = told
    device = pyvfio.open_device(storeys.guest, name)
    storeys.hardware.zpci.unplug(0x60, surprise=True)
    with contextlib.suppress(PyvfioError):
        device.config.write_u16(regs.PCI_COMMAND, 0)
    storeys.machine.look()
    assert free == ([] if storeys.hardware.spec.interpretation else [True])  # an interpreted one leaves in silence
    device.close()


def test_the_host_loses_its_device(inner: Inner, storeys: Storeys) -> None:
    driver = EntropySource(inner.cpu, inner.memory, 0, 0x123)
    driver.start()
    thread = threading.Thread(target=lambda: storeys.hardware.zpci.unplug(0x40, surprise=True))
    thread.start()
    thread.join(0.2)
    answer = inner.cpu.pcilg(Request(driver.fh, CONFIG_SPACE, 4), 0)
    assert answer.cc in (0, 1, 3)
    assert inner.cpu.rpcit(driver.fh, driver.facts.sdma, 4096).cc in (0, 1, 3)
    inner.cpu.close()
    storeys.machine.detach_pci(7)
    thread.join(5)
    assert not thread.is_alive()
