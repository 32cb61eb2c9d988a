"""SEEK, SEARCH and TIC, READ of home address and R0, file masks: how a disk was read before DEFINE EXTENT.

"3990/9390 Storage Control Reference" GA32-0274, "Search Commands", "Set File Mask", "Seek".
"""

from __future__ import annotations

import pytest

from pyvfio.css import Cstat, Dstat
from pyvfio.testing.disk import FILL, SLI, Disk, Step, count_key_data, jump, read, search, seek, write

ENDED = Dstat.CHANNEL_END | Dstat.DEVICE_END
CHECKED = ENDED | Dstat.UNIT_CHECK
NO_CHECK = Cstat(0)
PLACE, NEXT = (230, 0), (230, 1)
KEYS = (b"BETA", b"CORE", b"GAMM")
RECORDS = tuple((number, key, bytes([number]) * 48) for number, key in enumerate(KEYS, 1))
READ, READ_KEY_DATA, READ_COUNT, READ_CKD, READ_R0, READ_HA = 0x06, 0x0E, 0x12, 0x1E, 0x16, 0x1A
ID_EQUAL, ID_HIGH, ID_EQUAL_OR_HIGH = 0x31, 0x51, 0x71
KEY_EQUAL, KEY_HIGH, KEY_EQUAL_OR_HIGH = 0x29, 0x49, 0x69
HA_EQUAL, SET_MASK = 0x39, 0x1F


@pytest.fixture
def track(disk: Disk) -> Disk:
    """The disk with three records with keys on `PLACE`, and one on the track behind it."""
    disk.format(PLACE, *RECORDS)
    disk.format(NEXT, (1, b"", b"next" * 12))
    return disk


def found(disk: Disk, how: Step, reading: Step) -> bytes:
    """Search on `PLACE` until it is found, then read."""
    ended = disk.run(seek(PLACE), how, jump(1), reading)
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.steps == 4
    return ended.areas[3]


@pytest.mark.parametrize("record", [1, 2, 3])
def test_an_id(track: Disk, record: int) -> None:
    assert found(track, search(PLACE, record), read(READ, 48)) == RECORDS[record - 1][2]


@pytest.mark.parametrize("record", [1, 2, 3])
def test_a_key(track: Disk, record: int) -> None:
    assert found(track, write(KEY_EQUAL, KEYS[record - 1]), read(READ, 48)) == RECORDS[record - 1][2]


@pytest.mark.parametrize(
    ("cmd", "key", "record"),
    [
        (KEY_HIGH, b"BETA", 2),
        (KEY_HIGH, b"AAAA", 1),
        (KEY_HIGH, b"FFFF", 3),
        (KEY_EQUAL_OR_HIGH, b"BETA", 1),
        (KEY_EQUAL_OR_HIGH, b"CCCC", 2),
        (KEY_EQUAL_OR_HIGH, b"GAMM", 3),
    ],
)
def test_a_key_at_least(track: Disk, cmd: int, key: bytes, record: int) -> None:
    """The first record behind the index point whose key is higher."""
    ended = track.run(seek(PLACE), read(READ_R0, 16), write(cmd, key), jump(2), read(READ, 48))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[4] == RECORDS[record - 1][2]


@pytest.mark.parametrize(("cmd", "record", "which"), [(ID_HIGH, 1, 2), (ID_EQUAL_OR_HIGH, 2, 2), (ID_HIGH, 0, 1)])
def test_an_id_at_least(track: Disk, cmd: int, record: int, which: int) -> None:
    ended = track.run(seek(PLACE), read(READ_R0, 16), search(PLACE, record, cmd), jump(2), read(READ, 48))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[4] == RECORDS[which - 1][2]


@pytest.mark.parametrize(
    "how", [search(PLACE, 99), write(KEY_EQUAL, b"ZETA"), search((230, 1), 1), write(KEY_HIGH, b"ZZZZ")],
    ids=["id", "key", "other-track", "high"],
)  # fmt: skip
def test_what_is_not_there(track: Disk, how: Step) -> None:
    ended = track.run(seek(PLACE), how, jump(1), read(READ, 48))
    assert ended.status[0] == CHECKED
    assert ended.steps == 2
    assert ended.sense[:2] == b"\x00\x08"  # no record found
    assert ended.areas[3] == bytes([FILL]) * 48


def test_a_home_address(track: Disk) -> None:
    how = write(HA_EQUAL, b"\x00\xe6\x00\x00")
    assert found(track, how, read(READ_COUNT, 8)) == count_key_data(PLACE, *RECORDS[0])[:8]


@pytest.mark.parametrize(
    ("cmd", "count"),
    [(READ, 48), (READ_KEY_DATA, 52), (READ_COUNT, 8), (READ_CKD, 60)],
    ids=["data", "key-data", "count", "count-key-data"],
)
def test_what_can_be_read_behind_a_search(track: Disk, cmd: int, count: int) -> None:
    ended = track.run(seek(PLACE), search(PLACE, 2), jump(1), read(cmd, count))
    assert ended.status == (ENDED, NO_CHECK)
    # data and key of the record found; count, and count with key and data, of the one behind it
    number = 2 if cmd in (READ, READ_KEY_DATA) else 3
    whole = count_key_data(PLACE, *RECORDS[number - 1])
    assert ended.areas[3] == {READ: whole[12:], READ_KEY_DATA: whole[8:], READ_COUNT: whole[:8], READ_CKD: whole}[cmd]


