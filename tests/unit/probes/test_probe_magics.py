"""Signatures: byte for byte, and beside ``blkid`` on what the tools of this host write."""

from __future__ import annotations

import itertools
import random
import shutil
import struct
import subprocess
import uuid
from pathlib import Path

import pytest
from probe_trees import zfs_label

from pyvfio.binding.probes.magics import signatures
from pyvfio.binding.probes.zfs import is_member, pool_of
from pyvfio_backends.software.medium.signatures import SIGNATURES, Marks, sign

KIB, MIB = 1 << 10, 1 << 20
SIZE = 4 * MIB
UUID = uuid.UUID("66826a94-72c4-557f-beca-d135a70628e9")


class Disk:
    def __init__(self, size: int = SIZE) -> None:
        self.data = bytearray(size)
        self.size = size

    def write(self, offset: int, data: bytes) -> int:
        self.data[offset : offset + len(data)] = data
        return len(data)

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self.data[offset : offset + count]) if offset >= 0 else b""

    @property
    def found(self) -> list[str]:
        return [str(one) for one in signatures(self.read, self.size)]


def disk(*parts: tuple[int, bytes], size: int = SIZE) -> Disk:
    made = Disk(size)
    for offset, data in parts:
        made.write(offset if offset >= 0 else size + offset, data)
    return made


