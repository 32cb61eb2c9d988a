"""What the host does to a guest's PCI functions while the guest uses them: asks for them, breaks them, runs short."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pyvfio
from pyvfio.abi.vfio import PciIrq
from pyvfio.errors import KernelRefused, Misuse
from pyvfio.passthrough import GuestMemory, GuestPci
from pyvfio.passthrough.signals import HostSignals
from pyvfio.pci import bell
from pyvfio.zpci import clp
from pyvfio.zpci.event import AvailabilityCode, AvailabilityEvent, ErrorCode, ErrorEvent
from pyvfio.zpci.fib import Fib
from pyvfio.zpci.handle import FH_ENABLED
from pyvfio.zpci.instructions import Answer, FunctionOperation, OperandException, Request, Status
from pyvfio.zpci.sic import SicOperation
from pyvfio.zpci.table import Iota, page_entry
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.hardware.zpci.models import build_function

sys.path.insert(0, str(Path(__file__).parents[1] / "hardware_zpci"))
from zpci_rig import BASE, TABLES, GuestRig, InterpretedRig


@pytest.fixture(params=[GuestRig, InterpretedRig], ids=["intercepted", "interpreted"])
def on(request: pytest.FixtureRequest) -> Iterator[GuestRig]:
    rig = request.param()
    rig.enable()
    yield rig
    rig.close()


def events_of(rig: GuestRig) -> list[AvailabilityCode]:
    seen: list[AvailabilityCode] = []
    rig.guest._on_availability = lambda event: seen.append(AvailabilityCode(event.pec))
    return seen


# ---- the host wants it back --------------------------------------------------------------------------------------


def test_an_unbind_at_the_host_asks_the_guest_and_ends_when_it_lets_go(on: GuestRig) -> None:
    events = events_of(on)
    thread = threading.Thread(
        target=lambda: on.host.sysfs.write_text("/sys/bus/pci/drivers/vfio-pci/unbind", "0010:00:00.0")
    )
    thread.start()
    assert on.guest.wait(5)
    assert events == [AvailabilityCode.DECONFIGURE_REQUESTED]
    assert thread.is_alive()
    assert on.load(15, 0, 4)  # it goes on until the guest lets go
    on.set(on.fh, clp.SetOperation.DISABLE)
    on.guest.deconfigure(0x100)
    thread.join(5)
    assert not thread.is_alive()
    assert events == [AvailabilityCode.DECONFIGURE_REQUESTED, AvailabilityCode.RESERVED]
    assert on.cpu.pcilg(Request(on.fh, 15, 4), 0) == Answer(3)


def test_the_request_interrupt_of_another_is_left_to_him() -> None:
    spec = MachineSpec("one", functions=[FunctionSpec(uid=1, fid=1, model="virtio-bell")])
    with pyvfio.Host("software", machine=spec) as host:
        pyvfio.bind(host.device("0001:00:00.0"))
        with pyvfio.open_device(host, "0001:00:00.0", let_go=True) as device:
            assert HostSignals(device).filenos() == []


# ---- the host's device breaks ------------------------------------------------------------------------------------


def express() -> tuple[pyvfio.Host, GuestMemory, GuestPci, list[ErrorEvent]]:
    """A guest with a physical function, which is PCI Express and has an error interrupt."""
    options = {"total_vfs": 1, "vf_fid": 0x90, "vf_uid": 0x90}
    spec = MachineSpec("one", functions=[FunctionSpec(uid=1, fid=1, model="virtio-net", options=options)])
    host, memory, errors = pyvfio.Host("software", machine=spec), GuestMemory(0x1000), []
    pyvfio.bind(host.device("0001:00:00.0"))
    guest = GuestPci(memory, on_error=errors.append)
    guest.attach(pyvfio.open_device(host, "0001:00:00.0"), uid=1, fid=1)
    return host, memory, guest, errors


def test_an_error_that_the_host_reports_is_the_guests() -> None:
    host, memory, guest, errors = express()
    function: Any = guest.function(1)
    function.enable()
    fh = function.fh
    software_of(host.backend).machine.zpci.fail(1)
    assert errors == []
    assert guest.wait(5)
    assert [(event.pec, event.fid, event.fh) for event in errors] == [(ErrorCode.PERMANENT_ERROR, 1, fh)]
    assert guest.pcilg(Request(fh, 15, 4), 0) == Answer(1, Status.BLOCKED)
    assert guest.rpcit(fh, BASE, 4096) == Answer(3)
    assert guest.stpcifc(fh, 0)[0] == Answer(1, Status.FUNCTION_IN_ERROR)
    code = guest.clp(clp.SetRequest(handle=fh, operation=1).to_bytes(), 160)[1][2:4]
    assert int.from_bytes(code, "big") == clp.ClpCode.PERMANENT_ERROR
    guest.poll()
    assert len(errors) == 1
    guest.deconfigure(1)  # what helps
    for each in (guest, memory, host):
        each.close()


def test_a_signal_that_was_sent_in_test() -> None:
    host, memory, guest, errors = express()
    function: Any = guest.function(1)
    function.device.irq(PciIrq.ERR).trigger()
    guest.poll()
    assert [event.pec for event in errors] == [ErrorCode.PERMANENT_ERROR]
    for each in (guest, memory, host):
        each.close()


def test_instructions_on_a_device_that_was_closed_in_between(on: GuestRig) -> None:
    """Whatever comes of them, no exception does."""
    on.interrupts_on()
    on.dma_on()
    on.map(0, 0x10000)
    on.function().device.close()  # type: ignore[attr-defined]
    for page in (0, 1):
        entry = page_entry(0x20000, valid=bool(page))
        on.memory.write(TABLES + 0x8000 + page * 8, entry.to_bytes(8, "big"))
    fib = Fib(pba=BASE, pal=BASE + 0xFFFFF, iota=Iota(TABLES).to_word())
    refreshed = on.cpu.rpcit(on.fh, BASE, 0x2000)
    assert refreshed.cc in (0, 1, 3)
    for operation in (6, 5, 4, 3, 2, 7, 9, 10):
        assert on.cpu.mpcifc(on.fh, 0, operation, fib if operation in (4, 6) else Fib(noi=1)).cc in (0, 1, 3)
    for answer in (
        on.cpu.pcilg(Request(on.fh, 15, 4), 0x42 & -4),
        on.cpu.pcilg(Request(on.fh, 0, 8), 0),
        on.cpu.pcistg(0xC000, Request(on.fh, 15, 2), 0x42),
        on.cpu.pcistb(bytes(16), Request(on.fh, 0, 16), 0),
        on.cpu.stpcifc(on.fh, 0)[0],
    ):
        assert answer.cc in (1, 3)
    on.guest.poll()
    assert on.set(on.fh, clp.SetOperation.DISABLE)[0] in (clp.ClpCode.OK, clp.ClpCode.PERMANENT_ERROR)
    assert len(on.list().entries) == 2


def test_storage_that_goes_while_it_is_mapped() -> None:
    rig = GuestRig()
    rig.enable()
    rig.dma_on()
    rig.memory.add(0x1000000, 0x10000)
    for page in range(4):
        rig.map(page, 0x1000000 + page * 0x1000, refresh=page == 3)
    assert rig.cpu.rpcit(rig.fh, BASE, 0x4000) == Answer()
    rig.memory.remove(0x1000000)
    rig.memory.write(TABLES + 0x8000, page_entry(0, valid=False).to_bytes(8, "big"))
    assert rig.cpu.rpcit(rig.fh, BASE, 0x1000) == Answer()
    rig.close()


# ---- the guest starts again --------------------------------------------------------------------------------------


def test_a_reset_of_the_guest_resets_its_functions(on: GuestRig) -> None:
    on.interrupts_on()
    on.dma_on()
    on.map(0, 0x10000)
    on.cpu.sic(SicOperation.SINGLE, 3)
    on.signal(0)
    on.store(0, bell.SOURCE, 8, 0x1234)
    enabled = on.fh
    on.guest.add(build_function(FunctionSpec(uid=0x99, fid=0x900, model="virtio-bell"), 7))
    on.enable(2)
    on.guest.reset()
    assert [entry.fh & FH_ENABLED for entry in on.list().entries] == [0, 0, 0]
    assert on.function().device.space.mappings() == []  # type: ignore[attr-defined]
    assert on.cpu.pcilg(Request(enabled, 15, 4), 0) == Answer(3)
    on.enable()
    assert on.load(0, bell.SOURCE, 8) == 0
    assert on.cpu.stpcifc(on.fh, 0)[1].iota == 0
    on.interrupts.clear()
    on.interrupts_on()
    for _ in range(2):
        on.signal(0)
    assert on.interrupts == [3, 3]


def test_a_reset_carries_out_what_the_guest_was_asked_for(on: GuestRig) -> None:
    events = events_of(on)
    on.guest.request(0x100)
    on.guest.reset()
    assert events == [AvailabilityCode.DECONFIGURE_REQUESTED, AvailabilityCode.RESERVED]
    assert [entry.fid for entry in on.list().entries] == [0x101]


def test_a_reset_while_the_device_does_not_answer(on: GuestRig) -> None:
    on.function().device.close()  # type: ignore[attr-defined]
    on.guest.reset()
    entry = on.list().entries[0]
    assert entry.fh & FH_ENABLED == 0
    assert on.set(entry.fh, clp.SetOperation.ENABLE)[0] == clp.ClpCode.OK
    assert on.cpu.pcilg(Request(entry.fh | FH_ENABLED, 15, 4), 0).cc in (1, 3)


# ---- the host runs short -----------------------------------------------------------------------------------------


def limited(limit: int) -> GuestRig:
    rig = GuestRig(entry_limit=limit)
    rig.enable()
    rig.dma_on()
    return rig


def put(rig: GuestRig, page: int, frame: int | None) -> None:
    entry = page_entry(frame or 0, valid=frame is not None)
    rig.memory.write(TABLES + 0x8000 + page * 8, entry.to_bytes(8, "big"))


def test_the_limit_is_the_kernels_and_room_comes_back() -> None:
    rig = limited(3)
    space = rig.function().device.space  # type: ignore[attr-defined]
    for page in (0, 2, 4):
        rig.map(page, 0x10000 + page * 0x2000)
    assert space.available == 0
    put(rig, 6, 0x40000)
    for _ in range(3):
        assert rig.cpu.rpcit(rig.fh, BASE + 0x6000, 0x1000) == Answer(1, Status.INSUFFICIENT_RESOURCES)
    assert rig.errors == []
    assert rig.ring(BASE, BASE + 0x2000, 8)  # what was mapped is mapped still
    put(rig, 2, None)
    assert rig.cpu.rpcit(rig.fh, BASE + 0x2000, 0x1000) == Answer()
    assert rig.cpu.rpcit(rig.fh, BASE + 0x6000, 0x1000) == Answer()
    assert space.available == 0
    rig.close()


def test_one_refresh_of_all_brings_in_what_has_room_then() -> None:
    """As Linux does after status 16: it empties its queue of what is to be made invalid, and refreshes all."""
    rig = limited(2)
    rig.map(0, 0x10000)
    rig.map(2, 0x20000)
    put(rig, 5, 0x30000)
    assert rig.cpu.rpcit(rig.fh, BASE, 0x10000) == Answer(1, Status.INSUFFICIENT_RESOURCES)
    put(rig, 0, None)
    assert rig.cpu.rpcit(rig.fh, BASE, 0x10000) == Answer()
    mapped = [run.iova for run in rig.function().space.mapped()]  # type: ignore[attr-defined]
    assert mapped == [BASE + 0x2000, BASE + 0x5000]
    rig.close()


def test_pages_that_lie_together_need_one_mapping() -> None:
    rig = limited(1)
    for page in range(64):
        put(rig, page, 0x10000 + page * 0x1000)
    assert rig.cpu.rpcit(rig.fh, BASE, 64 * 0x1000) == Answer()
    rig.close()


def test_the_limit_is_one_for_all_that_maps_in_the_container() -> None:
    """Mappings of the hypervisor's own in the same container count, too; so does what it takes away again."""
    rig = limited(2)
    space = rig.function().device.space  # type: ignore[attr-defined]
    (area,) = rig.memory.areas()
    rig.map(0, 0x10000)
    space.map(area.address, 0x1000, BASE + 0x1000_0000)
    put(rig, 2, 0x20000)
    assert rig.cpu.rpcit(rig.fh, BASE + 0x2000, 0x1000) == Answer(1, Status.INSUFFICIENT_RESOURCES)
    with pytest.raises(KernelRefused):
        space.map(area.address, 0x1000, BASE + 0x1000_1000)
    space.unmap(BASE + 0x1000_0000, 0x1000)
    assert rig.cpu.rpcit(rig.fh, BASE + 0x2000, 0x1000) == Answer()
    rig.close()


