"""Tables of TCEs in memory: set, get and clear the entries of a window, making tables of lower levels when needed.

Whoever owns the window does this; the hardware only reads (and may keep what it read: `OpalTceKill`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from pyvfio.errors import Misuse
from pyvfio.ioda.tce import TableEntry, TceAccess, tce, tce_address
from pyvfio.ioda.window import ENTRY_SIZE, DmaWindow

__all__ = ["TableMemory", "TceTable"]


class TableMemory(Protocol):
    """Memory by its real addresses."""

    def read(self, address: int, count: int, /) -> bytes:
        """Read bytes."""

    def write(self, address: int, data: bytes, /) -> None:
        """Write bytes."""


class TceTable:
    """The tables of `window` in `memory`; `allocate` gives the real address of so many bytes, aligned to 4 KiB.

    Pages are numbered from the start of the window.  Tables below the first come when an entry in them is first set,
    and stay.  `tables` are all of them, the first one first.
    """

    def __init__(self, window: DmaWindow, memory: TableMemory, allocate: Callable[[int], int]) -> None:
        self.window = window
        self.memory = memory
        self._allocate = allocate
        self.tables: list[int] = []
        self.base = self._new()

    def _new(self) -> int:
        address = self._allocate(self.window.level_size)
        self.memory.write(address, bytes(self.window.level_size))
        self.tables.append(address)
        return address

    @property
    def entry(self) -> TableEntry:
        """The TVE that names it."""
        return TableEntry(self.base, self.window.levels, self.window.level_size, self.window.page_shift)

    def _load(self, address: int) -> int:
        return int.from_bytes(self.memory.read(address, ENTRY_SIZE), "big")

    def _place(self, page: int, *, make: bool) -> int | None:
        """Where the entry of a page is; None in a table that is not there.  Raise `Misuse` outside of the window."""
        if not 0 <= page < self.window.pages:
            raise Misuse("look up a TCE", f"page {page:#x}", cause="it is outside of the DMA window")
        *above, last = self.window.indices(page)
        table = self.base
        for index in above:
            at = table + index * ENTRY_SIZE
            entry = self._load(at)
            if not entry:
                if not make:
                    return None
                entry = tce(self._new(), TceAccess.READ | TceAccess.WRITE)
                self.memory.write(at, entry.to_bytes(ENTRY_SIZE, "big"))
            table = tce_address(entry)
        return table + last * ENTRY_SIZE

    def get(self, page: int) -> int:
        """The TCE of a page, 0 when it is not mapped."""
        at = self._place(page, make=False)
        return 0 if at is None else self._load(at)

    def set(self, page: int, address: int, access: TceAccess) -> int:
        """Map a page to a real address; give the TCE that was there.  `TceAccess.NONE` clears it."""
        at = self._place(page, make=access is not TceAccess.NONE)
        if at is None:
            return 0
        before = self._load(at)
        value = tce(address, access) if access else 0
        self.memory.write(at, value.to_bytes(ENTRY_SIZE, "big"))
        return before

    def set_run(self, page: int, address: int, count: int, access: TceAccess) -> None:
        """Map `count` pages to real addresses that follow each other; entries of one table are written at once."""
        size = self.window.page_size
        for first, at, number in self._runs(page, count, make=True):
            start = address + (first - page) * size
            entries = (tce(start + index * size, access).to_bytes(ENTRY_SIZE, "big") for index in range(number))
            self.memory.write(at, b"".join(entries))

    def clear(self, page: int, count: int = 1) -> None:
        """Unmap pages."""
        for _, at, number in self._runs(page, count, make=False):
            self.memory.write(at, bytes(number * ENTRY_SIZE))

    def _runs(self, page: int, count: int, *, make: bool) -> Iterator[tuple[int, int, int]]:
        """First page, where its entry is, and how many: for each table that has some of the pages."""
        end = page + count
        if count and end > self.window.pages:
            self._place(end - 1, make=False)
        while page < end:
            number = min(end - page, self.window.level_entries - page % self.window.level_entries)
            at = self._place(page, make=make)
            if at is not None:
                yield page, at, number
            page += number
