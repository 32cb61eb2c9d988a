"""A guest's channel subsystem on top of vfio_ccw: first what it refuses, then programs of the guest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

import pyvfio
from pyvfio.address import SubchannelId
from pyvfio.css import Ccw, CcwFlag, Cstat, Dstat, Fctl, Irb, Orb, SenseId, Stctl
from pyvfio.css.chsc import ChscCode, ChscRequest, ChscResponse
from pyvfio.css.chsc_machine import StoreCharacteristics
from pyvfio.css.chsc_paths import PathDescription, StorePaths
from pyvfio.css.measurement import ChannelMonitor, MeasurementBlock
from pyvfio.errors import Misuse
from pyvfio.host import Host
from pyvfio.passthrough import GuestChannelSubsystem, GuestMemory, PassthroughWarning
from pyvfio.process import AnonymousMemory
from pyvfio.testing.attributes import Attributes
from pyvfio.testing.channel import Channel, nop, sense_id
from pyvfio.testing.devices import BoundFunction, BoundMdev, BoundSubchannel

READ_CONFIGURATION = 0x22  # of a virtio device
PROGRAM, DATA, OUTSIDE = 0x1000, 0x4000, 0x7000_0000
SIZE = 0x40000
NUMBER = 0x1234


class Guest:
    """A guest with one device, 0.0.1234, and what its program knows of it."""

    def __init__(self, css: GuestChannelSubsystem, memory: GuestMemory, schid: SubchannelId) -> None:
        self.css = css
        self.memory = memory
        self.schid = schid
        self.interrupts: list[SubchannelId] = []

    def enable(self, *, ena: bool = True, isc: int = 3, intparm: int = 0xABCD) -> int:
        """MODIFY SUBCHANNEL."""
        cc, schib = self.css.stsch(self.schid)
        assert cc == 0
        assert schib is not None
        pmcw = replace(schib.pmcw, ena=ena, isc=isc, intparm=intparm, csense=True)
        return self.css.msch(self.schid, replace(schib, pmcw=pmcw))

    def start(self, *ccws: Ccw, **orb: bool) -> int:
        """Lay the program out and START SUBCHANNEL."""
        self.memory.write(PROGRAM, b"".join(ccw.to_bytes() for ccw in ccws))
        return self.css.ssch(self.schid, replace(Orb(cpa=PROGRAM, pfch=True, intparm=0x77), **orb))

    def status(self) -> Irb:
        """Wait for the interruption, TEST PENDING INTERRUPTION and TEST SUBCHANNEL."""
        while (pending := self.css.tpi()) is None:
            assert self.css.wait(10), "no interruption came"
        assert pending.schid == self.schid
        cc, irb = self.css.tsch(pending.schid)
        assert cc == 0
        return irb

    def run(self, *ccws: Ccw, **orb: bool) -> Irb:
        """Start a program and take its status."""
        assert self.start(*ccws, **orb) == 0
        return self.status()


@pytest.fixture
def guest(host: Host, mdev: BoundMdev, way: str) -> Iterator[Guest]:
    """A guest whose subchannel is enabled, with the device opened in each way."""
    with ExitStack() as stack:
        memory = stack.enter_context(GuestMemory(SIZE))
        css = stack.enter_context(GuestChannelSubsystem(memory))
        device = pyvfio.open_device(host, host.mdev(mdev.uuid), way=way)
        made = Guest(css, memory, css.attach(device, f"0.0.{NUMBER:04x}"))
        assert made.enable() == 0
        yield made


def test_a_function_is_no_channel_device(host: Host, function: BoundFunction) -> None:
    with GuestMemory(SIZE) as memory, GuestChannelSubsystem(memory) as css:
        with pyvfio.open_device(host, function.address) as device, pytest.raises(Misuse):
            css.attach(device, "0.0.1234")


def test_no_such_subchannel(guest: Guest) -> None:
    other = replace(guest.schid, number=0x99)
    assert guest.css.stsch(other) == (3, None)
    assert guest.css.ssch(other, Orb(cpa=PROGRAM)) == 3
    assert guest.css.tsch(other)[0] == 3


def test_a_disabled_subchannel(guest: Guest) -> None:
    assert guest.enable(ena=False) == 0
    assert guest.start(nop(DATA)) == 3
    assert [guest.css.hsch(guest.schid), guest.css.csch(guest.schid), guest.css.tsch(guest.schid)[0]] == [3, 3, 3]


def test_status_pending_and_busy(guest: Guest) -> None:
    assert guest.start(sense_id(DATA)) == 0
    assert guest.start(sense_id(DATA)) == 2
    assert guest.enable() == 2
    assert guest.css.wait(10)
    assert guest.start(sense_id(DATA)) == 1
    assert guest.enable() == 1
    assert guest.status().scsw.ok
    assert guest.css.tsch(guest.schid)[0] == 1


def test_resume_and_cancel_are_not_applicable(guest: Guest) -> None:
    assert [guest.css.rsch(guest.schid), guest.css.xsch(guest.schid)] == [2, 2]


@pytest.mark.parametrize("ccw", [sense_id(OUTSIDE), sense_id(SIZE - 8, 64)], ids=["outside", "beyond the end"])
def test_data_where_the_guest_has_no_memory(guest: Guest, ccw: Ccw) -> None:
    irb = guest.run(ccw)
    assert irb.scsw.cstat == Cstat.PROGRAM_CHECK
    assert irb.scsw.cpa == PROGRAM + 8
    assert irb.scsw.stctl == Stctl.PENDING | Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT
    assert guest.run(sense_id(DATA)).scsw.ok


def test_a_program_that_is_too_long(guest: Guest) -> None:
    with pytest.warns(PassthroughWarning, match="does not take"):
        irb = guest.run(*[nop(DATA, chained=True)] * 257, nop(DATA))
    assert irb.scsw.dstat == Dstat.UNIT_EXCEPTION


def test_a_start_without_prefetch_is_warned_of_once(guest: Guest) -> None:
    with pytest.warns(PassthroughWarning, match="fetched") as seen:
        statuses = [guest.run(sense_id(DATA), pfch=False).scsw for _ in range(2)]
    assert len(seen) == 1
    assert all(scsw.ok and not scsw.pfch for scsw in statuses)


def test_a_command_the_device_rejects(guest: Guest) -> None:
    irb = guest.run(Ccw(0x6F, CcwFlag.SLI, 1, DATA))
    assert Dstat.UNIT_CHECK in irb.scsw.dstat
    assert irb.ecw[0] & 0x80


def test_sense_id(guest: Guest, subchannel: BoundSubchannel) -> None:
    irb = guest.run(sense_id(DATA))
    assert irb.scsw.ok
    assert irb.scsw.fctl == Fctl.START
    assert irb.scsw.cpa == PROGRAM + 8
    assert SenseId.from_bytes(guest.memory.read(DATA, 7)).cu == subchannel.cutype_before


def test_format_0(guest: Guest) -> None:
    guest.memory.write(PROGRAM, sense_id(DATA, fmt=0).to_bytes())
    assert guest.css.ssch(guest.schid, Orb(cpa=PROGRAM, pfch=True, fmt=0)) == 0
    scsw = guest.status().scsw
    assert (scsw.ok, scsw.fmt) == (True, 0)


def test_a_read_is_what_the_host_reads(host: Host, channel: Channel, mdev: BoundMdev) -> None:
    read = Ccw(READ_CONFIGURATION, CcwFlag.SLI, 8, channel.data)
    channel.run(read)
    directly = channel.get(channel.data, 8)
    channel.files.close_all()
    with GuestMemory(SIZE) as memory, GuestChannelSubsystem(memory) as css:
        guest = Guest(css, memory, css.attach(pyvfio.open_device(host, host.mdev(mdev.uuid)), "0.0.1234"))
        guest.enable()
        assert guest.run(replace(read, cda=DATA)).scsw.ok
        assert memory.read(DATA, 8) == directly


def test_the_guest_has_its_own_device_number(guest: Guest) -> None:
    cc, schib = guest.css.stsch(guest.schid)
    assert cc == 0
    assert schib is not None
    pmcw = schib.pmcw
    assert (pmcw.devno, pmcw.dnv, pmcw.ena, pmcw.isc, pmcw.intparm) == (NUMBER, True, True, 3, 0xABCD)
    assert pmcw.pim & pmcw.pam
    assert guest.css.stcrw() is None


def test_halt_and_clear(guest: Guest) -> None:
    assert guest.css.hsch(guest.schid) == 0
    assert guest.status().scsw.fctl == Fctl.HALT
    assert guest.css.csch(guest.schid) == 0
    assert guest.status().scsw.fctl == Fctl.CLEAR
    assert guest.run(sense_id(DATA)).scsw.ok


def test_reset(guest: Guest) -> None:
    guest.start(sense_id(DATA))
    guest.css.reset()
    assert guest.css.tpi() is None
    assert guest.start(sense_id(DATA)) == 3
    assert guest.enable() == 0
    assert guest.run(sense_id(DATA)).scsw.ok


def test_unplug(guest: Guest) -> None:
    guest.css.detach(guest.schid)
    assert guest.css.stsch(guest.schid) == (3, None)
    crw = guest.css.stcrw()
    assert crw is not None
    assert crw.subchannel() == guest.schid


# -- the channel subsystem as a whole ---------------------------------------------------------------------------------


def test_calls_are_answered(guest: Guest) -> None:
    code, block = guest.css.chsc(StoreCharacteristics().request().to_bytes())
    assert code == 0
    assert ChscResponse.from_bytes(block).ok
    code, block = guest.css.chsc(ChscRequest(0x9999).to_bytes())
    assert ChscResponse.from_bytes(block).code == ChscCode.NOT_PROVIDED


def test_the_paths_have_the_types_of_the_host(sysfs: Attributes, guest: Guest) -> None:
    schib = guest.css.stsch(guest.schid)[1]
    assert schib is not None
    pmcw = schib.pmcw
    chpids = {chpid for at, chpid in enumerate(pmcw.chpid) if pmcw.pim & 0x80 >> at}
    block = guest.css.chsc(StorePaths(0, 0xFF).request().to_bytes())[1]
    found = PathDescription.list_from(ChscResponse.from_bytes(block).data, 0)
    assert {path.chpid for path in found} == chpids
    for path in found:
        assert path.type == int(sysfs.read(f"/sys/devices/css0/chp0.{path.chpid:02x}/type"), 16)


def test_a_path_is_reset(guest: Guest) -> None:
    schib = guest.css.stsch(guest.schid)[1]
    assert schib is not None
    chpid = schib.pmcw.chpid[0]
    assert guest.css.rchp(0, chpid) == 0
    crw = guest.css.stcrw()
    assert crw is not None
    assert (crw.rsid, crw.slct) == (chpid, True)
    assert guest.css.rchp(0, chpid ^ 0xFF) == 3
    assert guest.run(sense_id(DATA)).scsw.ok


def test_starts_are_counted(guest: Guest) -> None:
    guest.css.schm(ChannelMonitor(update=True, origin=0x8000))
    schib = guest.css.stsch(guest.schid)[1]
    assert schib is not None
    assert guest.css.msch(guest.schid, replace(schib, pmcw=replace(schib.pmcw, mme=2, mbi=1))) == 0
    assert guest.run(sense_id(DATA)).scsw.ok
    assert MeasurementBlock.from_bytes(guest.memory.read(0x8020, 32)) == MeasurementBlock(ssch_rsch_count=1)


# -- memory that comes and goes ---------------------------------------------------------------------------------------


def test_memory_comes_and_goes(guest: Guest) -> None:
    assert guest.run(sense_id(0x100000)).scsw.cstat == Cstat.PROGRAM_CHECK
    area = guest.memory.add(0x100000, SIZE)
    guest.css.memory_added()
    assert guest.run(sense_id(area.start)).scsw.ok
    assert guest.memory.read(area.start, 1) == b"\xff"
    guest.css.memory_removed(area)
    guest.memory.remove(area.start)
    assert guest.run(sense_id(area.start)).scsw.cstat == Cstat.PROGRAM_CHECK
    assert guest.run(sense_id(DATA)).scsw.ok


def test_memory_of_the_caller(guest: Guest, page: int) -> None:
    with AnonymousMemory(page) as memory:
        area = guest.memory.adopt(0x100000, memory.view, memory.address)
        guest.css.memory_added()
        assert guest.run(sense_id(area.start)).scsw.ok
        assert bytes(memory.view[:1]) == b"\xff"
        guest.css.memory_removed(area)
        guest.memory.remove(area.start)


def test_in_an_event_loop(guest: Guest) -> None:
    async def work() -> None:
        assert guest.start(sense_id(DATA)) == 0
        assert await guest.css.wait_async(10)
        assert guest.status().scsw.ok

    asyncio.run(work())
