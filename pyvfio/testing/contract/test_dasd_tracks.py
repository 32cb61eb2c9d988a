"""The driver for DASDs reads, writes and formats whole tracks, and copies them to an image file and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyvfio.drivers import CkdFile, Dasd, DasdFailed, TrackImage, TrackRecord
from pyvfio.errors import Misuse

SIZE, PER_TRACK = 4096, 12
TRACKS = 1113 * 15
CYLINDER = 310
FIRST = CYLINDER * 15


def track(head: int, *records: tuple[int, bytes, bytes], cylinder: int = CYLINDER) -> TrackImage:
    """A track with such records."""
    return TrackImage(
        cylinder, head, tuple(TrackRecord(cylinder, head, number, key, data) for number, key, data in records)
    )


SHAPES: dict[str, tuple[tuple[int, bytes, bytes], ...]] = {
    "one": ((1, b"", b"x" * 100),),
    "keys": ((1, b"KEY1", b"a" * 80), (2, b"KEY2", b"b" * 80)),
    "long": ((1, b"", b"z" * 50000),),
    "many": tuple((number, b"", bytes([number]) * 256) for number in range(1, 61)),
    "out-of-order": ((7, b"", b"seven"), (3, b"", b"three"), (200, b"", b"last")),
    "empty-record": ((1, b"", b"data"), (2, b"", b""), (3, b"", b"more")),
    "key-without-data": ((1, b"onlykey!", b""),),
    "none": (),
}


# refusals


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (TRACKS, 1), (TRACKS - 1, 2)])
def test_tracks_that_are_not_there(dasd: Dasd, first: int, count: int) -> None:
    with pytest.raises(Misuse):
        list(dasd.tracks(first, count))
    with pytest.raises(Misuse):
        dasd.format(first, count)


def test_a_place_that_is_not_there(dasd: Dasd) -> None:
    with pytest.raises(Misuse):
        dasd.write_track(TrackImage(1113, 0, ()))


@pytest.mark.parametrize("size", [0, 100, 4000, 8192])
def test_block_sizes_that_are_none(dasd: Dasd, size: int) -> None:
    with pytest.raises(Misuse):
        dasd.format(FIRST, 1, block_size=size)


def test_records_that_do_not_fit(dasd: Dasd) -> None:
    big = track(9, (1, b"", bytes(30000)), (2, b"", bytes(30000)))
    with pytest.raises(DasdFailed) as caught:
        dasd.write_track(big)
    assert caught.value.sense.raw[1] & 0x40  # invalid track format
    dasd.format(FIRST + 9, 1)


# tracks


@pytest.mark.parametrize("shape", SHAPES)
def test_written_and_read(dasd: Dasd, shape: str) -> None:
    image = track(0, *SHAPES[shape])
    dasd.write_track(image)
    assert dasd.read_track(FIRST) == image


def test_several_tracks(dasd: Dasd) -> None:
    images = [track(head, (1, b"", f"head {head}".encode()), (2, b"K", bytes(head))) for head in range(1, 6)]
    dasd.write_tracks(images)
    assert list(dasd.tracks(FIRST + 1, 5)) == images


def test_several_tracks_verified(dasd: Dasd) -> None:
    images = [track(head, (1, b"", bytes([head]) * 1000)) for head in (6, 7)]
    dasd.write_tracks(images, verify=True)
    assert list(dasd.tracks(FIRST + 6, 2)) == images


def test_over_the_end_of_a_cylinder(dasd: Dasd) -> None:
    images = [track(14, (1, b"", b"end")), track(0, (1, b"", b"start"), cylinder=CYLINDER + 1)]
    dasd.write_tracks(images)
    assert list(dasd.tracks(FIRST + 14, 2)) == images


def test_counts_that_name_another_track(dasd: Dasd) -> None:
    """A copied track may say where it came from."""
    image = TrackImage(CYLINDER, 8, (TrackRecord(1, 2, 3, b"", b"from elsewhere"),))
    dasd.write_track(image)
    assert dasd.read_track(FIRST + 8) == image


def test_the_first_track(dasd: Dasd) -> None:
    records = dasd.read_track(0).records
    shapes = [(record.number, len(record.key), len(record.data)) for record in records]
    assert shapes == [(1, 4, 24), (2, 4, 144), (3, 4, 80), *((number, 0, SIZE) for number in range(4, 13))]


def test_the_track_with_the_table_of_contents(dasd: Dasd) -> None:
    records = dasd.read_track(1).records
    assert {(len(record.key), len(record.data)) for record in records} == {(44, 96)}


def test_the_last_track(dasd: Dasd) -> None:
    assert len(dasd.read_track(TRACKS - 1).records) == PER_TRACK


# formatting


@pytest.mark.parametrize(("size", "count"), [(512, 49), (1024, 33), (2048, 21), (4096, 12)])
def test_format(dasd: Dasd, size: int, count: int) -> None:
    dasd.write_track(track(10, *SHAPES["keys"]))
    dasd.format(FIRST + 10, 1, block_size=size)
    records = dasd.read_track(FIRST + 10).records
    assert [(record.number, len(record.key), len(record.data)) for record in records] == [
        (number, 0, size) for number in range(1, count + 1)
    ]


def test_format_of_several_tracks(dasd: Dasd) -> None:
    told: list[int] = []
    dasd.format(FIRST, 30, progress=told.append)
    assert sum(told) == 30
    assert all(len(found.records) == PER_TRACK for found in dasd.tracks(FIRST, 30))


def test_blocks_of_formatted_tracks(dasd: Dasd) -> None:
    dasd.write_track(track(11, *SHAPES["long"]))
    dasd.format(FIRST + 11, 1)
    block = (FIRST + 11) * PER_TRACK
    assert dasd.read_blocks(block, PER_TRACK) == bytes(PER_TRACK * SIZE)
    dasd.write_blocks(block, b"\x42" * SIZE)
    assert dasd.read_blocks(block) == b"\x42" * SIZE


def test_blocks_of_tracks_that_are_not(dasd: Dasd) -> None:
    dasd.write_track(track(12, *SHAPES["one"]))
    with pytest.raises(DasdFailed):
        dasd.read_blocks((FIRST + 12) * PER_TRACK, 2)
    dasd.format(FIRST + 12, 1)
    assert dasd.read_blocks((FIRST + 12) * PER_TRACK, 2) == bytes(2 * SIZE)


def test_what_is_wrong_with_tracks(dasd: Dasd) -> None:
    dasd.format(FIRST, 4)
    dasd.write_track(track(2, *SHAPES["keys"]))
    assert len(list(dasd.check(FIRST, 4))) == 1
    dasd.format(FIRST + 2, 1)
    assert list(dasd.check(FIRST, 4)) == []


# copies


def test_a_copy_to_a_file_and_back(dasd: Dasd, tmp_path: Path) -> None:
    shapes = ("one", "keys", "many", "out-of-order")
    images = [track(head, *SHAPES[shape], cylinder=2) for head, shape in enumerate(shapes)]
    dasd.write_tracks(images)
    with CkdFile.create(tmp_path / "copy.ckd", 0x3390, 3) as image:
        dasd.copy_to(image, 30, 4, verify=True)
        assert [image.read(number) for number in range(30, 34)] == images
        dasd.format(30, 4)
        dasd.copy_from(image, 30, 4, verify=True)
    assert list(dasd.tracks(30, 4)) == images
    dasd.format(30, 4)


def test_a_copy_of_what_changed(dasd: Dasd, tmp_path: Path) -> None:
    dasd.format(30, 3)
    told: list[int] = []
    with CkdFile.create(tmp_path / "copy.ckd", 0x3390, 3) as image:
        dasd.copy_to(image, 30, 3)
        dasd.write_track(track(1, *SHAPES["keys"], cylinder=2))
        dasd.copy_from(image, 30, 3, changed=True, progress=told.append)
    assert sum(told) == 3
    assert [len(found.records) for found in dasd.tracks(30, 3)] == [PER_TRACK] * 3