def test_each_function_has_a_container_and_a_limit_of_its_own() -> None:
    rig = limited(1)
    rig.map(0, 0x10000)
    first = rig.fh
    rig.enable(1)
    rig.dma_on()
    rig.map(0, 0x10000)
    put(rig, 2, 0x20000)
    for fh in (first, rig.fh):
        assert rig.cpu.rpcit(fh, BASE + 0x2000, 0x1000) == Answer(1, Status.INSUFFICIENT_RESOURCES)
    rig.close()


def test_functions_of_a_guest_do_not_share_an_address_space() -> None:
    spec = MachineSpec("two", functions=[FunctionSpec(uid=n, fid=n, model="virtio-bell") for n in (1, 2)])
    with pyvfio.Host("software", machine=spec) as host, GuestMemory(0x1000) as memory, GuestPci(memory) as guest:
        devices = [host.device(f"{n:04x}:00:00.0") for n in (1, 2)]
        for device in devices:
            pyvfio.bind(device)
        first = pyvfio.open_device(host, devices[0], way="iommufd")
        guest.attach(first)
        second = pyvfio.open_device(host, devices[1], space=first.space)
        with second, pytest.raises(Misuse, match=r"shares its address space with 0001:00:00\.0"):
            guest.attach(second)
        assert len(guest.all_functions()) == 1