BOOT = (510, b"\x55\xaa")
ROWS = [
    ("FAT32", [(82, b"FAT32   "), (71, b"BOOT       "), BOOT], ["FAT file system, label BOOT"]),
    ("FAT16", [(54, b"FAT16   "), BOOT], ["FAT file system"]),
    ("FAT16 without a label", [(54, b"FAT16   "), (43, b"NO NAME    "), BOOT], ["FAT file system"]),
    ("NTFS, not a table", [(3, b"NTFS    "), BOOT], ["NTFS file system"]),
    ("a table of one partition", [(446, b"\x80" + bytes(3) + b"\x83" + bytes(11)), BOOT], ["DOS partition table"]),
    ("an empty table", [BOOT], ["DOS partition table"]),
    ("GPT with its protective table", [BOOT, (512, b"EFI PART")], ["GPT partition table"]),
    ("GPT of 4 KiB blocks", [(4 * KIB, b"EFI PART")], ["GPT partition table"]),
    ("the end of a GPT", [(-512, b"EFI PART")], ["copy of a GPT partition table in the last block"]),
    ("bcache", [(4 * KIB + 24, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81"))], ["bcache device"]),
    ("bcachefs", [(4 * KIB + 24, bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef"))], ["bcachefs file system"]),
    ("exFAT", [(3, b"EXFAT   "), BOOT], ["exFAT file system"]),
    ("ISO 9660", [(32 * KIB + 1, b"CD001")], ["ISO 9660 file system"]),
    ("VMFS", [(MIB, bytes.fromhex("0dd001c0"))], ["VMFS member"]),
    ("LUKS 1", [(0, b"LUKS\xba\xbe\0\1"), (168, str(UUID).encode())], [f"LUKS volume, UUID {UUID}"]),
    ("a LUKS 2 header's copy", [(16 * KIB, b"SKUL\xba\xbe\0\2"), (16 * KIB + 24, b"x")], ["LUKS volume, label x"]),
    ("hibernation", [(64 * KIB - 10, b"S1SUSPEND\0")], ["hibernation image"]),
    ("md 1.0", [(SIZE - 8 * KIB, struct.pack("<II", 0xA92B4EFC, 1))], ["md member, version 1.0"]),
    ("md 1.1", [(0, struct.pack("<II", 0xA92B4EFC, 1)), (32, b"h:0")], ["md member, version 1.1, label h:0"]),
    ("md 0.90, big-endian", [(SIZE - 64 * KIB, struct.pack(">I", 0xA92B4EFC))], ["md member, version 0.90"]),
    ("DASD", [(8 * KIB, "VOL1VOL10X3F3F".encode("cp037"))], ["DASD volume label VOL1, label 0X3F3F"]),
    ("DASD, Linux's layout", [(8 * KIB, "LNX1MYDISK".encode("cp037"))], ["DASD volume label LNX1, label MYDISK"]),
    ("ext2", [(KIB + 56, b"\x53\xef")], ["ext2 file system"]),
    ("ext3", [(KIB + 56, b"\x53\xef"), (KIB + 92, b"\x04")], ["ext3 file system"]),
    ("no ext: blocks of 2 TiB", [(KIB + 56, b"\x53\xef"), (KIB + 24, b"\x1f")], []),
    ("ZFS, by a list", [(16 * KIB, zfs_label("tank"))], ["ZFS member, label tank"]),
    ("ZFS, a spare", [(SIZE - 240 * KIB, zfs_label(""))], ["ZFS member"]),
    ("two things", [(0, b"XFSB"), (64 * KIB - 10, b"SWAPSPACE2")], ["XFS file system", "swap space"]),
]


@pytest.mark.parametrize(("parts", "found"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_bytes(parts: list[tuple[int, bytes]], found: list[str]) -> None:
    assert disk(*parts).found == found


@pytest.mark.parametrize("size", [0, 512, 4 * KIB, 64 * KIB, SIZE])
def test_an_empty_disk(size: int) -> None:
    assert Disk(size).found == []


def test_what_is_written_at_random_is_nothing() -> None:
    source = random.Random(7)
    for _ in range(20):
        assert disk((0, source.randbytes(256 * KIB))).found == []


def test_damaged_lists_end() -> None:
    label = zfs_label("tank")
    for cut, byte in itertools.product(range(0, len(label), 3), (b"\xff", b"\0")):
        damaged = disk((16 * KIB, label[:cut] + byte + label[cut + 1 :]))
        assert pool_of(damaged.read, SIZE) in ("", "tank") or is_member(damaged.read, SIZE)


KINDS = {
    "LVM2_member": "LVM physical volume",
    "btrfs": "btrfs file system",
    "crypto_LUKS": "LUKS volume",
    "ext4": "ext4 file system",
    "linux_raid_member": "md member, version 1.2",
    "swap": "swap space",
    "xfs": "XFS file system",
    "zfs_member": "ZFS member",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_the_software_machine_writes(name: str) -> None:
    made = Disk(SIGNATURES[name].least)
    sign(made, name, Marks(UUID))
    (found,) = signatures(made.read, made.size)
    assert found.kind == KINDS[name]


# beside blkid

WORDS = {
    "ext2": "ext2 file system",
    "ext3": "ext3 file system",
    "ext4": "ext4 file system",
    "jbd": "ext4 journal",
    "swap": "swap space",
    "vfat": "FAT file system",
    "xfs": "XFS file system",
    "btrfs": "btrfs file system",
    "crypto_LUKS": "LUKS volume",
    "dos": "DOS partition table",
    "gpt": "GPT partition table",
}
KEY = ["--pbkdf-force-iterations", "1000", "--key-file", "/dev/zero", "--keyfile-size", "8"]
TOOLS = [
    ["mkfs.ext2", "-q", "-F", "-L", "old", "FILE"],
    ["mkfs.ext3", "-q", "-F", "FILE"],
    ["mkfs.ext4", "-q", "-F", "-L", "data", "FILE"],
    ["mkfs.ext4", "-q", "-F", "-O", "journal_dev", "-b", "1024", "FILE"],
    ["mkswap", "-L", "space", "FILE"],
    ["mkswap", "-p", "65536", "FILE"],
    ["mkfs.vfat", "-n", "BOOT", "FILE"],
    ["mkfs.xfs", "-q", "FILE"],
    ["mkfs.btrfs", "-q", "FILE"],
    ["cryptsetup", "-q", "luksFormat", "--type", "luks1", *KEY, "FILE"],
    ["cryptsetup", "-q", "luksFormat", "--type", "luks2", "--label", "safe", "--pbkdf", "pbkdf2", *KEY, "FILE"],
    ["sfdisk", "-q", "--label", "gpt", "FILE"],
    ["sfdisk", "-q", "--label", "dos", "FILE"],
]


def blkid(file: Path) -> dict[str, str]:
    done = subprocess.run(["blkid", "-p", "-o", "export", str(file)], capture_output=True, text=True, check=False)
    return dict(line.split("=", 1) for line in done.stdout.replace("\\ ", " ").splitlines() if "=" in line)


@pytest.mark.parametrize("command", TOOLS, ids=lambda words: " ".join(words[:5]))
def test_as_blkid_says(command: list[str], tmp_path: Path) -> None:
    for tool in (command[0], "blkid"):
        if shutil.which(tool) is None:
            pytest.skip(f"this host has no {tool}")
    file = tmp_path / "disk"
    file.touch()
    size = 128 * MIB if "btrfs" in command[0] else 400 * MIB if "xfs" in command[0] else 32 * MIB
    with file.open("r+b") as opened:
        opened.truncate(size)
    subprocess.run(
        [str(file) if word == "FILE" else word for word in command], check=True, capture_output=True, input=b",,\n"
    )
    said = blkid(file)
    with file.open("rb") as opened:

        def read(offset: int, count: int) -> bytes:
            opened.seek(offset)
            return opened.read(count)

        (found,) = signatures(read, size)
    assert found.kind == WORDS[said.get("TYPE") or said["PTTYPE"]]
    if "TYPE" in said and found.kind != "FAT file system":
        assert (found.uuid, found.label) == (said.get("UUID") or said.get("LOGUUID", ""), said.get("LABEL", ""))
