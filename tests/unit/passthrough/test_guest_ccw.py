"""A guest's channel subsystem: what the host refuses, what the host takes away, what comes unasked."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ccw_fixture import CCW, CcwHost
from css_rig import DATA, PROGRAM, SCHID
from differences import DIFFERENCES, close_benches
from guest_css import GuestCss
from guest_rig import OPEN, GuestBench
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pyvfio
from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.css import Crw, Cstat, Dstat, Fctl, Orb, Schib, StorageError
from pyvfio.css.trace import Step
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.passthrough import GuestChannelSubsystem, GuestMemory, PassthroughWarning
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.hardware.css import ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

OTHER = SubchannelId(0, 0, 0x99)
SENSE_ID = "e420000700020000"


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield from close_benches()


@pytest.fixture
def bench() -> GuestBench:
    return GuestBench(Echo())


def ready(bench: GuestBench, program: str = SENSE_ID) -> None:
    bench.put(PROGRAM, program)


# what is refused


@pytest.mark.parametrize(
    ("code", "condition"), [(errno.EBUSY, 2), (errno.ENODEV, 3), (errno.EACCES, 3), (errno.EIO, 3), (errno.EAGAIN, 0)]
)
def test_condition_codes_of_a_start(bench: GuestBench, code: int, condition: int) -> None:
    ready(bench)
    bench.host.machine.faults.fail("pwrite", code)
    assert bench.ssch() == condition
    bench.clock.settle()
    assert bench.css.tsch(SCHID)[0] == (0 if condition == 0 else 1)


@pytest.mark.parametrize("instruction", ["hsch", "csch"])
@pytest.mark.parametrize(("code", "condition"), [(errno.EBUSY, 2), (errno.ENODEV, 3), (errno.EAGAIN, 0)])
def test_condition_codes_of_halt_and_clear(bench: GuestBench, instruction: str, code: int, condition: int) -> None:
    bench.host.machine.faults.fail("pwrite", code)
    assert getattr(bench.css, instruction)(SCHID) == condition


def test_busy_for_ever(bench: GuestBench) -> None:
    ready(bench)
    bench.host.machine.faults.fail("pwrite", errno.EAGAIN, times=1 << 20)
    assert bench.ssch() == 2


def test_a_start_that_the_host_refuses_for_no_reason_of_the_program(bench: GuestBench) -> None:
    ready(bench)
    bench.host.machine.faults.fail("pwrite", errno.ENOMEM)
    with pytest.warns(PassthroughWarning, match="ENOMEM"):
        assert bench.ssch() == 0
    scsw = bench.irb().scsw
    assert (scsw.dstat, scsw.cstat, scsw.cpa) == (Dstat.UNIT_EXCEPTION, 0, PROGRAM + 8)
    assert bench.start(SENSE_ID).scsw.ok


def test_prefetch_that_is_not_forced(bench: GuestBench) -> None:
    bench.css.force_prefetch = False
    with pytest.warns(PassthroughWarning, match="prefetch"):
        irb = bench.start(SENSE_ID, Orb(cpa=PROGRAM))
    assert irb.scsw.dstat == Dstat.UNIT_EXCEPTION
    assert bench.data(7) == "00" * 7
    assert bench.start(SENSE_ID).scsw.ok


def test_a_response_that_cannot_be_read(bench: GuestBench) -> None:
    ready(bench)
    assert bench.ssch() == 0
    bench.host.machine.faults.fail("pread", errno.ENODEV)
    bench.clock.settle()
    assert bench.irb().scsw.cc == 3


def test_a_host_that_does_not_tell_the_schib(bench: GuestBench) -> None:
    bench.host.machine.faults.fail("pread", errno.ENODEV)
    assert bench.css.stsch(SCHID) == (3, None)
    assert bench.css.stsch(SCHID)[0] == 0


def test_no_path_in_the_mask(bench: GuestBench) -> None:
    assert bench.ssch(Orb(lpm=0, cpa=PROGRAM, pfch=True)) == 3
    assert bench.ssch(Orb(lpm=0x40, cpa=PROGRAM, pfch=True)) == 3
    assert bench.start(SENSE_ID).scsw.ok


def test_places_that_are_taken(bench: GuestBench) -> None:
    device = bench.css._passed[SCHID].host.device
    for number, schid in (("0.0.1001", None), ("0.0.2000", SCHID), ("0.1.2000", OTHER)):
        with pytest.raises(Misuse):
            bench.css.attach(device, number, schid=schid)
    with pytest.raises(Misuse):
        bench.css.detach(OTHER)
    with pytest.raises(Misuse):
        bench.css.host_name(OTHER)


def test_guest_memory() -> None:
    with GuestMemory(0x2000) as memory:
        memory.add(0x2000, 0x1000)
        memory.write(0x1FFE, b"abcd")
        assert memory.read(0x1FFE, 4) == b"abcd"
        assert memory.read(0x9000, 0) == b""
        for address, count in ((0x2FFF, 2), (0x3000, 1), (0x7000, 1)):
            with pytest.raises(StorageError):
                memory.read(address, count)
        with pytest.raises(StorageError):
            memory.write(0x2FFF, b"xy")
        assert memory.read(0x2FFF, 1) == b"\0"
        for start, size in ((0x1000, 0x1000), (0x8000, 0), (-0x1000, 0x1000)):
            with pytest.raises(Misuse):
                memory.add(start, size)
        assert [area.start for area in memory.areas()] == [0, 0x2000]


def test_a_device_that_cannot_be_attached_stays_the_callers() -> None:
    with CcwHost() as host, GuestMemory(0x40000) as memory, GuestChannelSubsystem(memory) as css:
        host.take()
        host.create()
        library = pyvfio.Host(host.host)
        with pyvfio.open_device(library, library.mdevs()[0]) as device:
            host.machine.faults.fail("pread", errno.EIO)
            with pytest.raises(PyvfioError):
                css.attach(device, "0.0.1234")
            assert not device.irq(0).enabled
            with device.space.buffer(0x1000, iova=0x10000), pytest.raises(PyvfioError):
                css.attach(device, "0.0.1234")
            assert not device.irq(0).enabled
            watch = device.on_request(lambda asked: None)
            with pytest.raises(Misuse):
                css.attach(device, "0.0.1234")
            assert (device.irq(0).enabled, device.irq(2).enabled) == (False, True)
            watch.close()
            assert css.schids() == []
            assert css.attach(device, "0.0.1234") == SubchannelId(0, 0, 0)


def test_what_ends_the_thread_is_not_silent(bench: GuestBench) -> None:
    thread = bench.css.serve()
    device = bench.css._passed[SCHID].host.device
    device.close()
    thread._thread.join(10)
    with pytest.raises(Misuse):
        thread.close()


def test_every_difference_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "passthrough.md").read_text()
    assert [reason for reason in DIFFERENCES.values() if f"| `{reason}` |" not in page] == []


# what the host takes away


def test_the_host_wants_its_device_back(bench: GuestBench) -> None:
    """An unbind ends because the guest lets go; the guest gets a report, and its subchannel is not operational."""
    ready(bench)
    bench.ssch()
    unbind = threading.Thread(target=bench.host.write, args=("/sys/bus/css/drivers/vfio_ccw/unbind", str(SCHID)))
    unbind.start()
    while bench.css.schids():
        assert bench.css.wait(10)
    unbind.join(10)
    assert not unbind.is_alive()
    assert bench.css.stsch(SCHID) == (3, None)
    assert bench.css.stcrw() == Crw(rsc=3, erc=4, rsid=5)
    assert bench.css.tpi() is None


def test_detach_in_another_set() -> None:
    bench = GuestBench(Echo())
    far = SubchannelId(0, 2, 0x10)
    bench.css.add_subchannel(SubchannelConfig(far, 1, device=Echo()))
    bench.css.detach(far)
    assert bench.css.stcrw() == Crw(rsc=3, erc=4, rsid=0x10, chn=True)
    assert bench.css.stcrw() == Crw(rsc=3, erc=4, rsid=0x20)
    assert bench.start(SENSE_ID).scsw.ok


def test_a_path_that_two_devices_share_goes_and_comes() -> None:
    chpids = (0x44, 0x45, 0, 0, 0, 0, 0, 0)
    bench = GuestBench(Echo(), chpids=chpids, pim=0xC0, pam=0xC0)
    bench.css.add_subchannel(SubchannelConfig(OTHER, 2, device=Echo(), chpids=chpids, pim=0xC0, pam=0xC0))
    for chpid in (0x44, 0x45):
        bench.css.add_path(ChannelPath(chpid))
    bench.css.set_path_online(0, 0x44, False)
    assert [bench.css.stcrw(), bench.css.stcrw()] == [Crw(rsc=4, erc=6, rsid=0x44), None]
    assert bench.schib().pmcw.pam == 0x40
    assert bench.start(SENSE_ID).lpum == 0x40
    bench.css.set_path_online(0, 0x44, True)
    assert bench.css.stcrw() == Crw(rsc=4, erc=2, rsid=0x44)
    assert bench.start(SENSE_ID).lpum == 0x80


def test_a_path_that_goes_while_a_program_runs() -> None:
    """The host halts what runs on it."""
    bench = GuestBench(Echo(), chpids=(0x44, 0x45, 0, 0, 0, 0, 0, 0), pim=0xC0, pam=0xC0)
    bench.css.add_path(ChannelPath(0x44))
    while bench.start(SENSE_ID).lpum != 0x40:
        pass  # paths are taken in turn: the next one is 80
    ready(bench, "0360000100020000 0800000000011000")  # it never ends
    assert bench.ssch() == 0
    bench.clock.settle()
    assert bench.interrupts == [SCHID]
    assert bench.schib().pmcw.lpum == 0x80
    bench.css.set_path_online(0, 0x44, False)
    bench.clock.settle()
    scsw = bench.irb().scsw
    assert (scsw.fctl, scsw.cstat) == (Fctl.START, Cstat.INTERFACE_CONTROL_CHECK)
    assert bench.start(SENSE_ID).lpum == 0x40


def test_an_attention_right_behind_the_end(bench: GuestBench) -> None:
    """vfio-ccw keeps one response: the program ends with an error, and does not hang."""
    ready(bench)
    bench.ssch()
    bench.css.present_status(SCHID, 0x80)
    bench.clock.settle()
    first = bench.irb().scsw
    assert (first.fctl, first.cstat) == (Fctl.START, Cstat.INTERFACE_CONTROL_CHECK)
    bench.clock.settle()
    second = bench.irb().scsw
    assert (second.is_solicited, int(second.dstat)) == (False, 0x80)
    assert bench.start(SENSE_ID).scsw.ok


def test_reset(bench: GuestBench) -> None:
    bench.enable(intparm=5)
    ready(bench)
    bench.ssch()
    bench.clock.settle()
    bench.css.reset()
    assert bench.css.tpi() is None
    pmcw = bench.schib().pmcw
    assert (pmcw.ena, pmcw.intparm, pmcw.isc, pmcw.lpm) == (False, 0, 0, 0x80)
    assert bench.ssch() == 3
    bench.enable()
    assert bench.start(SENSE_ID).scsw.ok


# what works


def test_the_guest_has_numbers_of_its_own() -> None:
    steps: list[Step] = []
    with CcwHost() as host, GuestMemory(0x40000) as memory:
        host.take()
        host.create()
        library = pyvfio.Host(host.host)
        with GuestChannelSubsystem(memory, trace=steps.append) as css:
            device = pyvfio.open_device(library, library.mdevs()[0])
            schid = css.attach(device, DeviceNumber(0xFE, 1, 0x1234), report=True)
            assert str(schid) == "fe.1.0000"
            assert css.host_name(schid) == device.name
            schib = css.stsch(schid)[1]
            assert schib is not None
            assert schib.pmcw.devno == 0x1234
            assert [css.stcrw(), css.stcrw()] == list(Crw.for_subchannel(schid, 4))
            css.msch(schid, replace(schib, pmcw=replace(schib.pmcw, ena=True)))
            memory.write(0x1000, bytes.fromhex("e420000700002000"))
            assert css.ssch(schid, Orb(cpa=0x1000, pfch=True, intparm=9)) == 0
            css.poll()
            irb = css.tsch(schid)[1]
            assert irb.scsw.ok
            assert memory.read(0x2000, 1) == b"\xff"
        assert device.fileno() == -1
        assert [step.name for step in steps] == ["Q1", "Q2", "Q3", "Q4", "Q5", "Q6", "Q7"]


def test_a_disk_as_the_guest_sees_it() -> None:
    """Source document 002: guest device 0.0.1234 is a 3390/0c behind a 3990/e9 on the host's paths."""
    with CcwHost() as host, GuestMemory(0x40000) as memory, GuestChannelSubsystem(memory) as css:
        host.write(f"{CCW}/devices/0.1.013f/online", "0")
        host.take("0.1.0001")
        host.create("0.1.0001")
        library = pyvfio.Host(host.host)
        schid = css.attach(pyvfio.open_device(library, library.mdevs()[0]), "0.0.1234", schid="0.0.1234")
        schib = css.stsch(schid)[1]
        assert schib is not None
        pmcw = schib.pmcw
        assert (pmcw.devno, pmcw.pim, pmcw.pam, pmcw.chpid[:2]) == (0x1234, 0xC0, 0xC0, b"\2\3")
        css.msch(schid, replace(schib, pmcw=replace(pmcw, ena=True)))
        characteristics = 64
        memory.write(0x1000, bytes.fromhex("e4600007 00002000  64200040 00003000"))
        assert css.ssch(schid, Orb(cpa=0x1000, pfch=True)) == 0
        assert css.wait()
        assert css.tsch(schid)[1].scsw.ok
        assert memory.read(0x2000, 7).hex() == "ff3990e933900c"
        assert memory.read(0x3000, characteristics)[:5].hex() == "3990e93390"