def test_home_address_r0_and_counts(track: Disk) -> None:
    ended = track.run(seek(PLACE), read(READ_HA, 5), read(READ_R0, 16), read(READ_COUNT, 8), read(READ_COUNT, 8))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[1] == b"\x00\x00\xe6\x00\x00"
    assert ended.areas[2][:8] == b"\x00\xe6\x00\x00\x00\x00\x00\x08"
    assert [area[4] for area in ended.areas[3:]] == [1, 2]


def test_the_first_record_behind_a_seek(track: Disk) -> None:
    ended = track.run(seek(PLACE), read(READ_CKD, 60))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[1] == count_key_data(PLACE, *RECORDS[0])


def test_records_one_after_the_other(track: Disk) -> None:
    ended = track.run(seek(PLACE), *[read(READ_CKD, 60)] * 3)
    assert ended.status == (ENDED, NO_CHECK)
    assert [area[4] for area in ended.areas[1:]] == [1, 2, 3]


def test_over_the_index_point(track: Disk) -> None:
    """Behind the last record comes the first one again."""
    ended = track.run(seek(PLACE), *[read(READ_COUNT, 8)] * 4)
    assert ended.status == (ENDED, NO_CHECK)
    assert [area[4] for area in ended.areas[1:]] == [1, 2, 3, 1]


def test_several_tracks(track: Disk) -> None:
    """The multitrack bit (80): on to the next head when the records of a track are read."""
    ended = track.run(seek(PLACE), *[read(READ_COUNT | 0x80, 8)] * 4)
    assert ended.status == (ENDED, NO_CHECK)
    assert [area[3:5] for area in ended.areas[1:]] == [b"\x00\x01", b"\x00\x02", b"\x00\x03", b"\x01\x01"]


@pytest.mark.parametrize("cmd", [0x07, 0x0B], ids=["seek", "seek-cylinder"])
def test_seeks(track: Disk, cmd: int) -> None:
    ended = track.run(seek(PLACE, cmd), search(PLACE, 1), jump(1), read(READ, 48))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[3] == RECORDS[0][2]


def test_a_seek_of_the_head_only(track: Disk) -> None:
    ended = track.run(seek(PLACE), seek(NEXT, 0x1B), search(NEXT, 1), jump(2), read(READ, 48))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[4] == b"next" * 12


@pytest.mark.parametrize("place", [(1114, 0), (5000, 0), (0, 15), (0xFFFF, 0)], ids=str)
def test_seeks_to_places_that_are_not_there(disk: Disk, place: tuple[int, int]) -> None:
    ended = disk.run(seek(place), read(READ_CKD, 64, SLI))
    assert ended.status[0] == CHECKED
    assert (ended.rejected, ended.steps) == (4, 1)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_short_seeks(disk: Disk, count: int) -> None:
    ended = disk.run(write(0x07, bytes(count), SLI), read(READ_COUNT, 8))
    assert ended.status[0] == CHECKED
    assert ended.rejected >= 0
    assert ended.steps == 1


@pytest.mark.parametrize("mask", [0x00, 0x08, 0x10], ids=hex)
def test_masks_that_allow_the_seek_of_a_head(track: Disk, mask: int) -> None:
    ended = track.run(seek(PLACE), write(SET_MASK, bytes([mask])), seek(NEXT, 0x1B), read(READ_COUNT, 8))
    assert ended.status == (ENDED, NO_CHECK)
    assert ended.areas[3][3] == 1


@pytest.mark.parametrize(
    ("mask", "cmd"), [(0x18, 0x07), (0x18, 0x0B), (0x18, 0x1B), (0x10, 0x07), (0x10, 0x0B), (0x08, 0x07)]
)
def test_masks_that_forbid_seeks(track: Disk, mask: int, cmd: int) -> None:
    ended = track.run(seek(PLACE), write(SET_MASK, bytes([mask])), seek(NEXT, cmd), read(READ_COUNT, 8))
    assert ended.status[0] == CHECKED
    assert ended.steps == 3
    assert ended.sense[:2] == b"\x00\x04"  # file protected


def test_two_masks(disk: Disk) -> None:
    ended = disk.run(write(SET_MASK, b"\x00"), write(SET_MASK, b"\x00"))
    assert ended.status[0] == CHECKED
    assert (ended.rejected, ended.steps) == (2, 2)


@pytest.mark.parametrize("cmd", [READ, READ_KEY_DATA, READ_COUNT, READ_CKD], ids=hex)
def test_reads_without_a_place(disk: Disk, cmd: int) -> None:
    """A program begins where the disk is; the record that comes next is read."""
    assert disk.run(seek((0, 0))).ok
    ended = disk.run(read(cmd, 8, SLI))
    assert ended.status in ((ENDED, NO_CHECK), (CHECKED, NO_CHECK))
