"""The states of ccw devices (``drivers/s390/cio/device_fsm.c``, ``device_pgid.c``, ``ccwreq.c``, ``device.c``)."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from ccw_fixture import CCW, CSS, CcwHost, refused

from pyvfio.address import SubchannelId
from pyvfio.css.ccw import Command
from pyvfio.css.senseid import SenseId
from pyvfio_backends.software.hardware.css import ControlUnit, SubchannelConfig
from pyvfio_backends.software.hardware.css.controlunit import DONE, WORKING, Channel, Ending, unit_check
from pyvfio_backends.software.hardware.devices.echo import Echo

DASD = "0.1.0001/0.1.013f"
SCH = "0.1.0001"
NEW = SubchannelId(0, 2, 0)
PLACE = "0.2.0000"
DEVICE = f"{PLACE}/0.2.4000"
STEAL_LOCK, RELEASE = 0x14, 0x94
RESERVED_ELSEWHERE = 0x20
BUSY_ELSEWHERE = bytes([RESERVED_ELSEWHERE]) + bytes(11)


class Disk(ControlUnit):
    """Identifies itself as a 3390; `silent` commands get no answer, `refused` ones a command reject."""

    def __init__(self) -> None:
        super().__init__(SenseId(0x3990, 0xE9, 0x3390, 0x0C))
        self.silent: set[int] = set()
        self.refused: set[int] = set()
        self.reserved = False
        self.group = bytes(12)
        self.seen: list[int] = []

    def perform(self, code: int, channel: Channel) -> Ending:
        self.seen.append(code)
        if code in self.silent:
            return WORKING
        return unit_check(0x80) if code in self.refused else super().perform(code, channel)

    def command(self, code: int, channel: Channel) -> Ending:
        if code == Command.SENSE_PGID:
            channel.write_to_memory(BUSY_ELSEWHERE if self.reserved else self.group)
        elif code == Command.SET_PGID:
            data = channel.read_from_memory(12)
            self.group = bytes(12) if data[0] & 0x60 else b"\xc8" + data[1:]
        elif code == STEAL_LOCK:
            self.reserved = False
            channel.write_to_memory(bytes(32))
        elif code == RELEASE:
            channel.write_to_memory(bytes(32))
        else:
            return unit_check(0x80)
        return DONE


class Bare(Disk):
    concurrent_sense = False


@pytest.fixture
def host() -> Iterator[CcwHost]:
    with CcwHost() as host:
        yield host


def plug(host: CcwHost, unit: ControlUnit, *, devno: int = 0x4000, chpids: int = 1) -> None:
    """Give the machine a device at 0.2.0000 with the channel paths 02 and, if two, 03."""
    mask = 0xFF << 8 - chpids & 0xFF
    config = SubchannelConfig(NEW, devno, device=unit, chpids=(2, 3, 0, 0, 0, 0, 0, 0), pim=mask, pam=mask)
    with host.machine.lock:
        host.machine.css.add_subchannel(config, report=True)
    host.settle()


def later(host: CcwHost, seconds: float) -> None:
    host.machine.clock.advance(seconds)
    host.settle()


# recognition


def test_a_device_that_does_not_answer_is_forgotten_after_its_time(host: CcwHost) -> None:
    unit = Disk()
    unit.silent.add(Command.SENSE_ID)
    plug(host, unit)
    assert host.heard() == [f"add css0/{PLACE}", f"bind css0/{PLACE}"]
    later(host, 25)
    assert not host.exists(DEVICE)
    assert host.driver(PLACE) == "io_subchannel"
    unit.silent.clear()
    host.write("rescan", "1")
    assert [line for line in host.heard() if line.startswith("add css0/0.2")] == [f"add css0/{DEVICE}"]


def test_a_device_without_identification_is_forgotten(host: CcwHost) -> None:
    unit = Disk()
    unit.refused.add(Command.SENSE_ID)
    plug(host, unit)
    assert host.exists(PLACE)
    assert not host.exists(DEVICE)
    assert unit.seen == [Command.SENSE_ID]


def test_sense_is_fetched_where_it_does_not_come_by_itself(host: CcwHost) -> None:
    unit = Bare()
    unit.refused.add(Command.SENSE_ID)
    plug(host, unit)
    assert unit.seen == [Command.SENSE_ID, Command.SENSE]


def test_another_number_on_a_subchannel_is_another_device(host: CcwHost) -> None:
    plug(host, Disk())
    host.heard()
    with host.machine.lock:
        host.machine.css.remove_subchannel(NEW)
        config = SubchannelConfig(NEW, 0x4001, device=Disk(), chpids=(2, 0, 0, 0, 0, 0, 0, 0))
        host.machine.css.add_subchannel(config, report=True)
    host.settle()
    other = f"css0/{PLACE}/0.2.4001"
    assert host.heard() == [f"unbind css0/{DEVICE}", f"remove css0/{DEVICE}", f"add {other}", f"bind {other}"]


def test_an_online_device_whose_number_changed_is_kept_and_found_elsewhere(host: CcwHost) -> None:
    plug(host, Disk())
    host.write(f"{DEVICE}/online", "1")
    host.heard()
    with host.machine.lock:
        host.machine.css.remove_subchannel(NEW)
        config = SubchannelConfig(NEW, 0x4001, device=Disk(), chpids=(2, 0, 0, 0, 0, 0, 0, 0))
        host.machine.css.add_subchannel(config, report=True)
    host.settle()
    assert host.heard()[0] == "move css0/defunct/0.2.4000"
    assert host.read("defunct/0.2.4000/availability") == "no device\n"
    assert host.read("defunct/0.2.4000/online") == "1\n"
    assert host.exists(f"{PLACE}/0.2.4001")
    with host.machine.lock:
        elsewhere = SubchannelConfig(SubchannelId(0, 2, 1), 0x4000, device=Disk(), chpids=(2, 0, 0, 0, 0, 0, 0, 0))
        host.machine.css.add_subchannel(elsewhere, report=True)
    host.settle()
    assert "move css0/0.2.0001/0.2.4000" in host.heard()
    assert host.read("0.2.0001/0.2.4000/availability") == "good\n"
    assert host.read("0.2.0001/vpm") == "80\n"


def test_an_orphan_that_is_set_offline_goes(host: CcwHost) -> None:
    plug(host, Disk())
    host.write(f"{DEVICE}/online", "1")
    with host.machine.lock:
        host.machine.css.remove_subchannel(NEW)
    host.settle()
    host.heard()
    host.write("defunct/0.2.4000/online", "0")
    assert [line for line in host.heard() if line.endswith("0.2.4000")] == [
        "unbind css0/defunct/0.2.4000", "remove css0/defunct/0.2.4000",
    ]  # fmt: skip


# path verification


def test_each_path_is_tried_and_the_group_set_on_it(host: CcwHost) -> None:
    unit = Disk()
    plug(host, unit, chpids=2)
    unit.seen.clear()
    host.write(f"{DEVICE}/online", "1")
    assert unit.seen[:4] == [Command.SENSE_PGID] * 2 + [Command.SET_PGID] * 1 + [Command.SET_PGID]
    assert host.read(f"{PLACE}/vpm") == "c0\n"
    _, schib = host.machine.css.stsch(NEW)
    assert schib is not None
    assert schib.pmcw.mp
    host.write(f"{DEVICE}/online", "0")
    assert unit.group == bytes(12)  # disbanded
    _, schib = host.machine.css.stsch(NEW)
    assert schib is not None
    assert not schib.pmcw.mp


def test_a_device_without_path_groups_gets_a_no_operation_on_each_path(host: CcwHost) -> None:
    unit = Disk()
    unit.refused |= {Command.SENSE_PGID, Command.SET_PGID}
    plug(host, unit, chpids=2)
    unit.seen.clear()
    host.write(f"{DEVICE}/online", "1")
    assert unit.seen[:3] == [Command.SENSE_PGID, Command.NOP, Command.NOP]
    assert host.read(f"{PLACE}/vpm") == "c0\n"


def test_a_path_that_does_not_work_is_found_and_looked_for(host: CcwHost) -> None:
    host.write(f"{DASD}/online", "0")
    with host.machine.lock:
        host.machine.css.break_path(0, 3)
    host.write(f"{DASD}/online", "1")
    assert (host.read(f"{SCH}/vpm"), host.read(f"{DASD}/availability")) == ("80\n", "good\n")
    with host.machine.lock:
        host.machine.css.repair_path(0, 3)
    later(host, 2.9)
    assert host.read(f"{SCH}/vpm") == "80\n"
    later(host, 0.2)
    assert host.read(f"{SCH}/vpm") == "c0\n"


def test_a_device_without_a_path_that_works_does_not_go_online(host: CcwHost) -> None:
    plug(host, Disk())
    with host.machine.lock:
        host.machine.css.break_path(0, 2)
    with refused(errno.ENODEV):
        host.write(f"{DEVICE}/online", "1")
    assert not host.exists(DEVICE)


def test_an_online_disk_waits_for_its_paths(host: CcwHost) -> None:
    for chpid in (2, 3):
        with host.machine.lock:
            host.machine.css.break_path(0, chpid)
    host.write("chp0.02/status", "off")
    assert (host.read(f"{SCH}/vpm"), host.read(f"{DASD}/availability")) == ("00\n", "no path\n")
    host.write("chp0.02/status", "on")
    assert host.read(f"{DASD}/availability") == "no device\n"  # the machine calls the paths available
    assert host.read(f"{DASD}/online") == "1\n"
    for chpid in (2, 3):
        with host.machine.lock:
            host.machine.css.repair_path(0, chpid)
    later(host, 400)
    assert (host.read(f"{SCH}/vpm"), host.read(f"{DASD}/availability")) == ("c0\n", "good\n")


def test_a_disconnected_device_that_is_set_offline_goes_and_comes_back_with_its_path(host: CcwHost) -> None:
    plug(host, Disk())
    host.write(f"{DEVICE}/online", "1")
    host.write("chp0.02/status", "off")
    assert host.read(f"{DEVICE}/availability") == "no path\n"
    host.write(f"{DEVICE}/online", "0")
    assert not host.exists(DEVICE)
    host.write("chp0.02/status", "on")
    assert host.read(f"{DEVICE}/online") == "0\n"


# boxed


def test_a_reserved_device_is_boxed_until_it_is_forced(host: CcwHost) -> None:
    unit = Disk()
    plug(host, unit)
    unit.reserved = True
    with refused(errno.ENODEV):
        host.write(f"{DEVICE}/online", "1")
    assert host.read(f"{DEVICE}/availability") == "boxed\n"
    assert host.read(f"{DEVICE}/online") == "0\n"
    with refused(errno.ENODEV):
        host.write(f"{DEVICE}/online", "1")
    unit.seen.clear()
    assert host.write(f"{DEVICE}/online", "force\n") == 6
    assert [code for code in unit.seen if code in (STEAL_LOCK, RELEASE)] == [STEAL_LOCK, RELEASE]
    assert host.read(f"{DEVICE}/availability") == "good\n"
    assert host.read(f"{DEVICE}/online") == "1\n"


def test_a_boxed_device_that_does_not_identify_itself_any_more(host: CcwHost) -> None:
    unit = Disk()
    plug(host, unit)
    unit.reserved = True
    with refused(errno.ENODEV):
        host.write(f"{DEVICE}/online", "1")
    unit.silent.add(Command.SENSE_ID)
    with refused(errno.EAGAIN):
        host.write(f"{DEVICE}/online", "1")
    assert host.read(f"{DEVICE}/availability") == "boxed\n"


def test_a_disk_that_stops_answering_is_given_up(host: CcwHost) -> None:
    unit = Disk()
    plug(host, unit)
    unit.silent |= {Command.SENSE_PGID, Command.SET_PGID, Command.NOP}
    with refused(errno.ENODEV):
        host.write(f"{DEVICE}/online", "1")
    assert host.read(f"{DEVICE}/availability") == "boxed\n"


# measurement


def test_what_a_device_does_is_measured(host: CcwHost) -> None:
    host.write(f"{DASD}/cmb_enable", "1")
    host.write(f"{DASD}/online", "0")
    host.write(f"{DASD}/online", "1")
    count = int(host.read(f"{DASD}/cmf/ssch_rsch_count"))
    assert count >= 4
    assert int(host.read(f"{DASD}/cmf/sample_count")) > 0
    later(host, 1)
    assert int(host.read(f"{DASD}/cmf/avg_sample_interval")) > 0
    host.write(f"{DASD}/cmb_enable", "1")  # begins again
    assert host.read(f"{DASD}/cmf/ssch_rsch_count") == "0\n"


def test_measuring_ends_with_the_driver(host: CcwHost) -> None:
    host.write(f"{DASD}/cmb_enable", "1")
    host.write(f"{CCW}/drivers/dasd-eckd/unbind", "0.1.013f")
    assert host.read(f"{DASD}/cmb_enable") == "0\n"
    assert not host.exists(f"{DASD}/cmf")


# many at once


def test_many_new_devices_go_online_by_themselves() -> None:
    with CcwHost() as host:
        configs = [SubchannelConfig(SubchannelId(0, 3, number), number, device=Echo()) for number in range(300)]
        with host.machine.lock:
            for config in configs:
                host.machine.css.add_subchannel(config)
        host.write("rescan", "1")
        assert len([name for name in host.names(f"{CSS}/devices") if name.startswith("0.3.")]) == 300
        assert len([name for name in host.names(f"{CCW}/devices") if name.startswith("0.3.")]) == 300
