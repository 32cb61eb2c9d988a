"""Channel programs on the machine's clock: they run in slices, devices answer, statuses become pending.

::

    start pending --> first command --> active ----------> primary status --> device end: secondary status
         ^   |                          |   ^ |  ^                            (or both together)
         |   +-- busy: again later      |   | |  +-- the device answers later
         +------------------------------+   | +----- PCI, first command accepted: intermediate status
                                            +------- suspended --> resumed

A status that a device presents by itself belongs to the command it works on, else to the device end that it owes, else
it is unsolicited (alert status) and waits until no function is under way and no status pending.  While a start waits
for a device that is busy or not done with what came before, a status other than the expected one ends the start
function with deferred condition code 1.

Source: z/Architecture Principles of Operation, "Conclusion of I/O Operations", "Interruption Conditions".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

from pyvfio.css.instructions import Storage
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Actl, Dstat
from pyvfio_backends.software.hardware.css.area import AddressLimit
from pyvfio_backends.software.hardware.css.controlunit import ControlUnit
from pyvfio_backends.software.hardware.css.engine import ChannelProgram, Outcome
from pyvfio_backends.software.hardware.css.measurement import Monitor
from pyvfio_backends.software.hardware.css.model import CssModel
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

__all__ = ["Programs"]

#: Commands that a program may run before others get their turn, and the time that such a slice takes on the machine.
_SLICE: Final = 4 * 1024
_SLICE_SECONDS: Final = 0.001

_RESUME_PENDING: Final = int(Actl.RESUME_PENDING)
_DEVICE_END: Final = int(Dstat.DEVICE_END)
_CONTROL_UNIT_END: Final = int(Dstat.CONTROL_UNIT_END)
_NO_LONGER_BUSY: Final = (_DEVICE_END, _CONTROL_UNIT_END, _DEVICE_END | _CONTROL_UNIT_END)


class Programs(ABC):
    """What happens between a start function's first command and the status that becomes of it.

    `address_limit` is what SET ADDRESS LIMIT would set; an ORB asks for the check, the SCHIB says which side is good.
    """

    model: CssModel
    address_limit: int = 0
    _storage: Storage
    _monitor: Monitor

    @abstractmethod
    def _start(self, subchannel: Subchannel) -> None:
        """Choose a path for the start function and `_begin`, or end it."""

    @abstractmethod
    def _resume(self, subchannel: Subchannel) -> None:
        """Choose a path and `_run`, or end the program."""

    @abstractmethod
    def _later(self, subchannel: Subchannel, function: Callable[[Subchannel], None], delay: float = 0.0) -> None:
        """Have `function` called, unless another function was accepted meanwhile."""

    @abstractmethod
    def _sometime(self, subchannel: Subchannel, function: Callable[[Subchannel], None], delay: float = 0.0) -> None:
        """Have `function` called if the subchannel is still there, whatever functions it gets meanwhile."""

    @abstractmethod
    def _interrupt(self, subchannel: Subchannel) -> None:
        """Ask for an interruption for the status that is pending now."""

    def _begin(self, subchannel: Subchannel, device: ControlUnit, orb: Orb, path: int) -> None:
        """Perform the start function over the path of the one-bit mask `path`."""
        if subchannel.owed:
            return  # the device is not done with the command before: `_present` goes on when it is
        mode = subchannel.pmcw.lm if orb.alcc else 0
        limit = AddressLimit(mode, self.address_limit) if mode else None
        program = ChannelProgram(self._storage, device, orb, path=path, model=self.model, limit=limit)
        program.left = _SLICE
        subchannel.activate(program, path)
        self._run(subchannel)

    def _run(self, subchannel: Subchannel) -> None:
        """Let the program go on for a while."""
        program = subchannel.program
        if program is not None:
            self._monitor.began(subchannel)
            turn = subchannel.turn
            outcome = program.run()
            if turn == subchannel.turn:
                self._conclude(subchannel, program, outcome)

    def _conclude(self, subchannel: Subchannel, program: ChannelProgram, outcome: Outcome) -> None:
        """Do what belongs to the outcome of a program's slice."""
        status = program.status
        if program.owed is not None:
            # A device that is busy again and again gives the machine its turns, too.
            self._expect(subchannel, program, _SLICE_SECONDS if outcome is Outcome.BUSY else 0.0)
        if outcome is Outcome.ENDED:
            self._monitor.stopped(subchannel, over=True)
            subchannel.program_status(status)
            self._interrupt(subchannel)
        elif outcome is Outcome.SUSPENDED:
            self._monitor.stopped(subchannel, over=False)
            orb = subchannel.orb
            wanted = self.model.suspended_interruptions and orb is not None and not orb.ssic
            if subchannel.intermediate(status, suspended=True, interrupt=wanted or status.pci):
                self._interrupt(subchannel)
            if subchannel.actl & _RESUME_PENDING:
                self._later(subchannel, self._resume)
        elif outcome is Outcome.PCI or outcome is Outcome.INITIAL:
            subchannel.intermediate(status, suspended=False, interrupt=True)
            self._later(subchannel, self._run)
            self._interrupt(subchannel)
        elif outcome is Outcome.BUSY:
            subchannel.wait_to_start()
            self._sometime(subchannel, self._present)
        else:
            subchannel.cpa = status.cpa  # there is no residual count while a program runs
            if outcome is Outcome.SLICE_OVER:
                program.left = _SLICE
                self._later(subchannel, self._run, _SLICE_SECONDS)
            else:
                self._sometime(subchannel, self._present)

    def _expect(self, subchannel: Subchannel, program: ChannelProgram, least: float) -> None:
        """Have the status come that a control unit has announced, unless halt or clear reach it first.

        It comes after `least` seconds at least.
        """
        ending, program.owed = program.owed, None
        mark = subchannel.resets

        def come(of: Subchannel) -> None:
            if ending is not None and of.resets == mark:
                of.attention.insert(0, (int(ending.later), ending.later_sense))
                self._present(of)

        self._sometime(subchannel, come, max(least, ending.after if ending is not None else 0.0))

    def _present(self, subchannel: Subchannel) -> None:
        """Take the next status that a device presents by itself, if it can be taken now."""
        if not subchannel.attention or not subchannel.operational:
            return
        dstat, sense = subchannel.attention[0]
        program = subchannel.program
        if program is not None:
            if program.waiting and not subchannel.halting:
                del subchannel.attention[0]
                outcome = program.answered(dstat, sense)
                if outcome is None:
                    self._run(subchannel)
                else:
                    self._conclude(subchannel, program, outcome)
            return
        if subchannel.waits_to_start and (subchannel.owed or subchannel.found_busy):
            if not subchannel.owed and dstat in _NO_LONGER_BUSY:
                self._later(subchannel, self._start)
            else:
                subchannel.deferred(dstat, sense)
                self._monitor.forget(subchannel)
                self._interrupt(subchannel)
        elif subchannel.owed and not subchannel.halting:
            subchannel.device_end(dstat, sense)
            self._interrupt(subchannel)
        elif not subchannel.fctl and not subchannel.pending:
            subchannel.alert(dstat, sense)
            self._interrupt(subchannel)
        else:
            return
        del subchannel.attention[0]