def test_locked_memory_that_runs_out_is_the_same_status() -> None:
    spec = MachineSpec(
        "small", memlock=0x10000, ipc_lock=False, functions=[FunctionSpec(uid=1, fid=1, model="virtio-bell")]
    )
    with pyvfio.Host("software", machine=spec) as host, GuestMemory(0x200000) as memory, GuestPci(memory) as guest:
        pyvfio.bind(host.device("0001:00:00.0"))
        guest.attach(pyvfio.open_device(host, "0001:00:00.0"), uid=1, fid=1)
        rig: Any = GuestRig.__new__(GuestRig)
        rig.cpu, rig.memory = guest, memory
        rig.enable()
        rig.dma_on()
        for page in range(32):
            put(rig, page, 0x10000 + page * 0x1000)
        assert guest.rpcit(rig.fh, BASE, 32 * 0x1000) == Answer(1, Status.INSUFFICIENT_RESOURCES)
        for page in range(8, 32):
            put(rig, page, None)
        assert guest.rpcit(rig.fh, BASE, 32 * 0x1000) == Answer()


# ---- waiting -----------------------------------------------------------------------------------------------------


def test_waiting_in_an_event_loop() -> None:
    rig = GuestRig()
    rig.enable()
    rig.interrupts_on()

    async def work() -> list[bool]:
        found = [await rig.guest.wait_async(0.01)]
        loop = asyncio.get_running_loop()
        device = software_of(rig.host.backend).machine.zpci.functions[0x20]
        loop.call_later(0.01, device.signal, 2)
        found.append(await rig.guest.wait_async(5))
        return found

    assert asyncio.run(work()) == [False, True]
    assert rig.interrupts == [3]
    rig.close()


