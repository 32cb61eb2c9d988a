"""`pyvfio.css.Subchannel`: errors, giving up at any point, what comes unasked, many threads and tasks, no leaks."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_machine import machine_of

import pyvfio
import pyvfio.css
from pyvfio import CcwDevice, Control, Read, Tic, Write
from pyvfio.channel_errors import (
    ChannelFault,
    DeferredStart,
    DeviceGone,
    NotOperational,
    ProgramFault,
    ProgramStopped,
    ProgramSuspended,
    StatusLost,
    UnitCheck,
)
from pyvfio.channel_functions import _Awaited
from pyvfio.channel_regions import ChannelRegions
from pyvfio.css import CcwFlag, Command, Crw, Cstat, Dstat, Fctl, Irb, Orb, Program, Scsw, Stctl, Subchannel
from pyvfio.css.scsw import Actl
from pyvfio.errors import ChannelProgramFailed, DeviceBusy, Misuse, NotAvailable, PyvfioError, Timeout
from pyvfio.vfio import Device
from pyvfio_backends.software import software_of
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.machine import Machine

NUMBER = "0.0.0e00"
NOP = Control(Command.NOP)
FOR_EVER = [NOP, Tic(0)]
ENDED = Stctl.PENDING | Stctl.PRIMARY | Stctl.SECONDARY


def spec(**changes: Any) -> MachineSpec:
    row = SubchannelSpec("0.0.0005", NUMBER, "echo", chpids=(0x42, 0x43), pim=0xC0, pam=0xC0)
    return MachineSpec("one-echo", paths=[ChannelPathSpec(0x42), ChannelPathSpec(0x43)], subchannels=[row], **changes)


@contextmanager
def opened(*, paced: bool = False, **options: Any) -> Iterator[Subchannel]:
    with pyvfio.open_backend("software", machine=spec(), paced=paced) as backend, pyvfio.Host(backend) as host:
        pyvfio.ccw_take(host, NUMBER)
        with Subchannel.open(host, NUMBER, **options) as subchannel:
            yield subchannel


@pytest.fixture
def echo() -> Iterator[Subchannel]:
    with opened() as subchannel:
        yield subchannel


def machine(subchannel: Subchannel) -> Machine:
    found: Machine = software_of(subchannel.device.backend).machine
    return found


def turn(subchannel: Subchannel, name: str, *arguments: Any) -> None:
    """Turn a switch of the hardware."""
    lab = machine(subchannel)
    with lab.lock:
        getattr(lab.css, name)(*arguments)
        lab.clock.settle()


def attention(subchannel: Subchannel, status: int = 0x80) -> None:
    assert subchannel.schid is not None
    turn(subchannel, "present_status", subchannel.schid, status)


def ends(monkeypatch: pytest.MonkeyPatch, *irbs: Irb) -> None:
    """Let the next programs end with these."""
    left = list(irbs)
    plain = ChannelRegions.irb
    monkeypatch.setattr(ChannelRegions, "irb", lambda self: left.pop(0) if left else plain(self))


def works(subchannel: Subchannel) -> bool:
    return subchannel.run([Write(1, b"usable"), Read(2, 6)]).data == b"usable"


# -- what is refused, and how it fails --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scsw", "kind", "words"),
    [
        (Scsw(fctl=Fctl.START, stctl=Stctl.PENDING | Stctl.ALERT, cc=1), DeferredStart, "deferred cc 1"),
        (Scsw(fctl=Fctl.START, stctl=Stctl.PENDING | Stctl.ALERT, cc=3), NotOperational, "deferred cc 3"),
        (Scsw(fctl=Fctl.START, stctl=ENDED, cstat=Cstat.PROTECTION_CHECK), ProgramFault, "protection check"),
        (Scsw(fctl=Fctl.START, stctl=ENDED, cstat=Cstat.INTERFACE_CONTROL_CHECK), ChannelFault, "interface control"),
        (Scsw(fctl=Fctl.START | Fctl.HALT, stctl=ENDED), ProgramStopped, "start+halt|halt"),
        (Scsw(fctl=Fctl.START, stctl=ENDED, dstat=Dstat.BUSY), ChannelProgramFailed, "busy"),
        (Scsw(fctl=Fctl.START, stctl=ENDED, dstat=Dstat.UNIT_CHECK), UnitCheck, "BASIC SENSE"),
    ],
)
def test_each_unusual_end_has_its_class(
    echo: Subchannel, monkeypatch: pytest.MonkeyPatch, scsw: Scsw, kind: type[ChannelProgramFailed], words: str
) -> None:
    ends(monkeypatch, Irb(scsw))
    with pytest.raises(ChannelProgramFailed, match=f"(?s){words}") as caught:
        echo.run([NOP])
    error = caught.value
    assert type(error) is kind
    assert (error.operation, error.obj) == ("run channel program", NUMBER)
    assert error.path.startswith("/sys/bus/mdev/devices/")
    assert error.next_step
    assert error.irb is not None
    assert error.irb.scsw == scsw
    assert works(echo)


def test_a_unit_check_has_sense(echo: Subchannel) -> None:
    with pytest.raises(UnitCheck, match="command reject") as caught:
        echo.run([Control(0x77)])
    assert caught.value.sense[0] == 0x80
    assert "manual" in caught.value.next_step
    assert caught.value.as_dict()["sense"].startswith("80")  # type: ignore[attr-defined]


def test_a_program_check_names_the_ccw(echo: Subchannel) -> None:
    with echo.buffer(0x2000) as memory:
        program = Program(memory.iova).nop().sli.then.read((memory.iova + 0x1000, 0)).data((memory.iova + 0x1000, 8))
        with pytest.raises(ProgramFault, match=r"CCW 1 at .*: count: a count of zero in a data chain"):
            echo.start(program)
    assert works(echo)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENODEV, NotOperational),
        (errno.EACCES, NotOperational),
        (errno.EIO, DeviceGone),
        (errno.EBUSY, DeviceBusy),
        (errno.EAGAIN, DeviceBusy),
    ],
)
@pytest.mark.parametrize("what", ["run", "halt", "clear"])
def test_a_request_that_the_kernel_refuses(echo: Subchannel, number: int, kind: type[PyvfioError], what: str) -> None:
    machine(echo).faults.fail("pwrite", number)
    with pytest.raises(kind) as caught:
        echo.run([NOP]) if what == "run" else getattr(echo, what)()
    error = caught.value
    assert error.errno == number
    assert error.obj == NUMBER
    assert error.path
    assert error.cause
    assert error.next_step
    assert works(echo)


def test_a_status_that_cannot_be_read(echo: Subchannel) -> None:
    machine(echo).faults.fail("pread", errno.ENODEV)
    with pytest.raises(DeviceGone, match="not there any more"):
        echo.run([NOP])


def test_a_kernel_without_the_other_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "find_region", lambda self, kind, subtype: None)
    monkeypatch.setattr(Device, "request", None)
    with opened() as echo:
        assert echo.features == frozenset()
        assert echo.name == "0.0.0005"  # the subchannel: without a SCHIB it is not known what is behind it
        assert works(echo)
        for call, since in ((echo.halt, "5.2"), (echo.clear, "5.2"), (echo.schib, "5.8"), (echo.crw, "5.8")):
            with pytest.raises(NotAvailable, match=f"no such region\n.*Linux {since}"):
                call()
        with pytest.raises(NotAvailable):
            echo.report(1)
        with pytest.raises(NotAvailable, match=r"Linux 5\.11"):
            echo.wanted(1)
        with pytest.raises(Timeout, match="stopped by a reset"):
            echo.run(FOR_EVER, timeout=0.05)
        assert works(echo)


def test_a_suspended_program_is_stopped(echo: Subchannel) -> None:
    with echo.buffer(0x2000) as memory:
        program = Program(memory.iova).nop().sli.then.nop().sli.suspend
        with pytest.raises(ProgramStopped if echo is None else ChannelProgramFailed) as caught:
            echo.start(program, timeout=5)
    assert isinstance(caught.value, ProgramSuspended | ProgramStopped)
    assert works(echo)


def test_somebody_else_looks_for_requests(echo: Subchannel) -> None:
    with echo.device.on_request(lambda device: None), pytest.raises(Misuse):
        echo.wanted(1)


# -- giving up --------------------------------------------------------------------------------------------------------


def test_an_end_that_comes_with_the_timeout_is_not_lost(echo: Subchannel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program ends between the last look and the halt."""
    seen: list[str] = []
    plain = Subchannel._take_in

    def late(self: Subchannel) -> bool:
        seen.append("look")
        return plain(self) if len(seen) > 6 else False

    monkeypatch.setattr(Subchannel, "_take_in", late)
    assert echo.run([Write(1, b"x")], timeout=0.0).scsw.ok


