"""What a guest or the host does wrong: wild addresses, programs without an end, memory and devices that go away.

Each ends with a status or a condition code, nothing hangs, and the next program runs where there is a device still.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from ccw_fixture import CcwHost
from css_rig import DATA, PROGRAM, SCHID
from differences import close_benches
from guest_css import GuestCss
from guest_rig import OPEN, GuestBench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvfio.address import SubchannelId
from pyvfio.css import Crw, Cstat, Dstat, Fctl, Orb, Stctl
from pyvfio.errors import Misuse
from pyvfio.passthrough import GuestMemory, PassthroughWarning
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.hardware.css import SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

SENSE_ID = "e420000700020000"
NOPS_FOR_EVER = "0360000100020000 0800000000011000"
WRITES_FOR_EVER = "0140000100020000 0800000000011000"
THERE = Orb(cpa=PROGRAM, pfch=True)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield from close_benches()


@pytest.fixture
def bench() -> GuestBench:
    return GuestBench(Echo())


@pytest.fixture(scope="module")
def lasting() -> Iterator[GuestBench]:
    bench = GuestBench(Echo())
    with OPEN.pop():
        yield bench


# wild addresses


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, (1 << 28) - 1).map(lambda word: word * 8),
    st.integers(0, (1 << 31) - 1),
    st.sampled_from([0x00, 0x04, 0x40, 0x44, 0x80, 0x20]),
)
@pytest.mark.filterwarnings("ignore::pyvfio.passthrough.PassthroughWarning")
def test_addresses_anywhere(lasting: GuestBench, cpa: int, address: int, flags: int) -> None:
    """Of the program and of its data: a status, at once."""
    lasting.memory.write(PROGRAM, bytes((0xE4, flags)) + b"\0\x40" + address.to_bytes(4, "big") + bytes(8))
    for orb in (THERE, Orb(cpa=cpa, pfch=True), Orb(cpa=cpa, pfch=True, c64=True)):
        assert lasting.ssch(orb) == 0
        lasting.clock.settle()
        scsw = lasting.irb().scsw
        assert scsw.stctl & Stctl.PENDING
    assert lasting.start(SENSE_ID).scsw.ok


@pytest.mark.parametrize("cpa", [0x7FFF_FFF8, 0x8FFF8, 0x9_0000])
def test_a_program_where_the_guest_has_no_memory(bench: GuestBench, cpa: int) -> None:
    bench.put(0x8FFF8, "0320000100020000")
    with pytest.warns(PassthroughWarning) if cpa == 0x8FFF8 else nullcontext():
        assert bench.ssch(Orb(cpa=cpa, pfch=True)) == 0
        bench.clock.settle()
        scsw = bench.irb().scsw
    assert scsw.cstat == Cstat.PROGRAM_CHECK or scsw.dstat
    assert bench.start(SENSE_ID).scsw.ok


# programs that never end


@pytest.mark.parametrize("instruction", ["hsch", "csch"])
def test_a_program_that_never_ends_can_be_stopped(bench: GuestBench, instruction: str) -> None:
    bench.put(PROGRAM, NOPS_FOR_EVER)
    assert bench.ssch() == 0
    bench.clock.settle()
    assert bench.css.tpi() is None
    assert getattr(bench.css, instruction)(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.fctl & (Fctl.HALT | Fctl.CLEAR)
    assert bench.start(SENSE_ID).scsw.ok


def test_a_guest_that_is_reset_while_a_program_runs(bench: GuestBench) -> None:
    bench.put(PROGRAM, NOPS_FOR_EVER)
    assert bench.ssch() == 0
    bench.clock.settle()
    bench.css.reset()
    assert bench.enable() == 0
    assert bench.start(SENSE_ID).scsw.ok


def test_a_guest_that_is_closed_while_a_program_runs(bench: GuestBench) -> None:
    bench.put(PROGRAM, NOPS_FOR_EVER)
    assert bench.ssch() == 0
    bench.css.close()
    assert bench.ssch() == 3
    assert bench.host.machine.css.stsch(SCHID)[1] is not None


def test_an_attention_right_behind_a_halt(bench: GuestBench) -> None:
    """vfio-ccw keeps one response; the halt ends all the same, and the next start is taken."""
    bench.put(PROGRAM, NOPS_FOR_EVER)
    assert bench.ssch() == 0
    bench.clock.settle()
    bench.host.machine.css.present_status(SCHID, 0x80)
    assert bench.css.hsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.fctl & Fctl.HALT
    bench.clock.settle()
    assert bench.irb().scsw.dstat == Dstat.ATTENTION
    assert bench.start(SENSE_ID).scsw.ok


# memory that goes away


@pytest.mark.parametrize("program", [NOPS_FOR_EVER, WRITES_FOR_EVER])
def test_memory_that_goes_while_a_program_uses_it(program: str) -> None:
    bench = GuestBench(Echo())
    bench.put(PROGRAM, program)
    bench.memory.add(0x200000, 0x10000)
    bench.memory.write(0x200000, bytes.fromhex("0140000100201000 0800000000200000"))
    assert bench.ssch(Orb(cpa=0x200000, pfch=True)) == 0
    bench.clock.settle()
    area = bench.memory.areas()[-1]
    bench.css.memory_removed(area)
    bench.memory.remove(area.start)
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert scsw.cstat & Cstat.INTERFACE_CONTROL_CHECK or scsw.fctl & Fctl.HALT
    assert bench.ssch(Orb(cpa=0x200000, pfch=True)) == 0
    bench.clock.settle()
    assert bench.irb().scsw.cstat == Cstat.PROGRAM_CHECK
    assert bench.start(SENSE_ID).scsw.ok


def test_memory_that_was_freed_behind_our_back(bench: GuestBench) -> None:
    """A hypervisor frees memory that is mapped still: the host's kernel finds no page there."""
    with AnonymousMemory(0x10000) as memory:
        bench.memory.adopt(0x200000, memory.view[:], memory.address)
        bench.css.memory_added()
        assert bench.start("e420000700200000").scsw.ok
        assert bytes(memory.view[:1]) == b"\xff"
        bench.memory.remove(0x200000)
    bench.put(PROGRAM, "e420000700200000")
    assert bench.ssch() == 0
    bench.clock.settle()
    assert bench.irb().scsw.stctl & Stctl.PENDING
    assert bench.start(SENSE_ID).scsw.ok


