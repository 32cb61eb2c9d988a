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
import threading
import warnings
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, Self

from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.css.checker import check
from pyvfio.css.crw import Crw, ErrorRecovery, ReportingSource
from pyvfio.css.instructions import OperandException
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.rules import Presented
from pyvfio.css.schib import Schib
from pyvfio.css.scsw import Actl, Cstat, Dstat, Fctl, Stctl
from pyvfio.css.trace import StepListener
from pyvfio.errors import Misuse, PyvfioError
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.passthrough.events import EventThread, wait_for_any
from pyvfio.passthrough.guest_subchannel import GuestSubchannel
from pyvfio.passthrough.host_subchannel import HostSubchannel
from pyvfio.passthrough.memory import GuestStorage
from pyvfio.vfio import Device

__all__ = ["GuestChannelSubsystem", "PassthroughWarning"]

_NUMBERS: Final = 1 << 16
_GONE: Final = frozenset({errno.ENODEV, errno.EACCES, errno.EIO})
_BUSY: Final = frozenset({errno.EBUSY, errno.EAGAIN})
_USUAL: Final = Dstat.CHANNEL_END | Dstat.DEVICE_END
_SECONDS: Final = 10.0


class PassthroughWarning(UserWarning):
    """The guest asked for something that vfio-ccw cannot do, and got the nearest that it can; told once per device."""


class _Passed:
    """A subchannel of the guest and the host's behind it; what was warned of."""

    def __init__(self, guest: GuestSubchannel, host: HostSubchannel) -> None:
        self.guest = guest
        self.host = host
        self.warned: set[str] = set()