def test_an_address_space_of_the_caller(bench: GuestBench) -> None:
    host = bench.host
    library = pyvfio.Host(host.host)
    bench.css.detach(SCHID)
    with GuestMemory(0x40000) as memory:
        css = GuestCss(memory)
        css.host = host
        with css, pyvfio.Iommufd(library) as iommufd, iommufd.allocate() as space:
            device = pyvfio.open_device(library, library.mdevs()[0], space=space)
            schid = css.attach(device, "0.0.0001")
            assert [mapping.iova for mapping in space.mappings()] == [0]
            memory.add(0x100000, 0x1000)
            css.memory_added()
            assert len(space.mappings()) == 2
            css.detach(schid)
            assert space.mappings() == []


def test_on_a_thread_with_a_device_that_takes_its_time() -> None:
    came = threading.Event()
    with CcwHost(MachineSpec("host"), paced=True) as host, GuestMemory(0x40000) as memory:
        css = GuestCss(memory, on_io_interrupt=lambda schid: came.set())
        css.host = host
        with css:
            css.add_subchannel(SubchannelConfig(SCHID, 1, device=Echo()))
            schib = css.stsch(SCHID)[1]
            assert schib is not None
            css.msch(SCHID, replace(schib, pmcw=replace(schib.pmcw, ena=True)))
            memory.write(0x1000, bytes.fromhex("e420000700002000"))
            with css.serve():
                for _ in range(3):
                    came.clear()
                    assert css.ssch(SCHID, Orb(cpa=0x1000, pfch=True)) == 0
                    assert came.wait(10)
                    pending = css.tpi()
                    assert pending is not None
                    assert pending.schid == SCHID
                    assert css.tsch(SCHID)[1].scsw.ok


