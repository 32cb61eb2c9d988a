"""Partition tables as disks carry them: GPT, DOS, and the labels of a DASD.

``parts`` are (number, first byte, bytes, name, signature) of the partitions; the tables count in 512-byte sectors, a
DASD's labels in tracks of twelve blocks of 4 KiB.

===========  =====================================================================================================
gpt          protective MBR; header at sector 1, 128 entries from sector 2; both again at the end (UEFI, chapter 5)
dos          four entries at 0x1be, 55aa at 0x1fe
dasd         VOL1 at block 2; format 4, 5, 1 and 7 labels of the VTOC from track 1 on (compatible disk layout,
             ``arch/s390/include/uapi/asm/vtoc.h``)
===========  =====================================================================================================
"""

from __future__ import annotations

import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pyvfio_backends.software.medium.image import Image

__all__ = ["DASD_BLOCK", "DASD_TRACK", "SECTOR", "TABLES", "Part", "Table", "write_dasd", "write_table"]

SECTOR: Final = 512
DASD_BLOCK: Final = 4 * 1024
DASD_TRACK: Final = 12 * DASD_BLOCK
_ENTRIES: Final = 128
_ENTRY_SIZE: Final = 128
_MIB: Final = 1 << 20
_EBCDIC: Final = "cp037"
_FILL: Final = 0xE5
"""What the DASD driver fills short records with."""
_DSCB: Final = 140
_MADE: Final = (2000, 1)
"""Year and day of the year of the partitions of a DASD."""

_LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
_GUIDS: Final = {
    "swap": uuid.UUID("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
    "LVM2_member": uuid.UUID("e6d6d379-f507-44c2-a23c-238f2a3df928"),
    "linux_raid_member": uuid.UUID("a19d880f-05fc-4d3b-a006-743f0f84911e"),
}
_DOS_TYPES: Final = {"swap": 0x82, "LVM2_member": 0x8E, "linux_raid_member": 0xFD}
_DOS_LINUX: Final = 0x83


@dataclass(frozen=True, slots=True)
class Part:
    """A partition: its `number`, first byte `start`, `size` in bytes, `name` (GPT) and what is on it."""

    number: int
    start: int
    size: int
    name: str = ""
    signature: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A kind of table: how many partitions it has, which bytes they may use, and what they begin at a multiple of."""

    most: int
    head: int
    tail: int
    align: int


TABLES: Final[dict[str, Table]] = {
    "gpt": Table(_ENTRIES, 34 * SECTOR, 33 * SECTOR, _MIB),
    "dos": Table(4, SECTOR, 0, _MIB),
    "dasd": Table(3, 2 * DASD_TRACK, 0, DASD_TRACK),
}
"""The tables of disks by the names that ``blkid`` gives; a DASD has its own and no other."""


def write_table(image: Image, kind: str, identity: uuid.UUID, parts: Sequence[Part]) -> None:
    """Write a ``gpt`` or ``dos`` table."""
    if kind == "gpt":
        _write_gpt(image, identity, parts)
    else:
        slots = [bytes(16)] * 4
        for part in parts:
            slots[part.number - 1] = _slot(
                _DOS_TYPES.get(part.signature, _DOS_LINUX), part.start // SECTOR, part.size // SECTOR
            )
        _write_mbr(image, slots, identity.int & 0xFFFFFFFF)


def _slot(kind: int, first: int, count: int) -> bytes:
    no_geometry = b"\xfe\xff\xff"
    return struct.pack("<B3sB3sII", 0, no_geometry, kind, no_geometry, first, count)


def _write_mbr(image: Image, slots: Sequence[bytes], serial: int = 0) -> None:
    image.write(0x1B8, serial.to_bytes(4, "little") + bytes(2) + b"".join(slots) + b"\x55\xaa")


def _write_gpt(image: Image, identity: uuid.UUID, parts: Sequence[Part]) -> None:
    sectors = image.size // SECTOR
    _write_mbr(image, [_slot(0xEE, 1, min(sectors - 1, 0xFFFFFFFF)), *[bytes(16)] * 3])
    entries = bytearray(_ENTRIES * _ENTRY_SIZE)
    for part in parts:
        entry = struct.pack(
            "<16s16sQQQ72s",
            _GUIDS.get(part.signature, _LINUX).bytes_le,
            uuid.uuid5(identity, str(part.number)).bytes_le,
            part.start // SECTOR,
            (part.start + part.size) // SECTOR - 1,
            0,
            part.name.encode("utf-16-le"),
        )
        entries[(part.number - 1) * _ENTRY_SIZE : part.number * _ENTRY_SIZE] = entry
    table = bytes(entries)
    room = len(table) // SECTOR
    for own, other, at in ((1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - room)):
        header = bytearray(
            struct.pack(
                "<8s4I4Q16sQ3I", b"EFI PART", 0x10000, 92, 0, 0, own, other, 2 + room, sectors - 2 - room,
                identity.bytes_le, at, _ENTRIES, _ENTRY_SIZE, zlib.crc32(table),
            )
        )  # fmt: skip
        struct.pack_into("<I", header, 16, zlib.crc32(bytes(header)))
        image.write(own * SECTOR, bytes(header))
        image.write(at * SECTOR, table)


def write_dasd(image: Image, volser: str, parts: Sequence[Part], heads: int = 15) -> None:
    """Write the volume label and the VTOC of a DASD with volume serial `volser`; parts begin and end with a track."""
    from pyvfio.drivers.label import LabelKind, VolumeLabel  # few machines have a DASD with contents
    from pyvfio.drivers.volume_table import VolumeTable

    def block(number: int, record: bytes) -> None:
        image.write(number * DASD_BLOCK, record.ljust(DASD_BLOCK, bytes((_FILL,))))

    per_track = DASD_TRACK // DASD_BLOCK
    label = VolumeLabel(LabelKind.VOL1, volser, (0, 1, 1)).to_record()
    block(2, "VOL1".encode(_EBCDIC) + label)
    cylinders = image.size // DASD_TRACK // heads
    table = VolumeTable(volser, 0x3390, cylinders, heads, per_track, DASD_BLOCK, _MADE)
    tracks = [
        (part.start // DASD_TRACK, (part.start + part.size) // DASD_TRACK - 1)
        for part in sorted(parts, key=lambda part: part.number)
    ]
    records = [dscb.raw for dscb in table.dscbs(tracks)]
    for number in range(per_track):
        block(per_track + number, records[number] if number < len(records) else bytes(_DSCB))
