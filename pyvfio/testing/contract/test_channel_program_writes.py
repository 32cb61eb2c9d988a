"""Programs that write: data, keys, whole records, an erased rest of a track; read back, and what is refused.

"3990/9390 Storage Control Reference" GA32-0274, "Write Commands", "Define Extent" (mask), "Locate Record".
"""

from __future__ import annotations

import pytest

from pyvfio.css import Cstat, Dstat
from pyvfio.testing.disk import (
    CD,
    FORMAT_WRITE,
    READ_DATA,
    SLI,
    WRITE_DATA,
    Disk,
    Ended,
    Step,
    count_key_data,
    define_extent,
    jump,
    locate_record,
    read,
    search,
    seek,
    write,
)

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
CHECKED = ENDED | Dstat.UNIT_CHECK
NO_CHECK = Cstat(0)
PLACE, OTHER = (240, 2), (240, 3)
WRITE, WRITE_MT, WRITE_KEY, WRITE_CKD, ERASE = 0x05, 0x85, 0x0D, 0x1D, 0x11
READ_COUNT, ERASES = 0x12, 0x0B
UPDATE, FORMAT, NOTHING = 0x80, 0xC0, 0x40
FIRST = b"0123456789abcdef"
RECORDS = ((1, b"", FIRST), (2, b"KEY2", b"second" * 4), (3, b"", b"third" * 8))


@pytest.fixture
def track(disk: Disk) -> Disk:
    """The disk with three records on `PLACE`."""
    disk.format(PLACE, *RECORDS)
    return disk


def put(disk: Disk, record: int, *steps: Step, mask: int = UPDATE, length: int = len(FIRST), count: int = 1) -> Ended:
    """Write the data of a record of that length."""
    where = locate_record(WRITE_DATA, PLACE, record, count, auxiliary=0x80, length=length)
    return disk.run(define_extent(mask, PLACE, PLACE), where, *steps)


def counts(disk: Disk, count: int) -> list[bytes]:
    """The counts of the first records of the track."""
    ended = disk.run(
        define_extent(NOTHING, PLACE, PLACE), locate_record(READ_DATA, PLACE, 0, count), *[read(READ_COUNT, 8)] * count
    )
    assert ended.ok, ended.irb
    return list(ended.areas[2:])


# data of records that are there


@pytest.mark.parametrize("mask", [UPDATE, FORMAT], ids=["update", "format"])
def test_data(track: Disk, mask: int) -> None:
    ended = put(track, 1, write(WRITE, FIRST[::-1]), mask=mask)
    assert ended.status == (ENDED, NO_CHECK)
    assert (ended.residual, ended.steps) == (0, 3)
    assert track.data(PLACE, 1) == FIRST[::-1]
    assert [track.data(PLACE, number) for number in (2, 3)] == [data for _, _, data in RECORDS[1:]]


def test_data_in_parts(track: Disk) -> None:
    ended = put(track, 1, write(WRITE, b"hercules", CD), write(0, b" oracle?"))
    assert ended.status == (ENDED, NO_CHECK)
    assert track.data(PLACE, 1) == b"hercules oracle?"


@pytest.mark.parametrize("flags", [0, SLI], ids=["exact", "sli"])
@pytest.mark.parametrize("count", [1, 5, 15])
def test_fewer_bytes_than_the_record_has(track: Disk, count: int, flags: int) -> None:
    """The rest of the record is zeros; the count of the CCW is spent, so there is no incorrect length."""
    ended = put(track, 1, write(WRITE, b"SHORT SHORT SHO"[:count], SLI if flags else CD & 0))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.residual == 0
    assert track.data(PLACE, 1) == b"SHORT SHORT SHO"[:count].ljust(16, b"\0")


@pytest.mark.parametrize("flags", [0, SLI], ids=["exact", "sli"])
@pytest.mark.parametrize("count", [17, 20, 100])
def test_more_bytes_than_the_record_has(track: Disk, count: int, flags: int) -> None:
    text = bytes(range(0x30, 0x30 + count))
    ended = put(track, 1, write(WRITE, text, SLI if flags else CD & 0))
    assert ended.status == (ENDED, NO_CHECK if flags else Cstat.INCORRECT_LENGTH)
    assert ended.residual == count - 16
    assert track.data(PLACE, 1) == text[:16]


def test_key_and_data(track: Disk) -> None:
    ended = put(track, 2, write(WRITE_KEY, b"NEWK" + b"newest" * 4), length=28)
    assert ended.status == (ENDED, NO_CHECK)
    assert track.data(PLACE, 2) == b"newest" * 4
    ended = track.run(define_extent(NOTHING, PLACE, PLACE), locate_record(READ_DATA, PLACE, 2), read(0x0E, 28))
    assert ended.areas[2] == b"NEWK" + b"newest" * 4