def test_timeout_of_a_turn(echo: Subchannel) -> None:
    started = threading.Event()

    def endless() -> None:
        started.set()
        with pytest.raises(Timeout):
            echo.run(FOR_EVER, timeout=0.5)

    thread = threading.Thread(target=endless)
    thread.start()
    started.wait(5)
    while not echo.busy:
        time.sleep(0.01)
    with pytest.raises(DeviceBusy, match="another program"):
        echo.run([NOP], timeout=0.05)
    thread.join(5)
    assert works(echo)


def test_a_start_waits_for_the_end_of_a_halt(echo: Subchannel) -> None:
    """The request is written over the IRB, so a start at this moment would take the end of the halt away."""
    halting = _Awaited(Fctl.HALT)
    echo._stopping.append(halting)
    with pytest.raises(DeviceBusy, match="halt or clear of another"):
        echo.run([NOP], timeout=0.05)
    ended = threading.Timer(0.1, lambda: (echo._stopping.remove(halting), echo._intake.ring()))
    ended.start()
    assert works(echo)
    ended.join()


def test_the_end_of_a_halt_that_was_written_over(echo: Subchannel, monkeypatch: pytest.MonkeyPatch) -> None:
    ends(monkeypatch, Irb())
    assert echo.halt(timeout=5).scsw.fctl == Fctl.HALT
    assert works(echo)


