"""The signatures of file systems and of what is built from disks: what ``blkid`` and ``wipefs`` recognise.

A signature is a beginning without an end: the superblock that says what a disk belongs to, with the fields and sums
that recognisers check, and nothing behind it.

===================  =========  ==================================  =========================================
name                 at         magic                               source
===================  =========  ==================================  =========================================
ext4                 0x400      ef53 (little endian) at 0x38        fs/ext4/ext4.h
xfs                  0          "XFSB"                              fs/xfs/libxfs/xfs_format.h
btrfs                0x10000    "_BHRfS_M" at 0x40                  include/uapi/linux/btrfs_tree.h
swap                 page - 10  "SWAPSPACE2"                        include/linux/swap.h
LVM2_member          0x200      "LABELONE", "LVM2 001" at 0x18      LVM2: lib/label/label.h
linux_raid_member    0x1000     a92b4efc (little endian), 1.2       include/uapi/linux/raid/md_p.h
zfs_member           0x20000    00bab10c in each uberblock          OpenZFS: include/sys/uberblock_impl.h
crypto_LUKS          0          "LUKS\\xba\\xbe", version 2         LUKS2 on-disk format specification
===================  =========  ==================================  =========================================
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from pyvfio_backends.software.medium.crc32c import crc32c

__all__ = ["SIGNATURES", "Area", "Marks", "Signature", "sign"]

_KIB: Final = 1024
_MIB: Final = 1024 * _KIB
_SECTOR: Final = 512
_ONES: Final = 0xFFFFFFFF


class Area(Protocol):
    """Where a signature is written: an `Image` or a `Window` of one."""

    @property
    def size(self) -> int: ...

    def write(self, offset: int, data: bytes) -> int: ...


@dataclass(frozen=True, slots=True)
class Marks:
    """What distinguishes one signature from another of its kind: the `identity`, and the machine's `order` of bytes
    (``>`` or ``<``) and `page_size` for those that are written as the machine counts.
    """

    identity: uuid.UUID
    order: str = ">"
    page_size: int = 4 * _KIB


def _ext4(area: Area, marks: Marks) -> None:
    blocks = area.size // (4 * _KIB)
    sb = bytearray(_KIB)
    struct.pack_into("<7I", sb, 0x00, 8192, blocks, 0, blocks, 8192, 0, 2)  # counts, first block, 4 KiB blocks
    struct.pack_into("<4I", sb, 0x1C, 2, 32768, 32768, 8192)  # clusters; blocks, clusters and inodes of a group
    struct.pack_into("<3H", sb, 0x36, 0xFFFF, 0xEF53, 1)  # mounts allowed, magic, clean
    struct.pack_into("<I", sb, 0x4C, 1)  # revision
    struct.pack_into("<IHH3I", sb, 0x54, 11, 256, 0, 0x3C, 0x42, 0x7B)  # first inode, its size; journal; extents
    sb[0x68:0x78] = marks.identity.bytes
    area.write(_KIB, bytes(sb))


def _xfs(area: Area, marks: Marks) -> None:
    blocks = area.size // (4 * _KIB)
    sb = bytearray(_SECTOR)
    struct.pack_into(">4sIQQQ16s", sb, 0, b"XFSB", 4 * _KIB, blocks, 0, 0, marks.identity.bytes)
    struct.pack_into(">QQQQ", sb, 48, 8, 128, 129, 130)  # log start; root, bitmap and summary inodes
    struct.pack_into(">5I", sb, 80, 1, blocks, 1, 0, 855)  # extent size; group's blocks, groups; bitmap, log blocks
    struct.pack_into(">4H", sb, 100, 0xB4A5, _SECTOR, 512, 8)  # version, sector, inode, inodes of a block
    sb[120:128] = bytes((12, 9, 9, 3, max(1, blocks - 1).bit_length(), 0, 0, 25))  # the same as powers of two
    area.write(0, bytes(sb))


def _btrfs(area: Area, marks: Marks) -> None:
    sb = bytearray(4 * _KIB)
    sb[0x20:0x30] = marks.identity.bytes
    struct.pack_into("<QQ8sQQQQ", sb, 0x30, 64 * _KIB, 1, b"_BHRfS_M", 5, 0x1D00000, 0x1500000, 0)
    struct.pack_into("<QQQQ4I", sb, 0x70, area.size, 128 * _KIB, 6, 1, 4 * _KIB, 16 * _KIB, 16 * _KIB, 4 * _KIB)
    sb[0:4] = crc32c(bytes(sb[0x20:])).to_bytes(4, "little")
    area.write(64 * _KIB, bytes(sb))


def _swap(area: Area, marks: Marks) -> None:
    pages = area.size // marks.page_size
    area.write(_KIB, struct.pack(f"{marks.order}3I16s", 1, pages - 1, 0, marks.identity.bytes))
    magic = b"SWAPSPACE2"
    area.write(marks.page_size - len(magic), magic)


def _lvm(area: Area, marks: Marks) -> None:
    label = bytearray(_SECTOR)
    struct.pack_into("<8sQII8s", label, 0, b"LABELONE", 1, 0, 32, b"LVM2 001")
    label[32:64] = marks.identity.hex.encode()
    struct.pack_into("<Q", label, 64, area.size)
    # label_header.crc_xl covers the rest of the sector; LVM's start value, and no inversion at the end
    struct.pack_into("<I", label, 16, zlib.crc32(bytes(label[20:]), 0xF597A6CF ^ _ONES) ^ _ONES)
    area.write(_SECTOR, bytes(label))


def _raid(area: Area, marks: Marks) -> None:
    data = 2 * _MIB // _SECTOR
    sb = bytearray(256 + 2)
    struct.pack_into("<4I16s32s", sb, 0, 0xA92B4EFC, 1, 0, 0, marks.identity.bytes, b"host:0")
    struct.pack_into("<QIIQII", sb, 64, 0, 1, 0, area.size // _SECTOR - data, 0, 2)  # time, level, size, disks
    struct.pack_into("<4Q", sb, 128, data, area.size // _SECTOR - data, 8, 0)
    sb[168:184] = marks.identity.bytes
    struct.pack_into("<I", sb, 220, 1)  # one entry of roles
    total = sum(struct.unpack("<64I", sb[:256])) + int.from_bytes(sb[256:258], "little")
    struct.pack_into("<I", sb, 216, ((total & _ONES) + (total >> 32)) & _ONES)
    area.write(8 * _SECTOR, bytes(sb))


def _zfs_pair(name: str, kind: int, value: bytes) -> bytes:
    def text(raw: bytes) -> bytes:
        return struct.pack(">I", len(raw)) + raw + bytes(-len(raw) % 4)

    body = text(name.encode()) + struct.pack(">II", kind, 1) + (text(value) if kind == 9 else value)
    return struct.pack(">II", len(body) + 8, len(body) + 8) + body


def _zfs(area: Area, marks: Marks) -> None:
    guid = marks.identity.int & (1 << 63) - 1
    pairs = _zfs_pair("name", 9, b"pool") + _zfs_pair("pool_guid", 8, guid.to_bytes(8, "big"))
    names = b"\1\0\0\0" + struct.pack(">II", 0, 1) + pairs + bytes(8)  # XDR, version 0, unique names
    uberblock = struct.pack(f"{marks.order}5Q", 0x00BAB10C, 5000, 4, guid, 0).ljust(_KIB, b"\0")
    end = area.size // (256 * _KIB) * 256 * _KIB
    for label in (0, 256 * _KIB, end - 512 * _KIB, end - 256 * _KIB):
        area.write(label + 16 * _KIB, names)
        area.write(label + 128 * _KIB, uberblock * 128)


def _luks(area: Area, marks: Marks) -> None:
    header = struct.pack(">6sHQQ48s32s64s40s48sQ", b"LUKS\xba\xbe", 2, 16 * _KIB, 1, b"", b"sha256", b"",
                         str(marks.identity).encode(), b"", 0)  # fmt: skip
    area.write(0, header)


@dataclass(frozen=True, slots=True)
class Signature:
    """`write` puts it on an area of at least `least` bytes."""

    write: Callable[[Area, Marks], None]
    least: int


SIGNATURES: Mapping[str, Signature] = {
    "LVM2_member": Signature(_lvm, 2 * _MIB),
    "btrfs": Signature(_btrfs, _MIB),
    "crypto_LUKS": Signature(_luks, 32 * _KIB),
    "ext4": Signature(_ext4, 64 * _KIB),
    "linux_raid_member": Signature(_raid, 4 * _MIB),
    "swap": Signature(_swap, 64 * _KIB),
    "xfs": Signature(_xfs, 4 * _MIB),
    "zfs_member": Signature(_zfs, 64 * _MIB),
}
"""What can be on a disk, by the names that ``blkid`` gives."""


def sign(area: Area, name: str, marks: Marks) -> None:
    """Write the signature `name`."""
    SIGNATURES[name].write(area, marks)
