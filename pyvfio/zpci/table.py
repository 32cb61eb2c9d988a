"""DMA translation: the anchor (IOTA), table entries, and the walk from a DMA address to an absolute address.

A DMA address of 64 bits is an index for each level, and an offset::

    bit   0          11         22         33         44        52             63
         +----------+----------+----------+----------+---------+----------------+
         |   RFX    |   RSX    |   RTX    |    SX    |   PX    |  byte in page  |
         +----------+----------+----------+----------+---------+----------------+

Region-first, region-second, region-third and segment tables have 2,048 entries (16 KiB), page tables 256 (2 KiB); an
entry has 8 bytes, big-endian; one of zeros is wrong in every table.  The anchor says where the walk begins::

    bit   0                                   52 53    55         59     62
         +-----------------------------------+--+-----+----------+------+----+
         |  table origin                     |T | zeros  | key    |  DT  | FS |   (T: bit 52, 0x800)
         +-----------------------------------+--+-----+----------+------+----+

DT is the designation type (segment 0, region-third 1, region-second 2, region-first 3); types of the kind "frame", and
no table at all (T zero), mean that DMA addresses are absolute addresses.  An entry of a region table::

    bit   0                               50   54 55 56 58 59 60   62
         +--------------------------------+----+--+--+----+--+----+--+
         |  origin of the next table      |    |P |  | TF |I | TT |TL|
         +--------------------------------+----+--+--+----+--+----+--+

P protected (0x200), I invalid (0x20), TT the type of this table, TF offset and TL length (3: whole) of the next one.
A segment-table entry has a page table's origin, or with its format-control bit (0x400) a frame of 1 MiB; a page-table
entry has a frame of 4 KiB, and is invalid with 0x400.

Sources: ``arch/s390/include/asm/pci_dma.h``; ``drivers/iommu/s390-iommu.c``; ``hw/s390x/s390-pci-bus.c`` of QEMU (which
event a fault makes).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Protocol

from pyvfio.css.instructions import StorageError
from pyvfio.zpci.event import ErrorCode

__all__ = [
    "FRAME",
    "Designation",
    "Iota",
    "Leaf",
    "TableMemory",
    "TranslationFault",
    "descend",
    "level_shift",
    "page_entry",
    "region_entry",
    "segment_entry",
    "walk",
]

#: Bytes of a frame that a page-table entry names, and of one that a segment-table entry names.
FRAME: Final = 1 << 12
LARGE_FRAME: Final = 1 << 20

ENTRY: Final = 8
_ENABLED: Final = 0x800
PROTECTED: Final = 0x200
_INVALID: Final = 0x20
PAGE_INVALID: Final = 0x400
_LARGE: Final = 0x400
_OFFSET: Final = 0xC0
_LENGTH: Final = 0x3
_TYPE: Final = 0xC
_TABLE_ORIGIN: Final = ~0x3FFF & (1 << 64) - 1
_PAGE_TABLE_ORIGIN: Final = ~0x7FF & (1 << 64) - 1
FRAME_ORIGIN: Final = ~(FRAME - 1) & (1 << 64) - 1
_LARGE_ORIGIN: Final = ~(LARGE_FRAME - 1) & (1 << 64) - 1
_INDEX: Final = 0x7FF
_PAGE_INDEX: Final = 0xFF


class Designation(IntEnum):
    """Designation types: what the anchor names."""

    SEGMENT = 0
    REGION_THIRD = 1
    REGION_SECOND = 2
    REGION_FIRST = 3
    FRAME = 4

    @property
    def reach(self) -> int:
        """The first DMA address that such a table cannot translate."""
        return 1 << min(64, 31 + 11 * self.value)


class TableMemory(Protocol):
    """Where tables lie."""

    def read(self, address: int, count: int) -> bytes:
        """Return `count` bytes.  Raise `StorageError`."""
        ...


def level_shift(level: int) -> int:
    """The bits of a DMA address that an entry of such a table (a designation type) leaves to the tables below."""
    return 20 + 11 * level


@dataclass(frozen=True, slots=True)
class Iota:
    """An I/O-translation anchor.

    `origin` is the table's address, `designation` its type, `enabled` whether tables are used at all; `key` is the
    storage key of the tables, `frame` the frame size code of a direct designation.

    >>> print(Iota.from_word(0x12344804))
    region-third table at 0x12344000
    """

    origin: int
    designation: int = Designation.REGION_THIRD
    enabled: bool = True
    key: int = 0
    frame: int = 0

    @classmethod
    def from_word(cls, word: int) -> Iota:
        """Read an anchor of 64 bits."""
        return cls(
            word & (_TABLE_ORIGIN if word & _ENABLED else FRAME_ORIGIN),
            word >> 2 & 7,
            bool(word & _ENABLED),
            word >> 5 & 0xF,
            word & 3,
        )

    def to_word(self) -> int:
        """The anchor as a number of 64 bits."""
        return (
            self.origin
            | (_ENABLED if self.enabled else 0)
            | (self.key & 0xF) << 5
            | (self.designation & 7) << 2
            | self.frame & 3
        )

    @property
    def direct(self) -> bool:
        """Whether DMA addresses are absolute addresses."""
        return not self.enabled or self.designation >= Designation.FRAME

    def __str__(self) -> str:
        if self.direct:
            return "no translation"
        return f"{Designation(self.designation).name.lower().replace('_', '-')} table at {self.origin:#x}"


class TranslationFault(Exception):
    """A table is wrong in a way that the machine reports as an error event: `code`, at the DMA address `iova`."""

    def __init__(self, code: ErrorCode, iova: int) -> None:
        super().__init__(f"{code.name.lower().replace('_', ' ')} at {iova:#x}")
        self.code = code
        self.iova = iova


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where a walk ended: DMA addresses from `iova` on, `size` bytes of them.

    `address` is the absolute address, None when an entry is invalid: nothing is mapped in the `size` bytes that this
    entry spans.
    """

    iova: int
    size: int
    address: int | None
    protected: bool = False