@pytest.mark.parametrize("how", ["halt", "clear", "stop"])
def test_another_thread_stops_it(echo: Subchannel, how: str) -> None:
    caught: list[BaseException] = []

    def endless() -> None:
        try:
            echo.run(FOR_EVER)
        except PyvfioError as error:
            caught.append(error)

    thread = threading.Thread(target=endless)
    thread.start()
    while not echo.busy:
        time.sleep(0.01)
    getattr(echo, how)()
    thread.join(5)
    assert [type(error) for error in caught] == [ProgramStopped]
    assert works(echo)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 400), st.booleans(), st.integers(0, 3))
def test_a_task_cancelled_at_any_point(steps: int, endless: bool, again: int) -> None:
    """Whatever the task was doing, the next program runs."""

    async def work(subchannel: Subchannel) -> None:
        task = asyncio.create_task(subchannel.run_async(FOR_EVER if endless else [Write(1, b"z" * 64), Read(2, 64)]))
        for _ in range(steps % 40):
            await asyncio.sleep(0 if steps < 200 else 0.001)
        task.cancel()
        for _ in range(again):
            await asyncio.sleep(0.0005)
            task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            notes = getattr(error, "__notes__", [])
            assert all("was halted" in note or "had ended" in note or "idle" in note for note in notes), notes
        assert (await subchannel.run_async([Write(1, b"next"), Read(2, 4)])).data == b"next"
        assert not subchannel.busy

    with opened(paced=bool(steps % 2)) as subchannel:
        asyncio.run(work(subchannel))


