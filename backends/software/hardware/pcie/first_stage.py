"""Nested translation of Intel's IOMMU: a program's own page tables (first stage), all of whose addresses are those of
another address space (second stage).

::

    address of the device --> IOTLB --> address of the second stage --> `second` --> memory
                                |  a walk where it has nothing
                                v
      4 or 5 levels of tables, 512 entries of 8 bytes (little-endian), at addresses of the second stage
        bit 0 present   1 writable   2 user   5 accessed   6 dirty   7 a large page (2 MiB, 1 GiB)   10 accessed, too

What was walked once is kept until it is invalidated: translations, and the entries that lead to tables.  What is not
present is never kept, and a request that a kept translation does not allow is walked anew.  Requests are those of user
mode.  The second stage is always looked up: Linux invalidates what it changes there.

Source: Intel Virtualization Technology for Directed I/O, Architecture Specification, chapters 3 (first-stage
translation), 6 (caches) and 7 (faults); the order of the checks of an entry is QEMU's up to the reserved bits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeVar

from pyvfio_backends.software.hardware.dma import DmaFault
from pyvfio_backends.software.hardware.pcie.remapping import FaultReason, RefusedDma

__all__ = ["EVERYTHING", "FirstStage", "NestedSpace", "SecondStage"]

_ENTRY: Final = struct.Struct("<Q")
_PRESENT, _WRITABLE, _USER, _ACCESSED, _DIRTY, _LARGE = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7
_EXTENDED = 1 << 10
_SHIFT, _STRIDE = 12, 9
_ADDRESS = (1 << 52) - (1 << _SHIFT)
_KEPT = 512
_T = TypeVar("_T")
EVERYTHING: Final = 1 << 64
"""The number of bytes of a range that has all addresses."""


class SecondStage(Protocol):
    """An address space that can say beforehand whether a request is allowed."""

    def check(self, iova: int, count: int, *, write: bool) -> None:
        """Raise `DmaFault` unless all of a range may be read, or written."""

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""


@dataclass(frozen=True, slots=True)
class FirstStage:
    """A program's page table: the `root` of its tables, an address of the second stage, and its `levels` (4 or 5).

    The second stage has addresses of `width` bits.  `huge`: the unit has first-stage pages of 1 GiB; `extended`: it
    notes what it used in bit 10 of the entries, too.
    """

    root: int
    levels: int
    width: int
    huge: bool = True
    extended: bool = False


class _Table(NamedTuple):
    """A kept entry that leads to a table at `address`."""

    address: int
    writable: bool


class _Page(NamedTuple):
    """A kept translation, to `address` of the second stage; `dirty`: the entry says already that it was written."""

    address: int
    writable: bool
    dirty: bool


class NestedSpace:
    """What a device sees through `stage` on `second` (a `hardware.dma.DmaSpace`).  All methods raise `RefusedDma`."""

    def __init__(self, stage: FirstStage, second: SecondStage) -> None:
        self.stage = stage
        self._second = second
        self._pages: dict[tuple[int, int], _Page] = {}
        """(level, the address above the page's bits) -> translation, the oldest first."""
        self._tables: dict[tuple[int, int], _Table] = {}
        """The same of the entries of each level from 2 on."""

    def read(self, iova: int, count: int) -> bytes:
        """See `DmaSpace.read`."""
        pieces = self._pieces(iova, count, write=False)
        return b"".join(self._second.read(address, length) for address, length in pieces)

    def write(self, iova: int, data: bytes) -> None:
        """See `DmaSpace.write`."""
        view = memoryview(data)
        for address, length in self._pieces(iova, len(data), write=True):
            self._second.write(address, bytes(view[:length]))
            view = view[length:]

    def copy(self, target: int, source: int, count: int) -> None:
        """See `DmaSpace.copy`."""
        self.write(target, self.read(source, count))

    def flush(self) -> None:
        """Forget all that was kept."""
        self.invalidate(0, EVERYTHING)

    def invalidate(self, start: int, count: int, *, leaf: bool = False) -> None:
        """Forget the translations of a range of addresses, and unless `leaf` the entries that lead to its tables."""
        for kept in (self._pages,) if leaf else (self._pages, self._tables):
            for level, prefix in [key for key in kept if _meets(key, start, count)]:
                del kept[level, prefix]

    # translation

    def _pieces(self, iova: int, count: int, *, write: bool) -> list[tuple[int, int]]:
        """Addresses of the second stage and lengths.  Nothing was moved when it raises."""
        pieces: list[tuple[int, int]] = []
        at, end = iova, iova + count
        while at < end:
            address, rest = self._translate(at, write=write)
            length = min(rest, end - at)
            try:
                self._second.check(address, length, write=write)
            except DmaFault as fault:
                refused = at + fault.iova - address
                raise RefusedDma(refused, count, FaultReason.SECOND_STAGE_ACCESS, write=write) from fault
            pieces.append((address, length))
            at += length
        return pieces

    def _translate(self, iova: int, *, write: bool) -> tuple[int, int]:
        """The address of the second stage, and how many bytes from there on the page has."""
        bits = _SHIFT + _STRIDE * self.stage.levels
        if iova >> bits - 1 not in (0, (1 << 64 - bits + 1) - 1):
            raise RefusedDma(iova, 1, FaultReason.NOT_CANONICAL, write=write)
        for level in (1, 2, 3):
            page = self._pages.get((level, iova >> _shift(level)))
            if page is not None and (not write or (page.writable and page.dirty)):
                break
        else:
            level, page = self._walk(iova, write=write)
            self._keep(self._pages, (level, iova >> _shift(level)), page)
        offset = iova & (1 << _shift(level)) - 1
        return page.address + offset, (1 << _shift(level)) - offset

    def _begin(self, iova: int) -> tuple[int, _Table]:
        """The level of the first table to look at, and that table: the nearest that is kept, else the root."""
        for level in range(2, self.stage.levels + 1):
            table = self._tables.get((level, iova >> _shift(level)))
            if table is not None:
                return level - 1, table
        return self.stage.levels, _Table(self.stage.root & ~((1 << _SHIFT) - 1), True)

    def _walk(self, iova: int, *, write: bool) -> tuple[int, _Page]:
        """The level of the page, and its translation."""

        def refuse(reason: FaultReason) -> RefusedDma:
            return RefusedDma(iova, 1, reason, write=write)

        level, table = self._begin(iova)
        while True:
            index = iova >> _shift(level) & (1 << _STRIDE) - 1
            place = table.address + index * _ENTRY.size
            entry = self._load(place, level == self.stage.levels, refuse)
            last = level == 1 or bool(entry & _LARGE)
            address = entry & _ADDRESS
            if not entry & _PRESENT:
                raise refuse(FaultReason.NOT_PRESENT)
            if self._reserved(entry, level):
                raise refuse(FaultReason.RESERVED_BITS)
            if last:
                address &= -1 << _shift(level)
            if address >> self.stage.width:
                raise refuse(FaultReason.BEYOND_WIDTH)
            if not entry & _USER:
                raise refuse(FaultReason.NOT_USER)
            writable = table.writable and bool(entry & _WRITABLE)
            if write and not writable:
                raise refuse(FaultReason.SCALABLE_NO_WRITE)
            entry = self._note(place, entry, _ACCESSED | (_DIRTY if last and write else 0), refuse)
            if last:
                return level, _Page(address, writable, bool(entry & _DIRTY))
            table = _Table(address, writable)
            self._keep(self._tables, (level, iova >> _shift(level)), table)
            level -= 1

    def _load(self, place: int, root: bool, refuse: Callable[[FaultReason], RefusedDma]) -> int:
        if place >> self.stage.width:
            raise refuse(FaultReason.BEYOND_WIDTH)
        try:
            (entry,) = _ENTRY.unpack(self._second.read(place, _ENTRY.size))
        except DmaFault as fault:
            raise refuse(FaultReason.ROOT_NOT_READABLE if root else FaultReason.TABLE_NOT_READABLE) from fault
        return int(entry)

    def _note(self, place: int, entry: int, flags: int, refuse: Callable[[FaultReason], RefusedDma]) -> int:
        """Set flags of an entry that it has not; the entry as it is then."""
        flags |= _EXTENDED if self.stage.extended else 0
        if entry & flags != flags:
            entry |= flags
            try:
                self._second.write(place, _ENTRY.pack(entry))
            except DmaFault as fault:
                raise refuse(FaultReason.TABLE_NOT_WRITABLE) from fault
        return entry

    def _reserved(self, entry: int, level: int) -> bool:
        """Whether bits that must be zero are not: the size bit where there are no such pages, and the address's."""
        if level == 1 or not entry & _LARGE:
            return False
        if level > 3 or (level == 3 and not self.stage.huge):
            return True
        return bool(entry & (1 << _shift(level)) - (1 << _SHIFT + 1))  # bit 12 is one of the memory type's

    @staticmethod
    def _keep(kept: dict[tuple[int, int], _T], key: tuple[int, int], value: _T) -> None:
        kept.pop(key, None)
        while len(kept) >= _KEPT:
            del kept[next(iter(kept))]
        kept[key] = value


def _shift(level: int) -> int:
    """How many bits of an address are below the entry of a level, 1 is that of the smallest pages."""
    return _SHIFT + _STRIDE * (level - 1)


def _meets(key: tuple[int, int], start: int, count: int) -> bool:
    level, prefix = key
    first = prefix << _shift(level)
    return first < start + count and start < first + (1 << _shift(level))