def test_no_descriptor_stays_open() -> None:
    gc.collect()  # what earlier tests left is not this one's
    before = len(os.listdir("/proc/self/fd"))
    rig = GuestRig()
    rig.enable()
    rig.interrupts_on()
    rig.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_registering_tables_when_the_kernel_takes_none_of_them() -> None:
    rig = GuestRig(entry_limit=0)
    rig.enable()
    rig.tables()
    put(rig, 0, 0x10000)
    fib = Fib(pba=BASE, pal=BASE + 0xFFFFF, iota=Iota(TABLES).to_word())
    register = FunctionOperation.REGISTER_TRANSLATION
    assert rig.cpu.mpcifc(rig.fh, 0, register, fib) == Answer(1, Status.INSUFFICIENT_RESOURCES)
    assert rig.cpu.stpcifc(rig.fh, 0)[1].iota == 0
    put(rig, 0, None)
    assert rig.cpu.mpcifc(rig.fh, 0, register, fib) == Answer()
    rig.close()


def test_a_guest_is_told_of_what_comes_and_goes() -> None:
    seen: list[AvailabilityEvent] = []
    spec = MachineSpec("one", functions=[FunctionSpec(uid=1, fid=1, model="virtio-bell")])
    with pyvfio.Host("software", machine=spec) as host, GuestMemory(0x1000) as memory:
        pyvfio.bind(host.device("0001:00:00.0"))
        with GuestPci(memory, on_availability=seen.append) as guest:
            guest.attach(pyvfio.open_device(host, "0001:00:00.0"), uid=5, fid=6)
            guest.detach(6)
    assert [(event.pec, event.fid) for event in seen] == [
        (AvailabilityCode.CONFIGURED, 6),
        (AvailabilityCode.DECONFIGURED, 6),
    ]


