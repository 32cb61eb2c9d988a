"""A guest's channel subsystem on top of vfio-ccw: the hypervisor's half of channel I/O passthrough.

Each instruction of the guest is answered here, and those that start something are handed to the host::

    guest            here                                             host (vfio-ccw)
    SSCH       Q3 -> condition codes of the guest's own state  Q4 ->  I/O region      0, or an errno
                     0 accepted                                <- Q5  0
                     1 status pending, 2 busy                         EBUSY, EAGAIN
                     3 not operational                                ENODEV, EACCES, EIO
                     0, and a status that says what is wrong          any other errno
    HSCH, CSCH ->    the same                                     ->  async region
    STSCH      ->    the guest's bits and the host's paths        ->  SCHIB region
    MSCH, TSCH, TPI, STCRW: from what is kept here
    interrupt  <- Q7 status pending, interruption request      <- Q6  I/O interrupt, IRB
    CRW        <-    queued                                       <-  CRW interrupt, CRW region
    unplugged  <-    not operational, CRW                         <-  request interrupt

What happens at the host is taken in when `poll`, `wait` or the thread of `serve` look, as a processor takes
interruptions when it is enabled for them: no instruction changes a status by itself.

What vfio-ccw cannot do, a guest cannot either: docs/passthrough.md has the list.  Source: ``drivers/s390/cio/
vfio_ccw_fsm.c``; "VFIO based Channel I/O passthrough on IBM z Systems", slide "SSCH Handling Process" (Q1 to Q7).
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.address import SubchannelId
from pyvfio.css.ccw import CCW_SIZE
from pyvfio.css.checker import check
from pyvfio.css.chsc import request_problem
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.instructions import OperandException
from pyvfio.css.interruption import ALL_SUBCLASSES, IoInterruption
from pyvfio.css.irb import Irb
from pyvfio.css.measurement import ChannelMonitor
from pyvfio.css.orb import Orb
from pyvfio.css.rules import Presented
from pyvfio.css.schib import Schib
from pyvfio.css.scsw import Actl, Cstat, Dstat, Fctl, Stctl
from pyvfio.css.trace import StepListener
from pyvfio.errors import PyvfioError
from pyvfio.passthrough.calls import GuestCalls
from pyvfio.passthrough.interruptions import GuestInterruptions
from pyvfio.passthrough.inventory import Passed
from pyvfio.passthrough.measurement import count_start
from pyvfio.passthrough.memory import GuestStorage
from pyvfio.passthrough.sense import give_sense

if TYPE_CHECKING:
    from pyvfio.css.instructions import ChannelSubsystem

__all__ = ["GuestChannelSubsystem", "PassthroughWarning"]

_GONE: Final = frozenset({errno.ENODEV, errno.EACCES, errno.EIO})
_BUSY: Final = frozenset({errno.EBUSY, errno.EAGAIN})
_USUAL: Final = Dstat.CHANNEL_END | Dstat.DEVICE_END


class PassthroughWarning(UserWarning):
    """The guest asked for something that vfio-ccw cannot do, and got the nearest that it can; told once per device."""


class GuestChannelSubsystem(GuestInterruptions):
    """The channel subsystem of a guest with the storage `memory` (implements `pyvfio.css.ChannelSubsystem`).

    `on_io_interrupt` is called when a status becomes pending on an enabled subchannel, `on_crw` when a channel report
    is queued; they may use the instructions,
    but must not wait for another thread that does.  vfio-ccw fetches a whole program before it starts it: with
    `force_prefetch` a start whose ORB does not allow that is done so all the same, and `PassthroughWarning` says so;
    without, it ends with unit exception.  `trace` is told the steps Q1 to Q7.  A context manager: closing it closes the
    devices, but not the memory.
    """

    def __init__(
        self,
        memory: GuestStorage,
        *,
        on_io_interrupt: Callable[[SubchannelId], None] = lambda schid: None,
        on_crw: Callable[[], None] = lambda: None,
        force_prefetch: bool = True,
        trace: StepListener | None = None,
    ) -> None:
        super().__init__(memory, on_io_interrupt, on_crw, trace)
        self.force_prefetch = force_prefetch
        self.calls = GuestCalls(self)
        self._monitor = ChannelMonitor()

    # -- instructions --------------------------------------------------------------------------------------------

    def stsch(self, schid: SubchannelId) -> tuple[int, Schib | None]:
        """STORE SUBCHANNEL: see `pyvfio.css.ChannelSubsystem`."""
        with self._lock:
            passed = self._passed.get(schid)
            if passed is None or not self._refresh(passed):
                return 3, None
            return 0, passed.guest.schib()

    def msch(self, schid: SubchannelId, schib: Schib) -> int:
        """MODIFY SUBCHANNEL.  Raise `OperandException`."""
        with self._lock:
            passed = self._passed.get(schid)
            if passed is None:
                return 3
            guest = passed.guest
            if guest.pending:
                return 1
            if guest.fctl:
                return 2
            guest.modify(schib)
            return 0

    def ssch(self, schid: SubchannelId, orb: Orb) -> int:
        """START SUBCHANNEL (Q3 to Q5).  Raise `OperandException`."""
        problem = orb.problem or ("transport mode is not installed" if orb.tm else "")
        if problem:
            raise OperandException("start subchannel", str(schid), cause=problem)
        with self._lock:
            passed = self._operational(schid)
            if passed is None:
                return 3
            guest, host = passed.guest, passed.host
            if guest.pending:
                return 1
            if guest.fctl:
                return 2
            host.tell("Q3", "START SUBCHANNEL is requested", orb=orb)
            if not orb.lpm:
                return 3  # the host would take all of its paths for it
            if self._sensed(passed, orb) or (not orb.pfch and not self._prefetch(passed, orb)):
                return 0
            code = host.start(orb)
            if code and code not in _GONE | _BUSY:
                guest.accept_start(orb)
                self._refused(passed, orb, code)
                return 0
            condition = self._condition(passed, code)
            host.tell("Q5", f"the condition code is {condition}", condition_code=condition)
            if condition == 0:
                guest.accept_start(orb)
                if self._monitor.update:
                    count_start(guest.schib(), self._monitor, self.memory)
            return condition

    def tsch(self, schid: SubchannelId) -> tuple[int, Irb]:
        """TEST SUBCHANNEL."""
        with self._lock:
            passed = self._operational(schid)
            if passed is None:
                return 3, Irb()
            guest = passed.guest
            condition = 0 if guest.pending else 1
            irb = guest.test()
            self._requests.withdraw(schid)
            return condition, irb

    def hsch(self, schid: SubchannelId) -> int:
        """HALT SUBCHANNEL."""
        with self._lock:
            passed = self._operational(schid)
            if passed is None:
                return 3
            guest = passed.guest
            if not guest.fctl & (Fctl.HALT | Fctl.CLEAR):
                self._take_io(passed)  # an end that is here already would be lost with the status of the halt
            stctl = guest.scsw.stctl
            if guest.pending and (stctl == Stctl.PENDING or stctl & (Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT)):
                return 1
            if guest.fctl & (Fctl.HALT | Fctl.CLEAR):
                return 2
            condition = self._condition(passed, passed.host.halt())
            if condition == 0:
                guest.accept_halt()
            return condition

    def csch(self, schid: SubchannelId) -> int:
        """CLEAR SUBCHANNEL."""
        with self._lock:
            passed = self._operational(schid)
            if passed is None:
                return 3
            condition = self._condition(passed, passed.host.clear())
            if condition == 0:
                passed.guest.accept_clear()
                self._requests.withdraw(schid)
            return condition

    def rsch(self, schid: SubchannelId) -> int:
        """RESUME SUBCHANNEL: never applicable, because vfio-ccw has no such request."""
        return self._not_applicable(schid, "resume", "RESUME SUBCHANNEL is not passed on: vfio-ccw has no such request")

    def xsch(self, schid: SubchannelId) -> int:
        """CANCEL SUBCHANNEL: never applicable, because a start is with the host's device already."""
        return self._not_applicable(schid, "cancel", "")

    def _not_applicable(self, schid: SubchannelId, what: str, warning: str) -> int:
        with self._lock:
            passed = self._operational(schid)
            if passed is None:
                return 3
            if passed.guest.pending:
                return 1
            if warning and passed.guest.scsw.actl & Actl.SUSPENDED:
                self._warn(passed, what, warning)
            return 2

    def tpi(self, iscs: int = ALL_SUBCLASSES) -> IoInterruption | None:
        """TEST PENDING INTERRUPTION: lower subclass numbers first, then in the order of arrival."""
        with self._lock:
            return self._requests.take(iscs)

    def stcrw(self) -> Crw | None:
        """STORE CHANNEL REPORT WORD."""
        with self._lock:
            return self._reports.popleft() if self._reports else None

    # -- the channel subsystem itself: a guest has its own -------------------------------------------------------

    def rchp(self, cssid: int, chpid: int) -> int:
        """RESET CHANNEL PATH: the host's path is not reset, as others use it; the guest is told that it is done."""
        if not self.calls.has_image(cssid):
            raise OperandException("reset channel path", f"{cssid:x}.{chpid:02x}", cause="there is no such image")
        with self._lock:
            if self.path_type(cssid, chpid) is None:
                return 3
            self._report(Crw(ReportingSource.CHANNEL_PATH, ErrorRecovery.INITIALIZED, chpid, slct=True))
            return 0

    def schm(self, monitor: ChannelMonitor) -> None:
        """SET CHANNEL MONITOR: starts are counted in the guest's blocks, times are not known.

        Raise `OperandException`.
        """
        if monitor.problem:
            raise OperandException("set channel monitor", cause=monitor.problem)
        self._monitor = monitor

    def chsc(self, request: bytes) -> tuple[int, bytes]:
        """CHANNEL SUBSYSTEM CALL: see `GuestCalls`.  Raise `OperandException`."""
        problem = request_problem(request)
        if problem:
            raise OperandException("channel subsystem call", cause=problem)
        return 0, self.calls.answer(request)

    # -- how a start goes ----------------------------------------------------------------------------------------

    def _condition(self, passed: Passed, code: int) -> int:
        if code == 0:
            return 0
        if code in _BUSY:
            self._take_io(passed)  # what keeps the host's subchannel busy may be a status for the guest
            return 1 if passed.guest.pending else 2
        return 3

    def _sensed(self, passed: Passed, orb: Orb) -> bool:
        """Answer BASIC SENSE when the device has given its sense bytes already; whether that was so."""
        sense = passed.guest.take_sense()
        given = give_sense(orb, self.memory, sense) if sense else None
        if given is None:
            return False
        residual, wrong = given
        passed.guest.accept_start(orb)
        cstat = Cstat.INCORRECT_LENGTH if wrong else Cstat(0)
        self._end(passed, cpa=orb.cpa + CCW_SIZE, dstat=_USUAL, cstat=cstat, count=residual)
        return True

    def _prefetch(self, passed: Passed, orb: Orb) -> bool:
        if self.force_prefetch:
            self._warn(passed, "prefetch", "the program is fetched before it is started, though its ORB says otherwise")
            return True
        self._warn(passed, "prefetch", "a start without prefetch is refused: vfio-ccw fetches whole programs")
        passed.guest.accept_start(orb)
        self._end(passed, cpa=orb.cpa + CCW_SIZE, dstat=Dstat.UNIT_EXCEPTION)
        return False

    def _refused(self, passed: Passed, orb: Orb, code: int) -> None:
        """Say what is wrong with a program that the host cannot translate, as the channel would have."""
        passed.host.tell("Q5", f"the start is refused: {errno.errorcode.get(code, str(code))}", condition_code=0)
        for violation in check(orb, self.memory):
            if violation.presented == Presented.PROGRAM_CHECK and not violation.skipped:
                dstat = _USUAL if violation.with_data else Dstat(0)
                self._end(passed, cpa=violation.address + CCW_SIZE, dstat=dstat, cstat=Cstat.PROGRAM_CHECK)
                return
        name = errno.errorcode.get(code, str(code))
        self._warn(passed, name, f"vfio-ccw does not take a program that the architecture allows ({name})")
        self._end(passed, cpa=orb.cpa + CCW_SIZE, dstat=Dstat.UNIT_EXCEPTION)

    def _warn(self, passed: Passed, what: str, words: str) -> None:
        if what not in passed.warned:
            passed.warned.add(what)
            text = f"subchannel {passed.guest.schid} ({passed.host.device.name}): {words}"
            warnings.warn(text, PassthroughWarning, stacklevel=4)

    def _operational(self, schid: SubchannelId) -> Passed | None:
        passed = self._passed.get(schid)
        return passed if passed is not None and passed.guest.pmcw.ena else None

    # -- the whole -----------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Reset the subsystem, as when the guest is started anew: everything stops, nothing is pending or enabled.

        A device that cannot be reset because it is gone stays as it is.  Raise nothing.
        """
        with self._lock:
            self._requests.clear()
            self._reports.clear()
            self._monitor = ChannelMonitor()
            self.calls.reset()
            for passed in self._passed.values():
                try:
                    passed.host.reset()
                    passed.guest.reset(passed.host.schib())
                except PyvfioError:
                    passed.guest.reset(passed.guest.schib())


if TYPE_CHECKING:

    def _implements(css: GuestChannelSubsystem) -> ChannelSubsystem:
        return css
