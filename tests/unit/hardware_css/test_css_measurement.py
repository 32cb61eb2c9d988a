"""The channel monitor: SCHM, and the measurement blocks in storage.

Rules: z/Architecture Principles of Operation, "SET CHANNEL MONITOR", "Channel-Subsystem Monitoring"; the blocks as
``drivers/s390/cio/cmf.c`` reads them.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from css_rig import DATA, PROGRAM, SCHID, Bench, Clock, Memory

from pyvfio.address import SubchannelId
from pyvfio.css import OperandException, Orb
from pyvfio.css.measurement import MEASUREMENT_UNIT, ChannelMonitor, ExtendedMeasurementBlock, MeasurementBlock
from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

AREA = 0x40000
SENSE_ID = "e420000700020000"


class SlowEcho(Echo):
    latency = 100 * MEASUREMENT_UNIT


class Measured(Bench):
    """A bench whose hardware knows the time."""

    def __init__(self, device: Echo) -> None:
        super().__init__(device)
        self.memory = Memory()
        self.clock = Clock()
        self.css = ChannelSubsystemHardware(
            self.memory,
            on_io_interrupt=self.interrupts.append,
            on_crw=lambda: None,
            schedule=self.clock.schedule,
            now=lambda: self.clock.now,
        )
        self.css.add_subchannel(SubchannelConfig(SCHID, 0x1001, device=device))
        assert self.enable() == 0

    def measure(self, *, mme: int = 2, mbfc: bool = False, mbi: int = 0, mba: int = 0) -> int:
        schib = self.schib()
        pmcw = replace(schib.pmcw, mme=mme, mbfc=mbfc, mbi=mbi)
        return self.css.msch(SCHID, replace(schib, pmcw=pmcw, mba=mba))

    def block(self, index: int = 0) -> MeasurementBlock:
        return MeasurementBlock.from_bytes(self.memory.read(AREA + 32 * index, 32))


@pytest.fixture
def bench() -> Measured:
    return Measured(SlowEcho())


def run(bench: Bench) -> None:
    bench.put(PROGRAM, SENSE_ID)
    assert bench.ssch() == 0
    bench.clock.advance(SlowEcho.latency)
    assert bench.irb().scsw.ok


@pytest.mark.parametrize(
    "monitor",
    [ChannelMonitor(update=True, origin=AREA + 16), ChannelMonitor(reserved=4), ChannelMonitor(reserved=0x08000000)],
    ids=str,
)
def test_operand_exceptions(bench: Measured, monitor: ChannelMonitor) -> None:
    with pytest.raises(OperandException):
        bench.css.schm(monitor)


def test_an_origin_that_does_not_count_may_be_anything(bench: Measured) -> None:
    bench.css.schm(ChannelMonitor(origin=AREA + 1))


@pytest.mark.parametrize("mba", [1, 32, AREA + 16])
def test_a_block_of_format_1_lies_on_its_boundary(bench: Measured, mba: int) -> None:
    with pytest.raises(OperandException):
        bench.measure(mbfc=True, mba=mba)


def test_nothing_is_written_while_it_is_off(bench: Measured) -> None:
    before = bench.memory.read(AREA, 256)
    assert bench.measure() == 0
    run(bench)
    bench.css.schm(ChannelMonitor(update=True, origin=AREA))
    assert bench.measure(mme=1) == 0  # device-connect time only
    run(bench)
    assert bench.measure(mme=2) == 0
    bench.css.schm(ChannelMonitor())
    run(bench)
    assert bench.memory.read(AREA, 256) == before


def test_blocks_of_format_0(bench: Measured) -> None:
    bench.css.schm(ChannelMonitor(update=True, origin=AREA))
    assert bench.measure(mbi=3) == 0
    for _ in range(3):
        run(bench)
    assert bench.block(3) == MeasurementBlock(3, 3, 0, 300)
    assert bench.memory.read(AREA, 96) == bytes(96)
    assert bench.memory.read(AREA + 128, 32) == bytes(32)


def test_blocks_of_format_1(bench: Measured) -> None:
    bench.css.schm(ChannelMonitor(update=True, origin=AREA))
    assert bench.measure(mbfc=True, mba=DATA + 0x100) == 0
    run(bench)
    block = ExtendedMeasurementBlock.from_bytes(bench.memory.read(DATA + 0x100, 64))
    assert block == ExtendedMeasurementBlock(1, 1, 0, 100)
    assert bench.memory.read(AREA, 64) == bytes(64)


def test_counts_wrap_around(bench: Measured) -> None:
    bench.css.schm(ChannelMonitor(update=True, origin=AREA))
    bench.memory.write(AREA, MeasurementBlock(0xFFFF, 0xFFFE, 5, 0xFFFFFFFF).to_bytes())
    bench.measure()
    run(bench)
    assert bench.block() == MeasurementBlock(0, 0xFFFF, 5, 99)


def test_suspended_time_does_not_count(bench: Measured) -> None:
    """SSCH and RSCH count, there is one sample; pending is the time until each of them became active."""
    bench.css.schm(ChannelMonitor(update=True, origin=AREA))
    bench.measure()
    bench.put(PROGRAM, "0362000100020000 e420000700020000")
    assert bench.ssch(Orb(cpa=PROGRAM, spnd=True, pfch=True)) == 0
    bench.clock.advance(SlowEcho.latency)
    bench.irb()
    assert bench.block() == MeasurementBlock(1, 0)
    bench.clock.advance(1000 * MEASUREMENT_UNIT)
    bench.put(PROGRAM, "0360000100020000")
    assert bench.css.rsch(SCHID) == 0
    bench.clock.settle()
    assert bench.irb().scsw.ok
    assert bench.block() == MeasurementBlock(2, 1, 0, 100)


def test_connect_time(bench: Measured) -> None:
    """A program that never ends is connected until it is stopped; then there is no sample of it."""
    bench.css.schm(ChannelMonitor(update=True, origin=AREA))
    bench.measure()
    bench.put(PROGRAM, "0360000100020000 0800000000011000")
    assert bench.ssch() == 0
    for _ in range(20):
        bench.clock.advance(0.01)
    bench.put(PROGRAM, "0300000100020000")  # it is fetched anew, and ends
    bench.clock.advance(0.01)
    assert bench.irb().scsw.ok
    block = bench.block()
    assert (block.ssch_rsch_count, block.sample_count) == (1, 1)
    assert block.device_connect_time == pytest.approx(0.2 / MEASUREMENT_UNIT, rel=0.1)


@pytest.mark.parametrize("stop", ["hsch", "csch", "xsch"])
def test_functions_that_were_stopped_are_no_samples(bench: Measured, stop: str) -> None:
    bench.css.schm(ChannelMonitor(update=True, origin=AREA))
    bench.measure()
    bench.put(PROGRAM, SENSE_ID)
    assert bench.ssch() == 0
    assert getattr(bench.css, stop)(SCHID) == 0
    bench.clock.advance(1)
    bench.css.tsch(SCHID)
    assert bench.block() == MeasurementBlock(1, 0)
    run(bench)
    assert bench.block() == MeasurementBlock(2, 1, 0, 100)


def test_storage_that_is_not_there_ends_the_measuring(bench: Measured) -> None:
    bench.css.schm(ChannelMonitor(update=True, origin=1 << 40))
    bench.measure()
    run(bench)
    assert bench.schib().pmcw.mme == 0
    assert bench.css.stsch(SubchannelId(0, 0, 9))[0] == 3
