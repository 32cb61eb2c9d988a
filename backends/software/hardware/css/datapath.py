"""The data side of a channel: count, data chaining, skip, indirect addressing.

One command's data area is the concatenation of the areas of its data-chained CCWs.  An area is either consecutive
bytes from the CCW's address, or the blocks that a list of IDAWs designates:

    ORB c64=0           4-byte IDAWs, blocks of 2 KiB, 31-bit addresses
    ORB c64=1 i2k=1     8-byte IDAWs, blocks of 2 KiB
    ORB c64=1 i2k=0     8-byte IDAWs, blocks of 4 KiB

The first IDAW may point into its block, every further one must begin a block.  Source: z/Architecture Principles of
Operation, "CCW Indirect Data Addressing"; ``arch/s390/include/asm/idals.h``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.css.ccw import CcwFlag
from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Cstat

__all__ = ["ChannelCheck", "DataPath"]

_CD: Final = int(CcwFlag.CD)
_CC: Final = int(CcwFlag.CC)
_SLI: Final = int(CcwFlag.SLI)
_SKIP: Final = int(CcwFlag.SKIP)
_IDA: Final = int(CcwFlag.IDA)
_ADDRESS_LIMIT: Final = 1 << 31
_ADDRESS_LIMIT_0: Final = 1 << 24


class ChannelCheck(Exception):
    """The channel stops the command; `cstat` says why.  It never leaves the engine."""

    def __init__(self, cstat: Cstat) -> None:
        super().__init__(cstat)
        self.cstat = cstat


class DataPath:
    """Moves the bytes of one command at a time between a control unit and storage (the `Channel` of a device).

    `next_ccw` gives flags, count and address of the next data-chained CCW, and raises `ChannelCheck` on a bad one.
    """

    __slots__ = (
        "_address",
        "_block",
        "_block_left",
        "_idaw",
        "_idaw_size",
        "_key",
        "_limit",
        "_next_ccw",
        "_storage",
        "flags",
        "left",
        "moved",
        "overrun",
    )

    def __init__(self, storage: Storage, orb: Orb, next_ccw: Callable[[], tuple[int, int, int]]) -> None:
        self._storage = storage
        self._next_ccw = next_ccw
        self._key = orb.key
        self._idaw_size = orb.idaw_size
        self._block = orb.idaw_block
        self._limit = _ADDRESS_LIMIT if orb.fmt else _ADDRESS_LIMIT_0
        self._address = self._idaw = self._block_left = 0
        self.flags = 0
        self.left = 0
        self.moved = False  # whether the command moved data at all; else it was an immediate one
        self.overrun = False  # whether the device had or wanted more than the program allowed

    def begin(self, flags: int, count: int, address: int) -> None:
        """Take the first CCW of a command."""
        self.moved = self.overrun = False
        self._area(flags, count, address)

    def _area(self, flags: int, count: int, address: int) -> None:
        self.flags = flags
        self.left = count
        if flags & _IDA:
            self._idaw = address
            self._address = -1
            self._block_left = 0
        else:
            self._address = address
            self._block_left = self._limit - address

    @property
    def chained(self) -> bool:
        """Whether command chaining is indicated in the current CCW."""
        return bool(self.flags & _CC)

    @property
    def exact_length(self) -> bool:
        """Whether a length check is asked for."""
        return not self.flags & _SLI or bool(self.flags & _CD)

    @property
    def wrong_length(self) -> bool:
        """Whether the ended command has the incorrect-length condition (without regard to immediate commands)."""
        return bool(self.left or self.overrun) and self.exact_length

    def ignore_data(self) -> None:
        """Count the bytes of this CCW as taken without looking at them."""
        self.left = 0

    def peek_memory(self, count: int) -> bytes:
        """Fetch at most `count` bytes of this CCW's area and stay where it was."""
        here = self._address, self._idaw, self._block_left
        pieces = self._fetch(min(count, self.left))
        self._address, self._idaw, self._block_left = here
        return b"".join(pieces)

    def write_to_memory(self, data: bytes) -> int:
        """Store `data` as far as the program has room; return the bytes that were left over."""
        self.moved = True
        done, size = 0, len(data)
        while done < size:
            if not self.left:
                self.overrun = True
                break
            step = min(self.left, size - done)
            if not self.flags & _SKIP:
                self._store(data[done : done + step])
            self._count_down(step)
            done += step
        return size - done

    def read_from_memory(self, count: int) -> bytes:
        """Fetch at most `count` bytes; fewer when the program has no more."""
        self.moved = True
        pieces: list[bytes] = []
        while count:
            if not self.left:
                self.overrun = True
                break
            step = min(self.left, count)
            pieces += self._fetch(step)
            self._count_down(step)
            count -= step
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _count_down(self, step: int) -> None:
        self.left -= step
        # The channel goes on to the next CCW of a data chain as soon as the count is zero, needed or not.
        if not self.left and self.flags & _CD:
            self._area(*self._next_ccw())

    def _next_block(self) -> None:
        """Go on to the next IDAW."""
        first = self._address < 0
        if not self.flags & _IDA or self._idaw % self._idaw_size or self._idaw >= self._limit:
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        try:
            word = int.from_bytes(self._storage.read(self._idaw, self._idaw_size), "big")
        except StorageError:
            raise ChannelCheck(Cstat.PROGRAM_CHECK) from None
        offset = word % self._block
        if (offset and not first) or (self._idaw_size == 4 and word >= _ADDRESS_LIMIT):
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        self._idaw += self._idaw_size
        self._address = word
        self._block_left = self._block - offset

    def _join(self, wanted: int) -> None:
        """Take further IDAWs into the current block as long as they go on where it ends: one access for all of them."""
        size, block = self._idaw_size, self._block
        number = -(-(wanted - self._block_left) // block)
        if not self.flags & _IDA or number <= 0 or self._idaw % size or self._idaw + number * size > self._limit:
            return
        try:
            raw = self._storage.read(self._idaw, number * size)
        except StorageError:
            return  # which of them cannot be read is found out one by one
        end = self._address + self._block_left
        for at in range(0, len(raw), size):
            if int.from_bytes(raw[at : at + size], "big") != end or (size == 4 and end >= _ADDRESS_LIMIT):
                return
            self._idaw += size
            self._block_left += block
            end += block

    def _store(self, data: bytes) -> None:
        if self._key:
            # All storage has key 0, so another key than 0 may not store.
            raise ChannelCheck(Cstat.PROTECTION_CHECK)
        done, size = 0, len(data)
        while done < size:
            if self._block_left <= 0:
                self._next_block()
            if self._block_left < size - done:
                self._join(size - done)
            step = min(self._block_left, size - done)
            try:
                self._storage.write(self._address, data[done : done + step])
            except StorageError:
                raise ChannelCheck(Cstat.PROGRAM_CHECK) from None
            self._address += step
            self._block_left -= step
            done += step

    def _fetch(self, size: int) -> list[bytes]:
        pieces: list[bytes] = []
        while size:
            if self._block_left <= 0:
                self._next_block()
            if self._block_left < size:
                self._join(size)
            step = min(self._block_left, size)
            try:
                pieces.append(self._storage.read(self._address, step))
            except StorageError:
                raise ChannelCheck(Cstat.PROGRAM_CHECK) from None
            self._address += step
            self._block_left -= step
            size -= step
        return pieces