class GuestChannelSubsystem:
    """The channel subsystem of a guest with the storage `memory` (implements `pyvfio.css.ChannelSubsystem`).

    `on_io_interrupt` is called when a status becomes pending on an enabled subchannel, `on_crw` when a channel report
    is queued; they may use the instructions.  vfio-ccw fetches a whole program before it starts it: with
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
        self.memory = memory
        self.force_prefetch = force_prefetch
        self._on_io_interrupt = on_io_interrupt
        self._on_crw = on_crw
        self._trace = trace
        self._lock = threading.RLock()
        self._passed: dict[SubchannelId, _Passed] = {}
        self._requests: dict[SubchannelId, int] = {}
        self._reports: deque[Crw] = deque()
        self._spaces: dict[int, list[SubchannelId]] = {}

    # -- which devices the guest has -----------------------------------------------------------------------------

    def attach(
        self,
        device: Device,
        guest: DeviceNumber | str,
        *,
        schid: SubchannelId | str | None = None,
        report: bool = False,
    ) -> SubchannelId:
        """Give an open vfio-ccw device to the guest, where its device number is `guest`; the guest's subchannel.

        Without `schid` it is the first one that is free in the image and set of the device number.  The guest's memory
        becomes visible to the device at the guest's addresses.  With `report` (a device that comes while the guest
        runs) a channel report tells the guest.  The device is closed with this object, or when the host wants it back.

        Raise `Misuse` when the subchannel or the device number is taken, or for a device that is not vfio-ccw's;
        `NotAvailable` for a kernel without a SCHIB region; the class for the errno of a mapping.
        """
        number = guest if isinstance(guest, DeviceNumber) else DeviceNumber.parse(guest)
        with self._lock:
            chosen = self._place(number, SubchannelId.parse(schid) if isinstance(schid, str) else schid)
            host = HostSubchannel(device, trace=self._trace)
            stored = host.schib()
            self._map(device.space, chosen)
            self._passed[chosen] = _Passed(GuestSubchannel(chosen, number.devno, stored), host)
            if report:
                self._report_subchannel(chosen)
        return chosen

    def _place(self, number: DeviceNumber, schid: SubchannelId | None) -> SubchannelId:
        place = (number.cssid, number.ssid)
        for other, passed in self._passed.items():
            if (other.cssid, other.ssid) == place and passed.guest.devno == number.devno:
                raise Misuse("attach device", str(number), cause=f"subchannel {other} has this device number")
        if schid is None:
            numbers = (SubchannelId(*place, one) for one in range(_NUMBERS))
            return next(one for one in numbers if one not in self._passed)
        if schid in self._passed:
            raise Misuse("attach device", str(schid), cause="there is a subchannel with this id already")
        if (schid.cssid, schid.ssid) != place:
            raise Misuse("attach device", str(schid), cause=f"device {number} is in another image or set")
        return schid

    def _map(self, space: AddressSpace, schid: SubchannelId) -> None:
        users = self._spaces.setdefault(id(space), [])
        if not users:
            self._show_memory(space)
        users.append(schid)

    def memory_added(self) -> None:
        """Let the devices see memory that was added after `attach`.  Raise the class for the errno of a mapping."""
        with self._lock:
            for space in {id(one.host.device.space): one.host.device.space for one in self._passed.values()}.values():
                self._show_memory(space)

    def _show_memory(self, space: AddressSpace) -> None:
        with ExitStack() as undo:
            for area in self.memory.areas():
                if space.mapping_at(area.start) is None:
                    space.map(area.address, area.length, area.start)
                    undo.callback(space.unmap, area.start, area.length)
            undo.pop_all()

    def detach(self, schid: SubchannelId) -> None:
        """Take a device away from the guest, as when it is unplugged: a channel report tells, the device is closed.

        Raise `Misuse` when there is none.
        """
        with self._lock:
            if schid not in self._passed:
                raise Misuse("detach device", str(schid), cause="there is no such subchannel")
            self._remove(schid)
            self._report_subchannel(schid)

    def _remove(self, schid: SubchannelId) -> None:
        passed = self._passed.pop(schid)
        self._requests.pop(schid, None)
        space = passed.host.device.space
        users = self._spaces[id(space)]
        users.remove(schid)
        passed.host.close()
        if not users:
            del self._spaces[id(space)]
            for area in self.memory.areas():
                if space.mapping_at(area.start) is not None:
                    space.unmap(area.start, area.length)

    def schids(self) -> list[SubchannelId]:
        """The guest's subchannels, in order."""
        with self._lock:
            return sorted(self._passed)

    def host_name(self, schid: SubchannelId) -> str:
        """The host's name of the device behind a subchannel.  Raise `Misuse` when there is none."""
        with self._lock:
            if schid not in self._passed:
                raise Misuse("name device", str(schid), cause="there is no such subchannel")
            return self._passed[schid].host.device.name

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
            if not orb.lpm & guest.pmcw.pam and not (self._refresh(passed) and orb.lpm & guest.pmcw.pam):
                return 3  # the host would take the paths of the mask away for good, also when they come back
            if not orb.pfch and not self._prefetch(passed, orb):
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
            self._requests.pop(schid, None)
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
                self._requests.pop(schid, None)
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

    def tpi(self) -> SubchannelId | None:
        """TEST PENDING INTERRUPTION: lower subclass numbers first, then in the order of arrival."""
        with self._lock:
            if not self._requests:
                return None
            schid = min(self._requests, key=self._requests.__getitem__)
            del self._requests[schid]
            return schid

    def stcrw(self) -> Crw | None:
        """STORE CHANNEL REPORT WORD."""
        with self._lock:
            return self._reports.popleft() if self._reports else None

    # -- how a start goes ----------------------------------------------------------------------------------------

    def _condition(self, passed: _Passed, code: int) -> int:
        if code == 0:
            return 0
        if code in _BUSY:
            self._take_io(passed)  # what keeps the host's subchannel busy may be a status for the guest
            return 1 if passed.guest.pending else 2
        return 3

    def _prefetch(self, passed: _Passed, orb: Orb) -> bool:
        if self.force_prefetch:
            self._warn(passed, "prefetch", "the program is fetched before it is started, though its ORB says otherwise")
            return True
        self._warn(passed, "prefetch", "a start without prefetch is refused: vfio-ccw fetches whole programs")
        passed.guest.accept_start(orb)
        self._fail(passed, cpa=orb.cpa + 8, dstat=Dstat.UNIT_EXCEPTION)
        return False

    def _refused(self, passed: _Passed, orb: Orb, code: int) -> None:
        """Say what is wrong with a program that the host cannot translate, as the channel would have."""
        passed.host.tell("Q5", f"the start is refused: {errno.errorcode.get(code, str(code))}", condition_code=0)
        for violation in check(orb, self.memory):
            if violation.presented == Presented.PROGRAM_CHECK and not violation.skipped:
                dstat = _USUAL if violation.with_data else Dstat(0)
                self._fail(passed, cpa=violation.address + 8, dstat=dstat, cstat=Cstat.PROGRAM_CHECK)
                return
        name = errno.errorcode.get(code, str(code))
        self._warn(passed, name, f"vfio-ccw does not take a program that the architecture allows ({name})")
        self._fail(passed, cpa=orb.cpa + 8, dstat=Dstat.UNIT_EXCEPTION)

    def _fail(self, passed: _Passed, *, cpa: int, dstat: Dstat, cstat: Cstat = Cstat(0)) -> None:  # noqa: B008
        passed.guest.fail(cpa=cpa & 0xFFFFFFFF, dstat=dstat, cstat=cstat)
        self._interrupt(passed.guest)

    def _warn(self, passed: _Passed, what: str, words: str) -> None:
        if what not in passed.warned:
            passed.warned.add(what)
            text = f"subchannel {passed.guest.schid} ({passed.host.device.name}): {words}"
            warnings.warn(text, PassthroughWarning, stacklevel=4)

    # -- what the host reports -----------------------------------------------------------------------------------

    def poll(self) -> int:
        """Take in what the host has reported since the last look; how many events there were.  Never waits."""
        with self._lock:
            return sum(self._look(schid, passed) for schid, passed in list(self._passed.items()))

    def wait(self, timeout: float | None = _SECONDS) -> bool:
        """Wait up to `timeout` seconds (None: for ever) until the host reports something, take it in; whether it did."""
        return bool(self.poll() or (wait_for_any(self.filenos(), timeout) and self.poll()))

    def serve(self) -> EventThread:
        """Take in what the host reports on a thread of its own, until that is closed; it calls the callbacks."""
        return EventThread(self.filenos, self.poll)

    def filenos(self) -> list[int]:
        """The eventfds that become readable when the host reports something: for `select` or an event loop."""
        with self._lock:
            return [irq.fileno() for passed in self._passed.values() for irq in passed.host.irqs()]

    def _look(self, schid: SubchannelId, passed: _Passed) -> int:
        host, seen = passed.host, 0
        if host.request_irq is not None and host.request_irq.poll():
            self._remove(schid)
            self._report_subchannel(schid)
            return 1
        if host.crw_irq is not None and host.crw_irq.poll():
            seen += self._take_reports(passed)
        seen += self._take_io(passed)
        if passed.guest.present_alert():
            self._interrupt(passed.guest)
            seen += 1
        return seen

    def _take_io(self, passed: _Passed) -> int:
        if not passed.host.io_irq.poll():
            return 0
        guest = passed.guest
        try:
            irb = passed.host.irb()
        except PyvfioError:
            if guest.fctl & Fctl.START:
                guest.fail(cc=3)
                self._interrupt(guest)
            return 1
        if guest.take(irb):
            passed.host.tell("Q7", "the interrupt is injected into the guest")
            self._interrupt(guest)
        return 1

    def _take_reports(self, passed: _Passed) -> int:
        taken = 0
        while (crw := passed.host.crw()) is not None:
            taken += 1
            # Every subchannel of a path reports it; the guest has one path, so it hears of it once.
            if crw not in self._reports:
                self._report(crw)
        self._refresh(passed)
        return taken

    def _report_subchannel(self, schid: SubchannelId) -> None:
        first, second = Crw.for_subchannel(schid, ErrorRecovery.PARAMETERS_INITIALIZED)
        if schid.cssid or schid.ssid:
            self._report(first, second)
        else:
            self._report(Crw(rsc=ReportingSource.SUBCHANNEL, erc=first.erc, rsid=schid.number))

    def _report(self, *crws: Crw) -> None:
        self._reports.extend(crws)
        self._on_crw()

    def _interrupt(self, guest: GuestSubchannel) -> None:
        if guest.pmcw.ena:
            self._requests[guest.schid] = guest.pmcw.isc
            self._on_io_interrupt(guest.schid)

    def _refresh(self, passed: _Passed) -> bool:
        try:
            passed.guest.refresh(passed.host.schib())
        except PyvfioError:
            return False
        return True

    def _operational(self, schid: SubchannelId) -> _Passed | None:
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
            for passed in self._passed.values():
                try:
                    passed.host.reset()
                    passed.guest.reset(passed.host.schib())
                except PyvfioError:
                    passed.guest.reset(passed.guest.schib())

    def close(self) -> None:
        """Close all devices; a second call does nothing."""
        with self._lock, ExitStack() as stack:
            for schid in list(self._passed):
                stack.callback(self._remove, schid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<GuestChannelSubsystem with {len(self._passed)} subchannels>"
