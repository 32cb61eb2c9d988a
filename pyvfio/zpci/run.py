"""Runs: what a range of DMA addresses maps, with neighbours that are neighbours in storage as one.

Each table is read once and in one piece.  Tables may lie anywhere, and lead to each other as a program likes: 2,048
entries of a table may name the same next one, and so on down.  What a table maps is therefore kept while the range is
looked at, so that the time depends on how many tables there are, and how many runs come out, not on how often a table
is named.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias

from pyvfio.css.instructions import StorageError
from pyvfio.zpci.event import ErrorCode
from pyvfio.zpci.table import (
    ENTRY,
    FRAME,
    FRAME_ORIGIN,
    PAGE_INVALID,
    PROTECTED,
    Designation,
    Iota,
    TableMemory,
    TranslationFault,
    descend,
    level_shift,
)

__all__ = ["Run", "runs"]

_PAGE_LEVEL: Final = -1

#: DMA address, absolute address, bytes, whether it is protected.
_Piece: TypeAlias = tuple[int, int, int, bool]


class Run(NamedTuple):
    """`length` bytes of DMA addresses from `iova` on, which are the absolute addresses from `address` on."""

    iova: int
    address: int
    length: int
    protected: bool


def runs(memory: TableMemory, iota: Iota, start: int, end: int) -> Iterator[Run]:
    """What is mapped of the DMA addresses from `start` to `end` (not included; both whole pages), in ascending order.

    Raise `TranslationFault`, after the runs before it, where `walk` would.
    """
    if iota.direct:
        if start < end:
            yield Run(start, start, end - start, False)
        return
    reach = Designation(iota.designation).reach
    pieces = _Look(memory).table(iota.origin, iota.designation, False, 0, start, min(end, reach))
    for piece in _joined(pieces):
        yield Run(*piece)
    if end > max(start, reach):
        raise TranslationFault(ErrorCode.OUT_OF_RANGE, max(start, reach))


def _joined(pieces: Iterable[_Piece]) -> Iterator[_Piece]:
    """Neighbours as one; what came before a fault comes before it here, too."""
    first = address = 0
    length = 0
    kept = False
    try:
        for iova, place, count, protected in pieces:
            if length and iova == first + length and place == address + length and protected == kept:
                length += count
                continue
            if length:
                yield first, address, length, kept
            first, address, length, kept = iova, place, count, protected
    except TranslationFault:
        if length:
            yield first, address, length, kept
        raise
    if length:
        yield first, address, length, kept


class _Look:
    """One look at tables in `memory`."""

    def __init__(self, memory: TableMemory) -> None:
        self._memory = memory
        self._known: dict[tuple[int, int, bool], list[_Piece]] = {}

    def table(self, origin: int, level: int, protected: bool, base: int, start: int, end: int) -> Iterator[_Piece]:
        """The pieces of a table for the addresses from `base` on, between `start` and `end`."""
        shift = level_shift(level)
        first = (start - base) >> shift
        words = self._words(origin + first * ENTRY, ((end - 1 - base) >> shift) - first + 1 if start < end else 0)
        at, span = base + (first << shift), 1 << shift
        idle = -1  # an entry that leads to nothing
        for word in words:
            if word != idle:
                low, high = max(at, start), min(at + span, end)
                if not word:
                    raise TranslationFault(ErrorCode.INVALID_TABLE_ENTRY, low)
                below, large = descend(word, level, low)
                held = protected or bool(word & PROTECTED)
                if below is None:
                    idle = word
                elif large:
                    yield low, below + low - at, high - low, held
                elif high - low == span:
                    yield from self._whole(below, level - 1, held, at)
                    if not self._known[below, level - 1, held]:
                        idle = word
                elif level:
                    yield from self.table(below, level - 1, held, at, low, high)
                else:
                    yield from self._pages(below, held, at, low, high)
            at += span

    def _whole(self, origin: int, level: int, protected: bool, base: int) -> Iterator[_Piece]:
        """The pieces of all of a table, which are kept when there is no fault among them."""
        key = origin, level, protected
        known = self._known.get(key)
        if known is not None:
            for iova, address, length, held in known:
                yield base + iova, address, length, held
            return
        end = base + (1 << level_shift(level + 1))
        found: list[_Piece] = []
        if level == _PAGE_LEVEL:
            pieces: Iterable[_Piece] = self._pages(origin, protected, base, base, end)
        else:
            pieces = _joined(self.table(origin, level, protected, base, base, end))
        for piece in pieces:
            found.append((piece[0] - base, *piece[1:]))
            yield piece
        self._known[key] = found

    def _pages(self, origin: int, table_protected: bool, base: int, start: int, end: int) -> Iterator[_Piece]:
        """The pieces of a page table; the loop of every refresh, so it keeps numbers and no objects."""
        iova = start
        address = length = 0
        kind = next_entry = -1
        words = self._words(origin + (start - base) // FRAME * ENTRY, (end - start) // FRAME)
        for entry in words:
            # The address and what may be done with it; neighbours differ by a frame and nothing else.
            found = entry & (FRAME_ORIGIN | PAGE_INVALID | PROTECTED)
            if found == next_entry:
                length += FRAME
            else:
                if length and not kind & PAGE_INVALID:
                    yield iova - length, address, length, table_protected or bool(kind & PROTECTED)
                if not entry:
                    raise TranslationFault(ErrorCode.INVALID_TABLE_ENTRY, iova)
                address, length, kind = entry & FRAME_ORIGIN, FRAME, found
            next_entry = found + FRAME
            iova += FRAME
        if length and not kind & PAGE_INVALID:
            yield iova - length, address, length, table_protected or bool(kind & PROTECTED)

    def _words(self, place: int, count: int) -> Iterable[int]:
        """`count` entries, as far as there is storage; then zero, which is none."""
        try:
            return _numbers(self._memory.read(place, count * ENTRY))
        except StorageError:
            return self._words_one_by_one(place, count)

    def _words_one_by_one(self, place: int, count: int) -> Iterator[int]:
        for number in range(count):
            try:
                word = self._memory.read(place + number * ENTRY, ENTRY)
            except StorageError:
                yield 0
                return
            yield int.from_bytes(word, "big")


def _numbers(raw: bytes) -> array[int]:
    numbers = array("Q", raw)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
