"""Programs of a disk that are suspended: intermediate status, and clear.  Apart, for emulators that mind (make hil).

z/Architecture Principles of Operation, "Suspension of Channel-Program Execution".
"""

from __future__ import annotations

from pyvfio.abi import vfio_ccw
from pyvfio.css import Actl, CcwFlag, Fctl, Stctl
from pyvfio.testing.disk import SLI, Disk, Step, read

CHARACTERISTICS, NOP, SENSE_ID = 0x64, 0x03, 0xE4
CLEAR = vfio_ccw.VFIO_CCW_ASYNC_CMD_CSCH


def test_suspension(disk: Disk) -> None:
    channel = disk.channel
    disk.lay((read(NOP, 1, SLI), Step(NOP, b"", 1, SLI | CcwFlag.SUSPEND), read(CHARACTERISTICS, 64)))
    channel.write(channel.orb(spnd=True))
    scsw = channel.irb().scsw
    assert Stctl.INTERMEDIATE in scsw.stctl
    assert Actl.SUSPENDED in scsw.actl
    assert channel.command(CLEAR) > 0
    assert not channel.irb().scsw.actl
    assert disk.run(read(SENSE_ID, 12)).ok


def test_clear_of_a_suspended_program(disk: Disk) -> None:
    channel = disk.channel
    disk.lay((read(NOP, 1, SLI | CcwFlag.SUSPEND), read(SENSE_ID, 12)))
    channel.write(channel.orb(spnd=True))
    assert Actl.SUSPENDED in channel.irb().scsw.actl
    assert channel.command(CLEAR) > 0
    assert channel.irb().scsw.fctl == Fctl.CLEAR
    assert disk.run(read(SENSE_ID, 12)).ok
