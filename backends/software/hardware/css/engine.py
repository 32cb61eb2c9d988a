"""The channel-program engine: fetches CCWs, gives commands to the control unit, decides how the program goes on.

It follows the Principles of Operation, chapter "Basic I/O Functions":

* a TIC is a program check as first CCW, after another TIC, to a target off a doubleword or beyond the addresses of
  the format, or (format 1) with flags or count;
* a command code whose right half is 0 is a program check, as is in format 1 a code x8 other than 08;
* a count of zero is a program check in format 0, and in format 1 with data chaining;
* the suspend flag is a program check unless the ORB has suspend control;
* incorrect length ends the program unless suppressed (not for immediate commands; suppression is without effect
  while data chaining is indicated);
* status modifier with device end skips the next CCW;
* the CCW address in the status is 8 past the last CCW used.

Storage keys: all storage has key 0 without fetch protection.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pyvfio.css.ccw import CCW_SIZE, CcwFlag, Command
from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Cstat, Dstat
from pyvfio_backends.software.hardware.css.controlunit import ControlUnit
from pyvfio_backends.software.hardware.css.datapath import ChannelCheck, DataPath

__all__ = ["ChannelProgram", "Outcome", "ProgramStatus"]

_FORMAT_1 = struct.Struct(">BBHI")
_FORMAT_0 = struct.Struct(">IBxH")
_TIC: Final = int(Command.TIC)
_CD: Final = int(CcwFlag.CD)
_CC: Final = int(CcwFlag.CC)
_PCI: Final = int(CcwFlag.PCI)
_SUSPEND: Final = int(CcwFlag.SUSPEND)
_MIDA: Final = int(CcwFlag.MIDA)
_CHAINABLE: Final = int(Dstat.CHANNEL_END | Dstat.DEVICE_END)
_MODIFIED: Final = int(Dstat.CHANNEL_END | Dstat.DEVICE_END | Dstat.STATUS_MODIFIER)
_UNIT_CHECK: Final = int(Dstat.UNIT_CHECK)


class Outcome(Enum):
    """Why `ChannelProgram.run` returned."""

    ENDED = auto()
    SUSPENDED = auto()
    PCI = auto()
    SLICE_OVER = auto()


@dataclass(slots=True)
class ProgramStatus:
    """The status of a program: `cpa` is 8 past the last CCW used, `count` the residual count."""

    cpa: int = 0
    dstat: int = 0
    cstat: int = 0
    count: int = 0
    sense: bytes = b""


class ChannelProgram:
    """One program on its way through the channel; `status` is valid whenever `run` has returned."""

    __slots__ = (
        "_after_tic",
        "_data",
        "_device",
        "_first",
        "_fmt",
        "_limit",
        "_next",
        "_pci_at",
        "_pci_interrupts",
        "_spnd",
        "_storage",
        "status",
    )

    def __init__(self, storage: Storage, device: ControlUnit, orb: Orb, *, pci_interrupts: bool = True) -> None:
        self._storage = storage
        self._device = device
        self._fmt = orb.fmt
        self._limit = 1 << 31 if orb.fmt else 1 << 24
        self._spnd = orb.spnd
        self._next = orb.cpa
        self._first = True
        self._after_tic = False
        self._pci_interrupts = pci_interrupts
        self._pci_at = -1  # the CCW whose PCI flag has been honoured, so that it is so once
        self._data = DataPath(storage, orb, self._next_data_ccw)
        self.status = ProgramStatus(orb.cpa)
        device.program_starts()

    def run(self, most: int) -> Outcome:
        """Go on for at most `most` CCWs.  Storage and control units are used only inside this call."""
        status = self.status
        data = self._data
        try:
            for _ in range(most):
                here = self._next
                cmd, flags, count, cda = self._fetch(here)
                if cmd == _TIC:
                    self._transfer(cda)
                    continue
                self._after_tic = False
                if flags & (_SUSPEND | _PCI):
                    if flags & _SUSPEND:
                        if not self._spnd:
                            raise ChannelCheck(Cstat.PROGRAM_CHECK)
                        return Outcome.SUSPENDED
                    if self._pci_interrupts and self._pci_at != here:
                        self._pci_at = here
                        return Outcome.PCI
                    self._pci_at = -1
                self._first = False
                data.begin(flags, count, cda)
                if not self._command(cmd):
                    return Outcome.ENDED
        except ChannelCheck as check:
            status.cstat = int(check.cstat)
            status.count = 0
            return Outcome.ENDED
        return Outcome.SLICE_OVER

    def _command(self, cmd: int) -> bool:
        """Let the device do one command; return whether the program goes on."""
        status = self.status
        data = self._data
        try:
            ending = self._device.perform(cmd, data)
        except ChannelCheck as check:
            # The device had begun, so it ends; what it was about to do with the data it does not do.
            status.dstat = _CHAINABLE
            status.cstat = int(check.cstat)
            status.count = 0
            return False
        dstat = int(ending.dstat)
        cstat = int(ending.cstat)
        if cstat:
            status.count = 0
        else:
            status.count = data.left
            if (data.moved or dstat & _UNIT_CHECK or data.flags & _CD) and data.wrong_length:
                cstat = int(Cstat.INCORRECT_LENGTH)
        if not cstat and data.flags & _CC and dstat in (_CHAINABLE, _MODIFIED):
            self._next = status.cpa + (CCW_SIZE if dstat == _MODIFIED else 0)
            return True
        status.dstat = dstat
        status.cstat = cstat
        status.sense = ending.sense
        return False

    def _fetch_raw(self, address: int) -> bytes:
        """The bytes of the CCW at `address`; the status points behind it from now on.  Raise `ChannelCheck`."""
        self.status.cpa = address + CCW_SIZE
        if address >= self._limit:
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        try:
            return self._storage.read(address, CCW_SIZE)
        except StorageError:
            raise ChannelCheck(Cstat.PROGRAM_CHECK) from None

    def _fetch(self, address: int) -> tuple[int, int, int, int]:
        """Fetch and check the CCW at `address`: command, flags, count, data address."""
        raw = self._fetch_raw(address)
        if self._fmt:
            cmd, flags, count, cda = _FORMAT_1.unpack(raw)
            if cmd == _TIC:
                if flags or count:
                    raise ChannelCheck(Cstat.PROGRAM_CHECK)
                return _TIC, 0, 0, cda
            if cda >> 31 or (flags & _CD and not count) or not cmd & 0x07:
                raise ChannelCheck(Cstat.PROGRAM_CHECK)
        else:
            word, flags, count = _FORMAT_0.unpack(raw)
            cmd, cda = word >> 24, word & 0xFFFFFF
            if cmd & 0x0F == _TIC:
                return _TIC, 0, 0, cda
            if not count or not cmd & 0x0F:
                raise ChannelCheck(Cstat.PROGRAM_CHECK)
        if flags & _MIDA:
            # The machine has no MIDA facility.
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        return cmd, flags, count, cda

    def _transfer(self, target: int) -> None:
        if self._first or self._after_tic or target % CCW_SIZE or target >= self._limit:
            raise ChannelCheck(Cstat.PROGRAM_CHECK)
        self._after_tic = True
        self._next = target

    def _next_data_ccw(self) -> tuple[int, int, int]:
        """The next CCW of a data chain; its command code is not looked at, a TIC may lie between."""
        address = self.status.cpa
        for after_tic in (False, True):
            raw = self._fetch_raw(address)
            if self._fmt:
                cmd, flags, count, cda = _FORMAT_1.unpack(raw)
                is_tic = cmd == _TIC
                bad = (flags or count) if is_tic else (not count or cda >> 31)
            else:
                word, flags, count = _FORMAT_0.unpack(raw)
                cmd, cda = word >> 24, word & 0xFFFFFF
                is_tic = cmd & 0x0F == _TIC
                bad = not is_tic and not count
            if is_tic:
                bad = bad or after_tic or cda % CCW_SIZE or cda >= self._limit
            else:
                bad = bad or flags & (_SUSPEND | _MIDA)
            if bad:
                raise ChannelCheck(Cstat.PROGRAM_CHECK)
            if not is_tic:
                return flags, count, cda
            address = cda
        raise ChannelCheck(Cstat.PROGRAM_CHECK)
