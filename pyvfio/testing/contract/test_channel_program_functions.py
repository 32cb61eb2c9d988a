"""Start, halt and clear of programs of a disk: paths, keys, addresses, and what is under way or suspended.

z/Architecture Principles of Operation, "I/O Instructions", "Operation-Request Block";
``drivers/s390/cio/vfio_ccw_fsm.c``.
"""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL

import pytest

from pyvfio.abi import vfio_ccw
from pyvfio.css import Actl, Ccw, CcwFlag, Cstat, Dstat, Fctl, Stctl
from pyvfio.testing.channel import Channel
from pyvfio.testing.disk import FILL, READ_DATA, SLI, Disk, define_extent, jump, locate_record, read, write
from pyvfio.testing.expect import fails

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
NO_CHECK = Cstat(0)
HALT, CLEAR = vfio_ccw.VFIO_CCW_ASYNC_CMD_HSCH, vfio_ccw.VFIO_CCW_ASYNC_CMD_CSCH
SENSE_ID, CHARACTERISTICS, NOP, READ = 0xE4, 0x64, 0x03, 0x06


def endless(disk: Disk) -> Channel:
    """Start a program that never ends."""
    disk.lay((read(NOP, 1, SLI), jump(0)))
    disk.channel.write(disk.channel.orb())
    return disk.channel


# the operation-request block


@pytest.mark.parametrize("lpm", [0x80, 0xFF, 0xC0, 0x00], ids=hex)
def test_paths_that_are_there(disk: Disk, lpm: int) -> None:
    """Linux takes all paths for a mask of none."""
    ended = disk.run(read(SENSE_ID, 12), lpm=lpm)
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.irb.lpum == 0x80


@pytest.mark.parametrize("lpm", [0x40, 0x7F, 0x01], ids=hex)
def test_paths_that_are_not_there(disk: Disk, lpm: int) -> None:
    disk.lay((read(SENSE_ID, 12),))
    with fails(EACCES):
        disk.channel.write(disk.channel.orb(lpm=lpm))
    assert disk.channel.ret_code == -EACCES
    assert disk.run(read(SENSE_ID, 12)).ok


@pytest.mark.parametrize("key", [1, 8, 15])
def test_keys_that_protect(disk: Disk, key: int) -> None:
    """Storage of Linux has key 0."""
    ended = disk.run(read(CHARACTERISTICS, 32, SLI), key=key)
    assert Cstat.PROTECTION_CHECK in ended.status[1]
    assert ended.areas[0] == bytes([FILL]) * 32
    assert ended.irb.scsw.key == key
    assert disk.run(read(CHARACTERISTICS, 64)).ok


@pytest.mark.parametrize("fields", [{"intparm": 0xFFFFFFFF}, {"intparm": 1}, {"pfch": False}, {"ssic": True}], ids=str)
def test_fields_that_change_nothing(disk: Disk, fields: dict[str, int]) -> None:
    ended = disk.run(read(SENSE_ID, 12), **fields)
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == 1


def test_format_0(disk: Disk) -> None:
    channel = disk.channel
    channel.put(channel.data, bytes([FILL]) * 64)
    irb = channel.run(
        Ccw(NOP, CcwFlag.CC | SLI, 1, channel.data, 0), Ccw(SENSE_ID, CcwFlag(0), 12, channel.data, 0), fmt=0
    )
    assert irb.scsw.ok
    assert channel.get(channel.data, 3) == b"\xff\x39\x90"


@pytest.mark.parametrize("where", ["program", "data", "parameters"])
def test_addresses_that_are_not_mapped(disk: Disk, where: str) -> None:
    channel = disk.channel
    steps = (define_extent(), locate_record(READ_DATA, (0, 0), 3), read(READ, 80))
    disk.lay(steps)
    orb = channel.orb()
    if where == "program":
        orb = channel.orb(cpa=channel.hole)
    else:
        number = 2 if where == "data" else 0
        cmd, count, flags = steps[number].cmd, steps[number].length, CcwFlag(0) if where == "data" else CcwFlag.CC
        channel.put(channel.program + 8 * number, Ccw(cmd, flags, count, channel.hole).to_bytes())
    with fails(EINVAL):
        channel.write(orb)
    assert channel.ret_code == -EINVAL
    assert disk.run(*steps).ok


