"""Fetching CCWs: their formats, transfer in channel, and what is wrong with a CCW before anything is done with it.

CCWs are fetched one by one, each when it takes control, so a program may change those that come later; that the ORB
allows prefetching is not used.

* A CCW's address must be within the format's 24 or 31 bits, and there must be storage.
* A command code whose right half is 0 is invalid, as is in format 1 a code x8 other than 08 (TIC).
* A count of zero is invalid in format 0, and in format 1 with data chaining and in a data chain.
* Bit 32 of a CCW in format 1 must be zero.
* A TIC must not be the first CCW of a program (of what is resumed it may be), nor follow a TIC; in format 1 its flags
  and count must be zero.  A target off a doubleword boundary, past the addresses of the format, or without storage is
  reported with the address of the TIC.
* The suspend flag is invalid without suspend control in the ORB, and in a data chain.
* The MIDA flag is invalid without MIDAWs in the machine and in the ORB, and together with the IDA or the skip flag.

Source: z/Architecture Principles of Operation, "Channel-Command Word", "Program Check" under "Subchannel Status".
"""

from __future__ import annotations

import struct
from typing import Final

from pyvfio.css.ccw import CCW_SIZE, CcwFlag, Command
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Cstat
from pyvfio_backends.software.hardware.css.area import ChannelCheck, CheckedStorage

__all__ = ["CcwFetch"]

_FORMAT_1 = struct.Struct(">BBHI")
_FORMAT_0 = struct.Struct(">IBxH")
_TIC: Final = int(Command.TIC)
_CD: Final = int(CcwFlag.CD)
_SUSPEND: Final = int(CcwFlag.SUSPEND)
_MIDA: Final = int(CcwFlag.MIDA)
_NOT_WITH_MIDA: Final = int(CcwFlag.IDA | CcwFlag.SKIP)

Fields = tuple[int, int, int, int]  # command, flags, count, data address


class CcwFetch:
    """The CCWs of one program.  `last` is the address of the one fetched last; methods raise `ChannelCheck`."""

    __slots__ = ("_after_tic", "_first", "_fmt", "_mida", "_next", "_spnd", "_storage", "_target", "_top", "last")

    def __init__(self, storage: CheckedStorage, orb: Orb, *, mida: bool) -> None:
        self._storage = storage
        self._fmt = orb.fmt
        self._top = 1 << 31 if orb.fmt else 1 << 24
        self._spnd = orb.spnd
        self._mida = mida and orb.mida
        self._next = self.last = orb.cpa
        self._first = True
        self._after_tic = False
        self._target = b""  # the CCW that a TIC leads to, fetched to see that it is there

    def go_to(self, address: int) -> None:
        """The next CCW is the one at `address`."""
        self._next = address

    def resumed(self) -> None:
        """The program goes on after a suspension with the CCW fetched last, which may have become a TIC."""
        self._next = self.last
        self._first = self._after_tic = False

    def command(self) -> Fields:
        """The next CCW with a command of its own."""
        while True:
            raw = self._raw()
            if self._fmt:
                cmd, flags, count, cda = _FORMAT_1.unpack(raw)
                if cmd == _TIC:
                    if flags or count:
                        raise ChannelCheck(Cstat.PROGRAM_CHECK)
                    self._transfer(cda)
                    continue
                wrong = cda >> 31 or (not count and flags & _CD) or not cmd & 0x07
            else:
                word, flags, count = _FORMAT_0.unpack(raw)
                cmd, cda = word >> 24, word & 0xFFFFFF
                if cmd & 0x0F == _TIC:
                    self._transfer(cda)
                    continue
                wrong = not count or not cmd & 0x0F
            wrong = wrong or (flags & _SUSPEND and not self._spnd)
            if wrong or (flags & _MIDA and self._wrong_mida(flags)):
                raise ChannelCheck(Cstat.PROGRAM_CHECK)
            self._first = self._after_tic = False
            return cmd, flags, count, cda

    def data(self) -> tuple[int, int, int]:
        """Flags, count and address of the next CCW of a data chain; its command code does not count."""
        self._next = self.last + CCW_SIZE
        while True:
            raw = self._raw()
            if self._fmt:
                cmd, flags, count, cda = _FORMAT_1.unpack(raw)
                is_tic = cmd == _TIC
                wrong = (flags or count) if is_tic else (not count or cda >> 31)
            else:
                word, flags, count = _FORMAT_0.unpack(raw)
                cmd, cda = word >> 24, word & 0xFFFFFF
                is_tic = cmd & 0x0F == _TIC
                wrong = not is_tic and not count
            if not is_tic:
                wrong = wrong or flags & _SUSPEND or (flags & _MIDA and self._wrong_mida(flags))
            if wrong:
                raise ChannelCheck(Cstat.PROGRAM_CHECK)
            if not is_tic:
                self._after_tic = False
                return flags, count, cda
            self._transfer(cda)

    def _raw(self) -> bytes:
        """The bytes of the next CCW."""
        self.last = address = self._next
        raw, self._target = self._target, b""
        if raw:
            return raw
        if address >= self._top:
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        return self._storage.read(address, CCW_SIZE)

    def _transfer(self, target: int) -> None:
        if self._first or self._after_tic or target % CCW_SIZE or target >= self._top:
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        self._target = self._storage.read(target, CCW_SIZE)
        self._after_tic = True
        self._next = target

    def _wrong_mida(self, flags: int) -> bool:
        return not self._mida or bool(flags & _NOT_WITH_MIDA)
