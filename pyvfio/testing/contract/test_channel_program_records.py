"""DEFINE EXTENT, LOCATE RECORD and what may follow: reading records, and what the control unit refuses.

"3990/9390 Storage Control Reference" GA32-0274, "Define Extent", "Locate Record", and for the sense bytes "Sense".
Byte 7 of the sense of a command reject says why: 1 invalid command, 2 invalid sequence, 4 invalid parameter.
"""

from __future__ import annotations

import pytest

from pyvfio.css import Cstat, Dstat
from pyvfio.testing.disk import (
    FILL,
    NONE,
    READ_DATA,
    SLI,
    WRITE_DATA,
    Disk,
    Step,
    count_key_data,
    define_extent,
    locate_record,
    read,
    write,
)

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
CHECKED = ENDED | Dstat.UNIT_CHECK
NO_CHECK = Cstat(0)
INVALID_COMMAND, INVALID_SEQUENCE, INVALID_PARAMETER = 1, 2, 4
PLACE, OTHER = (220, 4), (220, 5)
KEY = b"ABCDEFGH"
RECORDS = tuple((number, KEY[:4] + bytes([number]) * 4, bytes([0x40 + number]) * 32 * number) for number in range(1, 6))
READ_KEY_DATA, READ_COUNT, READ_CKD, READ, READ_R0 = 0x0E, 0x12, 0x1E, 0x06, 0x16


@pytest.fixture
def track(disk: Disk) -> Disk:
    """The disk with five records with keys on `PLACE`."""
    disk.format(PLACE, *RECORDS)
    return disk


def here(record: int, *steps: Step, count: int = 1, operation: int = READ_DATA, mask: int = 0x40) -> tuple[Step, ...]:
    """A program for records of `PLACE`."""
    return (define_extent(mask, PLACE, PLACE), locate_record(operation, PLACE, record, count), *steps)


@pytest.mark.parametrize("record", range(1, 6))
def test_the_data_of_a_record(track: Disk, record: int) -> None:
    data = RECORDS[record - 1][2]
    ended = track.run(*here(record, read(READ, len(data))))
    assert ended.status == (ENDED, NO_CHECK)
    assert (ended.residual, ended.steps) == (0, 3)
    assert ended.areas[2] == data


@pytest.mark.parametrize("flags", [NONE, SLI], ids=["exact", "sli"])
@pytest.mark.parametrize("count", [1, 95, 97, 200])
def test_another_count_than_the_data_have(track: Disk, count: int, flags: int) -> None:
    ended = track.run(*here(3, read(READ, count, SLI if flags else NONE)))
    assert ended.status == (ENDED, NO_CHECK if flags else Cstat.INCORRECT_LENGTH)
    assert ended.residual == max(0, count - 96)
    assert ended.areas[2] == (RECORDS[2][2] + bytes([FILL]) * 200)[:count]


@pytest.mark.parametrize("record", [1, 4])
def test_key_and_data(track: Disk, record: int) -> None:
    _, key, data = RECORDS[record - 1]
    ended = track.run(*here(record, read(READ_KEY_DATA, len(key + data))))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[2] == key + data


def test_counts_of_all_records(track: Disk) -> None:
    """READ COUNT is for the record behind the one that was located; R0 comes before all."""
    ended = track.run(*here(0, *[read(READ_COUNT, 8)] * 5, count=5))
    assert ended.status == (ENDED, NO_CHECK)
    wanted = tuple(count_key_data(PLACE, *record)[:8] for record in RECORDS)
    assert ended.areas[2:] == wanted


def test_count_key_and_data(track: Disk) -> None:
    wanted = [count_key_data(PLACE, *record) for record in RECORDS[1:3]]
    ended = track.run(*here(1, *[read(READ_CKD, len(one)) for one in wanted], count=2))
    assert ended.status == (ENDED, NO_CHECK)
    assert list(ended.areas[2:]) == wanted


def test_several_records_in_a_row(track: Disk) -> None:
    ended = track.run(*here(2, *[read(READ, len(data)) for _, _, data in RECORDS[1:4]], count=3))
    assert ended.status == (ENDED, NO_CHECK)
    assert list(ended.areas[2:]) == [data for _, _, data in RECORDS[1:4]]


def test_two_domains_in_a_program(track: Disk) -> None:
    again = locate_record(READ_DATA, PLACE, 1)
    ended = track.run(*here(4, read(READ, 128)), again, read(READ, 32))
    assert ended.status == (ENDED, NO_CHECK)
    assert (ended.areas[2], ended.areas[4]) == (RECORDS[3][2], RECORDS[0][2])


def test_two_tracks_in_a_program(track: Disk) -> None:
    track.format(OTHER, (1, b"", b"other" * 8))
    ended = track.run(
        define_extent(0x40, PLACE, OTHER),
        locate_record(READ_DATA, PLACE, 2),
        read(READ, 64),
        locate_record(READ_DATA, OTHER, 1),
        read(READ, 40),
    )
    assert ended.status == (ENDED, NO_CHECK)
    assert (ended.areas[2], ended.areas[4]) == (RECORDS[1][2], b"other" * 8)


# what is not there


@pytest.mark.parametrize("record", [6, 99, 255])
def test_a_record_that_is_not_there(track: Disk, record: int) -> None:
    ended = track.run(*here(record, read(READ, 8)))
    assert ended.status == (CHECKED, NO_CHECK)
    assert ended.steps == 2
    assert ended.sense[:2] == b"\x00\x08"  # no record found
    assert ended.areas[2] == bytes([FILL]) * 8