def test_memory_that_is_not_there_cannot_go(bench: GuestBench) -> None:
    with pytest.raises(Misuse, match="no area begins there"):
        bench.memory.remove(0x5000)
    with AnonymousMemory(0x1000) as memory, pytest.raises(Misuse, match="there is memory already"):
        bench.memory.adopt(0, memory.view, memory.address)


# devices that go away


def test_a_device_that_goes_while_a_program_runs(bench: GuestBench) -> None:
    bench.put(PROGRAM, NOPS_FOR_EVER)
    assert bench.ssch() == 0
    bench.clock.settle()
    machine = bench.host.machine
    with machine.lock:
        machine.css.remove_subchannel(SCHID)
        machine.clock.settle()
    end = time.monotonic() + 10
    while bench.css.schids() and time.monotonic() < end:
        bench.css.wait(0.1)
    assert bench.css.stsch(SCHID) == (3, None)
    assert [bench.css.ssch(SCHID, THERE), bench.css.csch(SCHID), bench.css.tsch(SCHID)[0]] == [3, 3, 3]
    assert bench.css.stcrw() == Crw(rsc=3, erc=4, rsid=SCHID.sch_no)


def test_a_device_that_is_plugged_again() -> None:
    bench = GuestBench(Echo())
    other = SubchannelId(0, 0, 0x99)
    for _ in range(2):
        bench.css.add_subchannel(SubchannelConfig(other, 0x2000, device=Echo()), report=True)
        assert bench.css.stcrw() == Crw(rsc=3, erc=4, rsid=0x99)
        bench.css.detach(other)
        assert bench.css.stcrw() == Crw(rsc=3, erc=4, rsid=0x99)
        machine = bench.host.machine
        with machine.lock:
            machine.css.remove_subchannel(other)
            machine.clock.settle()
        assert bench.start(SENSE_ID).scsw.ok


# several devices, threads, asyncio


def test_many_devices_at_once() -> None:
    """Four devices and four threads; each program ends at its own device with its own data."""
    schids = [SubchannelId(0, 0, 0x10 + number) for number in range(4)]
    wrong: list[str] = []
    with CcwHost(MachineSpec("host"), paced=True) as host, GuestMemory(0x90000) as memory:
        css = GuestCss(memory)
        css.host = host
        with css:
            for number, schid in enumerate(schids):
                css.add_subchannel(SubchannelConfig(schid, 0x2000 + number, device=Echo()))
                schib = css.stsch(schid)[1]
                assert schib is not None
                raw = bytearray(schib.to_bytes())
                raw[5] |= 0x80
                assert css.msch(schid, type(schib).from_bytes(raw)) == 0

            def work(number: int) -> None:
                schid, at = schids[number], 0x10000 + 0x4000 * number
                for turn in range(8):
                    text = f"device {number} turn {turn}".encode()
                    memory.write(at + 0x1000, text)
                    for cmd, data in ((1, at + 0x1000), (2, at + 0x2000)):
                        memory.write(at, bytes((cmd, 0x20, 0, len(text))) + data.to_bytes(4, "big"))
                        if css.ssch(schid, Orb(cpa=at, pfch=True)):
                            wrong.append(f"{schid} was busy")
                        end = time.monotonic() + 20
                        while css.tsch(schid)[0] and time.monotonic() < end:
                            time.sleep(0.001)
                    if memory.read(at + 0x2000, len(text)) != text:
                        wrong.append(f"{schid} turn {turn}")

            with css.serve():
                threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(60)
    assert wrong == []


def test_in_an_event_loop(bench: GuestBench) -> None:
    async def work() -> None:
        assert not await bench.css.wait_async(0.01)
        bench.put(PROGRAM, SENSE_ID)
        assert bench.ssch() == 0
        assert await bench.css.wait_async(5)
        assert bench.irb().scsw.ok
        waiting = asyncio.create_task(bench.css.wait_async(5))
        await asyncio.sleep(0.01)
        machine = bench.host.machine
        with machine.lock:
            machine.css.present_status(SCHID, 0x80)
            machine.clock.settle()
        assert await waiting
        assert bench.irb().scsw.dstat == Dstat.ATTENTION

    asyncio.run(work())


def test_data_is_where_the_guest_said(bench: GuestBench) -> None:
    assert bench.start(SENSE_ID).scsw.ok
    assert bench.data(1, DATA) == "ff"
