"""What the driver for DASDs says when the disk refuses, and that the disk can be used afterwards."""

from __future__ import annotations

import errno

import pytest

from pyvfio.ccw import CcwDevice
from pyvfio.channel_program import Control, Read, Tic, Write
from pyvfio.css import CcwFlag, Cstat, Dstat
from pyvfio.drivers import Dasd, DasdFailed, TrackImage, TrackRecord
from pyvfio.errors import ChannelProgramFailed, PyvfioError, Timeout
from pyvfio.testing.disk import READ_DATA, define_extent, locate_record

PLACE = (320, 0)
TRACK, SIZE = 320 * 15, 4096


def commands(place: tuple[int, int], record: int, extent: tuple[int, int] = PLACE) -> list[Write | Read]:
    """Read a record."""
    steps = (define_extent(0x40, extent, extent), locate_record(READ_DATA, place, record))
    return [*(Write(step.cmd, step.out) for step in steps), Read(0x06, SIZE)]


def test_a_record_that_is_not_there(dasd: Dasd) -> None:
    dasd.write_track(TrackImage(*PLACE, (TrackRecord(*PLACE, 1, b"", bytes(SIZE)),)))
    with pytest.raises(DasdFailed, match="no record found") as caught:
        dasd.read_blocks(TRACK * 12 + 1)
    assert caught.value.irb is not None
    assert Dstat.UNIT_CHECK in caught.value.irb.scsw.dstat
    assert caught.value.sense.raw[:2] == b"\x00\x08"
    dasd.format(TRACK, 1)
    assert dasd.read_blocks(TRACK * 12 + 1) == bytes(SIZE)


def test_a_record_that_is_too_short(dasd: Dasd) -> None:
    dasd.write_track(TrackImage(*PLACE, (TrackRecord(*PLACE, 1, b"", b"short"),)))
    with pytest.raises(DasdFailed):
        dasd.read_blocks(TRACK * 12)
    dasd.format(TRACK, 1)


def test_the_sense_in_words(dasd_channel: CcwDevice) -> None:
    with pytest.raises(ChannelProgramFailed) as caught:
        dasd_channel.run([Read(0x99, 8, CcwFlag.SLI)])
    assert caught.value.irb is not None
    assert caught.value.irb.sense[0] == 0x80
    assert "unit check" in str(caught.value)


@pytest.mark.parametrize(("place", "record"), [(PLACE, 99), ((321, 0), 1)], ids=["record", "extent"])
def test_what_is_read_then_is_nothing(dasd_channel: CcwDevice, place: tuple[int, int], record: int) -> None:
    came = dasd_channel.run(commands(place, record), check=False)
    assert Dstat.UNIT_CHECK in came.scsw.dstat
    assert came.data == b""


def test_a_program_that_the_control_unit_refuses_in_the_middle(dasd_channel: CcwDevice) -> None:
    came = dasd_channel.run([Read(0xE4, 12), Read(0x99, 8, CcwFlag.SLI), Read(0xE4, 12)], check=False)
    assert came.parts[0][0] == 0xFF
    assert came.parts[2] == b""


def test_a_program_check(dasd_channel: CcwDevice) -> None:
    with pytest.raises(ChannelProgramFailed, match="program check") as caught:
        dasd_channel.run([Control(0x03), Read(0x00, 8, CcwFlag.SLI)])
    assert caught.value.irb is not None
    assert Cstat.PROGRAM_CHECK in caught.value.irb.scsw.cstat


def test_no_path(dasd_channel: CcwDevice) -> None:
    with pytest.raises(PyvfioError) as caught:
        dasd_channel.run([Read(0xE4, 12)], lpm=0x40)
    assert caught.value.errno == errno.EACCES


def test_a_program_that_does_not_end(dasd_channel: CcwDevice) -> None:
    """It is halted, and cleared if that does not help; then the disk works."""
    with pytest.raises(Timeout, match="did not end within"):
        dasd_channel.run([Control(0x03), Tic(0)], timeout=0.3)
    assert dasd_channel.sense_id().dev_type == 0x3390


def test_the_disk_after_that(dasd_channel: CcwDevice) -> None:
    with pytest.raises(Timeout):
        dasd_channel.run([Control(0x03), Tic(0)], timeout=0.2)
    with Dasd(dasd_channel) as disk:
        disk.write_blocks(TRACK * 12, b"\x11" * SIZE)
        assert disk.read_blocks(TRACK * 12) == b"\x11" * SIZE


def test_reserved_and_released(dasd: Dasd) -> None:
    with dasd.reserved() as mine:
        mine.write_blocks(TRACK * 12, b"\x22" * SIZE)
    assert dasd.read_blocks(TRACK * 12) == b"\x22" * SIZE


def test_released_without_a_reservation(dasd: Dasd) -> None:
    dasd.release()
    assert dasd.read_blocks(TRACK * 12)
