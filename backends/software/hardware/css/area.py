"""The area of one CCW: where its bytes are in storage, however the program says it.

====================  =================================================================================================
how                   the next bytes
====================  =================================================================================================
direct                go on from the CCW's data address
IDAWs, 4 bytes        ORB ``c64=0``: blocks of 2 KiB, 31-bit addresses
IDAWs, 8 bytes        ORB ``c64=1``: blocks of 4 KiB, or of 2 KiB with ``i2k=1``
MIDAWs, 16 bytes      ORB ``mida=1``: each with a count of its own within a page of 4 KiB
====================  =================================================================================================

The first IDAW may point into its block, every further one must begin a block.  With READ BACKWARD all addresses
descend: the first byte that comes is stored at the highest address, and every further IDAW must point to the last byte
of its block.  The counts of the MIDAWs together are the CCW's; a list of them lies in one page.

Storage keys: where storage does not say otherwise (`KeyedStorage`), all of it has key 0 without fetch protection.

Source: z/Architecture Principles of Operation, "CCW Indirect Data Addressing", "Program Check" and "Protection Check"
under "Subchannel Status".
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.ccw import CcwFlag
from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.midaw import MIDAW_PAGE, MIDAW_SIZE, MidawFlag
from pyvfio.css.orb import Orb
from pyvfio.css.protection import KeyedStorage, StorageProtected
from pyvfio.css.scsw import Cstat

__all__ = ["AddressLimit", "Area", "ChannelCheck", "CheckedStorage"]

_IDA: Final = int(CcwFlag.IDA)
_MIDA: Final = int(CcwFlag.MIDA)
_LAST: Final = int(MidawFlag.LAST)
_SKIP: Final = int(MidawFlag.SKIP)
_FORMAT_1_TOP: Final = 1 << 31
_FORMAT_0_TOP: Final = 1 << 24
#: Bits of a MIDAW's first doubleword that must be zero: 40 reserved ones, the unassigned flags, and the one for the
#: data-transfer interruption, which this machine has not.
_MIDAW_ZEROS: Final = ~((_LAST | _SKIP) << 16 | 0xFFFF)
_LIMIT_LOWER: Final = 1
_LIMIT_UPPER: Final = 2


class ChannelCheck(Exception):
    """The channel stops the command; `cstat` says why.  It never leaves the engine."""

    def __init__(self, cstat: Cstat) -> None:
        super().__init__(cstat)
        self.cstat = cstat


class AddressLimit:
    """The address-limit check of a subchannel: `mode` 1 data only at or above `address`, 2 only below."""

    __slots__ = ("address", "mode")

    def __init__(self, mode: int, address: int) -> None:
        self.mode = mode
        self.address = address

    def excludes(self, address: int, count: int) -> bool:
        """Whether one of `count` bytes is on the wrong side."""
        if self.mode == _LIMIT_LOWER:
            return address < self.address
        return self.mode == _LIMIT_UPPER and address + count > self.address


class CheckedStorage:
    """Storage as a channel program with the storage key `key` gets at it; what it may not raises `ChannelCheck`."""

    __slots__ = ("_key", "_permits", "_storage", "limit")

    def __init__(self, storage: Storage, key: int, limit: AddressLimit | None = None) -> None:
        self._storage = storage
        self._key = key
        self._permits = storage.permits if key and isinstance(storage, KeyedStorage) else None
        self.limit = limit

    def read(self, address: int, count: int) -> bytes:
        """Fetch CCWs, IDAWs, MIDAWs or data."""
        if self._permits is not None and not self._permits(address, count, self._key, False):
            raise ChannelCheck(Cstat.PROTECTION_CHECK)
        try:
            return self._storage.read(address, count)
        except StorageProtected:
            raise ChannelCheck(Cstat.PROTECTION_CHECK) from None
        except StorageError:
            raise ChannelCheck(Cstat.PROGRAM_CHECK) from None

    def write(self, address: int, data: bytes) -> None:
        """Store data."""
        if self._key and (self._permits is None or not self._permits(address, len(data), self._key, True)):
            raise ChannelCheck(Cstat.PROTECTION_CHECK)
        try:
            self._storage.write(address, data)
        except StorageProtected:
            raise ChannelCheck(Cstat.PROTECTION_CHECK) from None
        except StorageError:
            raise ChannelCheck(Cstat.PROGRAM_CHECK) from None


class Area:
    """The place in the area of the current CCW.  Every method raises `ChannelCheck` where the program is wrong."""

    __slots__ = (
        "_address",
        "_backward",
        "_block",
        "_idaw_size",
        "_last",
        "_left",
        "_limit",
        "_list",
        "_lists",
        "_room",
        "_skips",
        "_storage",
        "_top",
        "_words",
    )

    def __init__(self, storage: CheckedStorage, orb: Orb) -> None:
        self._storage = storage
        self._limit = storage.limit
        self._idaw_size = orb.idaw_size
        self._block = orb.idaw_block
        self._top = _FORMAT_1_TOP if orb.fmt else _FORMAT_0_TOP
        self._lists = 0  # how the bytes are found: _IDA, _MIDA or 0
        self._backward = self._skips = self._last = False
        self._address = self._list = self._room = self._left = self._words = 0

    def begin(self, flags: int, count: int, address: int, *, backward: bool) -> None:
        """Take the area of a CCW."""
        self._backward = backward
        self._lists = lists = flags & (_IDA | _MIDA)
        if lists:
            self._list = address
            self._room = self._words = 0
            self._left = count
            self._skips = self._last = False
        else:
            self._address = address
            self._room = address + 1 if backward else self._top - address

    def mark(self) -> tuple[int, ...]:
        """The place, for `back_to`."""
        return self._address, self._list, self._room, self._left, self._words, self._skips, self._last

    def back_to(self, mark: tuple[int, ...]) -> None:
        """Go back to a place of the same CCW."""
        self._address, self._list, self._room, self._left, self._words, skips, last = mark
        self._skips, self._last = bool(skips), bool(last)

    def store(self, data: bytes) -> None:
        """Store the next bytes."""
        done, size = 0, len(data)
        while done < size:
            at, step = self._piece(size - done)
            if not (self._lists == _MIDA and self._skips):
                part = data if step == size else data[done : done + step]
                self._storage.write(at, part[::-1] if self._backward else part)
            done += step

    def fetch(self, size: int) -> list[bytes]:
        """Fetch the next bytes."""
        pieces: list[bytes] = []
        while size:
            at, step = self._piece(size)
            part = self._storage.read(at, step)
            pieces.append(part[::-1] if self._backward else part)
            size -= step
        return pieces

    def _piece(self, wanted: int) -> tuple[int, int]:
        """The next bytes that lie in a row: the address of the lowest, and how many; at most `wanted`."""
        if self._room <= 0:
            self._next_word()
        if self._room < wanted and self._lists == _IDA and not self._backward:
            self._join(wanted)
        room = self._room
        step = room if room < wanted else wanted
        self._room = room - step
        if self._backward:
            self._address -= step
            at = self._address + 1
        else:
            at = self._address
            self._address = at + step
        if self._limit is not None and self._limit.excludes(at, step):
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        return at, step

    # -- lists ---------------------------------------------------------------------------------------------------

    def _next_word(self) -> None:
        """Go on to the next word of the list."""
        if self._lists == _IDA:
            self._next_idaw()
        elif self._lists == _MIDA:
            self._next_midaw()
        else:
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        self._words += 1

    def _next_idaw(self) -> None:
        at, size, block = self._list, self._idaw_size, self._block
        if at % size or at >= self._top:
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        word = int.from_bytes(self._storage.read(at, size), "big")
        offset = word % block
        if self._backward:
            room, wrong = offset + 1, offset != block - 1
        else:
            room, wrong = block - offset, offset != 0
        if (wrong and self._words) or (size == 4 and word >= _FORMAT_1_TOP):
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        self._list = at + size
        self._address, self._room = word, room

    def _join(self, wanted: int) -> None:
        """Take further IDAWs into the current block as long as they go on where it ends: one access for all of them."""
        size, block = self._idaw_size, self._block
        number = -(-(wanted - self._room) // block)
        if number <= 0 or self._list % size or self._list + number * size > self._top:
            return
        try:
            raw = self._storage.read(self._list, number * size)
        except ChannelCheck:
            return  # which of them cannot be read is found out one by one
        end = self._address + self._room
        for at in range(0, len(raw), size):
            if int.from_bytes(raw[at : at + size], "big") != end or (size == 4 and end >= _FORMAT_1_TOP):
                return
            self._list += size
            self._room += block
            self._words += 1
            end += block

    def _next_midaw(self) -> None:
        at = self._list
        beyond = at % MIDAW_SIZE or at >= self._top or (self._words and at % MIDAW_PAGE == 0)
        if self._last or beyond:
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        raw = self._storage.read(at, MIDAW_SIZE)
        head, address = int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:], "big")
        count = head & 0xFFFF
        self._last, self._skips = bool(head >> 16 & _LAST), bool(head >> 16 & _SKIP)
        offset = address % MIDAW_PAGE
        crosses = count > (offset + 1 if self._backward else MIDAW_PAGE - offset)
        wrong = head & _MIDAW_ZEROS or not count or count > self._left or (crosses and not self._skips)
        if wrong or (self._last and count != self._left):
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        self._left -= count
        self._list = at + MIDAW_SIZE
        self._address, self._room = address, count
