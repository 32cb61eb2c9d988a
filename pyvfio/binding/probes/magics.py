"""What the first and last bytes of a disk say: partition tables, file systems, and parts of larger volumes.

Magic numbers and their places are those of the formats' own headers; ``blkid(8)`` of util-linux knows more of them and
checks more.  Nothing here decides whether the content is in use: signatures outlive what they once named.
"""

from __future__ import annotations

import struct
import uuid as _uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from pyvfio.binding.probes.zfs import is_member, pool_of

__all__ = ["Signature", "signatures"]

Read = Callable[[int, int], bytes]

_KIB = 1 << 10
_MIB = 1 << 20
_BLOCKS = (512, 1 << 10, 1 << 11, 1 << 12)
"""The sizes of blocks that disks have."""
_HEAD = 68 * _KIB
"""All fixed places but VMFS's are within this."""
_PAGES = tuple(1 << shift for shift in range(12, 17))
"""The page sizes that Linux has: the signature of swap space ends the first page."""


@dataclass(frozen=True, slots=True)
class Signature:
    """`kind` in words (``ext4 file system``), the volume's `label` and `uuid` (empty where it has none)."""

    kind: str
    label: str = ""
    uuid: str = ""

    def __str__(self) -> str:
        label = f", label {self.label}" if self.label else ""
        return f"{self.kind}{label}" + (f", UUID {self.uuid}" if self.uuid else "")


@dataclass(frozen=True, slots=True)
class _Magic:
    """`magic` at `offset` names `kind`; a label of (offset, bytes), the offset of a binary UUID (-1: none)."""

    kind: str
    offset: int
    magic: bytes
    label: tuple[int, int] = (0, 0)
    uuid: int = -1


_BCACHE = bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")
_BCACHEFS = bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")

_MAGICS = (
    _Magic("XFS file system", 0, b"XFSB", (108, 12), 32),
    _Magic("btrfs file system", 64 * _KIB + 64, b"_BHRfS_M", (64 * _KIB + 299, 256), 64 * _KIB + 32),
    _Magic("f2fs file system", _KIB, bytes.fromhex("1020f5f2"), uuid=_KIB + 108),
    _Magic("bcachefs file system", (4 * _KIB) + 24, _BCACHEFS, uuid=(4 * _KIB) + 56),
    _Magic("bcache device", (4 * _KIB) + 24, _BCACHE),
    _Magic("JFS file system", 32 * _KIB, b"JFS1"),
    _Magic("ReiserFS file system", 64 * _KIB + 52, b"ReIsEr"),
    _Magic("GFS2 file system", 64 * _KIB, bytes.fromhex("01161970")),
    _Magic("OCFS2 file system", 4 * _KIB, b"OCFSV2"),
    _Magic("OCFS2 file system", 2 * _KIB, b"OCFSV2"),
    _Magic("OCFS2 file system", 1 * _KIB, b"OCFSV2"),
    _Magic("EROFS file system", _KIB, bytes.fromhex("e2e1f5e0")),
    _Magic("squashfs file system", 0, b"hsqs"),
    _Magic("ISO 9660 file system", 32 * _KIB + 1, b"CD001", (32 * _KIB + 40, 32)),
    _Magic("UDF file system", 34 * _KIB + 1, b"NSR0"),
    _Magic("UDF file system", 36 * _KIB + 1, b"NSR0"),
    _Magic("exFAT file system", 3, b"EXFAT   "),
    _Magic("NTFS file system", 3, b"NTFS    "),
    _Magic("FAT file system", 54, b"FAT12   ", (43, 11)),
    _Magic("FAT file system", 54, b"FAT16   ", (43, 11)),
    _Magic("FAT file system", 82, b"FAT32   ", (71, 11)),
    _Magic("APFS container", 32, b"NXSB"),
    _Magic("VMFS member", _MIB, bytes.fromhex("0dd001c0")),
    _Magic("BitLocker volume", 3, b"-FVE-FS-"),
    _Magic("VDO volume", 0, b"dmvdo001"),
    _Magic("Stratis volume", 516, b"!Stra0tis\x86\xff\x02^A\x72h"),
    _Magic("Ceph BlueStore device", 0, b"bluestore block device"),
    _Magic("dm-integrity volume", 0, b"integrt\x00"),
    _Magic("dm-verity hashes", 0, b"verity\x00\x00"),
    _Magic("Apple partition table", 512, b"PM\x00\x00"),
    _Magic("SGI partition table", 0, bytes.fromhex("0be5a941")),
    _Magic("Sun partition table", 508, bytes.fromhex("dabe")),
)

_NO_LABEL = "NO NAME"
"""What FAT has for a label where there is none."""

_SWAP = {
    b"SWAPSPACE2": "swap space",
    b"SWAP-SPACE": "swap space",
    b"S1SUSPEND\x00": "hibernation image",
    b"S2SUSPEND\x00": "hibernation image",
    b"ULSUSPEND\x00": "hibernation image",
    b"LINHIB0001": "hibernation image",
}
_VOLUME_LABELS = {"VOL1", "LNX1", "CMS1"}
"""The volume labels of DASDs, in EBCDIC (``arch/s390/include/asm/vtoc.h``)."""


