"""Instructions that the host's machine carries out for a guest, and interruptions that it forwards: what is bypassed.

That the results are the same is in ``hardware_zpci/test_zpci_processor.py``, which runs on all ways.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyvfio
from pyvfio.errors import KernelRefused, Misuse
from pyvfio.passthrough import GuestMemory, GuestPci
from pyvfio.passthrough.interpretation import SharedLock
from pyvfio.pci import bell
from pyvfio.zpci import clp
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.handle import FH_ENABLED
from pyvfio.zpci.instructions import Answer, FunctionOperation, OperandException, Refused, Request, Status
from pyvfio.zpci.sic import SicOperation
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.hardware.zpci.models import build_function

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware_zpci"))
from zpci_rig import BASE, SUMMARY, VECTOR, GuestRig, HostForwardingRig, InterpretedRig


@pytest.fixture
def on() -> Iterator[InterpretedRig]:
    rig = InterpretedRig()
    rig.enable()
    yield rig
    rig.close()


def function(rig: GuestRig) -> Any:
    return rig.function()


def calls(rig: GuestRig, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of the host's kernel from now on."""
    seen: list[str] = []
    for verb in ("pread", "pwrite", "ioctl", "read", "write"):
        real = getattr(rig.host.backend, verb)

        def spy(*args: Any, verb: str = verb, real: Any = real) -> Any:
            seen.append(verb)
            return real(*args)

        monkeypatch.setattr(rig.host.backend, verb, spy)
    return seen


# ---- when it is not done -----------------------------------------------------------------------------------------


