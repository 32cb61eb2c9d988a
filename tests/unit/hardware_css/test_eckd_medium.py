"""What a 3390 says when its image file fails, is damaged or is no image; nothing is lost, and nothing raises."""

from __future__ import annotations

import errno
import os
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
from eckd_rig import SEEK_0_1, Programs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyvfio_backends.software.hardware.devices.ckd_image import BadImage, CkdImage, create_image
from pyvfio_backends.software.hardware.devices.ckd_track import Record, Track
from pyvfio_backends.software.hardware.devices.dasd import make_dasd
from pyvfio_backends.software.hardware.devices.eckd_volume import ImageVolume, label_track

SIZE = 56832
HEADER = 512
SEARCH, WRITE = (0x31, "0000000101"), (0x05, "c1" * 3000)


@pytest.fixture
def image(tmp_path: Path) -> CkdImage:
    record = Record(0, 1, 1, b"", b"\xd6" * 3000)
    track = Track(0, 1, (Record(0, 1, 0, b"", bytes(8)), record))
    return create_image(tmp_path / "disk.ckd", "3390-1", 2, [label_track("MEDIUM"), track])


@contextmanager
def file_size_limit(most: int) -> Iterator[None]:
    """The kernel writes nothing behind byte `most` of a file, as if there were no room."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_write_that_ends_half_way_leaves_what_was_there(image: CkdImage) -> None:
    programs = Programs(make_dasd(image=str(image.path)))
    content = image.path.read_bytes()
    record = HEADER + SIZE + 5 + 16 + 8
    with file_size_limit(record + 1000):
        sense = programs.refused((0x07, SEEK_0_1), SEARCH, WRITE)
    assert sense[:4] == "1000", "equipment check"
    assert image.path.read_bytes() == content
    assert programs.run((0x07, SEEK_0_1), SEARCH, WRITE)[0].scsw.ok


def test_an_image_that_has_become_shorter_is_not_made_longer(image: CkdImage) -> None:
    programs = Programs(make_dasd(image=str(image.path)))
    os.truncate(image.path, HEADER + SIZE + 100)
    assert programs.refused((0x07, SEEK_0_1), (0x06, 8))[:4] == "0040", "the track has no end"
    os.truncate(image.path, HEADER)
    assert programs.refused((0x07, "000000000002"), (0x12, 8))[:4] == "0040"
    with pytest.raises(OSError, match="shorter"):
        image.write(Track(0, 2, (Record(0, 2, 0, b"", bytes(8)),)))
    assert image.path.stat().st_size == HEADER


@pytest.mark.parametrize(
    ("number", "sense"),
    [
        (errno.ENOSPC, "1000"),
        (errno.EIO, "1000"),
        (errno.EFBIG, "1000"),
        (errno.EMFILE, "1000"),
        (errno.ENOENT, "4000"),
        (errno.EROFS, "8002"),
        (errno.EACCES, "8002"),
    ],
)
def test_errors_of_the_file_are_sense_bytes(
    image: CkdImage, number: int, sense: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(make_dasd(image=str(image.path)))

    def fail(*args: object, **options: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(CkdImage, "write", fail)
    assert programs.refused((0x07, SEEK_0_1), SEARCH, WRITE)[:4] == sense
    monkeypatch.setattr(CkdImage, "read", fail)
    assert programs.refused((0x07, "000000010002"), (0x06, 8))[:4] == sense


def test_an_image_that_goes_away_and_comes_back(image: CkdImage, tmp_path: Path) -> None:
    programs = Programs(make_dasd(image=str(image.path)))
    image.path.rename(tmp_path / "elsewhere")
    assert programs.refused((0x07, SEEK_0_1), (0x06, 8))[:4] == "4000"
    assert programs.run((0x64, 64))[0].scsw.ok, "the control unit is still there"
    (tmp_path / "elsewhere").rename(image.path)
    assert programs.run((0x07, SEEK_0_1), (0x06, 8))[1] == ["d6" * 8]


@given(
    head=st.binary(max_size=40), at=st.integers(0, 520), size=st.integers(0, 3 * 15 * SIZE), fill=st.integers(0, 255)
)
@example(head=b"", at=0, size=0, fill=0)
@example(head=b"", at=0, size=HEADER, fill=0)
@example(head=struct.pack("<I", 0), at=8, size=HEADER + 15 * SIZE, fill=0)
@example(head=struct.pack("<I", 0), at=12, size=HEADER + 15 * SIZE, fill=0)
@example(head=struct.pack("<I", 0xFFFFFFFF), at=8, size=HEADER + 15 * SIZE, fill=0)
@example(head=b"\x01\xff\xff", at=17, size=HEADER + 15 * SIZE, fill=0)
@settings(max_examples=60, deadline=None)
def test_no_file_does_harm(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, at: int, size: int, fill: int
) -> None:
    """An image with any bytes over its beginning, of any length: it opens or says why not, and stays as it is."""
    path = tmp_path_factory.mktemp("fuzz") / "any_1.ckd"
    create_image(path, "3390-1", 3)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(head)
        file.seek(HEADER + 5)
        file.write(bytes([fill]) * 3)
        file.truncate(min(size, HEADER + 3 * 15 * SIZE))
    before = path.read_bytes()
    caught = None
    try:
        ImageVolume(path)
    except BadImage as error:
        caught = error
    if caught is not None:
        assert caught.cause
        assert str(path.parent) in str(caught)
    else:
        programs = Programs(make_dasd(image=str(path)))
        for place in ((0, 0), (0, 1), (0, 14)):
            irb, _ = programs.run((0x07, struct.pack(">HHH", 0, *place).hex()), (0x1A, 5), (0x12, 8), (0x06, 8))
            assert irb.scsw.dstat
    assert path.read_bytes() == before
    path.unlink()


@given(raw=st.binary(max_size=300), at=st.integers(0, 300))
@settings(max_examples=80, deadline=None)
def test_no_track_does_harm(tmp_path_factory: pytest.TempPathFactory, raw: bytes, at: int) -> None:
    """Any bytes over a track: reads end, with a unit check if it is none any more; the tracks around are untouched."""
    path = tmp_path_factory.getbasetemp() / "tracks.ckd"
    if not path.exists():
        create_image(path, "3390-1", 1)
    with path.open("r+b") as file:
        file.seek(HEADER + SIZE + at)
        file.write(raw)
    programs = Programs(make_dasd(image=str(path)))
    for commands in (
        ((0x1A, 5), (0x16, 64)),
        ((0x1E, 64), (0x1E, 64)),
        ((0x5E, 600),),
        ((0x31, "0000000101"), (0x05, "c1c2")),
        ((0x39, "00000001"), (0x31, "0000000100"), (0x1D, "0000000101000002c1c2")),
    ):
        irb, _ = programs.run((0x07, SEEK_0_1), *commands)
        assert irb.scsw.dstat or irb.scsw.cstat
    image = CkdImage(path)
    for head in (0, 2):
        assert len(image.read(0, head).records) == 1
