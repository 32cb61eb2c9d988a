"""The channel subsystem: the instructions and the functions they start.

All work that an instruction starts is queued with `schedule`, never done inside the instruction, so whoever calls
decides when time passes.  Nothing here uses threads or looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.crw import Crw
from pyvfio.css.instructions import OperandException, Storage
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.schib import Schib, SubchannelType
from pyvfio.css.scsw import Actl, Fctl, Stctl
from pyvfio.errors import NotModelled
from pyvfio_backends.software.hardware.css.engine import ChannelProgram, Outcome
from pyvfio_backends.software.hardware.css.inventory import Inventory
from pyvfio_backends.software.hardware.css.model import MAINFRAME, CssModel
from pyvfio_backends.software.hardware.css.subchannel import Subchannel

__all__ = ["ChannelSubsystemHardware"]

#: CCWs that a program may run before others get their turn, and the time that such a slice takes on the machine.
_SLICE: Final = 4 * 1024
_SLICE_SECONDS: Final = 0.001

_START: Final = int(Fctl.START)
_HALT: Final = int(Fctl.HALT)
_CLEAR: Final = int(Fctl.CLEAR)
_NOT_YET_ACTIVE: Final = int(Actl.START_PENDING | Actl.RESUME_PENDING | Actl.SUSPENDED)
_ENDED: Final = int(Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT)
_PENDING: Final = int(Stctl.PENDING)


class ChannelSubsystemHardware(Inventory):
    """A channel subsystem (implements `pyvfio.css.ChannelSubsystem`).

    `on_io_interrupt` is called when a status becomes pending on an enabled subchannel, `on_crw` when a channel report
    is queued, `schedule(delay_seconds, function)` to have work done later on the machine's clock.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        on_io_interrupt: Callable[[SubchannelId], None],
        on_crw: Callable[[], None],
        schedule: Callable[[float, Callable[[], None]], None],
        model: CssModel = MAINFRAME,
    ) -> None:
        super().__init__(model, on_crw)
        self._storage = storage
        self._on_io_interrupt = on_io_interrupt
        self._schedule = schedule
        self._requests: dict[SubchannelId, int] = {}

    # -- instructions --------------------------------------------------------------------------------------------

    def stsch(self, schid: SubchannelId) -> tuple[int, Schib | None]:
        """STORE SUBCHANNEL: see `pyvfio.css.ChannelSubsystem`."""
        subchannel = self._look(schid)
        return (3, None) if subchannel is None else (0, subchannel.schib())

    def msch(self, schid: SubchannelId, schib: Schib) -> int:
        """MODIFY SUBCHANNEL.  Raise `OperandException`."""
        subchannel = self._find(schid)
        if subchannel is None:
            return 3
        if subchannel.pending:
            return 1
        if subchannel.fctl:
            return 2
        subchannel.modify(schib)
        return 0

    def ssch(self, schid: SubchannelId, orb: Orb) -> int:
        """START SUBCHANNEL.  Raise `OperandException`, or `NotModelled` for other than I/O subchannels."""
        problem = orb.problem or ("transport mode is not installed" if orb.tm else "")
        if problem:
            raise OperandException("start subchannel", str(schid), cause=problem)
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        if subchannel.pmcw.st != SubchannelType.IO:
            raise NotModelled("start function of a subchannel that is not of type I/O", str(schid))
        if subchannel.pending:
            return 1
        if subchannel.fctl:
            return 2
        if self.model.no_path_is_cc3 and not orb.lpm & subchannel.pmcw.pam:
            return 3
        subchannel.accept_start(orb)
        device = subchannel.device
        self._later(subchannel, self._start, device.latency if device is not None else 0.0)
        return 0

    def tsch(self, schid: SubchannelId) -> tuple[int, Irb]:
        """TEST SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3, Irb()
        cc = 0 if subchannel.pending else 1
        irb = subchannel.test()
        self._requests.pop(schid, None)
        if subchannel.attention:
            self._schedule(0.0, lambda: self._present(subchannel))
        return cc, irb

    def hsch(self, schid: SubchannelId) -> int:
        """HALT SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        if subchannel.pending and (subchannel.stctl == _PENDING or subchannel.stctl & _ENDED):
            return 1
        if subchannel.fctl & (_HALT | _CLEAR):
            return 2
        subchannel.turn += 1
        subchannel.fctl |= _HALT
        subchannel.actl |= int(Actl.HALT_PENDING)
        self._later(subchannel, self._halt)
        return 0

    def csch(self, schid: SubchannelId) -> int:
        """CLEAR SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        subchannel.turn += 1
        subchannel.program = None
        subchannel.fctl, subchannel.actl, subchannel.stctl = _CLEAR, int(Actl.CLEAR_PENDING), 0
        self._requests.pop(schid, None)
        self._later(subchannel, self._clear)
        return 0

    def rsch(self, schid: SubchannelId) -> int:
        """RESUME SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        if subchannel.pending:
            return 1
        orb = subchannel.orb
        if subchannel.fctl != _START or orb is None or not orb.spnd or subchannel.actl & int(Actl.RESUME_PENDING):
            return 2
        subchannel.actl |= int(Actl.RESUME_PENDING)
        if subchannel.actl & int(Actl.SUSPENDED):
            self._later(subchannel, self._resume)
        return 0

    def xsch(self, schid: SubchannelId) -> int:
        """CANCEL SUBCHANNEL."""
        subchannel = self._operational(schid)
        if subchannel is None:
            return 3
        if subchannel.pending:
            return 1
        if subchannel.fctl != _START or not subchannel.actl & _NOT_YET_ACTIVE:
            return 2
        subchannel.turn += 1
        subchannel.fctl = subchannel.actl = 0
        subchannel.program = None
        return 0

    def tpi(self) -> SubchannelId | None:
        """TEST PENDING INTERRUPTION: lower subclass numbers first, then in the order of arrival."""
        if not self._requests:
            return None
        schid = min(self._requests, key=self._requests.__getitem__)
        del self._requests[schid]
        return schid

    def stcrw(self) -> Crw | None:
        """STORE CHANNEL REPORT WORD."""
        return self._reports.popleft() if self._reports else None

    def present_status(self, schid: SubchannelId, dstat: int) -> None:
        """Present an unsolicited device status (attention); it waits while the subchannel is busy."""
        subchannel = self._find(schid)
        if subchannel is not None and subchannel.operational:
            subchannel.attention.append(dstat)
            self._schedule(0.0, lambda: self._present(subchannel))

    # -- the functions -------------------------------------------------------------------------------------------

    def _start(self, subchannel: Subchannel) -> None:
        orb = subchannel.orb
        device = subchannel.device
        if orb is None:
            return
        available = orb.lpm & subchannel.pmcw.pam
        if not available or device is None:
            subchannel.path_not_operational(available)
            self._interrupt(subchannel)
            return
        program = ChannelProgram(self._storage, device, orb, pci_interrupts=self.model.pci_interruptions)
        subchannel.activate(program, 1 << available.bit_length() - 1)
        self._run(subchannel)

    def _run(self, subchannel: Subchannel) -> None:
        program = subchannel.program
        if program is None:
            return
        turn = subchannel.turn
        outcome = program.run(_SLICE)
        if turn != subchannel.turn:
            return
        if outcome is Outcome.ENDED:
            subchannel.program_status(program.status)
            self._interrupt(subchannel)
        elif outcome is Outcome.SUSPENDED:
            orb = subchannel.orb
            wanted = self.model.suspended_interruptions and orb is not None and not orb.ssic
            if subchannel.intermediate(program.status, suspended=True, interrupt=wanted):
                self._interrupt(subchannel)
            if subchannel.actl & int(Actl.RESUME_PENDING):
                self._later(subchannel, self._resume)
        elif outcome is Outcome.PCI:
            subchannel.intermediate(program.status, suspended=False, interrupt=True)
            self._later(subchannel, self._run)
            self._interrupt(subchannel)
        else:
            subchannel.cpa = program.status.cpa
            self._later(subchannel, self._run, _SLICE_SECONDS)

    def _resume(self, subchannel: Subchannel) -> None:
        subchannel.actl = int(Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE)
        self._run(subchannel)

    def _halt(self, subchannel: Subchannel) -> None:
        subchannel.end_halt()
        self._interrupt(subchannel)

    def _clear(self, subchannel: Subchannel) -> None:
        device = subchannel.device
        if device is not None:
            device.cleared()
        subchannel.end_clear()
        self._interrupt(subchannel)

    def _present(self, subchannel: Subchannel) -> None:
        if subchannel.attention and subchannel.operational and not subchannel.fctl and not subchannel.pending:
            subchannel.alert(subchannel.attention.pop(0))
            self._interrupt(subchannel)

    # -- small parts ---------------------------------------------------------------------------------------------

    def _later(self, subchannel: Subchannel, function: Callable[[Subchannel], None], delay: float = 0.0) -> None:
        """Have `function` called, unless another function was accepted meanwhile."""
        turn = subchannel.turn

        def work() -> None:
            if subchannel.turn == turn:
                function(subchannel)

        self._schedule(delay, work)

    def forget_interruption(self, schid: SubchannelId) -> None:
        """Take the interruption request of a removed subchannel back."""
        self._requests.pop(schid, None)

    def _operational(self, schid: SubchannelId) -> Subchannel | None:
        subchannel = self._find(schid)
        return subchannel if subchannel is not None and subchannel.operational else None

    def _interrupt(self, subchannel: Subchannel) -> None:
        if subchannel.pmcw.ena:
            self._requests[subchannel.schid] = subchannel.pmcw.isc
            self._on_io_interrupt(subchannel.schid)

    def __str__(self) -> str:
        return f"{self.model} with {sum(1 for _ in self.schids())} subchannels, {len(self._paths)} channel paths"