def test_a_host_without_the_facility_has_instructions_intercepted(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = GuestRig()
    rig.enable()
    seen = calls(rig, monkeypatch)
    assert rig.load(0, bell.STATUS, 4) == 0
    assert not function(rig).interpreted
    assert not function(rig).forwarding_assist
    assert "nothing on this host interprets" in function(rig).why
    assert (rig.guest.accesses.intercepted, rig.guest.accesses.interpreted) == (1, 0)
    assert seen == ["pread"]
    rig.close()


def test_it_can_be_switched_off_for_a_function() -> None:
    spec = MachineSpec("one", interpretation=True, functions=[FunctionSpec(uid=1, fid=1, model="virtio-bell")])
    with pyvfio.Host("software", machine=spec) as host, GuestMemory(0x1000) as memory, GuestPci(memory) as guest:
        pyvfio.bind(host.device("0001:00:00.0"))
        given: Any = guest.attach(pyvfio.open_device(host, "0001:00:00.0"), interpret=False)
        assert (given.interpreted, given.why) == (False, "it was not asked for")
        assert given.fh == 0x00010000


def test_directed_interruptions_are_not_for_such_a_function(on: InterpretedRig) -> None:
    for operation in (FunctionOperation.REGISTER_DIRECTED, FunctionOperation.DEREGISTER_DIRECTED):
        with pytest.raises(OperandException):
            on.cpu.mpcifc(on.fh, 0, operation, Fib(noi=1))


def test_an_index_that_is_taken(on: InterpretedRig) -> None:
    with GuestMemory(0x1000) as memory, GuestPci(memory) as guest:
        guest.add(build_function(FunctionSpec(uid=0x99, fid=0x900, model="virtio-bell"), 0))
        on.guest.detach(0x100)
        device = pyvfio.open_device(on.host, "0010:00:00.0")
        with pytest.raises(Misuse, match="index 0x0 of the host's handle is taken"):
            guest.attach(device, uid=1, fid=1)
        assert guest.attach(device, uid=1, fid=1, interpret=False).fh == 0x00010001


def test_a_function_has_one_guest(on: InterpretedRig) -> None:
    machine = software_of(on.host.backend).interpretation(on.memory.areas, print)
    assert machine is not None
    with pytest.raises(OSError, match="Invalid argument"):
        machine.add(function(on).device.fileno())
    with GuestMemory(0x1000) as memory, GuestPci(memory) as other, pytest.raises(KernelRefused, match="interpreted"):
        other.attach(function(on).device)
    with pytest.raises(OSError, match="Invalid argument"):
        machine.add(on.host.backend.open("/dev/vfio/vfio", 2))


# ---- the way past the hypervisor ---------------------------------------------------------------------------------


def test_loads_and_stores_ask_nothing_of_the_hosts_kernel(on: InterpretedRig, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls(on, monkeypatch)
    on.store(0, bell.SOURCE, 8, 0x1234)
    assert on.load(0, bell.SOURCE, 8) == 0x1234
    assert on.load(15, 0, 2) == bell.VENDOR_ID
    assert on.cpu.pcistb(bytes(16), Request(on.fh, 0, 16), bell.SOURCE) == Answer()
    assert (on.guest.accesses.intercepted, on.guest.accesses.interpreted) == (0, 4)
    assert seen == []


def test_the_handle_is_the_hosts(on: InterpretedRig) -> None:
    path = "/sys/bus/pci/devices/0010:00:00.0/function_handle"
    assert on.fh == int(on.host.sysfs.read_text(path), 16)
    assert on.fh & 0x00FF0000 == 0
    disabled = on.set(on.fh, clp.SetOperation.DISABLE)[1]
    assert disabled == on.fh & ~FH_ENABLED
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(3)
    assert on.guest.accesses.intercepted == 1
    assert on.set(disabled, clp.SetOperation.ENABLE) == (clp.ClpCode.OK, on.fh)
    on.load(15, 0, 4)
    assert on.guest.accesses.interpreted == 1


def test_a_function_in_error_is_the_hypervisors_again(on: InterpretedRig) -> None:
    on.dma_on()
    assert on.cpu.rpcit(on.fh, 0, 4096).cc == 1
    before = on.guest.accesses.intercepted
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(1, Status.BLOCKED)
    assert on.guest.accesses.intercepted == before + 1
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.RESET_ERROR, Fib()) == Answer()
    assert on.load(15, 0, 2) == bell.VENDOR_ID
    assert on.guest.accesses.intercepted == before + 1


@pytest.mark.parametrize("kind", [InterpretedRig, HostForwardingRig])
def test_interruptions_come_without_a_program(kind: type[InterpretedRig], monkeypatch: pytest.MonkeyPatch) -> None:
    rig = kind()
    rig.enable()
    rig.interrupts_on()
    seen = calls(rig, monkeypatch)
    assert function(rig).filenos() == function(rig)._signals.filenos()
    software_of(rig.host.backend).machine.zpci.functions[0x20].signal(2)
    assert rig.interrupts == [3]  # nobody polled
    assert (rig.memory.read(VECTOR, 2), rig.memory.read(SUMMARY, 1)) == (b"\0\x20", b"\x04")
    assert seen == []
    (machine,) = rig.guest._machines.values()
    assert machine.kvm.aen_forward == (0 if rig.assist else 1)  # type: ignore[union-attr]
    rig.close()


def test_an_interruption_that_was_forwarded_ends_a_wait(on: InterpretedRig) -> None:
    on.interrupts_on()
    device = software_of(on.host.backend).machine.zpci.functions[0x20]
    assert not on.guest.wait(0.01)
    device.signal(1)
    assert on.guest.wait(5)
    assert not on.guest.wait(0.01)
    threading.Timer(0.05, device.signal, (2,)).start()
    assert on.guest.wait(20)
    assert asyncio.run(on.guest.wait_async(0.01)) is False
    device.signal(1)
    assert asyncio.run(on.guest.wait_async(20)) is True
    assert on.interrupts == [3] * 3


def test_suppression_is_the_same(on: InterpretedRig) -> None:
    on.interrupts_on()
    on.cpu.sic(SicOperation.SINGLE, 3)
    for vector in range(3):
        software_of(on.host.backend).machine.zpci.functions[0x20].signal(vector)
    assert on.interrupts == [3]
    assert on.cpu.interruptions.suppressed[3] == 2


def test_dma_and_interruption_of_one_command(on: InterpretedRig) -> None:
    on.interrupts_on()
    on.dma_on()
    on.map(0, 0x10000)
    on.map(1, 0x11000)
    on.memory.write(0x10000, b"by the machine itself")
    assert on.ring(BASE, BASE + 0x1000, 21, vector=1) & bell.BellStatus.DONE
    assert on.memory.read(0x11000, 21) == b"by the machine itself"
    assert on.interrupts == [3]


@pytest.mark.parametrize(
    "changes",
    [{"aibv": 0x2FFC, "aibvo": 32}, {"aibv": 1 << 40}, {"aisb": 0x2104}, {"aisb": 1 << 40}],
    ids=["across pages", "no storage", "off a doubleword", "no summary"],
)
def test_vectors_that_cannot_be_pinned(on: InterpretedRig, changes: dict[str, int]) -> None:
    fib = Fib(**{"isc": 3, "noi": 4, "aibv": VECTOR, "sum": 1, "aisb": SUMMARY, **changes})
    register = FunctionOperation.REGISTER_INTERRUPTS
    assert on.cpu.mpcifc(on.fh, 0, register, fib) == Answer(1, Status.FUNCTION_ALREADY_ENABLED)
    assert on.cpu.mpcifc(on.fh, 0, register, Fib(isc=3, noi=4, aibv=VECTOR)) == Answer()


def test_an_error_of_the_function_is_the_machines_answer(on: InterpretedRig) -> None:
    on.interrupts_on(noi=2)
    software_of(on.host.backend).machine.zpci.functions[0x20].signal(3)
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(1, Status.BLOCKED)
    assert on.errors == []


# ---- the end -----------------------------------------------------------------------------------------------------


def test_a_function_that_is_gone(on: InterpretedRig) -> None:
    on.interrupts_on()
    thread = threading.Thread(
        target=lambda: software_of(on.host.backend).machine.zpci.unplug(0x20, surprise=True),
    )
    thread.start()
    time.sleep(0.05)
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(3)
    assert on.cpu.pcistg(0, Request(on.fh, 0, 4), 0) == Answer(3)
    assert on.cpu.mpcifc(on.fh, 0, FunctionOperation.DEREGISTER_INTERRUPTS, Fib()).cc in (0, 3)
    assert on.list().entries[0].fh == on.fh
    on.guest.detach(0x100)
    thread.join(5)
    assert not thread.is_alive()


def test_a_device_that_is_closed_is_the_hosts_again(on: InterpretedRig) -> None:
    host = function(on).host
    function(on).device.close()
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(3)
    with pytest.raises(Refused):
        host.load(15, 0, 4)
    with pytest.raises(OSError, match="No such device"):
        host.forward(Fib(noi=1), assist=True)
    host.close()
    on.guest.detach(0x100)
    with pyvfio.open_device(on.host, "0010:00:00.0") as device:
        assert device.config.device_id == bell.DEVICE_ID


def test_detaching_ends_forwarding(on: InterpretedRig) -> None:
    on.interrupts_on()
    on.guest.detach(0x100)
    software_of(on.host.backend).machine.zpci.functions[0x20].signal(1)
    assert (on.interrupts, on.memory.read(VECTOR, 2)) == ([], bytes(2))


# ---- the lock ----------------------------------------------------------------------------------------------------


def test_who_may_not_wait_leaves_its_work() -> None:
    lock, done = SharedLock(), []
    lock.leave(lambda: done.append(1))
    assert done == [1]
    with lock:
        with lock:
            lock.leave(lambda: done.append(2))
            assert done == [1]
        assert done == [1]
    assert done == [1, 2]


def test_work_is_done_by_who_holds_the_lock() -> None:
    lock, done = SharedLock(), []
    inside, left = threading.Event(), threading.Event()

    def holder() -> None:
        with lock:
            inside.set()
            left.wait(5)

    thread = threading.Thread(target=holder)
    thread.start()
    inside.wait(5)
    lock.leave(lambda: done.append(threading.current_thread() is thread))
    assert done == []
    left.set()
    thread.join(5)
    assert done == [True]


def test_instructions_and_interruptions_of_a_paced_machine_do_not_wait_for_each_other() -> None:
    """The machine's thread interrupts while another carries out instructions that wait for the machine."""
    spec = MachineSpec(
        "paced",
        interpretation=True,
        functions=[FunctionSpec(uid=1, fid=1, model="virtio-bell", options={"delay": 0.0001})],
    )
    with pyvfio.Host("software", machine=spec, paced=True) as host, GuestMemory(0x10000) as memory:
        pyvfio.bind(host.device("0001:00:00.0"))
        seen: list[int] = []
        with GuestPci(memory, on_interruption=lambda isc: (seen.append(isc), guest.sic(0, isc))) as guest:  # type: ignore[func-returns-value]
            guest.attach(pyvfio.open_device(host, "0001:00:00.0"), uid=1, fid=1)
            rig: Any = InterpretedRig.__new__(InterpretedRig)
            rig.cpu, rig.memory = guest, memory
            rig.enable()
            rig.interrupts_on()
            device = software_of(host.backend).machine.zpci.functions[1]
            stop = threading.Event()

            def ring() -> None:
                while not stop.is_set():
                    with software_of(host.backend).machine.lock:
                        device.signal(0)

            thread = threading.Thread(target=ring)
            thread.start()
            end = time.monotonic() + 1
            rounds = 0
            while time.monotonic() < end:
                rig.load(15, 0, 4)
                guest.stpcifc(rig.fh, 0)
                guest.clp(clp.QueryRequest(handle=rig.fh).to_bytes(), 160)
                rounds += 1
            stop.set()
            thread.join(10)
            assert not thread.is_alive()
            assert rounds > 10
            assert len(seen) > 10
