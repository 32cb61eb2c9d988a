"""Each event in each state of a vfio-ccw device (``vfio_ccw_jumptable`` of ``drivers/s390/cio/vfio_ccw_fsm.c``)."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator

import pytest
from ccw_fixture import PROGRAM, START, CcwHost, Channel, refused

from pyvfio.abi import vfio_ccw as abi
from pyvfio.address import SubchannelId
from pyvfio.css import Ccw, Irb, Orb, Scsw
from pyvfio.css.crw import Crw
from pyvfio.css.scsw import Actl, Dstat, Fctl, Stctl
from pyvfio.testing.expect import settles
from pyvfio_backends.software.linux.css import CSS
from pyvfio_backends.software.linux.vfio_ccw import VfioCcwDriver
from pyvfio_backends.software.linux.vfio_ccw_fsm import CcwMachine, State

NAME = "0.0.0005"
CLOSED = (State.NOT_OPERATIONAL, State.STANDBY)
OPEN = (State.IDLE, State.PROCESSING, State.PENDING)
ENDED = Irb(
    Scsw(
        fctl=Fctl.START,
        stctl=Stctl.PENDING | Stctl.PRIMARY | Stctl.SECONDARY,
        dstat=Dstat.CHANNEL_END | Dstat.DEVICE_END,
    )
)
UNSOLICITED = Irb(Scsw(stctl=Stctl.ALERT | Stctl.PENDING, dstat=Dstat.ATTENTION))
RUNNING = Irb(Scsw(fctl=Fctl.START, actl=Actl.DEVICE_ACTIVE, stctl=Stctl.PENDING | Stctl.INTERMEDIATE))


@pytest.fixture
def host() -> Iterator[CcwHost]:
    with CcwHost() as host:
        yield host


@pytest.fixture
def channel(host: CcwHost) -> Iterator[Channel]:
    channel = host.open_channel(NAME)
    yield channel
    channel.close_device()
    channel.close()


@pytest.fixture
def machine(host: CcwHost, channel: Channel) -> CcwMachine:
    css = host.machine.kernel.subsystems[CSS]
    driver = css.bus.drivers["vfio_ccw"]
    assert isinstance(driver, VfioCcwDriver)
    return driver.mdev.vfio_devices[NAME].machine


def enabled(host: CcwHost, machine: CcwMachine) -> bool:
    _, schib = host.machine.css.stsch(machine.sch.schid)
    return schib is not None and schib.pmcw.ena


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State.NOT_OPERATIONAL, errno.EIO),
        (State.STANDBY, errno.EIO),
        (State.PROCESSING, errno.EAGAIN),
        (State.PENDING, errno.EBUSY),
    ],
)
def test_a_start_that_is_refused(channel: Channel, machine: CcwMachine, state: State, code: int) -> None:
    machine.state = state
    with refused(code):
        channel.start(Ccw(3, count=1))
    assert (channel.ret_code(), machine.state) == (-code, state)
    machine.state = State.IDLE


@pytest.mark.parametrize(
    ("state", "code"),
    [(State.NOT_OPERATIONAL, errno.EIO), (State.STANDBY, errno.EIO), (State.PROCESSING, errno.EAGAIN)],
)
@pytest.mark.parametrize("command", [abi.VFIO_CCW_ASYNC_CMD_HSCH, abi.VFIO_CCW_ASYNC_CMD_CSCH, 7])
def test_halt_and_clear_that_are_refused(
    channel: Channel, machine: CcwMachine, state: State, code: int, command: int
) -> None:
    machine.state = state
    with refused(code):
        channel.command(command)
    assert machine.state is state
    machine.state = State.IDLE


@pytest.mark.parametrize("state", [State.IDLE, State.PENDING])
@pytest.mark.parametrize("command", [abi.VFIO_CCW_ASYNC_CMD_HSCH, abi.VFIO_CCW_ASYNC_CMD_CSCH])
def test_halt_and_clear(channel: Channel, machine: CcwMachine, state: State, command: int) -> None:
    machine.state = state
    channel.command(command)
    assert channel.io.read() == 1
    # An end of a halt or clear is final, so that it ends what is pending, too.
    assert machine.state is State.IDLE


@pytest.mark.parametrize("state", CLOSED)
def test_an_interruption_in_a_closed_state_disables(host: CcwHost, machine: CcwMachine, state: State) -> None:
    machine.state = state
    machine.interrupt(ENDED)
    host.settle()
    assert not enabled(host, machine)
    machine.state = State.NOT_OPERATIONAL


@pytest.mark.parametrize(
    ("state", "irb", "after"),
    [
        (State.IDLE, ENDED, State.IDLE),
        (State.IDLE, UNSOLICITED, State.IDLE),
        (State.PROCESSING, ENDED, State.PROCESSING),
        (State.PROCESSING, UNSOLICITED, State.PROCESSING),
        (State.PENDING, ENDED, State.IDLE),
        (State.PENDING, UNSOLICITED, State.PENDING),
        (State.PENDING, RUNNING, State.PENDING),
    ],
)
def test_an_interruption(
    host: CcwHost, channel: Channel, machine: CcwMachine, state: State, irb: Irb, after: State
) -> None:
    machine.state = state
    machine.interrupt(irb)
    host.settle()
    assert (machine.state, channel.irb().scsw.stctl) == (after, irb.scsw.stctl)
    assert channel.io.read() == 1  # user space hears of every one
    machine.state = State.IDLE


def test_two_interruptions_before_user_space_looks_show_the_second(
    host: CcwHost, channel: Channel, machine: CcwMachine
) -> None:
    machine.state = State.PENDING
    with machine.device.kernel.lock:
        machine.interrupt(RUNNING)
        machine.interrupt(ENDED)
    host.settle()
    assert channel.irb().scsw.stctl == ENDED.scsw.stctl
    assert channel.io.read() == 1
    assert machine.state is State.IDLE


@pytest.mark.parametrize("state", OPEN)
def test_opening_what_is_open_gives_it_up(host: CcwHost, machine: CcwMachine, state: State) -> None:
    machine.state = state
    with host.machine.lock:
        machine.open()
    assert machine.state is State.NOT_OPERATIONAL


@pytest.mark.parametrize("state", OPEN)
def test_closing(host: CcwHost, machine: CcwMachine, state: State) -> None:
    machine.state = state
    with host.machine.lock:
        machine.close()
    assert machine.state is State.STANDBY
    assert not enabled(host, machine)
    with host.machine.lock:
        machine.open()
    assert machine.state is State.IDLE


def test_closing_what_is_closed_gives_it_up(host: CcwHost, machine: CcwMachine) -> None:
    with host.machine.lock:
        machine.close()
        machine.close()
    assert machine.state is State.NOT_OPERATIONAL


@pytest.mark.parametrize("event", ["open", "close", "not_operational"])
def test_nothing_leads_out_of_not_operational(host: CcwHost, machine: CcwMachine, event: str) -> None:
    with host.machine.lock:
        machine.not_operational()
        getattr(machine, event)()
    assert machine.state is State.NOT_OPERATIONAL


# what is pending and what comes later


def test_a_program_that_was_halted_makes_room_for_another(host: CcwHost, channel: Channel, machine: CcwMachine) -> None:
    channel.start(Ccw(3, count=1), Ccw(8, cda=PROGRAM), orb=Orb(cpa=PROGRAM, pfch=True, fmt=1))
    channel.halt()
    channel.io.read()
    assert machine.state is State.IDLE
    assert channel.host.pwrite(channel.fd, (Orb(cpa=PROGRAM, pfch=True, fmt=1).to_bytes() + START).ljust(124, b"\0"), 0)


def test_reports_wait_for_their_reader_also_over_a_close(host: CcwHost, channel: Channel) -> None:
    with host.machine.lock:
        for online in (False, True):
            host.machine.css.set_path_online(0, 0, online)
    host.settle()
    assert channel.crw.read() >= 1
    first = Crw.from_bytes(channel.host.pread(channel.fd, 4, 3 << 10))
    assert (first.rsc, first.erc, first.rsid) == (4, 6, 0)
    assert channel.crw.read() == 1  # there is more
    second = Crw.from_bytes(channel.host.pread(channel.fd, 4, 3 << 10))
    assert (second.rsc, second.erc, second.rsid) == (4, 2, 0)
    assert channel.host.pread(channel.fd, 8, 3 << 10) == bytes(8)


@pytest.mark.parametrize("text", ["offline", "online"])
def test_a_varied_path_is_not_reported(host: CcwHost, channel: Channel, text: str) -> None:
    host.write("chp0.00/status", text)
    assert channel.crw.read() == 0
    assert channel.host.pread(channel.fd, 8, 3 << 10) == bytes(8)


def test_a_start_over_paths_that_are_varied_off(host: CcwHost, channel: Channel) -> None:
    """The path mask of the host is used when the guest gives none, and it is empty then."""
    host.write("chp0.00/status", "offline")
    assert host.machine.kernel.buses["css"].devices[NAME].lpm == 0  # type: ignore[attr-defined]
    host.write("chp0.00/status", "online")
    assert host.machine.kernel.buses["css"].devices[NAME].lpm == 0x80  # type: ignore[attr-defined]
    channel.start(Ccw(3, count=1))
    assert channel.io.read() == 1


def test_looking_at_a_subchannel_does_not_keep_its_removal_waiting() -> None:
    """A report comes while another thread removes it: that thread gets its turn, and the number is looked at again."""
    with CcwHost(paced=True) as host:
        channel = host.open_channel()
        css = host.machine.kernel.subsystems[CSS]
        with host.machine.lock:
            sch = css.find(SubchannelId.parse(NAME))
            assert sch is not None
            sch.leaving = True
            css.evaluate(sch.schid)
        time.sleep(0.05)  # the machine's thread has looked by now, and must not go on for ever
        done = threading.Event()

        def remove() -> None:
            with host.machine.lock:
                css.unregister(sch)
            done.set()

        threading.Thread(target=remove, daemon=True).start()
        assert done.wait(10)
        channel.close_device()
        assert settles(lambda: host.driver(NAME) == "io_subchannel")
        channel.close()
