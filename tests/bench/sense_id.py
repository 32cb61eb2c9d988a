"""SENSE ID round trips through the whole vfio-ccw path of the software machine: start, interrupt, IRB.

Beside them runs the same program on the channel subsystem alone (SSCH, the program, TPI, TSCH): what no path above it
can be faster than.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from measure import Line, best

import pyvfio
from pyvfio import CcwDevice
from pyvfio.abi import vfio_ccw as abi
from pyvfio.address import SubchannelId
from pyvfio.css import Fctl, Image, Orb, Program, Schib, Scsw
from pyvfio.css.irb import IRB_SIZE
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.hardware.css import ChannelSubsystemHardware, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

NUMBER = "0.0.1000"
TARGET = 5_000
ROUND = 20  # trips; rounds are short and many, so that some are not disturbed by what else the machine does
ROUNDS = 200
_IRB_AT = abi.ORB_AREA_SIZE + abi.SCSW_AREA_SIZE
_REGION = _IRB_AT + abi.IRB_AREA_SIZE + 4


def _alone() -> float:
    """Round trips a second of the channel subsystem without anything above it."""
    program = Program(0x1000).sense_id((0x2000, 64)).sli
    storage = program.image()
    storage.room(0x2000, 64)
    work: list[Callable[[], None]] = []
    css = ChannelSubsystemHardware(
        Image([(0x1000, storage.read(0x1000, 8)), (0x2000, bytes(64))]),
        on_io_interrupt=lambda schid: None,
        on_crw=lambda: None,
        schedule=lambda delay, function: work.append(function),
    )
    schid = SubchannelId(0, 0, 0)
    css.add_subchannel(SubchannelConfig(schid, 0x1000, device=Echo()))
    cc, schib = css.stsch(schid)
    if cc or schib is None:
        raise RuntimeError("there is no subchannel")
    raw = bytearray(schib.to_bytes())
    raw[5] |= 0x80
    css.msch(schid, Schib.from_bytes(raw))
    orb = program.orb()

    def trip() -> None:
        css.ssch(schid, orb)
        while work:
            work.pop(0)()
        css.tpi()
        if not css.tsch(schid)[1].scsw.ok:
            raise RuntimeError("SENSE ID did not end well")

    return 1 / best(trip, ROUND, ROUNDS)


def sense_id() -> list[Line]:
    """SENSE ID through vfio-ccw: with the bare regions and an eventfd, and by the library."""
    unit = SubchannelSpec(schid="0.0.0000", device=NUMBER, unit="echo")
    spec = MachineSpec("one-device", paths=[ChannelPathSpec(0)], subchannels=[unit])
    with pyvfio.open_backend("software", machine=spec) as backend, pyvfio.Host(backend) as host:
        pyvfio.ccw_take(host, NUMBER)
        with pyvfio.open_device(host, NUMBER) as device, device.space.buffer(0x4000, below=1 << 31) as memory:
            program = Program(memory.iova).sense_id((memory.iova + 0x1000, 64)).sli
            memory.view[:8] = program.to_bytes()
            bare = _bare(device, program.orb())
            with CcwDevice(device) as channel:

                def trip() -> None:
                    if not channel.start(program).scsw.ok:
                        raise RuntimeError("SENSE ID did not end well")

                library = 1 / best(trip, ROUND, ROUNDS)
    alone = _alone()
    return [
        _line("SENSE ID round trips, vfio-ccw's regions", bare, alone),
        _line("SENSE ID round trips, CcwDevice.start", library, alone),
    ]


def _bare(device: pyvfio.Device, orb: Orb) -> float:
    """Round trips a second of write, eventfd and read."""
    backend, fd, offset = device.backend, device.fileno(), device.region(abi.VFIO_CCW_CONFIG_REGION_INDEX).offset
    request = orb.to_bytes() + Scsw(fctl=Fctl.START).to_bytes() + bytes(_REGION - _IRB_AT)
    irq = device.irq(abi.VFIO_CCW_IO_IRQ_INDEX)
    event = irq.enable()[0].fileno()

    def trip() -> None:
        backend.pwrite(fd, request, offset)
        os.read(event, 8)
        irb = backend.pread(fd, IRB_SIZE, offset + _IRB_AT)
        if irb[8:10] != b"\x0c\0":
            raise RuntimeError("SENSE ID did not end well")

    try:
        return 1 / best(trip, ROUND, ROUNDS)
    finally:
        irq.disable()


def _line(what: str, rate: float, alone: float) -> Line:
    figure = f"{rate:,.0f}/s ({rate / alone:.0%} of the channel's {alone:,.0f})"
    return Line(what, figure, f"{TARGET:,}/s", rate / TARGET)


if __name__ == "__main__":
    for line in sense_id():
        print(line)