def test_the_data_of_a_record_with_a_key_leave_the_key(track: Disk) -> None:
    ended = put(track, 2, write(WRITE, b"NEWEST" * 4), length=24)
    assert ended.status == (ENDED, NO_CHECK)
    ended = track.run(define_extent(NOTHING, PLACE, PLACE), locate_record(READ_DATA, PLACE, 2), read(0x0E, 28))
    assert ended.areas[2] == b"KEY2" + b"NEWEST" * 4


def test_a_record_that_is_not_there(track: Disk) -> None:
    ended = put(track, 9, write(WRITE, FIRST))
    assert ended.status == (CHECKED, NO_CHECK)
    assert ended.steps == 2
    assert ended.sense[:2] == b"\x00\x08"


def test_two_records(disk: Disk) -> None:
    disk.format(PLACE, (1, b"", bytes(32)), (2, b"", bytes(32)))
    ended = put(disk, 1, write(WRITE_MT, b"a" * 32), write(WRITE_MT, b"b" * 32), length=32, count=2)
    assert ended.status == (ENDED, NO_CHECK)
    assert [disk.data(PLACE, number) for number in (1, 2)] == [b"a" * 32, b"b" * 32]


def test_two_records_want_the_multitrack_bit(disk: Disk) -> None:
    disk.format(PLACE, (1, b"", bytes(32)), (2, b"", bytes(32)))
    ended = put(disk, 1, write(WRITE, b"a" * 32), write(WRITE, b"b" * 32), length=32, count=2)
    assert ended.status[0] == CHECKED
    assert ended.rejected == 2


@pytest.mark.parametrize(("auxiliary", "length"), [(0x80, 0), (0x00, 16)], ids=["without-length", "without-flag"])
def test_a_length_that_is_half_given(track: Disk, auxiliary: int, length: int) -> None:
    where = locate_record(WRITE_DATA, PLACE, 1, auxiliary=auxiliary, length=length)
    ended = track.run(define_extent(UPDATE, PLACE, PLACE), where, write(WRITE, FIRST))
    assert ended.status[0] == CHECKED
    assert (ended.rejected, ended.steps) == (4, 2)


# what may not be written


def test_where_nothing_may_be_written(track: Disk) -> None:
    ended = put(track, 1, write(WRITE, bytes(16)), mask=NOTHING)
    assert ended.status[0] == CHECKED
    assert ended.steps == 3
    assert track.data(PLACE, 1) == FIRST


def test_a_format_where_data_may_be_written(track: Disk) -> None:
    record = count_key_data(PLACE, 1, b"", bytes(16))
    ended = track.run(
        define_extent(UPDATE, PLACE, PLACE), locate_record(FORMAT_WRITE, PLACE, 0), write(WRITE_CKD, record)
    )
    assert ended.status[0] == CHECKED
    assert ended.steps == 3
    assert track.data(PLACE, 1) == FIRST


def test_outside_the_extent(track: Disk) -> None:
    where = locate_record(WRITE_DATA, OTHER, 1, auxiliary=0x80, length=16)
    ended = track.run(define_extent(UPDATE, PLACE, PLACE), where, write(WRITE, FIRST))
    assert ended.status == (CHECKED, NO_CHECK)
    assert ended.sense[:2] == b"\x00\x04"


@pytest.mark.parametrize("mask", [0x40, 0x80], ids=["nothing", "update"])
def test_file_masks_without_format_writes(track: Disk, mask: int) -> None:
    record = count_key_data(PLACE, 4, b"", bytes(16))
    ended = track.run(write(0x1F, bytes([mask])), seek(PLACE), search(PLACE, 3), jump(2), write(WRITE_CKD, record))
    assert ended.status[0] == CHECKED
    assert ended.steps == 5
    assert len(counts(track, 3)) == 3


def test_a_file_mask_without_writes(track: Disk) -> None:
    ended = track.run(write(0x1F, b"\x40"), seek(PLACE), search(PLACE, 1), jump(2), write(WRITE, bytes(16)))
    assert ended.status[0] == CHECKED
    assert track.data(PLACE, 1) == FIRST


def test_a_write_without_a_search(track: Disk) -> None:
    ended = track.run(seek(PLACE), write(WRITE, bytes(16)))
    assert ended.status[0] == CHECKED
    assert (ended.rejected, ended.steps) == (2, 2)
    assert track.data(PLACE, 1) == FIRST


# behind a search


def test_data_behind_a_search(track: Disk) -> None:
    ended = track.run(write(0x1F, b"\x80"), seek(PLACE), search(PLACE, 1), jump(2), write(WRITE, FIRST[::-1]))
    assert ended.status == (ENDED, NO_CHECK)
    assert track.data(PLACE, 1) == FIRST[::-1]


