"""What lies on disks: blkid, where it is installed, finds what was written, and the fields are in their places."""

from __future__ import annotations

import shutil
import struct
import subprocess
import uuid
import zlib
from pathlib import Path

import pytest

from pyvfio_backends.software.medium.image import Image, Window
from pyvfio_backends.software.medium.signatures import SIGNATURES, Marks, sign
from pyvfio_backends.software.medium.tables import DASD_TRACK, SECTOR, Part, write_dasd, write_table

MIB = 1 << 20
MARKS = Marks(uuid.UUID(int=0x0123456789ABCDEF0123456789ABCDEF))
BLKID = shutil.which("blkid", path="/usr/sbin:/sbin:/usr/bin:/bin")
needs_blkid = pytest.mark.skipif(BLKID is None, reason="blkid is not installed")


def probe(image: Image | Window, path: Path) -> dict[str, str]:
    with open(path, "wb") as out:
        for offset in range(0, image.size, MIB):
            part = image.read(offset, MIB)
            if any(part):
                out.seek(offset)
                out.write(part)
        out.truncate(image.size)
    command = [str(BLKID), "-p", "-o", "export", str(path)]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def test_an_image_is_zeros_until_written() -> None:
    image = Image(200_000)
    assert image.read(199_990, 100) == bytes(10)
    assert image.read(200_000, 1) == image.read(300_000, 1) == b""
    assert image.write(65_530, b"0123456789") == 10
    assert image.read(65_529, 12) == b"\x000123456789\x00"
    assert image.write(199_999, b"ab") == 1
    assert image.write(200_000, b"ab") == 0


def test_a_window_does_not_look_beyond_its_ends() -> None:
    image = Image(4096)
    window = Window(image, 1024, 1024)
    assert window.write(1000, b"x" * 100) == 24
    assert window.write(1024, b"x") == 0
    assert window.read(1000, 100) == b"x" * 24
    assert window.read(2000, 1) == b""
    assert image.read(2047, 2) == b"x\0"


@needs_blkid
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", SIGNATURES)
def test_blkid_recognises_a_signature(name: str, order: str, tmp_path: Path) -> None:
    image = Image(64 * MIB)
    sign(image, name, Marks(MARKS.identity, order))
    assert probe(image, tmp_path / "disk")["TYPE"] == name


@needs_blkid
@pytest.mark.parametrize("name", SIGNATURES)
def test_blkid_recognises_it_on_the_smallest_device(name: str, tmp_path: Path) -> None:
    image = Image(SIGNATURES[name].least)
    sign(image, name, MARKS)
    assert probe(image, tmp_path / "disk")["TYPE"] == name


@needs_blkid
@pytest.mark.parametrize("kind", ["gpt", "dos"])
def test_blkid_recognises_a_partition_table(kind: str, tmp_path: Path) -> None:
    image = Image(64 * MIB)
    parts = [Part(1, MIB, 8 * MIB, "boot" if kind == "gpt" else "", "ext4"), Part(3, 9 * MIB, 20 * MIB, "", "swap")]
    write_table(image, kind, MARKS.identity, parts)
    for part in parts:
        window = Window(image, part.start, part.size)
        sign(window, part.signature, MARKS)
        assert probe(window, tmp_path / f"part{part.number}")["TYPE"] == part.signature
    found = probe(image, tmp_path / "disk")
    assert found["PTTYPE"] == kind
    assert "TYPE" not in found


def test_both_gpt_headers_carry_their_sums() -> None:
    image = Image(4 * MIB)
    write_table(image, "gpt", MARKS.identity, [Part(2, MIB, MIB, "root", "ext4")])
    for at, other in ((1, image.size // SECTOR - 1), (image.size // SECTOR - 1, 1)):
        header = bytearray(image.read(at * SECTOR, 92))
        magic, _, _, total, _, own, backup = struct.unpack_from("<8s4IQQ", header)
        entries, count, size, table = struct.unpack_from("<Q3I", header, 72)
        struct.pack_into("<I", header, 16, 0)
        assert (magic, own, backup) == (b"EFI PART", at, other)
        assert total == zlib.crc32(header)
        assert table == zlib.crc32(image.read(entries * SECTOR, count * size))
        entry = image.read(entries * SECTOR + size, size)
        assert struct.unpack_from("<QQ", entry, 32) == (MIB // SECTOR, 2 * MIB // SECTOR - 1)
        assert entry[56:].decode("utf-16-le").rstrip("\0") == "root"


def test_a_dasd_has_a_label_and_an_entry_for_each_partition() -> None:
    image = Image(1000 * DASD_TRACK)
    write_dasd(image, "0X3F3F", [Part(1, 2 * DASD_TRACK, 100 * DASD_TRACK), Part(2, 102 * DASD_TRACK, DASD_TRACK)])
    label = image.read(2 * 4096, 84)
    assert label[:14].decode("cp037") == "VOL1VOL10X3F3F"
    assert label[15:20] == bytes((0, 0, 0, 1, 1))
    formats = [image.read((12 + n) * 4096 + 44, 1).decode("cp037") for n in (0, 1, 2, 3)]
    assert formats == ["4", "5", "1", "1"]
    assert image.read(14 * 4096, 44).decode("cp037").strip() == "LINUX.V0X3F3F.PART0001.NATIVE"
    extent = image.read(14 * 4096 + 105, 10)
    assert struct.unpack(">BBHHHH", extent) == (1, 0, 0, 2, 6, 11)
