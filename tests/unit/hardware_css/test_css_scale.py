"""Four images of four sets of 65,536 subchannels: all can be addressed, and only those that are used are built.

What is counted are objects, not seconds.
"""

from __future__ import annotations

import gc

from css_rig import Clock, Memory

from pyvfio.address import SubchannelId
from pyvfio.css import IMAGES, SETS, SUBCHANNELS_PER_SET
from pyvfio.css.chsc_machine import EnableFacility, Facility
from pyvfio_backends.software.hardware.css import (
    ChannelPath,
    ChannelSubsystemHardware,
    ControlUnit,
    SubchannelConfig,
)
from pyvfio_backends.software.hardware.css.subchannel import Subchannel
from pyvfio_backends.software.hardware.devices.echo import Echo

ALL = IMAGES * SETS * SUBCHANNELS_PER_SET


class Counted:
    """A machine with every subchannel there can be; `configured` and `units` are those that were built."""

    def __init__(self) -> None:
        self.configured: list[SubchannelId] = []
        self.units = 0
        self.css = ChannelSubsystemHardware(
            Memory(),
            on_io_interrupt=lambda schid: None,
            on_crw=lambda: None,
            schedule=Clock().schedule,
            enabled=(),
        )
        for cssid in range(IMAGES):
            for ssid in range(SETS):
                self.css.add_range(SubchannelId(cssid, ssid, 0), SUBCHANNELS_PER_SET, self.config)
        for facility in Facility:
            assert self.css.chsc(EnableFacility(facility).request().to_bytes())[1][2:4] == b"\0\1"

    def config(self, schid: SubchannelId) -> SubchannelConfig:
        self.configured.append(schid)
        return SubchannelConfig(schid, schid.sch_no, chpids=(schid.ssid, *[0] * 7), build=self.build)

    def build(self) -> ControlUnit:
        self.units += 1
        return Echo()


def test_a_million_subchannels() -> None:
    machine = Counted()
    css = machine.css
    assert len(css) == ALL == 1 << 20
    assert (css.built, machine.configured, machine.units) == (0, [], 0)
    corners = [
        SubchannelId(cssid, ssid, number)
        for cssid in range(IMAGES)
        for ssid in range(SETS)
        for number in (0, SUBCHANNELS_PER_SET - 1)
    ]
    for schid in corners:
        cc, schib = css.stsch(schid)
        assert cc == 0
        assert schib is not None
        assert (schib.pmcw.devno, schib.pmcw.chpid[0]) == (schid.sch_no, schid.ssid)
    assert (css.built, machine.configured, machine.units) == (0, corners, 0)
    assert css.stsch(SubchannelId(IMAGES, 0, 0)) == (3, None)


def test_what_is_used_is_kept_and_nothing_else() -> None:
    machine = Counted()
    css = machine.css
    before = sum(isinstance(one, Subchannel) for one in gc.get_objects())
    for number in range(100):
        assert css.csch(SubchannelId(3, 3, number)) == 3  # not enabled
    assert (css.built, machine.units) == (100, 0)
    assert sum(isinstance(one, Subchannel) for one in gc.get_objects()) - before == 100


def test_a_path_that_goes_builds_nothing() -> None:
    machine = Counted()
    machine.css.add_path(ChannelPath(2))
    machine.css.set_path_online(0, 2, False)
    assert (machine.css.built, machine.configured) == (0, [])
    far = machine.css.stsch(SubchannelId(0, 2, 0x8000))[1]
    near = machine.css.stsch(SubchannelId(0, 1, 0x8000))[1]
    assert far is not None
    assert near is not None
    assert (far.pmcw.pam, near.pmcw.pam) == (0, 0x80)


def test_taking_one_away_leaves_the_others_alone() -> None:
    machine = Counted()
    gone = SubchannelId(1, 2, 0x1234)
    machine.css.remove_subchannel(gone)
    assert len(machine.css) == ALL - 1
    assert machine.configured == [gone]
    there = machine.css.schids()
    assert next(there) == SubchannelId(0, 0, 0)
    assert sum(1 for _ in there) == ALL - 2
    assert machine.configured == [gone]
