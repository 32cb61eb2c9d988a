"""CKD image files: what is no image, what a damaged track is called, and that what is written is read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.devices.ckd_image import BadImage, CkdImage, create_image
from pyvfio_backends.software.hardware.devices.ckd_track import BadTrack, Record, Track, empty_track
from pyvfio_backends.software.hardware.devices.eckd_volume import ImageVolume

SIZE = 56832
HEADER = struct.Struct("<8sIIBBH492x")


def header(
    magic: bytes = b"CKD_P370", heads: int = 15, size: int = SIZE, code: int = 0x90, number: int = 0, high: int = 0
) -> bytes:
    return HEADER.pack(magic, heads, size, code, number, high)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "no header"),
        (b"VOL1" * 1000, "no header"),
        (header()[:100], "no header"),
        (header(b"CKD_C370"), "compressed"),
        (header(b"CKD_S370"), "shadow file"),
        (header(b"FBA_C370"), "fixed-block"),
        (header(code=0x30), "type code 30"),
        (header(heads=16), "16 heads"),
        (header(size=1), "1 bytes a track"),
        (header(), "within a cylinder, after 0 bytes"),
        (header() + bytes(15 * SIZE - 1), "within a cylinder"),
        (header(number=2) + bytes(15 * SIZE), "number 2 of several"),
        (header(number=1, high=9) + bytes(15 * SIZE), "to 9"),
        (header(number=1, high=0xFFFF) + bytes(15 * SIZE), "to 65535"),
        (header(number=1, high=0) + bytes(2), "within a cylinder"),
    ],
)
def test_what_is_no_image(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "bad.ckd"
    path.write_bytes(content)
    with pytest.raises(BadImage) as caught:
        CkdImage(path)
    assert cause in caught.value.cause
    assert str(path) in str(caught.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="No such file"):
        CkdImage(tmp_path / "none.ckd")
    with pytest.raises(BadImage, match="directory"):
        CkdImage(tmp_path)
    first = tmp_path / "first.ckd"
    first.write_bytes(header(number=1, high=1) + bytes(2 * 15 * SIZE))
    with pytest.raises(BadImage, match="does not end in _1"):
        CkdImage(first)
    split = first.rename(tmp_path / "first_1.ckd")
    with pytest.raises(BadImage, match=r"first_2\.ckd"):
        CkdImage(split)


def test_an_image_is_not_made_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    with pytest.raises(BadImage, match="exists"):
        create_image(tmp_path / "a", "3390-1", 1)
    assert (tmp_path / "a").read_text() == "mine"
    for model, cylinders in (("3390-7", 1), ("3390-1", -1), ("3390-1", 65521)):
        with pytest.raises(Misuse):
            create_image(tmp_path / "b", model, cylinders)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("raw", "cause"),
    [
        (bytes(SIZE), "home address says cylinder 0 head 0"),
        (bytes.fromhex("0000010002") + b"\xff" * 8, "does not begin with R0"),
        (bytes.fromhex("0000010002 0001000205000000" + "ff" * 8), "does not begin with R0"),
        (bytes.fromhex("0000010002 0001000200 00 ffff"), "record 0 goes beyond"),
        (bytes.fromhex("0000010002") + bytes.fromhex("0001000200000008") + bytes(SIZE), "no end mark"),
    ],
)
def test_a_damaged_track_is_named(tmp_path: Path, raw: bytes, cause: str) -> None:
    image = create_image(tmp_path / "a", "3390-1", 2)
    with image.path.open("r+b") as file:
        file.seek(512 + (15 + 2) * SIZE)
        file.write(raw.ljust(SIZE, b"\0")[:SIZE])
    with pytest.raises(BadTrack):
        image.read(1, 2)
    with pytest.raises(BadImage, match="cylinder 1 head 2 is damaged") as caught:
        image.check()
    assert cause in caught.value.cause


def test_tracks_that_are_not_there_or_too_long(tmp_path: Path) -> None:
    image = create_image(tmp_path / "a", "3390-1", 2)
    for place in ((2, 0), (0, 15), (-1, 0), (0, -1)):
        with pytest.raises(Misuse):
            image.read_raw(*place)
    with pytest.raises(Misuse, match="do not fit"):
        image.write(Track(0, 0, (*empty_track(0, 0).records, Record(0, 0, 1, b"", bytes(SIZE)))))
    image.check()


def test_an_empty_image_is_small_and_of_full_size(tmp_path: Path) -> None:
    image = create_image(tmp_path / "a", "3390-9", 1000)
    assert image.path.stat().st_size == 512 + 1000 * 15 * SIZE
    assert image.path.stat().st_blocks * 512 < 100e6
    assert image.read(999, 14) == empty_track(999, 14)


def test_volumes_need_a_3390_and_leave_to_write(tmp_path: Path) -> None:
    create_image(tmp_path / "old", "3380-A", 2)
    with pytest.raises(BadImage, match="of a 3380"):
        ImageVolume(tmp_path / "old")


records = st.builds(
    Record,
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(1, 254),
    st.binary(max_size=40),
    st.binary(max_size=300),
)


@given(place=st.tuples(st.integers(0, 2), st.integers(0, 14)), more=st.lists(records, max_size=20))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tracks_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[int, int], more: list[Record]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.ckd"
    image = CkdImage(path) if path.exists() else create_image(path, "3390-1", 3)
    track = Track(*place, (*empty_track(*place).records, *more))
    image.write(track)
    assert image.read(*place) == track
    assert track.size == len(track.to_bytes())


@given(raw=st.binary(max_size=400), head=st.booleans())
@settings(max_examples=200, deadline=None)
def test_no_bytes_do_harm(raw: bytes, head: bool) -> None:
    data = bytes.fromhex("0000010002") + raw if head else raw
    try:
        track = Track.from_bytes(data, 1, 2)
    except BadTrack:
        return
    assert data.startswith(track.to_bytes())
