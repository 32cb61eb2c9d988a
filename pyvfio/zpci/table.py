"""DMA translation: the anchor (IOTA), table entries, and the walk from a DMA address to an absolute address.

A DMA address of 64 bits is an index for each level, and an offset::

    bit   0          11         22         33         44        52             63
         +----------+----------+----------+----------+---------+----------------+
         |   RFX    |   RSX    |   RTX    |    SX    |   PX    |  byte in page  |
         +----------+----------+----------+----------+---------+----------------+

Region-first, region-second, region-third and segment tables have 2,048 entries (16 KiB), page tables 256 (2 KiB); an
entry has 8 bytes, big-endian.  The anchor says where the walk begins::

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

import sys
from array import array
from collections.abc import Iterator
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
    "Run",
    "TranslationFault",
    "page_entry",
    "region_entry",
    "runs",
    "segment_entry",
    "walk",
]

#: Bytes of a frame that a page-table entry names, and of one that a segment-table entry names.
FRAME: Final = 1 << 12
LARGE_FRAME: Final = 1 << 20

_ENTRY: Final = 8
_ENABLED: Final = 0x800
_PROTECTED: Final = 0x200
_INVALID: Final = 0x20
_PAGE_INVALID: Final = 0x400
_LARGE: Final = 0x400
_OFFSET: Final = 0xC0
_LENGTH: Final = 0x3
_TYPE: Final = 0xC
_TABLE_ORIGIN: Final = ~0x3FFF & (1 << 64) - 1
_PAGE_TABLE_ORIGIN: Final = ~0x7FF & (1 << 64) - 1
_FRAME_ORIGIN: Final = ~(FRAME - 1) & (1 << 64) - 1
_LARGE_ORIGIN: Final = ~(LARGE_FRAME - 1) & (1 << 64) - 1
_INDEX: Final = 0x7FF
_PAGE_INDEX: Final = 0xFF
_PAGE_LEVEL: Final = -1


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


class _Memory(Protocol):
    def read(self, address: int, count: int) -> bytes: ...


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
            word & (_TABLE_ORIGIN if word & _ENABLED else _FRAME_ORIGIN),
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


def _entry(memory: _Memory, place: int, iova: int) -> int:
    try:
        return int.from_bytes(memory.read(place, _ENTRY), "big")
    except StorageError:
        raise TranslationFault(ErrorCode.INVALID_TABLE_ENTRY, iova) from None


def walk(memory: _Memory, iota: Iota, iova: int) -> Leaf:
    """Translate the page of `iova`.

    Raise `TranslationFault` for an address that the table's type cannot reach, an entry outside the memory, one of the
    wrong type, or one with an offset or a short length of the next table.
    """
    if iota.direct:
        return Leaf(iova & _FRAME_ORIGIN, FRAME, iova & _FRAME_ORIGIN)
    found = _page_table(memory, iota, iova)
    if isinstance(found, Leaf):
        return found
    origin, protected = found
    entry = _entry(memory, origin + (iova >> 12 & _PAGE_INDEX) * _ENTRY, iova)
    page = iova & _FRAME_ORIGIN
    if entry & _PAGE_INVALID:
        return Leaf(page, FRAME, None)
    return Leaf(page, FRAME, entry & _FRAME_ORIGIN, protected or bool(entry & _PROTECTED))


@dataclass(frozen=True, slots=True)
class Run:
    """`length` bytes of DMA addresses from `iova` on, which are the absolute addresses from `address` on."""

    iova: int
    address: int
    length: int
    protected: bool


def runs(memory: _Memory, iota: Iota, start: int, end: int) -> Iterator[Run]:
    """What is mapped of the DMA addresses from `start` to `end` (not included; both whole pages), in ascending order.

    Neighbours that are neighbours in storage too are one run.  Raise `TranslationFault`, after the runs before it.
    Page tables are read whole, so this is far faster than a `walk` for each page.
    """
    now: Run | None = None
    pieces = _pieces(memory, iota, start, end)
    while True:
        try:
            piece = next(pieces, None)
        except TranslationFault:
            if now is not None:
                yield now
            raise
        if now is not None and piece is not None and _continues(now, piece):
            now = Run(now.iova, now.address, now.length + piece.length, now.protected)
            continue
        if now is not None:
            yield now
        if piece is None:
            return
        now = piece


def _continues(run: Run, piece: Run) -> bool:
    end = run.iova + run.length, run.address + run.length
    return (piece.iova, piece.address) == end and piece.protected == run.protected


def _pieces(memory: _Memory, iota: Iota, start: int, end: int) -> Iterator[Run]:
    if iota.direct:
        yield Run(start, start, end - start, False)
        return
    at = start
    while at < end:
        found = _page_table(memory, iota, at)
        if isinstance(found, Leaf):
            stop = min(end, found.iova + found.size)
            if found.address is not None:
                yield Run(at, found.address + at - found.iova, stop - at, found.protected)
            at = stop
            continue
        origin, protected = found
        stop = min(end, (at | LARGE_FRAME - 1) + 1)
        first = at >> 12 & _PAGE_INDEX
        count = (stop - at) // FRAME
        try:
            entries = array("Q", memory.read(origin + first * _ENTRY, count * _ENTRY))
        except StorageError:
            raise TranslationFault(ErrorCode.INVALID_TABLE_ENTRY, at) from None
        if sys.byteorder == "little":
            entries.byteswap()
        yield from _page_runs(entries, at, protected)
        at = stop


def _page_runs(entries: array[int], iova: int, table_protected: bool) -> Iterator[Run]:
    """The runs of a piece of a page table; the loop of every refresh, so it keeps numbers and no objects."""
    first = address = length = 0
    kind = next_entry = -1
    for entry in entries:
        # The address and what may be done with it; neighbours differ by a frame and nothing else.
        found = entry & (_FRAME_ORIGIN | _PAGE_INVALID | _PROTECTED)
        if found == next_entry:
            length += FRAME
        else:
            if length and not kind & _PAGE_INVALID:
                yield Run(first, address, length, table_protected or bool(kind & _PROTECTED))
            first, address, length, kind = iova, entry & _FRAME_ORIGIN, FRAME, found
        next_entry = found + FRAME
        iova += FRAME
    if length and not kind & _PAGE_INVALID:
        yield Run(first, address, length, table_protected or bool(kind & _PROTECTED))


def _page_table(memory: _Memory, iota: Iota, iova: int) -> tuple[int, bool] | Leaf:
    """The origin of the page table of an address and whether it is protected; or the leaf before there is one."""
    if iova >= Designation(iota.designation).reach:
        raise TranslationFault(ErrorCode.OUT_OF_RANGE, iova)
    origin, protected = iota.origin, False
    for level in range(iota.designation, _PAGE_LEVEL, -1):
        shift = 20 + 11 * level
        entry = _entry(memory, origin + (iova >> shift & _INDEX) * _ENTRY, iova)
        span = 1 << shift
        if entry & _INVALID:
            return Leaf(iova & ~(span - 1), span, None)
        if entry & _TYPE != level << 2:
            raise TranslationFault(ErrorCode.TABLE_TYPE, iova)
        protected = protected or bool(entry & _PROTECTED)
        if level == Designation.SEGMENT:
            if entry & _LARGE:
                return Leaf(iova & ~(span - 1), span, entry & _LARGE_ORIGIN, protected)
            origin = entry & _PAGE_TABLE_ORIGIN
        else:
            if entry & _OFFSET or entry & _LENGTH != _LENGTH:
                raise TranslationFault(ErrorCode.INVALID_TABLE_LENGTH, iova)
            origin = entry & _TABLE_ORIGIN
    return origin, protected


def region_entry(origin: int, level: Designation, *, protected: bool = False, valid: bool = True) -> int:
    """An entry of a region table of that level, leading to a whole table at `origin` (on a boundary of 16 KiB)."""
    flags = level << 2 | _LENGTH | (_PROTECTED if protected else 0) | (0 if valid else _INVALID)
    return origin & _TABLE_ORIGIN | flags


def segment_entry(origin: int, *, protected: bool = False, valid: bool = True, large: bool = False) -> int:
    """An entry of a segment table: a page table (on a boundary of 2 KiB), or with `large` a frame of 1 MiB."""
    place = origin & _LARGE_ORIGIN | _LARGE if large else origin & _PAGE_TABLE_ORIGIN
    return place | (_PROTECTED if protected else 0) | (0 if valid else _INVALID)


def page_entry(frame: int, *, protected: bool = False, valid: bool = True) -> int:
    """An entry of a page table."""
    return frame & _FRAME_ORIGIN | (_PROTECTED if protected else 0) | (0 if valid else _PAGE_INVALID)