@pytest.mark.parametrize("fctl", [Fctl.HALT, Fctl.CLEAR], ids=["halt", "clear"])
def test_status_of_a_good_program(disk: Disk, fctl: Fctl) -> None:
    ended = disk.run(read(SENSE_ID, 12))
    scsw = ended.irb.scsw
    assert (scsw.fctl, scsw.actl) == (Fctl.START, Actl(0))
    assert scsw.stctl == Stctl.PENDING | Stctl.PRIMARY | Stctl.SECONDARY
    assert not scsw.fctl & fctl


def test_status_of_a_program_with_incorrect_length(disk: Disk) -> None:
    scsw = disk.run(read(SENSE_ID, 7)).irb.scsw
    assert scsw.stctl == Stctl.PENDING | Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT


def test_status_of_a_unit_check(disk: Disk) -> None:
    scsw = disk.run(read(0x99, 8, SLI)).irb.scsw
    assert scsw.stctl == Stctl.PENDING | Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT
    assert scsw.ectl


# halt and clear


def test_halt_of_nothing(disk: Disk) -> None:
    channel = disk.channel
    assert channel.command(HALT) > 0
    scsw = channel.irb().scsw
    assert (scsw.fctl, scsw.actl, scsw.stctl) == (Fctl.HALT, Actl(0), Stctl.PENDING)
    assert disk.run(read(SENSE_ID, 12)).ok


def test_clear_of_nothing(disk: Disk) -> None:
    channel = disk.channel
    assert channel.command(CLEAR) > 0
    scsw = channel.irb().scsw
    assert (scsw.fctl, scsw.actl, scsw.stctl) == (Fctl.CLEAR, Actl(0), Stctl.PENDING)
    assert (scsw.dstat, scsw.cstat, scsw.cpa) == (Dstat(0), NO_CHECK, 0)
    assert disk.run(read(SENSE_ID, 12)).ok


def test_clear_of_a_program_that_runs(disk: Disk) -> None:
    channel = endless(disk)
    assert channel.command(CLEAR) > 0
    scsw = channel.irb().scsw
    assert (scsw.fctl, scsw.actl, scsw.stctl) == (Fctl.CLEAR, Actl(0), Stctl.PENDING)
    assert disk.run(read(SENSE_ID, 12)).ok


def test_a_start_while_a_program_runs(disk: Disk) -> None:
    channel = endless(disk)
    with fails(EBUSY):
        channel.write(channel.orb())
    assert channel.command(CLEAR) > 0
    assert channel.irb().scsw.fctl == Fctl.CLEAR
    assert disk.run(read(SENSE_ID, 12)).ok


def test_halt_of_a_program_that_runs(disk: Disk) -> None:
    channel = endless(disk)
    assert channel.command(HALT) > 0
    scsw = channel.irb().scsw
    assert not scsw.actl & (Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE)
    assert disk.run(read(SENSE_ID, 12)).ok


@pytest.mark.parametrize("times", [2, 5])
def test_one_clear_after_the_other(disk: Disk, times: int) -> None:
    channel = disk.channel
    for _ in range(times):
        assert channel.command(CLEAR) > 0
        assert channel.irb().scsw.fctl == Fctl.CLEAR
    assert disk.run(read(SENSE_ID, 12)).ok


def test_the_subchannel_knows_its_device(disk: Disk) -> None:
    pmcw = disk.channel.schib().pmcw
    assert (pmcw.pim, pmcw.pam, pmcw.dnv) == (0x80, 0x80, True)
    assert pmcw.devno == 0x0A00


def test_one_program_after_the_other(disk: Disk) -> None:
    for _ in range(20):
        ended = disk.run(define_extent(), locate_record(READ_DATA, (0, 0), 3), read(READ, 80))
        assert ended.ok


def test_a_program_that_fails_leaves_nothing_behind(disk: Disk) -> None:
    """The extent and the place belong to the program."""
    assert disk.run(define_extent(0x80, (3, 0), (3, 0))).ok
    assert disk.run(write(0x47, locate_record(READ_DATA, (3, 0), 1).out)).rejected == 2