# ---- in the middle -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["detach", "unbind", "surprise", "close"])
def test_a_function_goes_while_instructions_are_on_their_way(on: GuestRig, how: str) -> None:
    """Two processors of the guest work on, and see nothing but condition codes."""
    on.interrupts_on()
    on.dma_on()
    on.map(0, 0x10000)
    wrong: list[BaseException] = []
    codes: set[int] = set()
    stop = threading.Event()

    def work() -> None:
        fh = on.fh
        fib = Fib(pba=BASE, pal=BASE + 0xFFFFF, iota=Iota(TABLES).to_word())
        steps = (
            lambda: on.cpu.pcilg(Request(fh, 15, 4), 0),
            lambda: on.cpu.pcistg(0, Request(fh, 0, 8), 0x18),
            lambda: on.cpu.pcistb(bytes(16), Request(fh, 0, 16), 0x18 & -8),
            lambda: on.cpu.rpcit(fh, BASE, 0x1000),
            lambda: on.cpu.mpcifc(fh, 0, FunctionOperation.REREGISTER_TRANSLATION, fib),
            lambda: on.cpu.stpcifc(fh, 0)[0],
        )
        while not stop.is_set():
            for step in steps:
                try:
                    codes.add(step().cc)
                except OperandException:
                    continue
                except BaseException as error:
                    wrong.append(error)
                    return
            on.cpu.clp(clp.ListRequest().to_bytes(), 4096)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    with on.guest.serve():
        threading.Event().wait(0.1)
        if how == "detach":
            on.guest.detach(0x100)
        elif how == "close":
            on.function().device.close()  # type: ignore[attr-defined]
        else:
            events = events_of(on)
            machine = software_of(on.host.backend).machine
            leaving = threading.Thread(
                target=(lambda: on.host.sysfs.write_text("/sys/bus/pci/drivers/vfio-pci/unbind", "0010:00:00.0"))
                if how == "unbind"
                else (lambda: machine.zpci.unplug(0x20, surprise=True))
            )
            leaving.start()
            for _ in range(500):
                if events:
                    break
                threading.Event().wait(0.01)
            on.guest.detach(0x100)
            leaving.join(10)
            assert not leaving.is_alive()
        threading.Event().wait(0.1)
        stop.set()
        for thread in threads:
            thread.join(10)
    assert wrong == []
    assert 0 in codes
    assert codes <= {0, 1, 3}
