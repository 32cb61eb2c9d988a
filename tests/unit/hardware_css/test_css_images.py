"""Images: the default one goes by css id 0 until several are enabled; a hypervisor's is fe (QEMU's ``css.c``)."""

from __future__ import annotations

import pytest
from css_rig import PROGRAM, Clock, Memory

from pyvfio.address import SubchannelId
from pyvfio.css import VIRTUAL_IMAGES, Crw, OperandException, Orb, Pmcw, Schib
from pyvfio.css.chsc import ChscCode, ChscResponse
from pyvfio.css.chsc_machine import EnableFacility, Facility
from pyvfio.css.chsc_paths import StorePaths
from pyvfio_backends.software.hardware.css import VIRTUAL, ChannelPath, ChannelSubsystemHardware, SubchannelConfig
from pyvfio_backends.software.hardware.devices.echo import Echo

VIRTUAL_ID, OTHER_ID = VIRTUAL_IMAGES
REAL = SubchannelId(VIRTUAL_ID, 0, 5)
SHOWN = SubchannelId(0, 0, 5)
OTHER = SubchannelId(OTHER_ID, 1, 6)


class Machine:
    def __init__(self) -> None:
        self.memory, self.clock = Memory(), Clock()
        self.told: list[SubchannelId] = []
        self.css = ChannelSubsystemHardware(
            self.memory,
            on_io_interrupt=self.told.append,
            on_crw=lambda: None,
            schedule=self.clock.schedule,
            model=VIRTUAL,
            enabled=(),
            default_image=VIRTUAL_ID,
        )
        self.css.add_subchannel(SubchannelConfig(REAL, 5, device=Echo(), chpids=(0x44, *[0] * 7)))
        self.css.add_subchannel(SubchannelConfig(OTHER, 6, device=Echo()))
        self.css.add_path(ChannelPath(0x44, 0x32, cssid=VIRTUAL_ID))

    def run(self, schid: SubchannelId) -> SubchannelId:
        """Run a program on the subchannel; the id with which the interruption came."""
        assert self.css.msch(schid, Schib(Pmcw(ena=True, lpm=0x80))) == 0
        self.memory.write(PROGRAM, bytes.fromhex("0320000100000000"))
        assert self.css.ssch(schid, Orb(cpa=PROGRAM)) == 0
        self.clock.settle()
        pending = self.css.tpi()
        assert pending is not None
        cc, irb = self.css.tsch(pending.schid)
        assert (cc, irb.scsw.ok) == (0, True)
        assert self.told.pop() == pending.schid
        return pending.schid

    def enable(self, facility: Facility) -> None:
        block = self.css.chsc(EnableFacility(facility).request().to_bytes())[1]
        assert ChscResponse.from_bytes(block).ok

    def reports(self) -> list[Crw]:
        words = []
        while (word := self.css.stcrw()) is not None:
            words.append(word)
        return words


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_at_first_there_is_the_default_image_only(machine: Machine) -> None:
    css = machine.css
    assert [css.stsch(schid)[0] for schid in (REAL, OTHER, SHOWN)] == [3, 3, 0]
    with pytest.raises(OperandException):
        css.rchp(VIRTUAL_ID, 0x44)
    assert machine.run(SHOWN) == SHOWN
    css.remove_subchannel(OTHER)
    css.set_path_online(VIRTUAL_ID, 0x44, False)
    css.set_path_online(VIRTUAL_ID, 0x44, True)
    assert css.rchp(0, 0x44) == 0
    machine.clock.settle()
    css.remove_subchannel(REAL)
    assert machine.reports() == [Crw(4, 6, 0x44), Crw(4, 2, 0x44), Crw(4, 2, 0x44, slct=True), Crw(3, 4, 5)]


def test_with_several_images_each_has_its_own_id(machine: Machine) -> None:
    css = machine.css
    machine.enable(Facility.IMAGES)
    assert [css.stsch(schid)[0] for schid in (REAL, OTHER, SHOWN)] == [0, 3, 0]
    machine.enable(Facility.SUBCHANNEL_SETS)
    assert css.stsch(OTHER)[0] == 0
    assert machine.run(SHOWN) == REAL
    assert machine.run(REAL) == REAL
    assert machine.run(OTHER) == OTHER
    assert css.rchp(VIRTUAL_ID, 0x44) == 0
    machine.clock.settle()
    css.remove_subchannel(OTHER)
    assert machine.reports() == [
        Crw(4, 2, 0x44, chn=True, slct=True), Crw(4, 2, VIRTUAL_ID << 8, slct=True),
        Crw(3, 4, 6, chn=True), Crw(3, 4, OTHER_ID << 8 | 1 << 4),
    ]  # fmt: skip


def test_calls_are_about_the_default_image(machine: Machine) -> None:
    block = machine.css.chsc(StorePaths(0x44, 0x44).request().to_bytes())[1]
    assert ChscResponse.from_bytes(block).data.hex() == "8000324400000000"
    for cssid, code in ((VIRTUAL_ID, ChscCode.COMPLETED), (7, ChscCode.INVALID_IMAGE)):
        block = machine.css.chsc(StorePaths(0, 0xFF, cssid=cssid, m=True).request().to_bytes())[1]
        assert ChscResponse.from_bytes(block).code == code
