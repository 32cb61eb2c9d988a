"""The absolute storage of the machine: what a host physical address means.

====================  ======================================================================
bits 63-56            bits 55-0
====================  ======================================================================
0                     kernel memory: blocks given out by `HostMemory.allocate`
n > 0                 virtual address in the memory of caller number n (a "pinned page")
====================  ======================================================================

Channel programs need their CCWs below 2 GiB, so kernel blocks come from there; pinned pages are only named by 64-bit
indirect addresses, so they may lie anywhere.
"""

from __future__ import annotations

import bisect

from pyvfio.css.instructions import StorageError
from pyvfio.process import ProcessMemory
from pyvfio.zpci.vector import INTERLOCK

__all__ = ["HostMemory"]

_SPACE_SHIFT = 56
_OFFSET_MASK = (1 << _SPACE_SHIFT) - 1
_FIRST = 0x10000
_LIMIT = 1 << 31


class HostMemory:
    """Storage by absolute address; `page_size` is the machine's."""

    shared = False
    """Whether others than the holder of the machine's lock write to kernel memory: bits are for `update_byte` then."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self._starts: list[int] = []
        self._low = _FIRST  # there is nothing free below
        self._blocks: dict[int, bytearray] = {}
        self._callers: list[ProcessMemory] = []
        self._caller_index: dict[int, int] = {}

    def allocate(self, size: int) -> int:
        """A zeroed block of kernel memory below 2 GiB, page-aligned.  Raise MemoryError when there is no room."""
        page, starts = self.page_size, self._starts
        room = -(-max(size, 1) // page) * page
        at = self._low
        place = bisect.bisect_left(starts, at)
        while place < len(starts) and starts[place] - at < room:
            at = starts[place] + -(-max(len(self._blocks[starts[place]]), 1) // page) * page
            place += 1
        if at + room > _LIMIT:
            raise MemoryError("no storage below 2 GiB")
        if at == self._low:
            self._low = at + room
        starts.insert(place, at)
        self._blocks[at] = bytearray(size)
        return at

    def reserve(self, address: int, size: int) -> None:
        """A zeroed block at an address that firmware has chosen.  Raise MemoryError when some of it is taken."""
        place = bisect.bisect_right(self._starts, address)
        before = self._starts[place - 1] if place else None
        taken = before is not None and before + len(self._blocks[before]) > address
        if taken or (place < len(self._starts) and self._starts[place] < address + size):
            raise MemoryError(f"storage at {address:#x} is in use")
        self._starts.insert(place, address)
        self._blocks[address] = bytearray(size)

    def block(self, address: int) -> bytearray:
        """The block that was allocated at `address`, for the kernel's own accesses; there are none when `shared`."""
        return self._blocks[address]

    def free(self, address: int) -> None:
        """Give a block back."""
        if self._blocks.pop(address, None) is not None:
            del self._starts[bisect.bisect_left(self._starts, address)]
            self._low = min(self._low, address)

    def pinned_address(self, caller: ProcessMemory, virtual: int) -> int:
        """The absolute address of a byte in a caller's memory."""
        index = self._caller_index.get(caller.pid)
        if index is None:
            self._callers.append(caller)
            index = self._caller_index[caller.pid] = len(self._callers)
        return index << _SPACE_SHIFT | virtual

    def read(self, address: int, count: int) -> bytes:
        """Copy out of storage.  Raise `StorageError` for an address that does not exist."""
        space = address >> _SPACE_SHIFT
        if space == 0:
            block, offset = self._locate(address, count)
            return bytes(block[offset : offset + count])
        try:
            return self._caller(space, address, count).read(address & _OFFSET_MASK, count)
        except OSError as error:
            raise StorageError(address, count, "read") from error

    def write(self, address: int, data: bytes) -> None:
        """Copy into storage.  Raise `StorageError` for an address that does not exist."""
        space = address >> _SPACE_SHIFT
        if space == 0:
            block, offset = self._locate(address, len(data))
            block[offset : offset + len(data)] = data
            return
        try:
            self._caller(space, address, len(data)).write(address & _OFFSET_MASK, data)
        except OSError as error:
            raise StorageError(address, len(data), "write") from error

    def update_byte(self, address: int, keep: int, give: int) -> int:
        """Replace a byte by ``byte & keep | give``; what it was.  Raise `StorageError`.

        Nobody else updates it in between: the kernel's memory belongs to the holder of the machine's lock, and callers'
        memory is updated one at a time.
        """
        if address >> _SPACE_SHIFT:
            with INTERLOCK:
                old = self.read(address, 1)[0]
                self.write(address, bytes((old & keep | give,)))
                return old
        block, offset = self._locate(address, 1)
        old = block[offset]
        block[offset] = old & keep | give
        return old

    def _caller(self, space: int, address: int, count: int) -> ProcessMemory:
        if not 0 < space <= len(self._callers):
            raise StorageError(address, count)
        return self._callers[space - 1]

    def _locate(self, address: int, count: int) -> tuple[bytearray, int]:
        index = bisect.bisect_right(self._starts, address) - 1
        if index >= 0:
            start = self._starts[index]
            block = self._blocks[start]
            if address + count <= start + len(block):
                return block, address - start
        raise StorageError(address, count)