def signatures(read: Read, size: int) -> list[Signature]:
    """What a device of `size` bytes is, as far as its signatures say; more than one is possible, none is an empty disk.

    `read(offset, count)` returns up to so many bytes.  Raise what it raises.
    """
    head = read(0, min(size, _HEAD))
    found = list(_tables(read, head, size))
    for magic in _MAGICS:
        at = magic.offset
        there = head[at : at + len(magic.magic)] if at < _HEAD else read(at, len(magic.magic))
        if there == magic.magic and (not magic.kind.startswith("FAT") or _is_boot_sector(head)):
            found.append(Signature(magic.kind, _label(head, *magic.label), _id(head, magic.uuid)))
    found += [one for one in (_ext(head), _swap(head), _lvm(head), _luks(head)) if one is not None]
    found += _md(read, head, size)
    if is_member(read, size):
        found.append(Signature("ZFS member", pool_of(read, size)))
    if any(one.kind.startswith(("FAT", "NTFS", "exFAT", "BitLocker")) for one in found):
        found = [one for one in found if not one.kind.startswith("DOS")]  # a boot sector looks like such a table
    return list(dict.fromkeys(found))


def _label(head: bytes, at: int, count: int) -> str:
    text = head[at : at + count].partition(b"\x00")[0].decode("utf-8", "replace").strip()
    return "" if text == _NO_LABEL else text


def _id(head: bytes, at: int) -> str:
    raw = head[at : at + 16] if at >= 0 else b""
    return str(_uuid.UUID(bytes=raw)) if len(raw) == 16 and any(raw) else ""


def _is_boot_sector(head: bytes) -> bool:
    return head[510:512] == b"\x55\xaa"


def _tables(read: Read, head: bytes, size: int) -> Iterator[Signature]:
    """Partition tables.  A GPT has a copy in the last block; a DOS table has four entries of 16 bytes at 446."""
    gpt = any(head[block : block + 8] == b"EFI PART" for block in _BLOCKS)
    copy = any(read(size - block, 8) == b"EFI PART" for block in _BLOCKS)
    if gpt or copy:
        yield Signature("GPT partition table" if gpt else "copy of a GPT partition table in the last block")
    elif _is_boot_sector(head):
        entries = [head[at : at + 16] for at in range(446, 510, 16)]
        if all(entry[0] in (0x00, 0x80) for entry in entries):
            yield Signature("DOS partition table")
    for block in _BLOCKS:
        for at in (block, 2 * block):  # FBA: block 1, ECKD: block 2, as block/partitions/ibm.c looks
            kind = head[at : at + 4].decode("cp037")
            if kind in _VOLUME_LABELS:
                again = head[at + 4 : at + 8].decode("cp037")
                start = at + (8 if again == kind else 4)
                yield Signature(f"DASD volume label {kind}", head[start : start + 6].decode("cp037").strip())
                return


def _ext(head: bytes) -> Signature | None:
    """The superblock at 1 KiB: magic at 56, features from 92, UUID at 104, label at 120 (``fs/ext4/ext4.h``)."""
    start = _KIB
    if head[start + 56 : start + 58] != b"\x53\xef" or len(head) < 2 * start:
        return None
    (log_block_size,) = struct.unpack_from("<I", head, start + 24)
    compatible, incompatible, _ = struct.unpack_from("<III", head, start + 92)
    if log_block_size > 6:
        return None
    if incompatible & 0x8:
        kind = "ext4 journal"
    elif incompatible & ~0x16:  # more than file types, recovery and meta groups, which ext3 may have
        kind = "ext4 file system"
    else:
        kind = "ext3 file system" if compatible & 0x4 else "ext2 file system"
    return Signature(kind, _label(head, start + 120, 16), _id(head, start + 104))


def _swap(head: bytes) -> Signature | None:
    """The last ten bytes of the first page; UUID and label from 1 KiB + 12 (``include/linux/swap.h``)."""
    for page in _PAGES:
        kind = _SWAP.get(head[page - 10 : page])
        if kind is not None:
            return Signature(kind, _label(head, _KIB + 28, 16), _id(head, _KIB + 12))
    return None


def _lvm(head: bytes) -> Signature | None:
    """A label in one of the first four sectors, type at 24; the UUID follows the label header."""
    for at in range(0, 2048, 512):
        if head[at : at + 8] == b"LABELONE" and head[at + 24 : at + 32] == b"LVM2 001":
            (offset,) = struct.unpack_from("<I", head, at + 20)
            raw = head[at + offset : at + offset + 32].decode("ascii", "replace")
            cuts = (0, 6, 10, 14, 18, 22, 26, 32)
            return Signature("LVM physical volume", uuid="-".join(raw[a:b] for a, b in pairwise(cuts)))
    return None


def _luks(head: bytes) -> Signature | None:
    """A header at 0, and with version 2 a copy at 16 KiB; version at 6, label at 24, UUID as text at 168."""
    for at, magic in ((0, b"LUKS\xba\xbe"), (16 * _KIB, b"SKUL\xba\xbe")):
        if head[at : at + 6] == magic:
            label = _label(head, at + 24, 48) if head[at + 7 : at + 8] == b"\x02" else ""
            return Signature("LUKS volume", label, _label(head, at + 168, 40))
    return None


def _md(read: Read, head: bytes, size: int) -> list[Signature]:
    """Superblocks of md: version 1 at 0, 4 KiB or near the end, version 0.90 in the last 64 KiB (``md_p.h``)."""
    magic = 0xA92B4EFC
    found = []
    sectors = size // 512
    end = (sectors - 16 & ~7) * 512
    for at, version in ((0, "1.1"), (4 * _KIB, "1.2"), (end, "1.0")):
        block = head[at : at + 256] if at + 256 <= len(head) else read(at, 256)
        if block[:8] == struct.pack("<II", magic, 1):
            found.append(Signature(f"md member, version {version}", _label(block, 32, 32), _id(block, 16)))
    old = (size & ~(64 * _KIB - 1)) - 64 * _KIB
    if read(old, 4) in (struct.pack("<I", magic), struct.pack(">I", magic)):
        found.append(Signature("md member, version 0.90"))
    return found
