"""CKD images and Debian's `hercules`: what its tools make opens here, and what is written here its tools read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from pyvfio_backends.software.hardware.devices.aws_tape import AwsTape
from pyvfio_backends.software.hardware.devices.ckd_image import BadImage, CkdImage, create_image
from pyvfio_backends.software.hardware.devices.ckd_track import Record, Track
from pyvfio_backends.software.hardware.devices.eckd_volume import EmptyVolume, ImageVolume, label_track

Run = Callable[..., str]


def test_a_compressed_image_is_refused_with_the_way_out(hercules: Run, tmp_path: Path) -> None:
    hercules("dasdinit", "-z", tmp_path / "c.cckd", "3390", "CMP001", 3)
    with pytest.raises(BadImage, match=r"(?s)compressed.*cckd2ckd"):
        CkdImage(tmp_path / "c.cckd")


@pytest.mark.parametrize("options", [(), ("-linux",), ("-a",), ("-lfs",), ("-a", "-lfs", "-linux")])
def test_an_image_of_dasdinit_opens(hercules: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    path = tmp_path / "a.ckd"
    hercules("dasdinit", *options, path, "3390", "LNX001", 5)
    image = CkdImage(path)
    image.check()
    assert (image.cylinders, image.heads, image.device.type) == (5, 15, 0x3390)
    assert ImageVolume(path).volser == "LNX001"
    label = image.read(0, 0).records
    assert [record.key for record in label[1:4]] == [text.encode("cp037") for text in ("IPL1", "IPL2", "VOL1")]
    assert len(image.read(3, 7).records) == (13 if "-linux" in options else 1)


def test_an_image_in_two_files_opens_as_one(hercules: Run, tmp_path: Path) -> None:
    size = 512 + 15 * 56832
    path = tmp_path / "s.ckd"
    hercules("dasdinit", path, "3390", "SPL001", 4)
    raw = path.read_bytes()
    head, tracks = bytearray(raw[:512]), raw[512:]
    cylinder = size - 512
    head[17:20] = b"\x01" + struct.pack("<H", 1)
    (tmp_path / "s_1.ckd").write_bytes(bytes(head) + tracks[: 2 * cylinder])
    head[17:20] = b"\x02\0\0"
    (tmp_path / "s_2.ckd").write_bytes(bytes(head) + tracks[2 * cylinder :])
    image = CkdImage(tmp_path / "s_1.ckd")
    image.check()
    assert image.cylinders == 4
    image.write(Track(3, 14, (Record(3, 14, 0, b"", bytes(8)), Record(3, 14, 1, b"", b"last"))))
    hercules("ckd2cckd", "-q", tmp_path / "s_1.ckd", tmp_path / "one.cckd")
    hercules("cckd2ckd", "-q", tmp_path / "one.cckd", tmp_path / "one.ckd")
    assert CkdImage(tmp_path / "one.ckd").read(3, 14).records[1].data == b"last"


def _dataset(name: str) -> list[Track]:
    """A VTOC at cylinder 0 head 1 with one sequential data set of two records, at cylinder 1 head 0."""

    def text(words: str, length: int) -> bytes:
        return words.ljust(length).encode("cp037")

    format4 = bytearray(96)
    format4[0:1] = text("4", 1)
    format4[1:6] = struct.pack(">HHB", 0, 1, 3)  # the last format 1
    format4[15] = 1  # extents of the VTOC
    format4[18:22] = struct.pack(">HH", 5, 15)  # cylinders, heads
    format4[61:71] = struct.pack(">BBHHHH", 1, 0, 0, 1, 0, 1)
    format1 = bytearray(96)
    format1[0:1] = text("1", 1)
    format1[1:7] = text("MADE01", 6)
    format1[7:9] = struct.pack(">H", 1)
    format1[15:16] = b"\x01"
    format1[38:40] = b"\x40\0"  # physical sequential
    format1[40:41] = b"\x80"  # fixed records
    format1[42:46] = struct.pack(">HH", 80, 80)
    format1[54:57] = struct.pack(">HB", 0, 2)  # the last record
    format1[61:71] = struct.pack(">BBHHHH", 1, 0, 1, 0, 1, 0)
    empty = bytes(8)
    vtoc = (
        Record(0, 1, 0, b"", empty),
        Record(0, 1, 1, b"\x04" * 44, bytes(format4)),
        Record(0, 1, 2, b"\x05" * 4 + bytes(40), text("5", 1) + bytes(95)),
        Record(0, 1, 3, text(name, 44), bytes(format1)),
    )
    lines = (Record(1, 0, 0, b"", empty), *(Record(1, 0, n, b"", text(f"LINE {n}", 80)) for n in (1, 2)))
    return [label_track("MADE01", "PYVFIO"), Track(0, 1, vtoc), Track(1, 0, lines)]


def test_an_image_written_here_is_listed_there(hercules: Run, tmp_path: Path) -> None:
    path = tmp_path / "made.ckd"
    create_image(path, "3390-1", 5, _dataset("PYVFIO.TEST.DATA")).check()
    listing = hercules("dasdls", path)
    assert "VOLSER=MADE01" in listing
    assert "PYVFIO.TEST.DATA" in listing
    hercules("dasdseq", "-ascii", path, "PYVFIO.TEST.DATA")
    assert (tmp_path / "PYVFIO.TEST.DATA").read_text() == "LINE 1\nLINE 2\n"


def test_an_empty_volume_is_what_dasdinit_makes_for_linux(hercules: Run, tmp_path: Path) -> None:
    hercules("dasdinit", "-linux", tmp_path / "theirs.ckd", "3390", "LNX001", 20)
    theirs = CkdImage(tmp_path / "theirs.ckd")
    ours = EmptyVolume("LNX001", 20, "HERCULES", vtoc=True)
    places = [divmod(number, 15) for number in range(20 * 15)]
    assert [place for place in places if ours.read(*place) != theirs.read(*place)] == []


def test_a_round_trip_through_a_compressed_image(hercules: Run, tmp_path: Path) -> None:
    made = create_image(tmp_path / "made.ckd", "3390-1", 5, _dataset("PYVFIO.TEST.DATA"))
    hercules("ckd2cckd", "-q", made.path, tmp_path / "copy.cckd")
    hercules("cckdcdsk", "-3", tmp_path / "copy.cckd")
    hercules("cckd2ckd", "-q", tmp_path / "copy.cckd", tmp_path / "back.ckd")
    back = CkdImage(tmp_path / "back.ckd")
    for number in range(made.cylinders * made.heads):
        place = divmod(number, made.heads)
        assert back.read(*place) == made.read(*place)


@pytest.mark.parametrize("model", ["3390-1", "3380-A"])
def test_the_header_and_size_are_those_of_dasdinit(hercules: Run, tmp_path: Path, model: str) -> None:
    hercules("dasdinit", "-r", tmp_path / "theirs.ckd", model[:4], 3)
    ours = create_image(tmp_path / "ours.ckd", model, 3)
    with ours.path.open("rb") as one, (tmp_path / "theirs.ckd").open("rb") as other:
        assert one.read() == other.read()


def test_alternate_cylinders_are_behind_the_others(hercules: Run, tmp_path: Path) -> None:
    image = create_image(tmp_path / "alt.ckd", "3390-1", 1114, _dataset("PYVFIO.TEST.DATA"))
    volume = ImageVolume(image.path)
    assert (volume.cylinders, volume.alternates) == (1113, 1), "as Hercules' own device has it"
    assert "VOLSER=MADE01" in hercules("dasdls", image.path)


def test_a_compressed_tape_is_refused_with_the_way_out(hercules: Run, tmp_path: Path) -> None:
    hercules("hetinit", tmp_path / "labels.het", "TAPE01", "OWNER")
    with pytest.raises(BadImage, match=r"(?s)compressed.*hetupd -d"):
        AwsTape(tmp_path / "labels.het")
    hercules("hetupd", "-d", tmp_path / "labels.het", tmp_path / "labels.aws")
    label = AwsTape(tmp_path / "labels.aws").read()
    assert label is not None
    assert label.decode("cp037").startswith("VOL1TAPE01")


def test_tapes_both_ways(hercules: Run, tmp_path: Path) -> None:
    hercules("hetinit", "-d", tmp_path / "theirs.aws", "TAPE01", "OWNER")
    tape = AwsTape(tmp_path / "theirs.aws")
    label = tape.read()
    assert label is not None
    assert label.decode("cp037").startswith("VOL1TAPE01")
    (tmp_path / "ours.aws").write_bytes(b"")
    ours = AwsTape(tmp_path / "ours.aws")
    for block in (label, bytes(1000), None, b"more", None, None):
        if block is None:
            ours.write_mark()
        else:
            ours.write(block)
    listing = hercules("tapemap", tmp_path / "ours.aws")
    assert "VOL1TAPE01" in listing
    assert "1000" in listing