def test_the_end_of_the_track(track: Disk) -> None:
    """A domain of more records than are left goes on at the start of the track."""
    ended = track.run(*here(4, *[read(READ, 8, SLI)] * 4, count=4))
    assert ended.status == (ENDED, NO_CHECK)
    assert list(ended.areas[2:]) == [RECORDS[number - 1][2][:8] for number in (4, 5, 1, 2)]


@pytest.mark.parametrize("place", [(220, 3), (220, 5), (219, 4), (221, 4)], ids=str)
def test_outside_the_extent(track: Disk, place: tuple[int, int]) -> None:
    ended = track.run(define_extent(0x40, PLACE, PLACE), locate_record(READ_DATA, place, 1), read(READ, 8))
    assert ended.status == (CHECKED, NO_CHECK)
    assert ended.steps == 2
    assert ended.sense[:2] == b"\x00\x04"  # file protected


# command reject


def rejected(disk: Disk, *steps: Step) -> tuple[int, int]:
    """Run a program that the control unit refuses: why, and after how many CCWs."""
    ended = disk.run(*steps)
    assert Dstat.UNIT_CHECK in ended.status[0]
    return ended.rejected, ended.steps


def test_locate_without_an_extent(disk: Disk) -> None:
    assert rejected(disk, locate_record(READ_DATA, PLACE, 1), read(READ, 8)) == (INVALID_SEQUENCE, 1)


@pytest.mark.parametrize(
    ("first", "last"),
    [((1114, 0), (1114, 14)), ((0, 0), (1200, 0)), ((5, 0), (4, 14)), ((0, 15), (1, 0)), ((0, 0), (0, 15))],
    ids=str,
)
def test_extents_that_cannot_be(disk: Disk, first: tuple[int, int], last: tuple[int, int]) -> None:
    assert rejected(disk, define_extent(0x40, first, last)) == (INVALID_PARAMETER, 1)


@pytest.mark.parametrize("count", [1, 8, 15])
def test_parameters_that_are_too_short(disk: Disk, count: int) -> None:
    extent = define_extent(0x40, PLACE, PLACE).out[:count]
    assert rejected(disk, write(0x63, extent, SLI))[1] == 1


@pytest.mark.parametrize("operation", [0x3F, 0x02, 0x0F], ids=hex)
def test_operations_that_are_none(disk: Disk, operation: int) -> None:
    steps = (define_extent(0x40, PLACE, PLACE), locate_record(operation, PLACE, 1), read(READ, 8))
    assert rejected(disk, *steps) == (INVALID_PARAMETER, 2)


def test_a_locate_for_no_records(disk: Disk) -> None:
    assert rejected(disk, *here(1, read(READ, 8), count=0)) == (INVALID_PARAMETER, 2)


def test_a_length_without_its_flag(disk: Disk) -> None:
    steps = (define_extent(0x80, PLACE, PLACE), locate_record(WRITE_DATA, PLACE, 1, length=32), write(0x05, b"x" * 32))
    assert rejected(disk, *steps) == (INVALID_PARAMETER, 2)


def test_the_program_ends_before_the_domain_does(track: Disk) -> None:
    ended = track.run(*here(1, read(READ, 32), count=2))
    assert ended.status[0] == CHECKED
    assert ended.sense[0] == 0x81  # command reject, incomplete domain


@pytest.mark.parametrize("cmd", [0x05, 0x0D, 0x1D, 0x11], ids=hex)
def test_a_write_in_a_domain_of_reads(track: Disk, cmd: int) -> None:
    assert rejected(track, *here(1, write(cmd, b"x" * 32)))[1] == 3


@pytest.mark.parametrize("cmd", [0x06, 0x0E, 0x12], ids=hex)
def test_a_read_in_a_domain_of_writes(track: Disk, cmd: int) -> None:
    assert rejected(track, *here(1, read(cmd, 32), operation=WRITE_DATA, mask=0x80))[1] == 3


@pytest.mark.parametrize("cmd", [0x99, 0xA3, 0x7F, 0x21, 0xFE], ids=hex)
def test_commands_that_are_none(disk: Disk, cmd: int) -> None:
    assert rejected(disk, read(cmd, 8, SLI)) == (INVALID_COMMAND, 1)


def test_a_rejected_command_ends_the_chain(disk: Disk) -> None:
    ended = disk.run(read(0x99, 8, SLI), read(0xE4, 12))
    assert ended.steps == 1
    assert ended.areas[1] == bytes([FILL]) * 12


def test_sense_comes_with_the_status_and_is_gone_then(disk: Disk) -> None:
    ended = disk.run(read(0x99, 8, SLI))
    assert ended.irb.erw >> 16 & 0x1FF == 0x120  # concurrent sense, 32 bytes
    assert ended.sense[0] == 0x80
    after = disk.run(read(0x04, 32))
    assert after.ok
    assert not any(after.areas[0][:5] + after.areas[0][7:8])  # 5 and 6 may say where the disk is


@pytest.mark.parametrize("before", [1, 3])
def test_a_refusal_behind_good_commands(track: Disk, before: int) -> None:
    ended = track.run(*[read(0xE4, 12)] * before, read(0x99, 8, SLI))
    assert ended.steps == before + 1
    assert ended.rejected == INVALID_COMMAND
    assert ended.areas[0][:3] == b"\xff\x39\x90"