def _fetch(memory: TableMemory, place: int, iova: int) -> int:
    """The entry at `place`.  Raise `TranslationFault` when nothing is there, or zeros."""
    try:
        entry = int.from_bytes(memory.read(place, ENTRY), "big")
    except StorageError:
        entry = 0
    if not entry:
        raise TranslationFault(ErrorCode.INVALID_TABLE_ENTRY, iova)
    return entry


def descend(entry: int, level: int, iova: int) -> tuple[int | None, bool]:
    """Where an entry of a region or segment table (of the designation type `level`) leads.

    The origin of the next table and False, or of a large frame and True; None for an invalid entry.  Raise
    `TranslationFault` at `iova` when the entry is none of such a table.
    """
    if entry & _INVALID:
        return None, False
    if level and (entry & _OFFSET or entry & _LENGTH != _LENGTH):
        raise TranslationFault(ErrorCode.INVALID_TABLE_LENGTH, iova)
    if entry & _TYPE != level << 2:
        raise TranslationFault(ErrorCode.TABLE_TYPE, iova)
    if level:
        return entry & _TABLE_ORIGIN, False
    if entry & _LARGE:
        return entry & _LARGE_ORIGIN, True
    return entry & _PAGE_TABLE_ORIGIN, False


def walk(memory: TableMemory, iota: Iota, iova: int) -> Leaf:
    """Translate the page of `iova`.

    Raise `TranslationFault` for an address that the table's type cannot reach, an entry outside the memory or of zeros,
    one of the wrong type, or one with an offset or a short length of the next table.
    """
    if iota.direct:
        return Leaf(iova & FRAME_ORIGIN, FRAME, iova & FRAME_ORIGIN)
    if iova >= Designation(iota.designation).reach:
        raise TranslationFault(ErrorCode.OUT_OF_RANGE, iova)
    origin, protected = iota.origin, False
    for level in range(iota.designation, -1, -1):
        shift = level_shift(level)
        entry = _fetch(memory, origin + (iova >> shift & _INDEX) * ENTRY, iova)
        below, large = descend(entry, level, iova)
        span = 1 << shift
        if below is None:
            return Leaf(iova & -span, span, None)
        protected = protected or bool(entry & PROTECTED)
        if large:
            return Leaf(iova & -span, span, below, protected)
        origin = below
    entry = _fetch(memory, origin + (iova >> 12 & _PAGE_INDEX) * ENTRY, iova)
    page = iova & FRAME_ORIGIN
    if entry & PAGE_INVALID:
        return Leaf(page, FRAME, None)
    return Leaf(page, FRAME, entry & FRAME_ORIGIN, protected or bool(entry & PROTECTED))


def region_entry(origin: int, level: Designation, *, protected: bool = False, valid: bool = True) -> int:
    """An entry of a region table of that level, leading to a whole table at `origin` (on a boundary of 16 KiB)."""
    flags = level << 2 | _LENGTH | (PROTECTED if protected else 0) | (0 if valid else _INVALID)
    return origin & _TABLE_ORIGIN | flags


def segment_entry(origin: int, *, protected: bool = False, valid: bool = True, large: bool = False) -> int:
    """An entry of a segment table: a page table (on a boundary of 2 KiB), or with `large` a frame of 1 MiB."""
    place = origin & _LARGE_ORIGIN | _LARGE if large else origin & _PAGE_TABLE_ORIGIN
    return place | (PROTECTED if protected else 0) | (0 if valid else _INVALID)


def page_entry(frame: int, *, protected: bool = False, valid: bool = True) -> int:
    """An entry of a page table.  A valid one for frame 0 is zeros, which the machine takes for no entry."""
    return frame & FRAME_ORIGIN | (PROTECTED if protected else 0) | (0 if valid else PAGE_INVALID)