def test_ctrl_c_stops_the_program(echo: Subchannel, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = pyvfio.channel_events.wait_for_any  # type: ignore[attr-defined]
    calls = []

    def interrupted(events: Any, timeout: float | None = None) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        plain(events, timeout)

    monkeypatch.setattr("pyvfio.channel_events.wait_for_any", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        echo.run(FOR_EVER)
    assert caught.value.__notes__ == [f"{NUMBER}: the channel program was halted"]
    assert works(echo)


def test_a_task_without_its_loop_stops_its_program(echo: Subchannel) -> None:
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        await echo.run_async(FOR_EVER)

    coroutine = begin()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert echo.busy
    coroutine.close()
    task.cancel()
    with pytest.raises(BaseException):  # noqa: B017
        loop.run_until_complete(task)
    loop.close()
    assert works(echo)


def test_what_cannot_be_stopped_is_said(echo: Subchannel) -> None:
    assert works(echo)
    faults = machine(echo).faults
    faults.fail("pwrite", errno.EINVAL, nth=2, times=2)  # the start works, halt and clear do not
    faults.fail("ioctl", errno.EINVAL)
    with pytest.raises(Timeout, match=r"was left running \(reset device EINVAL\)"):
        echo.run(FOR_EVER, timeout=0.05)
    assert works(echo)  # the memory of the program was given up, with which the kernel has stopped it


def test_closing_stops_it_and_wakes_who_waits(echo: Subchannel) -> None:
    caught: list[BaseException] = []

    def endless(call: Callable[[], object]) -> None:
        try:
            call()
        except PyvfioError as error:
            caught.append(error)

    calls = (lambda: echo.run(FOR_EVER), echo.attention, echo.report, echo.wanted)
    threads = [threading.Thread(target=endless, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    while not echo.busy:
        time.sleep(0.01)
    time.sleep(0.05)
    echo.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    assert len(caught) == len(calls)
    assert sum(isinstance(error, Misuse) for error in caught) >= 3


# -- what comes unasked -----------------------------------------------------------------------------------------------


def test_unsolicited_statuses_are_kept(echo: Subchannel) -> None:
    assert echo.take_attention() is None
    attention(echo)
    assert works(echo)
    kept = echo.take_attention()
    assert kept is not None
    assert kept.scsw.dstat == Dstat.ATTENTION
    with pytest.raises(Timeout):
        echo.attention(0.01)
    later = threading.Timer(0.05, attention, (echo, 0x04))
    later.start()
    assert echo.attention(5).scsw.dstat == Dstat.DEVICE_END
    later.join()


def test_an_end_whose_place_an_attention_took(echo: Subchannel, monkeypatch: pytest.MonkeyPatch) -> None:
    unasked = Irb(Scsw(stctl=Stctl.PENDING | Stctl.ALERT, dstat=Dstat.ATTENTION))
    ends(monkeypatch, unasked)
    with pytest.raises(StatusLost, match="took the place"):
        echo.run([NOP])
    assert echo.take_attention() == unasked
    assert works(echo)


def test_an_attention_during_a_program_changes_nothing(echo: Subchannel) -> None:
    timer = threading.Timer(0.1, echo.halt)
    thread = threading.Timer(0.05, attention, (echo,))
    thread.start()
    timer.start()
    with pytest.raises((ProgramStopped, StatusLost)):
        echo.run(FOR_EVER, timeout=5)
    thread.join()
    timer.join()
    assert works(echo)


def test_reports_of_paths(echo: Subchannel) -> None:
    assert echo.crw() is None
    turn(echo, "set_path_online", 0, 0x42, False)
    assert echo.report(5) == Crw(rsc=4, erc=6, rsid=0x42)
    assert echo.schib().pmcw.pam == 0x40
    with pytest.raises(Timeout, match="none came within"):
        echo.report(0.01)


def test_the_host_wants_it_back() -> None:
    with pyvfio.open_backend("software", machine=spec()) as backend, pyvfio.Host(backend) as host:
        pyvfio.ccw_take(host, NUMBER)
        subchannel = Subchannel.open(host, NUMBER)
        assert not subchannel.is_wanted
        thread = threading.Thread(target=host.mdevs()[0].remove)
        thread.start()
        assert subchannel.wanted(10) == 1
        assert subchannel.is_wanted
        assert works(subchannel)  # until it is closed, the device is there
        subchannel.close()
        thread.join(20)
        assert not thread.is_alive()


def test_the_device_goes_during_a_program() -> None:
    """No hang until the timeout: it is seen within a second or so."""
    with pyvfio.open_backend("software", machine=spec()) as backend, pyvfio.Host(backend) as host:
        pyvfio.ccw_take(host, NUMBER)
        subchannel = Subchannel.open(host, NUMBER)
        schid = subchannel.schid
        assert schid is not None
        gone = threading.Timer(0.1, lambda: turn(subchannel, "remove_subchannel", schid))
        gone.daemon = True
        gone.start()
        began = time.monotonic()
        with pytest.raises(ChannelProgramFailed) as caught:
            subchannel.run(FOR_EVER, timeout=30)
        assert isinstance(caught.value, DeviceGone | ProgramStopped | NotOperational)
        assert time.monotonic() - began < 5
        with pytest.raises(PyvfioError):
            subchannel.run([NOP])
        subchannel.close()
        gone.join(10)
        assert not gone.is_alive()


def test_memory_that_is_unmapped_during_a_program(echo: Subchannel) -> None:
    """The kernel stops the program; nothing hangs."""
    memory = echo.buffer(0x3000)
    program = Program(memory.iova).write((memory.iova + 0x2000, 8)).tic(memory.iova)
    timer = threading.Timer(0.1, memory.close)
    timer.start()
    with pytest.raises(PyvfioError):
        echo.start(program, timeout=0.5)
    timer.join()
    assert works(echo)


# -- asyncio ----------------------------------------------------------------------------------------------------------


def test_everything_in_asyncio() -> None:
    async def work(subchannel: Subchannel) -> None:
        assert (await subchannel.sense_id_async()).cu_type
        await subchannel.write_async(b"abc")
        assert await subchannel.read_async(3) == b"abc"
        assert len(await subchannel.sense_async()) <= 32
        assert (await subchannel.halt_async()).scsw.fctl == Fctl.HALT
        assert (await subchannel.clear_async()).scsw.fctl == Fctl.CLEAR
        assert await subchannel.stop_async() == "it was idle"
        with pytest.raises(Timeout):
            await subchannel.wanted_async(0.01)
        with pytest.raises(Timeout):
            await subchannel.run_async(FOR_EVER, timeout=0.05)
        statuses, reports = subchannel.attentions(), subchannel.reports()
        waiting = [asyncio.create_task(anext(one)) for one in (statuses, reports)]  # type: ignore[arg-type]
        await asyncio.sleep(0.01)
        attention(subchannel)
        status = await asyncio.wait_for(waiting[0], 10)  # the host halts on a lost path, which would take its place
        turn(subchannel, "set_path_online", 0, 0x43, False)
        report = await asyncio.wait_for(waiting[1], 10)
        assert isinstance(status, Irb)
        assert report == Crw(rsc=4, erc=6, rsid=0x43)
        with subchannel.buffer(0x2000) as memory:
            assert (await subchannel.start_async(Program(memory.iova).nop().sli)).scsw.ok

    async def whole() -> None:
        with pyvfio.open_backend("software", machine=spec()) as backend, pyvfio.Host(backend) as host:
            pyvfio.ccw_take(host, NUMBER)
            async with Subchannel.open(host, NUMBER) as subchannel:
                await work(subchannel)
            assert subchannel.device.fileno() == -1

    asyncio.run(whole())


def test_many_tasks_and_threads_at_once() -> None:
    def thread(subchannel: Subchannel, number: int, wrong: list[bytes]) -> None:
        for turn_of in range(20):
            text = f"thread {number} {turn_of}".encode()
            data = subchannel.run([Write(1, text), Read(2, len(text))], timeout=60).data
            if data != text:
                wrong.append(data)

    async def task(subchannel: Subchannel, number: int) -> bool:
        for turn_of in range(20):
            text = f"task {number} {turn_of}".encode()
            if (await subchannel.run_async([Write(1, text), Read(2, len(text))], timeout=60)).data != text:
                return False
        return True

    async def tasks(subchannel: Subchannel) -> list[bool]:
        return await asyncio.gather(*(task(subchannel, number) for number in range(4)))

    wrong: list[bytes] = []
    with opened(paced=True) as subchannel:
        threads = [threading.Thread(target=thread, args=(subchannel, number, wrong)) for number in range(4)]
        for one in threads:
            one.start()
        assert all(asyncio.run(tasks(subchannel)))
        for one in threads:
            one.join(60)
    assert wrong == []


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_one_class_by_two_names() -> None:
    assert CcwDevice is Subchannel
    assert pyvfio.css.Subchannel is Subchannel


def test_it_knows_its_names(echo: Subchannel) -> None:
    assert (echo.name, str(echo.schid)) == (NUMBER, "0.0.0005")
    assert echo.path == f"/sys/bus/mdev/devices/{echo.device.name}"
    assert echo.features == {"halt-clear", "schib", "crw", "request"}
    assert repr(echo) == f"<Subchannel {NUMBER}>"


def test_scratch_memory_shows_nothing_of_programs_before(echo: Subchannel, monkeypatch: pytest.MonkeyPatch) -> None:
    echo.write(b"secret" * 10)
    assert echo.read(60) == b"secret" * 10
    ends(monkeypatch, Irb(Scsw(fctl=Fctl.START, stctl=Stctl.PENDING | Stctl.ALERT, cc=1)))
    assert echo.run([Read(2, 60)], check=False).data == b""
    assert echo.run([Read(2, 60, CcwFlag.SKIP)]).data == bytes(60)


def test_storage_and_buffer(echo: Subchannel) -> None:
    with echo.buffer(0x1000) as memory:
        echo.storage.write(memory.iova + 8, b"there")
        assert memory.view[8:13] == b"there"
        assert echo.storage.read(memory.iova + 8, 5) == b"there"
        assert memory.iova + memory.length <= 1 << 31


def test_nothing_is_left_behind() -> None:
    def count() -> tuple[int, int]:
        gc.collect()  # what earlier tests left is not this one's
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    async def work(subchannel: Subchannel) -> None:
        for timeout in (0.01, 0.02):
            with pytest.raises(Timeout):
                await subchannel.run_async(FOR_EVER, timeout=timeout)
            with pytest.raises(Timeout):
                await subchannel.report_async(timeout)

    with pyvfio.open_backend("software", machine=spec()) as backend, pyvfio.Host(backend) as host:
        pyvfio.ccw_take(host, NUMBER)
        before = count()
        for _ in range(3):
            with Subchannel.open(host, NUMBER) as subchannel:
                assert works(subchannel)
                with pytest.raises(Timeout):
                    subchannel.run(FOR_EVER, timeout=0.01)
                with pytest.raises(Timeout):
                    subchannel.wanted(0.01)
                asyncio.run(work(subchannel))
                space = subchannel.device.space
            assert space.mappings() == []
        assert count() == before


def test_status_words_are_told(echo: Subchannel) -> None:
    echo.run([NOP])
    assert echo.last is not None
    assert echo.last.scsw.ok
    echo.halt()
    assert echo.last.scsw.fctl == Fctl.HALT
    assert echo.last.scsw.actl == Actl(0)


def test_an_orb_of_the_caller(echo: Subchannel) -> None:
    with echo.buffer(0x1000) as memory:
        echo.storage.write(memory.iova, Program(memory.iova).nop().sli.to_bytes())
        assert echo.start(Orb(cpa=memory.iova, pfch=True, lpm=0x40)).lpum == 0x40


def test_the_machine_is_that_of_the_host(host: pyvfio.Host) -> None:
    assert machine_of(host)
