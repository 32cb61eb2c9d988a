"""What lies on a DASD, as values: labels, DSCBs, sense, characteristics, layouts, tracks and image files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyvfio.drivers import Characteristics, Configuration, Count, LabelKind, Sense, TrackImage, TrackRecord, VolumeLabel
from pyvfio.drivers.ckd_file import CkdFile
from pyvfio.drivers.eckd import LocateOperation, Mask, define_extent, locate_record, track_address
from pyvfio.drivers.label import place_of, volume_serial
from pyvfio.drivers.layout import DiskLayout, LayoutKind
from pyvfio.drivers.vtoc import (
    Attributes,
    DataSet,
    Extents,
    FreeSpace,
    FreeTracks,
    TrackExtent,
    VolumeSpace,
    parse_dscb,
)
from pyvfio.errors import MalformedAnswer, Misuse, PyvfioError
from pyvfio_backends.software.hardware.devices.ckd_image import CkdImage, create_image

#: Of the golden file dasd-3390.jsonl.
GOLDEN = bytes.fromhex(
    "3990c2339002d000000020260459000fe000e5a205940222130906740459000f000000000000000026261002dfee0001"
    "067708000000000000ff000000000000"
)
LABEL = bytes.fromhex("e5d6d3f1e5d6d3f1d3c1c2f0f0f1400000000101").ljust(45, b"\x40")
LABEL += "HERCULES".ljust(39).encode("cp037")


def e(text: str) -> bytes:
    return text.encode("cp037")


# bad input


@pytest.mark.parametrize("raw", [b"", bytes(63), bytes(64), GOLDEN + b"\0"])
def test_characteristics_that_are_none(raw: bytes) -> None:
    with pytest.raises(PyvfioError):
        Characteristics.from_bytes(raw)


@pytest.mark.parametrize("raw", [b"", bytes(256), bytes.fromhex("c4010100").ljust(256, b"\0")])
def test_configuration_data_without_a_device(raw: bytes) -> None:
    with pytest.raises(MalformedAnswer, match="no descriptor"):
        Configuration.from_bytes(raw)


@pytest.mark.parametrize("text", ["", "   ", "TOOLONG", "☃"])
def test_serials_that_are_none(text: str) -> None:
    with pytest.raises(Misuse, match="1 to 6 characters"):
        volume_serial(text)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "no end mark"),
        (bytes(7), "no end mark"),
        (Count(0, 0, 1, 0, 100).to_bytes() + bytes(99), "record 1 is cut"),
        (TrackRecord(0, 0, 1, b"", b"x").to_bytes(), "no end mark"),
    ],
)
def test_bytes_that_are_no_track(raw: bytes, words: str) -> None:
    with pytest.raises(MalformedAnswer, match=words):
        TrackImage.from_bytes(raw, 0, 0)


def test_a_dscb_of_another_length() -> None:
    with pytest.raises(Misuse):
        parse_dscb(bytes(139))


@pytest.mark.parametrize(("name", "serial"), [("", "A"), ("N" * 45, "A"), ("N", "TOOLONG"), ("☃", "A")])
def test_names_that_no_data_set_has(name: str, serial: str) -> None:
    with pytest.raises(Misuse):
        DataSet.build(name, serial, (0, 2), (1, 0), 4096, 2026, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: b"CKD_C370" + raw[8:], "compressed"),
        (lambda raw: b"x" + raw[1:], "no header"),
        (lambda raw: raw[:100], "no header"),
        (lambda raw: raw[:-1], "ends within a cylinder"),
        (lambda raw: raw[:512], "ends within a cylinder"),
        (lambda raw: raw[:16] + b"\x33" + raw[17:], "no 3390 or 3380"),
        (lambda raw: raw[:18] + b"\x01" + raw[19:], "several files"),
    ],
)
def test_files_that_are_no_image(tmp_path: Path, change, words: str) -> None:  # type: ignore[no-untyped-def]
    create_image(tmp_path / "good.ckd", "3390-1", 1)
    (tmp_path / "bad.ckd").write_bytes(change((tmp_path / "good.ckd").read_bytes()))
    with pytest.raises(Misuse, match=words):
        CkdFile(tmp_path / "bad.ckd")


def test_an_image_in_the_way_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "there.ckd").write_text("mine")
    with pytest.raises(PyvfioError, match="EEXIST"):
        CkdFile.create(tmp_path / "there.ckd", 0x3390, 1)
    assert (tmp_path / "there.ckd").read_text() == "mine"
    with pytest.raises(PyvfioError, match="ENOENT"):
        CkdFile(tmp_path / "absent.ckd")
    with pytest.raises(Misuse, match="no 3390 or 3380"):
        CkdFile.create(tmp_path / "new.ckd", 0x9345, 1)


# what they say


def test_characteristics_as_recorded() -> None:
    disk = Characteristics.from_bytes(GOLDEN)
    assert str(disk) == "New DASD 3390/02 (CU 3990/02) with 1113 cylinders, 15 heads, 224 sectors"
    assert (disk.tracks, disk.reads_tracks, disk.track_bytes) == (16695, True, 58786)
    assert [disk.blocks_per_track(size) for size in (512, 1024, 2048, 4096)] == [49, 33, 21, 12]
    large = Characteristics.from_bytes(GOLDEN[:12] + b"\xff\xfe" + GOLDEN[14:60] + (262668).to_bytes(4, "big"))
    assert (large.cylinders, large.place(15 * 70000 + 3)) == (262668, (70000, 3))
    with pytest.raises(Misuse, match="tracks 0 to 16694"):
        disk.place(16695)


def test_labels() -> None:
    label = VolumeLabel.from_block(LABEL.ljust(4096, b"\xe5"))
    assert label == VolumeLabel(LabelKind.VOL1, "LAB001", (0, 1, 1), "HERCULES")
    assert str(label) == "VOL1/  LAB001:"
    assert VolumeLabel.from_block(e("VOL1") + label.to_record()) == label
    linux = e("LNX1X") + bytes.fromhex("4040404040") + bytes(69) + b"\xf2" + (720).to_bytes(8, "big")
    assert VolumeLabel.from_block(linux) == VolumeLabel(LabelKind.LNX1, "X", blocks=720)
    cms = (e("CMS1USR191") + bytes(18) + (900).to_bytes(4, "big")).ljust(80, b"\0")
    assert VolumeLabel.from_block(cms) == VolumeLabel(LabelKind.CMS1, "USR191", blocks=900)
    assert VolumeLabel.from_block(bytes(4096)) is None
    assert VolumeLabel.from_block(e("VOL1")) is None
    assert VolumeLabel.from_block(b"") is None


def test_dscbs() -> None:
    part = DataSet.build("LINUX.V0X3F3F.PART0001.NATIVE", "0X3F3F", (0, 2), (70000, 14), 4096, 2026, 325)
    assert (part.format, part.created, part.block_length) == ("8", (2026, 325), 4096)
    assert part.extents == (TrackExtent(1, 0, (0, 2), (70000, 14)),)
    assert part.extents[0].tracks(15) == range(2, 70000 * 15 + 15)
    volume = VolumeSpace.build(70000, 15, 58786, TrackExtent(1, 0, (0, 1), (0, 1)), 48)
    assert (volume.cylinders, volume.heads, volume.free_records, volume.per_track) == (70000, 15, 48, 50)
    five = b"\5" * 4 + bytes.fromhex("0002000705") + bytes(35) + b"\xf5" + bytes(95)
    assert parse_dscb(five) == FreeSpace("5", five, ((2, 7, 5),), None)
    seven = b"\7" * 4 + bytes.fromhex("0000000a00000014") + bytes(32) + b"\xf7" + bytes(95)
    assert parse_dscb(seven) == FreeTracks("7", seven, ((10, 20),), None)
    extent = TrackExtent(1, 3, (5, 0), (5, 14))
    three = b"\3" * 4 + extent.to_bytes() + bytes(30) + b"\xf3" + extent.to_bytes() + bytes(80) + b"\0\0\0\1\7"
    assert parse_dscb(three) == Extents("3", three, (extent, extent), (0, 1, 7))
    nine = b"\x09\x01".ljust(44, b"\0") + b"\xf9" + bytes(95)
    assert parse_dscb(nine) == Attributes("9", nine, 1, None)
    assert parse_dscb(bytes(140)) is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("8000000000000001", "command reject, invalid command; sense 8000000000000001"),
        ("8002", "command reject, write inhibited; sense 8002"),
        ("0004", "file protected; sense 0004"),
        ("0890", "data check, permanent error, message to operator; sense 0890"),
        ("", "nothing known; sense 00"),
    ],
)
def test_sense_in_words(raw: str, words: str) -> None:
    assert str(Sense(bytes.fromhex(raw).ljust(32, b"\0") if raw else b"")) == words


def test_parameters_as_recorded() -> None:
    """The bytes of the golden file's "DX+LR+READ DATA" and "DX+LR(read tracks)"."""
    assert define_extent(Mask.READ, (0, 0), (0, 14)).hex() == "40c0000000000000000000000000000e"
    assert locate_record(LocateOperation.READ_DATA, (0, 0), 3, 1).hex() == "06000001000000000000000003ff0000"
    assert locate_record(LocateOperation.READ_TRACKS, (0, 0), 0, 1).hex() == "0c000001000000000000000000ff0000"
    assert locate_record(LocateOperation.WRITE_DATA, (0, 0), 3, 1, 80).hex() == "01800001000000000000000003ff0050"


