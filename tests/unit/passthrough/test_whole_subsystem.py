"""What is about a guest's channel subsystem as a whole: CHSC, RCHP, SCHM, and virtual devices beside passed ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from css_rig import PROGRAM, SCHID, Bench
from differences import close_benches
from guest_rig import GuestBench

from pyvfio.address import SubchannelId
from pyvfio.css import Crw, OperandException, Orb
from pyvfio.css.chsc import ChscCode, ChscCommand, ChscRequest, ChscResponse
from pyvfio.css.chsc_machine import Characteristics, EnableFacility, Facility, StoreCharacteristics, StoreEvents
from pyvfio.css.chsc_paths import PathDescription, StorePaths
from pyvfio.css.chsc_subchannels import StoreSubchannels, SubchannelDescription
from pyvfio.css.instructions import ChannelSubsystem
from pyvfio.css.measurement import ChannelMonitor, ExtendedMeasurementBlock, MeasurementBlock
from pyvfio.passthrough import CombinedChannelSubsystem
from pyvfio_backends.software.hardware.css import ChannelPath, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo
from pyvfio_backends.software.linux.css import CSS

NOP = "0320000100020000"
OTHER = SubchannelId(0, 0, 0x99)
CHPIDS = (0x44, 0x45, 0, 0, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield from close_benches()


@pytest.fixture
def bench() -> GuestBench:
    made = GuestBench(Echo(), chpids=CHPIDS, pim=0xC0, pam=0xC0)
    for chpid in CHPIDS[:2]:
        made.css.add_path(ChannelPath(chpid, 0x1B))
        made.host.machine.kernel.subsystems[CSS].register_path(chpid)
    return made


def call(css: ChannelSubsystem, request: ChscRequest) -> ChscResponse:
    code, block = css.chsc(request.to_bytes())
    assert code == 0
    return ChscResponse.from_bytes(block)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_block", [bytes(8), b"\0\x11" + bytes(30), b"\xff\xf0" + bytes(30)])
def test_a_request_of_a_wrong_length(bench: GuestBench, request_block: bytes) -> None:
    with pytest.raises(OperandException):
        bench.css.chsc(request_block)


@pytest.mark.parametrize("command", [0x0006, ChscCommand.STORE_CHANNEL_PATH_COMPONENTS, 0x9999])
def test_a_command_that_a_guest_has_not(bench: GuestBench, command: int) -> None:
    assert call(bench.css, ChscRequest(command)).code == ChscCode.NOT_PROVIDED


def test_a_request_that_says_nonsense(bench: GuestBench) -> None:
    assert call(bench.css, StorePaths(5, 4).request()).code == ChscCode.INVALID_REQUEST
    assert call(bench.css, StorePaths(0, 4, cssid=2, m=True).request()).code == ChscCode.INVALID_IMAGE
    assert call(bench.css, EnableFacility(0x77).request()).code == ChscCode.INVALID_REQUEST


def test_no_such_path_or_image(bench: GuestBench) -> None:
    assert bench.css.rchp(0, 0x99) == 3
    with pytest.raises(OperandException):
        bench.css.rchp(2, 0x44)


def test_a_monitor_with_a_wrong_bit(bench: GuestBench) -> None:
    with pytest.raises(OperandException):
        bench.css.schm(ChannelMonitor(update=True, origin=8))


# -- what works -------------------------------------------------------------------------------------------------------


def test_characteristics_and_facilities(bench: GuestBench) -> None:
    found = Characteristics.from_bytes(call(bench.css, StoreCharacteristics().request()).data)
    assert "multiple images" in str(found)
    assert call(bench.css, EnableFacility(Facility.SUBCHANNEL_SETS).request()).ok
    assert bench.css.calls.enabled == {Facility.SUBCHANNEL_SETS}
    bench.css.reset()
    assert bench.css.calls.enabled == set()


def test_paths_with_the_types_of_the_host(bench: GuestBench) -> None:
    found = call(bench.css, StorePaths(0, 0xFF).request())
    assert [(path.chpid, path.type) for path in PathDescription.list_from(found.data, 0)] == [
        (0x44, 0x1B),
        (0x45, 0x1B),
    ]
    only = call(bench.css, StorePaths(0x45, 0x50, c=True).request())
    assert [path.chpid for path in PathDescription.list_from(only.data, 1)] == [0x45]


def test_subchannels(bench: GuestBench) -> None:
    found = call(bench.css, StoreSubchannels(0, 4, 6).request()).data
    size = SubchannelDescription.SIZE
    four, five, six = (SubchannelDescription.from_bytes(found[at : at + size]) for at in range(0, 3 * size, size))
    assert (four.valid, five.valid, six.valid) == (False, True, False)
    assert (five.devno, five.path_mask, five.chpids[:2]) == (0x1001, 0xC0, b"\x44\x45")


def test_no_event(bench: GuestBench) -> None:
    assert call(bench.css, StoreEvents.of(0, 2).request()).code == ChscCode.NO_INFORMATION


def test_a_path_is_reset(bench: GuestBench) -> None:
    assert bench.css.stcrw() is None
    assert bench.css.rchp(0, 0x44) == 0
    crw = bench.css.stcrw()
    assert crw == Crw(rsc=4, erc=2, rsid=0x44, slct=True)
    assert bench.start(NOP).scsw.ok


@pytest.mark.parametrize("extended", [False, True])
def test_starts_are_counted(bench: GuestBench, extended: bool) -> None:
    area, index = 0x40000, 3
    at = 0x41000 if extended else area + index * 32
    bench.css.schm(ChannelMonitor(update=True, origin=area))
    schib = bench.schib()
    pmcw = replace(schib.pmcw, mme=2, mbfc=extended, mbi=index)
    assert bench.css.msch(SCHID, replace(schib, pmcw=pmcw, mba=at if extended else 0)) == 0
    for _ in range(3):
        assert bench.start(NOP).scsw.ok
    kind = ExtendedMeasurementBlock if extended else MeasurementBlock
    assert kind.from_bytes(bench.memory.read(at, kind.SIZE)) == kind(ssch_rsch_count=3)
    bench.css.reset()
    assert bench.enable() == 0
    assert bench.start(NOP).scsw.ok
    assert kind.from_bytes(bench.memory.read(at, kind.SIZE)).ssch_rsch_count == 3


def test_no_storage_for_the_counts(bench: GuestBench) -> None:
    bench.css.schm(ChannelMonitor(update=True, origin=0x7000_0000))
    schib = bench.schib()
    assert bench.css.msch(SCHID, replace(schib, pmcw=replace(schib.pmcw, mme=2))) == 0
    assert bench.start(NOP).scsw.ok


# -- virtual devices beside passed ones -------------------------------------------------------------------------------


@pytest.fixture
def both(bench: GuestBench) -> tuple[CombinedChannelSubsystem, Bench]:
    """A virtual device at 0.0.0005 is hidden by the passed one; another is at 0.0.0099."""
    virtual = Bench(Echo(), memory=bench.memory)
    virtual.css.add_subchannel(SubchannelConfig(OTHER, 0x2222, device=Echo(), chpids=(0x10, *[0] * 7)))
    virtual.css.add_path(ChannelPath(0x10, 0x32))
    return CombinedChannelSubsystem(bench.css, virtual.css), virtual


def test_instructions_go_to_the_part_that_has_the_subchannel(
    bench: GuestBench, both: tuple[CombinedChannelSubsystem, Bench]
) -> None:
    css, virtual = both
    numbers = []
    for schid in (SCHID, OTHER):
        schib = css.stsch(schid)[1]
        assert schib is not None
        numbers.append(schib.pmcw.devno)
        assert css.msch(schid, replace(schib, pmcw=replace(schib.pmcw, ena=True, isc=5 if schid == SCHID else 2))) == 0
    assert numbers == [0x1001, 0x2222]
    bench.put(PROGRAM, NOP)
    orb = Orb(cpa=PROGRAM, pfch=True)
    assert [css.ssch(SCHID, orb), css.ssch(OTHER, orb)] == [0, 0]
    bench.clock.settle()
    virtual.clock.settle()
    first, second, none = css.tpi(), css.tpi(), css.tpi()
    assert first is not None
    assert second is not None
    assert [first.schid, second.schid, none] == [OTHER, SCHID, None]  # the lower subclass first
    assert [css.tsch(schid)[1].scsw.ok for schid in (SCHID, OTHER)] == [True, True]
    for instruction in (css.hsch, css.csch):
        assert [instruction(SCHID), instruction(OTHER)] == [0, 0]
        bench.clock.settle()
        virtual.clock.settle()
        assert [css.tsch(schid)[0] for schid in (SCHID, OTHER)] == [0, 0]
    assert [css.rsch(SCHID), css.xsch(OTHER)] == [2, 2]
    assert css.stsch(replace(OTHER, number=0xFFF)) == (3, None)


def test_reports_of_either_part(bench: GuestBench, both: tuple[CombinedChannelSubsystem, Bench]) -> None:
    css, virtual = both
    far = SubchannelId(0, 1, 7)
    virtual.css.add_subchannel(SubchannelConfig(far, 1, device=Echo()), report=True)
    bench.css.report(Crw(rsc=4, erc=2, rsid=0x44))
    found = [css.stcrw() for _ in range(4)]
    assert found[0] == Crw(rsc=4, erc=2, rsid=0x44)
    assert found[1:3] == list(Crw.for_subchannel(far, 4))
    assert found[3] is None


def test_the_whole_of_both(bench: GuestBench, both: tuple[CombinedChannelSubsystem, Bench]) -> None:
    css, _ = both
    assert [css.rchp(0, 0x44), css.rchp(0, 0x10), css.rchp(0, 0x77)] == [0, 0, 3]
    paths = PathDescription.list_from(call(css, StorePaths(0, 0xFF).request()).data, 0)
    assert sorted((path.chpid, path.type) for path in paths) == [(0x10, 0x32), (0x44, 0x1B), (0x45, 0x1B)]
    found = call(css, StoreSubchannels(0, 5, 0x99).request()).data
    described = [SubchannelDescription.from_bytes(found[at : at + 32]) for at in range(0, len(found) - 31, 32)]
    assert described[0].devno == 0x1001
    css.schm(ChannelMonitor())
    assert call(css, StoreCharacteristics().request()).ok