@pytest.mark.parametrize(("program", "residual", "cstat"), [("0420002000", 0, 0), ("0400001000", 0, 0x40)])
def test_sense_for_a_guest_without_concurrent_sense(bench: GuestBench, program: str, residual: int, cstat: int) -> None:
    bench.enable(csense=False)
    irb = bench.start("6f20000800020000")
    assert (irb.scsw.ectl, irb.sense) == (False, b"")
    scsw = bench.start(program + "020000").scsw
    assert (scsw.count, scsw.cstat, scsw.dstat) == (residual, cstat, Dstat.CHANNEL_END | Dstat.DEVICE_END)
    assert bench.data(2) == "8000"


def test_what_a_guest_sets_stays_with_it(bench: GuestBench) -> None:
    before = bench.schib().pmcw
    assert bench.css.msch(SCHID, Schib(replace(before, isc=6, mbfc=True), mba=0x4000)) == 0
    assert (bench.schib().pmcw.isc, bench.schib().mba) == (6, 0x4000)
    host = bench.host.machine.css.stsch(SCHID)[1]
    assert host is not None
    assert (host.pmcw.isc, host.mba) == (3, 0)


@pytest.fixture(scope="module")
def lasting() -> Iterator[GuestBench]:
    bench = GuestBench(Echo())
    with OPEN.pop():
        yield bench


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(min_size=64, max_size=64),
    st.sampled_from(["0000000000c2ff0000011000", "0000000000c0ff0000011000", "000000000042ff0000011000"]),
)
@pytest.mark.filterwarnings("ignore::pyvfio.passthrough.PassthroughWarning")
def test_no_program_hurts_the_host(lasting: GuestBench, program: bytes, orb: str) -> None:
    """Whatever lies in a guest's storage, its subchannel ends with a status or can be cleared."""
    lasting.memory.write(PROGRAM, program)
    assert lasting.ssch(orb) == 0
    lasting.clock.settle()
    assert lasting.css.csch(SCHID) == 0
    lasting.clock.settle()
    assert lasting.irb().scsw.fctl == Fctl.CLEAR
    assert lasting.start(SENSE_ID).scsw.ok
    assert lasting.data(1, DATA) == "ff"
