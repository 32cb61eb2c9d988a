"""HALT and CLEAR SUBCHANNEL through the region of asynchronous commands, and the reset."""

from __future__ import annotations

from errno import EINVAL

import pytest

from pyvfio.abi import vfio
from pyvfio.abi.vfio_ccw import VFIO_CCW_ASYNC_CMD_CSCH, VFIO_CCW_ASYNC_CMD_HSCH
from pyvfio.backend import Backend
from pyvfio.css import CcwFlag, Fctl, Stctl
from pyvfio.testing.channel import ASYNC, Channel, sense_id
from pyvfio.testing.expect import fails

HALT, CLEAR = VFIO_CCW_ASYNC_CMD_HSCH, VFIO_CCW_ASYNC_CMD_CSCH


@pytest.mark.parametrize("number", [0, HALT | CLEAR, 4, 0xFFFFFFFF])
def test_a_command_that_is_none(channel: Channel, number: int) -> None:
    with fails(EINVAL):
        channel.command(number)
    assert channel.command_ret_code == -EINVAL
    assert channel.event.read() == 0


def test_more_than_the_region(backend: Backend, channel: Channel) -> None:
    with fails(EINVAL):
        backend.pwrite(channel.fd, bytes(9), channel.offsets[ASYNC])


def test_halt_of_an_idle_subchannel(channel: Channel) -> None:
    assert channel.command(HALT) == 8
    scsw = channel.irb().scsw
    assert scsw.fctl == Fctl.HALT
    assert Stctl.PENDING in scsw.stctl
    assert channel.command_ret_code == 0


def test_clear_of_an_idle_subchannel(channel: Channel) -> None:
    assert channel.command(CLEAR) == 8
    scsw = channel.irb().scsw
    assert scsw.fctl == Fctl.CLEAR
    assert scsw.stctl == Stctl.PENDING
    assert channel.command_ret_code == 0


@pytest.mark.parametrize("command", [HALT, CLEAR], ids=["halt", "clear"])
def test_a_program_afterwards(channel: Channel, command: int) -> None:
    channel.command(command)
    channel.irb()
    assert channel.run(sense_id(channel.data)).scsw.ok


@pytest.mark.parametrize("command", [HALT, CLEAR], ids=["halt", "clear"])
def test_one_after_the_other(channel: Channel, command: int) -> None:
    for _ in range(3):
        channel.command(command)
        channel.irb()
    assert channel.event.read() == 0


def test_the_return_code_of_the_last_command(channel: Channel) -> None:
    with fails(EINVAL):
        channel.command(0)
    channel.command(CLEAR)
    channel.irb()
    assert channel.command_ret_code == 0


def test_clear_of_a_suspended_program(channel: Channel) -> None:
    flags = CcwFlag.SLI | CcwFlag.SUSPEND
    channel.load([sense_id(channel.data, flags=flags)])
    channel.write(channel.orb(spnd=True, ssic=True))  # no interruption for the suspension itself
    assert channel.ret_code == 0
    assert channel.event.read() == 0
    channel.command(CLEAR)
    assert Fctl.CLEAR in channel.irb().scsw.fctl
    assert channel.untouched()
    assert channel.run(sense_id(channel.data)).scsw.ok


@pytest.mark.parametrize("argument", [0, 1])
def test_reset(backend: Backend, channel: Channel, argument: int) -> None:
    before = channel.schib().pmcw
    assert backend.ioctl(channel.fd, vfio.VFIO_DEVICE_RESET, argument) == 0
    after = channel.schib().pmcw
    assert after.ena
    assert (after.devno, after.chpid, after.isc) == (before.devno, before.chpid, before.isc)
    assert channel.run(sense_id(channel.data)).scsw.ok


def test_reset_in_every_mode(backend: Backend, channel_in_mode: Channel) -> None:
    assert backend.ioctl(channel_in_mode.fd, vfio.VFIO_DEVICE_RESET) == 0
    assert channel_in_mode.run(sense_id(channel_in_mode.data)).scsw.ok


def test_reset_of_a_suspended_program(backend: Backend, channel: Channel) -> None:
    channel.load([sense_id(channel.data, flags=CcwFlag.SLI | CcwFlag.SUSPEND)])
    channel.write(channel.orb(spnd=True, ssic=True))
    assert backend.ioctl(channel.fd, vfio.VFIO_DEVICE_RESET) == 0
    channel.event.read()
    assert channel.run(sense_id(channel.data)).scsw.ok