# round trips


@given(st.integers(0, (1 << 28) - 1), st.integers(0, 14))
def test_track_addresses(cylinder: int, head: int) -> None:
    assert place_of(track_address((cylinder, head))) == (cylinder, head)


@given(st.sampled_from(LayoutKind), st.sampled_from((512, 4096)), st.integers(0, 10**6))
def test_every_block_has_one_place(kind: LayoutKind, size: int, block: int) -> None:
    layout = DiskLayout(kind, size, 49 if size == 512 else 12, 450765)
    place = layout.locate(block)
    assert (place.track * layout.per_track + place.record - 1, 1 <= place.record <= layout.per_track) == (block, True)
    assert (place.length == size and not place.key_length) or (kind is LayoutKind.CDL and block < layout.first_plain)


@given(st.binary(min_size=140, max_size=140))
def test_any_dscb_keeps_its_bytes(raw: bytes) -> None:
    dscb = parse_dscb(raw)
    assert dscb is None or dscb.to_bytes() == raw


@given(st.binary(max_size=200))
def test_no_label_is_misread_with_an_error(raw: bytes) -> None:
    VolumeLabel.from_block(raw)
    str(Sense(raw[:32]))


@given(st.lists(st.tuples(st.binary(max_size=255), st.binary(max_size=200)), max_size=8))
def test_tracks(parts: list[tuple[bytes, bytes]]) -> None:
    image = TrackImage(3, 4, tuple(TrackRecord(3, 4, number, *part) for number, part in enumerate(parts, 1)))
    zero = TrackRecord(3, 4, 0, b"", bytes(8)).to_bytes()
    assert TrackImage.from_bytes(image.to_bytes(), 3, 4) == image
    assert TrackImage.from_bytes(zero + image.to_bytes() + b"rest", 3, 4) == image