def test_a_record_behind_a_search(track: Disk) -> None:
    """What was behind it is gone."""
    record = count_key_data(PLACE, 7, b"K", b"seventh")
    ended = track.run(write(0x1F, b"\xc0"), seek(PLACE), search(PLACE, 1), jump(2), write(WRITE_CKD, record))
    assert ended.status == (ENDED, NO_CHECK)
    assert counts(track, 2)[1] == record[:8]
    ended = track.run(define_extent(NOTHING, PLACE, PLACE), locate_record(READ_DATA, PLACE, 3), read(6, 8, SLI))
    assert ended.sense[:2] == b"\x00\x08"


# tracks


@pytest.mark.parametrize("number", [1, 2, 12, 30])
def test_a_track_of_equal_records(disk: Disk, number: int) -> None:
    size = 1024
    records = [(one, b"", bytes([one]) * size) for one in range(1, number + 1)]
    disk.format(PLACE, *records)
    assert counts(disk, number) == [count_key_data(PLACE, *record)[:8] for record in records]
    assert disk.data(PLACE, number) == bytes([number]) * size


@pytest.mark.parametrize("size", [1, 512, 4096, 27998, 56664])
def test_records_of_any_size(disk: Disk, size: int) -> None:
    data = bytes(at * 5 % 255 for at in range(size))
    disk.format(PLACE, (1, b"", data))
    assert disk.data(PLACE, 1, 57000) == data


@pytest.mark.parametrize("key", [1, 44, 255])
def test_keys_of_any_size(disk: Disk, key: int) -> None:
    name = bytes(range(key))
    disk.format(PLACE, (1, name, b"data"))
    ended = disk.run(define_extent(NOTHING, PLACE, PLACE), locate_record(READ_DATA, PLACE, 1), read(0x0E, key + 4))
    assert ended.ok
    assert ended.areas[2] == name + b"data"


def test_a_record_that_does_not_fit(disk: Disk) -> None:
    record = count_key_data(PLACE, 1, b"", bytes(58000))
    ended = disk.run(
        define_extent(FORMAT, PLACE, PLACE), locate_record(FORMAT_WRITE, PLACE, 0), write(WRITE_CKD, record)
    )
    assert ended.status[0] & CHECKED == CHECKED
    assert ended.sense[1] & 0x40  # invalid track format


def test_records_that_do_not_fit_together(disk: Disk) -> None:
    records = [write(WRITE_CKD, count_key_data(PLACE, number, b"", bytes(30000))) for number in (1, 2)]
    ended = disk.run(define_extent(FORMAT, PLACE, PLACE), locate_record(FORMAT_WRITE, PLACE, 0, 2), *records)
    assert ended.status[0] & CHECKED == CHECKED
    assert ended.steps == 4
    assert ended.sense[1] & 0x40
    assert counts(disk, 1)[0][4] == 1


def test_a_record_without_data_is_the_end_of_a_file(disk: Disk) -> None:
    disk.format(PLACE, (1, b"", b"one"), (2, b"", b""), (3, b"", b"three"))
    ended = disk.run(define_extent(NOTHING, PLACE, PLACE), locate_record(READ_DATA, PLACE, 2), read(6, 8, SLI))
    assert ended.status[0] == ENDED | Dstat.UNIT_EXCEPTION
    assert disk.data(PLACE, 3) == b"three"


def test_erase(track: Disk) -> None:
    """The record that would be written is not; what was behind the place is gone."""
    record = count_key_data(PLACE, 2, b"", b"")
    ended = track.run(define_extent(FORMAT, PLACE, PLACE), locate_record(ERASES, PLACE, 1), write(ERASE, record))
    assert ended.status == (ENDED, NO_CHECK)
    assert track.data(PLACE, 1) == FIRST
    ended = track.run(define_extent(NOTHING, PLACE, PLACE), locate_record(READ_DATA, PLACE, 2), read(6, 8, SLI))
    assert ended.sense[:2] == b"\x00\x08"


def test_a_program_that_writes_and_reads_it(track: Disk) -> None:
    ended = track.run(
        define_extent(FORMAT, PLACE, OTHER),
        locate_record(FORMAT_WRITE, OTHER, 0),
        write(WRITE_CKD, count_key_data(OTHER, 1, b"", b"fresh")),
        locate_record(READ_DATA, OTHER, 1),
        read(6, 5),
    )
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[4] == b"fresh"


def test_the_tracks_beside_it_stay(disk: Disk) -> None:
    for place in ((240, 5), (240, 6), (240, 7)):
        disk.format(place, (1, b"", f"{place}".encode()))
    disk.format((240, 6), (1, b"", b"changed"))
    assert disk.data((240, 5), 1) == b"(240, 5)"
    assert disk.data((240, 7), 1) == b"(240, 7)"
