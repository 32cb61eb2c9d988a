"""The functions of subchannels: start, resume, halt and clear, done over a channel path.

The path of a start function is one that the program allows (ORB), that is available and on which the device answers,
taken in turn.  Paths on which it does not answer are noted in the SCHIB (path-not-operational mask) and are not
operational any more until one of them is used again; when there is no other, the start ends with deferred condition
code 3.  A function keeps its path until it is over; when the path goes away meanwhile, an active program ends with
interface-control check.  Halt and clear signals go over any path; where none is left, the halt function has deferred
condition code 3, and both note it.

Source: z/Architecture Principles of Operation, "Basic I/O Functions": "Channel-Path Management", "Path Selection".
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.chsc_machine import Facility
from pyvfio.css.instructions import Storage
from pyvfio.css.scsw import Actl, Cstat, Fctl, Stctl
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.css.measurement import Monitor
from pyvfio_backends.software.hardware.css.model import CssModel
from pyvfio_backends.software.hardware.css.paths import ChannelPaths
from pyvfio_backends.software.hardware.css.programs import Programs
from pyvfio_backends.software.hardware.css.reports import Reports
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

__all__ = ["Functions"]

_START: Final = int(Fctl.START)
_ACTIVE: Final = int(Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE)
_INTERFACE_CONTROL_CHECK: Final = int(Cstat.INTERFACE_CONTROL_CHECK)


class Functions(Programs, ChannelPaths):
    """Does what the instructions have accepted, on the machine's clock."""

    def __init__(
        self,
        storage: Storage,
        model: CssModel,
        reports: Reports,
        enabled: Collection[Facility],
        on_io_interrupt: Callable[[SubchannelId], None],
        schedule: Callable[[float, Callable[[], None]], None],
        now: Callable[[], float],
    ) -> None:
        super().__init__(model, reports, enabled)
        self._storage = storage
        self._on_io_interrupt = on_io_interrupt
        self._schedule = schedule
        self._monitor = Monitor(storage, now)
        self._silent: set[SubchannelId] = set()
        self._at_start: dict[SubchannelId, list[tuple[int, Callable[[], None]]]] = {}

    def store(self, address: int, data: bytes) -> None:
        """Write into the machine's storage.  Raise `StorageError`."""
        self._storage.write(address, data)

    def present_status(self, schid: SubchannelId, dstat: int, sense: bytes = b"") -> None:
        """Have the device present a status by itself: what it owes to a command, or an unsolicited one (attention).

        An unsolicited one waits while the subchannel is busy.  `sense` goes with a unit check.
        """
        subchannel = self._find(schid)
        if subchannel is not None and subchannel.operational:
            subchannel.attention.append((dstat, sense))
            self._sometime(subchannel, self._present)

    def at_start(self, schid: SubchannelId, count: int, act: Callable[[], None]) -> None:
        """Have `act` called when the subchannel accepts the `count`-th start function from now on."""
        self._at_start.setdefault(schid, []).append((count, act))

    def _accepted(self, schid: SubchannelId) -> None:
        """Count a start function that was accepted."""
        waiting = self._at_start.pop(schid, [])
        left = [(count - 1, act) for count, act in waiting if count > 1]
        if left:
            self._at_start[schid] = left
        for count, act in waiting:
            if count == 1:
                act()

    def remove_device(self, schid: SubchannelId) -> None:
        """Have the device behind a subchannel answer on no path any more; nothing tells the program.

        A program that is active ends with interface-control check.  `restore_device` undoes it.  Raise `Misuse` when
        there is no such subchannel.
        """
        subchannel = self._find(schid)
        if subchannel is None:
            raise Misuse("remove device", str(schid), cause="there is no such subchannel")
        self._silent.add(schid)
        self._path_lost(subchannel, subchannel.pmcw.pim)

    def restore_device(self, schid: SubchannelId) -> None:
        """Undo `remove_device`."""
        self._silent.discard(schid)

    # -- start and resume ----------------------------------------------------------------------------------------

    def _start(self, subchannel: Subchannel) -> None:
        orb = subchannel.orb
        if orb is None:
            return
        path = self._select(subchannel, orb.lpm & subchannel.pmcw.pam)
        device = subchannel.device
        if not path or device is None:
            self._monitor.forget(subchannel)
            self._interrupt(subchannel)
            return
        self._begin(subchannel, device, orb, path)

    def _resume(self, subchannel: Subchannel) -> None:
        if not self._select(subchannel, self._resume_paths(subchannel)):
            self._monitor.forget(subchannel)
            subchannel.program = None
            self._interrupt(subchannel)
            return
        subchannel.actl = _ACTIVE
        self._run(subchannel)

    def _resume_paths(self, subchannel: Subchannel) -> int:
        """A program that is resumed goes over the path it had; in multipath mode, over any that it may use."""
        orb = subchannel.orb
        allowed = orb.lpm & subchannel.pmcw.pam if orb is not None else 0
        return allowed if subchannel.pmcw.mp else allowed & subchannel.last_path

    # -- halt and clear ------------------------------------------------------------------------------------------

    def _halt(self, subchannel: Subchannel) -> None:
        self._monitor.forget(subchannel)
        needless = subchannel.fctl & _START  # either the program is on its path, or there is nothing to halt
        unreached = 0 if needless else self._unreached(subchannel)
        device = subchannel.device if subchannel.program is not None or subchannel.owed else None
        if device is not None:
            device.halted()
        subchannel.end_halt()
        subchannel.cc = 0
        if unreached:
            subchannel.dstat = 0
            subchannel.path_not_operational(unreached)
        self._interrupt(subchannel)

    def _clear(self, subchannel: Subchannel) -> None:
        self._monitor.forget(subchannel)
        unreached = self._unreached(subchannel)
        device = subchannel.device
        if device is not None and not unreached:
            device.cleared()
        subchannel.end_clear()
        if unreached:
            self._note_dead(subchannel, unreached)
        self._interrupt(subchannel)

    # -- paths ---------------------------------------------------------------------------------------------------

    def _select(self, subchannel: Subchannel, allowed: int) -> int:
        """Choose one of the paths of the mask: its one-bit mask, or 0 when the function has ended for want of one."""
        dead, path = 0, 0
        for mask in _in_turn(allowed, subchannel.last_path):
            if subchannel.device is not None and self._answers(subchannel, mask):
                path = mask
                break
            dead |= mask
        pmcw = subchannel.pmcw
        if not path:
            subchannel.path_not_operational(dead)
        elif dead or not pmcw.pom & path:
            subchannel.pno = bool(dead)
            subchannel.pmcw = replace(pmcw, pnom=pmcw.pnom | dead, pom=pmcw.pom & ~dead | path)
        return path

    def _unreached(self, subchannel: Subchannel) -> int:
        """The mask of all paths when none of them can carry a halt or clear signal, else 0."""
        if not self._silent and not self._unusual:
            return 0
        installed = subchannel.pmcw.pim
        reached = any(self._answers(subchannel, mask) for mask in _in_turn(installed, subchannel.last_path))
        return 0 if reached else installed

    @staticmethod
    def _note_dead(subchannel: Subchannel, dead: int) -> None:
        pmcw = subchannel.pmcw
        subchannel.pno = True
        subchannel.pmcw = replace(pmcw, pnom=pmcw.pnom | dead, pom=pmcw.pom & ~dead)

    def _answers(self, subchannel: Subchannel, mask: int) -> bool:
        if self._silent and subchannel.schid in self._silent:
            return False
        return self._works(subchannel, mask)

    def _path_lost(self, subchannel: Subchannel, mask: int) -> None:
        program = subchannel.program
        if program is None or not subchannel.actl & _ACTIVE or not subchannel.last_path & mask:
            return
        subchannel.turn += 1
        status = program.status
        status.dstat, status.cstat, status.count = 0, _INTERFACE_CONTROL_CHECK, 0
        self._monitor.forget(subchannel)
        subchannel.program_status(status)
        self._interrupt(subchannel)

    # -- small parts ---------------------------------------------------------------------------------------------

    def _later(self, subchannel: Subchannel, function: Callable[[Subchannel], None], delay: float = 0.0) -> None:
        """Have `function` called, unless another function was accepted meanwhile."""
        turn = subchannel.turn

        def work() -> None:
            if subchannel.turn == turn:
                function(subchannel)

        self._schedule(delay, work)

    def _sometime(self, subchannel: Subchannel, function: Callable[[Subchannel], None], delay: float = 0.0) -> None:
        """Have `function` called if the subchannel is still there, whatever functions it gets meanwhile."""

        def work() -> None:
            if self._find(subchannel.schid) is subchannel:
                function(subchannel)

        self._schedule(delay, work)

    def _interrupt(self, subchannel: Subchannel) -> None:
        pmcw = subchannel.pmcw
        if pmcw.ena and subchannel.stctl & int(Stctl.PENDING):
            self._interruptions.request(subchannel.schid, pmcw.intparm, pmcw.isc)
            schid = self.shown(subchannel.schid) if self.default_image else subchannel.schid
            if schid is not None:
                self._on_io_interrupt(schid)


def _in_turn(allowed: int, last: int) -> list[int]:
    """The one-bit masks of the paths in `allowed`, in turn: from the one right of the `last` used on, then around."""
    if not allowed & allowed - 1:
        return [allowed] if allowed else []
    masks = [0x80 >> at for at in range(8) if allowed & 0x80 >> at]
    return [mask for mask in masks if mask < last] + [mask for mask in masks if mask >= last]
