"""The channel-program engine: gives the commands of a program to the control unit and decides how it goes on.

What is wrong with a CCW is found by `ccwfetch`, with its data area by `area`.  Here is what comes after:

* Incorrect length ends the program unless the CCW suppresses it; suppression is without effect while data chaining is
  indicated.  Of an immediate command (one that moves no data) it is indicated in format 1 only, unless the ORB has
  incorrect-length suppression; never of NOP, which a 3390 answered without it.
* Status modifier with device end passes over the next CCW.
* Channel end without device end: with command chaining the program waits for device end, else it has ended (primary
  status), and the device end is a status of its own (secondary).
* Channel end, unit check and status modifier together ask for the command to be done again.
* Busy as answer to the first command leaves the start function pending, if the device says when it no longer is.
* The PCI flag is honoured as its CCW takes control, in a data chain with the end of the command.

The CCW address in the status is 8 past the last CCW used.

Source: z/Architecture Principles of Operation, chapters "Basic I/O Functions" and "I/O Interruptions".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pyvfio.css.ccw import CCW_SIZE, CcwFlag, Command
from pyvfio.css.instructions import Storage
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Cstat, Dstat
from pyvfio_backends.software.hardware.css.area import AddressLimit, Area, ChannelCheck, CheckedStorage
from pyvfio_backends.software.hardware.css.ccwfetch import CcwFetch, Fields
from pyvfio_backends.software.hardware.css.controlunit import ControlUnit, Ending
from pyvfio_backends.software.hardware.css.datapath import DataPath
from pyvfio_backends.software.hardware.css.model import MAINFRAME, CssModel

__all__ = ["ChannelProgram", "Outcome", "ProgramStatus"]

_CD: Final = int(CcwFlag.CD)
_CC: Final = int(CcwFlag.CC)
_PCI: Final = int(CcwFlag.PCI)
_SUSPEND: Final = int(CcwFlag.SUSPEND)
_NOP: Final = int(Command.NOP)
_READ_BACKWARD: Final = 0x0C
_CHAINING_CHECK: Final = int(Cstat.CHAINING_CHECK)
_INCORRECT_LENGTH: Final = int(Cstat.INCORRECT_LENGTH)
_CHANNEL_END: Final = int(Dstat.CHANNEL_END)
_DEVICE_END: Final = int(Dstat.DEVICE_END)
_CHAINABLE: Final = _CHANNEL_END | _DEVICE_END
_MODIFIED: Final = int(_CHAINABLE | Dstat.STATUS_MODIFIER)
_RETRY: Final = int(Dstat.CHANNEL_END | Dstat.UNIT_CHECK | Dstat.STATUS_MODIFIER)
_BUSY: Final = (int(Dstat.BUSY), int(Dstat.BUSY | Dstat.STATUS_MODIFIER))
_UNIT_CHECK: Final = int(Dstat.UNIT_CHECK)


class Outcome(Enum):
    """Why `ChannelProgram.run` returned."""

    ENDED = auto()
    SUSPENDED = auto()
    PCI = auto()
    INITIAL = auto()  # the first command was accepted, and the ORB asks to be told
    WAITING = auto()  # for the device: `ChannelProgram.answered` goes on
    BUSY = auto()  # the first command found the device busy: nothing has happened
    SLICE_OVER = auto()


@dataclass(slots=True)
class ProgramStatus:
    """The status of a program: `cpa` is 8 past the last CCW used, `count` the residual count.

    `pci` says that the PCI flag of a CCW is to be reported with it, `accepted` the same of the first command, for the
    initial-status interruption.  `command` is the code of the last command, `moved` whether it moved data.
    """

    cpa: int = 0
    dstat: int = 0
    cstat: int = 0
    count: int = 0
    sense: bytes = b""
    pci: bool = False
    accepted: bool = False
    command: int = 0
    moved: bool = False
    failing_address: int | None = None


class ChannelProgram:
    """One program on its way through the channel; `status` is valid whenever `run` has returned.

    `path` is the mask of the channel path, `limit` the subchannel's address-limit check, if there is one.  `owed` is
    the last answer of the control unit that promises another status (`Ending.later`); who drives the program brings
    that with `answered`, which is allowed while the program is `waiting`.  `left` commands may run before others get
    their turn; who gives turns sets it.
    """

    __slots__ = (
        "_ccws",
        "_data",
        "_device",
        "_first",
        "_held",
        "_here",
        "_initial",
        "_interruptions",
        "_quiet",
        "_said",
        "left",
        "owed",
        "status",
        "waiting",
    )

    def __init__(
        self,
        storage: Storage,
        device: ControlUnit,
        orb: Orb,
        *,
        path: int = 0,
        model: CssModel = MAINFRAME,
        limit: AddressLimit | None = None,
    ) -> None:
        checked = CheckedStorage(storage, orb.key, limit)
        self._device = device
        self._ccws = CcwFetch(checked, orb, mida=model.mida)
        self._data = DataPath(Area(checked, orb), self._next_data_ccw)
        self._data.path = path
        self._first = True
        self._interruptions = model.pci_interruptions
        self._initial = model.initial_status_interruptions and orb.isic
        # no incorrect length of immediate commands
        self._quiet = not model.checks_immediate_length or not orb.fmt or orb.ils
        self._here = orb.cpa  # the CCW of the current command
        self._held: Fields | None = None  # the CCW that has taken control, while its PCI flag is reported
        self.waiting = False
        self.left = 0
        self.owed: Ending | None = None
        self._said = 0  # what the device has said of the current command's end so far
        self.status = ProgramStatus(orb.cpa)
        device.program_starts()

    def run(self) -> Outcome:
        """Go on for at most `left` commands.  Storage and control units are used only inside this call."""
        status = self.status
        data = self._data
        ccws = self._ccws
        try:
            while self.left > 0:
                if self.waiting:
                    return Outcome.WAITING
                self.left -= 1
                cmd, flags, count, cda = fields = self._held or ccws.command()
                here = ccws.last
                status.cpa = here + CCW_SIZE
                if flags & (_SUSPEND | _PCI) and self._held is None:
                    status.count = count
                    if flags & _PCI and self._interruptions:
                        status.pci = True
                    if flags & _SUSPEND:
                        ccws.resumed()
                        return Outcome.SUSPENDED
                    if status.pci:
                        self._held = fields
                        return Outcome.PCI
                self._held = None
                self._here = here
                status.command = cmd
                data.begin(flags, count, cda, backward=cmd & 0x0F == _READ_BACKWARD)
                outcome = self._command(cmd)
                if outcome is not None:
                    return outcome
        except ChannelCheck as check:
            status.cpa = ccws.last + CCW_SIZE
            status.cstat = int(check.cstat)
            status.count = 0
            return Outcome.ENDED
        return Outcome.SLICE_OVER

    def answered(self, dstat: int, sense: bytes = b"") -> Outcome | None:
        """Take the device's further word on the command that it works on; return as `run`, None to have it go on."""
        self.waiting = False
        return self._ended(Ending(Dstat(dstat), sense))

    def _command(self, cmd: int) -> Outcome | None:
        """Let the device do one command; return why the program does not go on, if it does not."""
        status = self.status
        self._said = 0
        try:
            ending = self._device.perform(cmd, self._data)
        except ChannelCheck as check:
            # The device had begun, so it ends; what it was about to do with the data it does not do.
            status.cpa = self._ccws.last + CCW_SIZE
            status.dstat = _CHAINABLE
            status.cstat = int(check.cstat)
            status.count = 0
            status.moved = True
            return Outcome.ENDED
        return self._ended(ending)

    def _ended(self, ending: Ending) -> Outcome | None:
        """Decide what follows the status that the device gives."""
        status = self.status
        data = self._data
        if ending.later:
            self.owed = ending
        self._said = dstat = self._said | int(ending.dstat)
        cstat = int(ending.cstat)
        status.cpa = self._ccws.last + CCW_SIZE
        status.moved = data.moved
        if self._first:
            if dstat in _BUSY and ending.later and not data.moved and not cstat:
                return Outcome.BUSY
            self._first = False
        if self._initial and (data.moved or not dstat):
            self._initial = False
            status.accepted = True
        if cstat:
            status.count = data.left if cstat == _CHAINING_CHECK else 0
        else:
            if not dstat:
                return self._wait()
            status.count = data.left
            if data.moved:
                checked = data.wrong_length
            else:
                suppressed = (self._quiet or status.command == _NOP) and not (dstat & _UNIT_CHECK or data.flags & _CD)
                # A command that its initial status refuses has not used the count.
                refused = dstat & _UNIT_CHECK and not dstat & _CHANNEL_END
                checked = not suppressed and not refused and data.wrong_length
            if dstat & _RETRY == _RETRY and not dstat & ~(_RETRY | _DEVICE_END):
                if not dstat & _DEVICE_END:
                    return self._wait()
                self._ccws.go_to(self._here)
                return self._on()
            if checked:
                cstat = _INCORRECT_LENGTH
            elif data.flags & _CC:
                if dstat in (_CHAINABLE, _MODIFIED):
                    self._ccws.go_to(status.cpa + (CCW_SIZE if dstat == _MODIFIED else 0))
                    return self._on()
                if dstat == _CHANNEL_END:
                    return self._wait()
        status.dstat = dstat
        status.cstat = cstat
        status.sense = ending.sense
        status.failing_address = ending.failing_address
        return Outcome.ENDED

    def _on(self) -> Outcome | None:
        """Go on with the next command, after telling what there is to be told of the last one."""
        if self.status.pci:
            return Outcome.PCI
        return Outcome.INITIAL if self.status.accepted else None

    def _wait(self) -> Outcome:
        self.waiting = True
        return self._on() or Outcome.WAITING

    def _next_data_ccw(self) -> tuple[int, int, int]:
        """The next CCW of a data chain."""
        fields = self._ccws.data()
        if fields[0] & _PCI and self._interruptions:
            self.status.pci = True
        return fields