def test_an_image_file_both_ways(tmp_path: Path) -> None:
    image = TrackImage(1, 2, (TrackRecord(1, 2, 1, b"key", b"data"),))
    with CkdFile.create(tmp_path / "new.ckd", 0x3390, 2) as made:
        made.write(image)
        assert made.read(17) == image
        assert made.read(18).records == ()
        with pytest.raises(Misuse, match="tracks 0 to 29"):
            made.read(30)
        with pytest.raises(Misuse, match="do not fit"):
            made.write(TrackImage(0, 0, (TrackRecord(0, 0, 1, b"", bytes(57000)),)))
    other = CkdImage(tmp_path / "new.ckd")
    other.check()
    assert [(one.number, one.key, one.data) for one in other.read(1, 2).records[1:]] == [(1, b"key", b"data")]


def test_an_image_whose_making_was_interrupted_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk.ckd"

    def interrupted(image: TrackImage) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pyvfio.drivers.ckd_file._raw", interrupted)
        with pytest.raises(KeyboardInterrupt):
            CkdFile.create(path, 0x3390, 1)
    assert not path.exists()
    with CkdFile.create(path, 0x3390, 1) as image:
        assert image.tracks == 15
    with pytest.raises(PyvfioError):
        CkdFile.create(path, 0x3390, 1)
    assert path.exists()
