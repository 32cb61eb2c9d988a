"""The translation of channel programs, against a device whose memory is a dictionary."""

from __future__ import annotations

import errno
import threading
from dataclasses import replace

import pytest
from ccw_fixture import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from pyvfio.address import SubchannelId
from pyvfio.css import Ccw, CcwFlag, Command, Orb, Scsw
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.clock import Clock
from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo
from pyvfio_backends.software.linux.vfio_ccw_cp import ChannelProgram
from pyvfio_backends.software.memory import HostMemory

PAGE = 0x1000
SIZE = 32 * PAGE
AT = 0x1000
CC, CD, SLI, IDA = CcwFlag.CC, CcwFlag.CD, CcwFlag.SLI, CcwFlag.IDA
NONE = CcwFlag(0)


class _Kernel:
    def __init__(self, page: int) -> None:
        self.page_size = page
        self.memory = HostMemory(page)


class Guest:
    """Guest memory from address 0; pages can be pinned, and count."""

    def __init__(self, page: int = PAGE) -> None:
        self.kernel = _Kernel(page)
        self.memory = AnonymousMemory(SIZE)
        self.pinned: list[int] = []

    def put(self, iova: int, data: bytes) -> None:
        self.memory.view[iova : iova + len(data)] = data

    def program(self, *ccws: Ccw, at: int = AT) -> None:
        self.put(at, b"".join(ccw.to_bytes() for ccw in ccws))

    def dma_read(self, iova: int, count: int) -> bytes:
        if iova + count > SIZE:
            raise OSError(errno.EINVAL, "not mapped")
        return bytes(self.memory.view[iova : iova + count])

    def pin_pages(self, iova: int, npages: int, write: bool) -> list[int]:
        page = self.kernel.page_size
        first = iova // page * page
        if first + npages * page > SIZE:
            raise OSError(errno.EINVAL, "not mapped")
        self.pinned += range(first, first + npages * page, page)
        return [first + index * page for index in range(npages)]

    def unpin_pages(self, iova: int, npages: int) -> None:
        page = self.kernel.page_size
        for index in range(npages):
            self.pinned.remove(iova // page * page + index * page)


@pytest.fixture
def guest() -> Guest:
    return Guest()


def translated(guest: Guest, orb: Orb) -> ChannelProgram:
    program = ChannelProgram(guest)  # type: ignore[arg-type]
    program.copy(orb)
    program.translate()
    return program


def test_a_failed_translation_leaves_nothing_behind(guest: Guest) -> None:
    guest.program(Ccw(1, CC, 16, 0x2000), Ccw(1, NONE, 16, SIZE))
    program = ChannelProgram(guest)  # type: ignore[arg-type]
    program.copy(Orb(cpa=AT))
    with refused(errno.EINVAL):
        program.translate()
    program.free()
    assert guest.pinned == []
    assert guest.kernel.memory._blocks == {}


def test_one_program_at_a_time(guest: Guest) -> None:
    guest.program(Ccw(Command.NOP, NONE, 1, 0))
    program = translated(guest, Orb(cpa=AT))
    with refused(errno.EBUSY):
        program.copy(Orb(cpa=AT))
    program.free()
    program.free()
    assert guest.kernel.memory._blocks == {}


@pytest.mark.parametrize(
    ("cda", "count", "words"),
    [
        (0x2000, 1, [0x2000]),
        (0x2000, PAGE, [0x2000]),
        (0x2000, PAGE + 1, [0x2000, 0x3000]),
        (0x2FFF, 2, [0x2FFF, 0x3000]),
        (0x2800, 3 * PAGE, [0x2800, 0x3000, 0x4000, 0x5000]),
    ],
)
def test_direct_data_become_a_list_of_pages(guest: Guest, cda: int, count: int, words: list[int]) -> None:
    guest.program(Ccw(1, SLI, count, cda))
    program = translated(guest, Orb(cpa=AT, c64=True))
    (line,) = program.host_lines()
    assert list(line.idaws) == words
    assert line.ccw.flags == SLI | IDA
    assert guest.kernel.memory.read(line.ccw.cda, 8) == words[0].to_bytes(8, "big")
    assert program.pinned(words[-1], 1)
    assert not program.pinned(words[-1] + PAGE, PAGE)


def test_without_format_2_the_blocks_have_2_kib(guest: Guest) -> None:
    guest.program(Ccw(1, SLI, 0x1000, 0x2400))
    program = translated(guest, Orb(cpa=AT))
    assert program.host_lines()[0].idaws == (0x2400, 0x2800, 0x3000)
    orb = program.host_orb(7, 0x80)
    assert (orb.c64, orb.i2k, orb.fmt, orb.intparm, orb.lpm) == (True, True, 1, 7, 0xFF)


def test_pages_of_64_kib_hold_several_blocks() -> None:
    guest = Guest(page=0x10000)
    guest.program(Ccw(1, SLI, 0x3000, 0x10800))
    program = translated(guest, Orb(cpa=AT, c64=True))
    assert program.host_lines()[0].idaws == (0x10800, 0x11000, 0x12000, 0x13000)
    program.free()
    assert guest.pinned == []


def test_a_format_0_program_becomes_one_of_format_1(guest: Guest) -> None:
    guest.program(Ccw(Command.NOP, CC | SLI, 1, 0x2000, 0), Ccw(0x58, NONE, 0, 0x1100, 0), Ccw(2, SLI, 4, 0x2000, 0))
    guest.program(Ccw(2, SLI, 4, 0x2000, 0), at=0x1100)
    lines = translated(guest, Orb(cpa=AT, fmt=0)).host_lines()
    assert [line.ccw.cmd for line in lines] == [Command.NOP, Command.TIC, 2]
    assert lines[1].ccw.cda == lines[2].address


def test_the_status_address_is_turned_back(guest: Guest) -> None:
    guest.program(Ccw(Command.NOP, CC, 1, 0), Ccw(Command.TIC, NONE, 0, 0x1804))
    guest.program(Ccw(Command.NOP, NONE, 1, 0), at=0x1804)
    program = translated(guest, Orb(cpa=AT))
    first, _, other = program.host_lines()
    assert program.guest_scsw(Scsw(cpa=first.address + 8)).cpa == AT + 8
    assert program.guest_scsw(Scsw(cpa=other.address + 8)).cpa == 0x180C
    assert program.guest_scsw(Scsw(cpa=0x7FFFFFF8)).cpa == 0x7FFFFFF8


def test_a_search_loop_stays_within_its_chain(guest: Guest) -> None:
    guest.program(Ccw(0x31, CC, 5, 0x2000), Ccw(Command.TIC, NONE, 0, AT), Ccw(6, NONE, 80, 0x3000))
    search, tic, read = translated(guest, Orb(cpa=AT)).host_lines()
    assert tic.ccw.cda == search.address
    assert read.address == search.address + 16


counts = st.integers(1, 3 * PAGE)
areas = st.tuples(st.integers(4 * PAGE, 12 * PAGE), counts)


@settings(max_examples=60, deadline=None)
@given(write=st.lists(areas, min_size=1, max_size=4), read=areas, c64=st.booleans(), i2k=st.booleans())
def test_the_translated_program_does_what_the_guest_wrote(
    write: list[tuple[int, int]], read: tuple[int, int], c64: bool, i2k: bool
) -> None:
    """A WRITE gathered from chained areas comes back by a READ, as if the channel had run the guest's own program."""
    guest = Guest()
    source = bytes((7 * index + index // 251) & 0xFF for index in range(SIZE))
    guest.put(0, source)
    target = 18 * PAGE + read[0] % PAGE
    ccws = [Ccw(1 if not index else 0, CD | SLI, count, at) for index, (at, count) in enumerate(write)]
    ccws[-1] = Ccw(ccws[-1].cmd, CC | SLI, ccws[-1].count, ccws[-1].cda)
    guest.program(*ccws, Ccw(2, SLI, read[1], target))
    program = translated(guest, Orb(cpa=AT, pfch=True, c64=c64, i2k=i2k))

    class Storage:
        def read(self, address: int, count: int) -> bytes:
            inside = address >= 1 << 20
            return guest.dma_read(address - (1 << 20), count) if inside else guest.kernel.memory.read(address, count)

        def write(self, address: int, data: bytes) -> None:
            guest.put(address - (1 << 20), data)

    # The pages of this guest lie one megabyte up for the host, away from the kernel's blocks.
    for line in program.host_lines():
        words = b"".join(((1 << 20) + word).to_bytes(8, "big") for word in line.idaws)
        guest.kernel.memory.write(line.ccw.cda, words)
    clock = Clock(threading.RLock())
    ended: list[object] = []
    css = ChannelSubsystemHardware(
        Storage(), on_io_interrupt=ended.append, on_crw=lambda: None, schedule=clock.schedule
    )
    schid = SubchannelId(0, 0, 0)
    css.add_subchannel(SubchannelConfig(schid, 1, device=Echo()))
    schib = css.stsch(schid)[1]
    assert schib is not None
    css.msch(schid, replace(schib, pmcw=replace(schib.pmcw, ena=True)))
    assert css.ssch(schid, program.host_orb(0, 0x80)) == 0
    clock.settle()
    assert ended == [schid]
    irb = css.tsch(schid)[1]
    assert irb.scsw.ok
    assert program.guest_scsw(irb.scsw).cpa == AT + 8 * (len(write) + 1)
    gathered = b"".join(source[at : at + count] for at, count in write)[: read[1]]
    assert guest.dma_read(target, len(gathered)) == gathered
    program.free()
    assert guest.pinned == []
