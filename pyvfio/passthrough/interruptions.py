"""What the host reports of a guest's devices: statuses, channel reports, and that it wants a device back.

It is taken in when somebody looks: `poll`, `wait`, or the thread of `serve`.  A status becomes pending at the guest's
subchannel and requests an interruption (Q6 and Q7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyvfio.address import SubchannelId
from pyvfio.css.irb import Irb
from pyvfio.css.scsw import Actl, Cstat, Dstat, Fctl, Scsw, Stctl
from pyvfio.css.trace import StepListener
from pyvfio.errors import PyvfioError
from pyvfio.passthrough.events import EventThread, wait_for_any, wait_for_any_async
from pyvfio.passthrough.guest_subchannel import GuestSubchannel
from pyvfio.passthrough.inventory import GuestInventory, Passed
from pyvfio.passthrough.memory import GuestStorage

__all__ = ["GuestInterruptions"]

_SECONDS: Final = 10.0
#: How long an end that the kernel has seen already may take until it is signalled.
_GRACE: Final = 0.05
_ADDRESS: Final = (1 << 32) - 1
_NO_DSTAT: Final = Dstat(0)
_NO_CSTAT: Final = Cstat(0)


class GuestInterruptions(GuestInventory):
    """The devices of a guest and what they report; `on_io_interrupt` is called when an enabled one has a status."""

    def __init__(
        self,
        memory: GuestStorage,
        on_io_interrupt: Callable[[SubchannelId], None],
        on_crw: Callable[[], None],
        trace: StepListener | None,
    ) -> None:
        super().__init__(memory, on_crw, trace)
        self._on_io_interrupt = on_io_interrupt

    def poll(self) -> int:
        """Take in what the host has reported since the last look; how many events there were.  Never waits."""
        with self._lock:
            return sum(self._look(schid, passed) for schid, passed in list(self._passed.items()))

    def wait(self, timeout: float | None = _SECONDS) -> bool:
        """Wait up to `timeout` seconds (None: for ever) for a report of the host, and take it in; whether one came."""
        return bool(self.poll() or (wait_for_any(self.filenos(), timeout) and self.poll()))

    async def wait_async(self, timeout: float | None = _SECONDS) -> bool:
        """As `wait`, without blocking the event loop; one task at a time."""
        return bool(self.poll() or (await wait_for_any_async(self.filenos(), timeout) and self.poll()))

    def serve(self) -> EventThread:
        """Take in what the host reports on a thread of its own, until that is closed; it calls the callbacks."""
        return EventThread(self.filenos, self.poll)

    def filenos(self) -> list[int]:
        """The eventfds that become readable when the host reports something: for `select` or an event loop."""
        with self._lock:
            return [irq.fileno() for passed in self._passed.values() for irq in passed.host.irqs()]

    def _look(self, schid: SubchannelId, passed: Passed) -> int:
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

    def _take_io(self, passed: Passed) -> int:
        if not passed.host.io_irq.poll():
            return 0
        guest = passed.guest
        try:
            irb = passed.host.irb()
        except PyvfioError:
            if guest.fctl & Fctl.START:
                guest.end(cc=3)
                self._interrupt(guest)
            return 1
        if passed.clearing and irb.scsw.fctl & Fctl.CLEAR and not guest.scsw.actl & Actl.CLEAR_PENDING:
            passed.clearing = False
            return 1
        if guest.take(irb):
            passed.host.tell("Q7", "the interrupt is injected into the guest")
            self._interrupt(guest)
        elif not irb.scsw.is_solicited and guest.scsw.actl:
            self._look_for_end(passed)
        return 1

    def _look_for_end(self, passed: Passed) -> None:
        """End a function whose status was lost.

        The I/O region keeps one response: an attention right behind the end of a program takes its place.  When the
        host's subchannel has no function any more and nothing else was signalled, no end will come.  vfio-ccw may wait
        for that end still, and would take no other start; a clear makes it ready again.
        """
        if not self._is_idle(passed) or wait_for_any([passed.host.io_irq.fileno()], _GRACE):
            return
        guest = passed.guest
        passed.clearing = passed.host.clear() == 0
        if guest.fctl & (Fctl.HALT | Fctl.CLEAR):
            guest.take(Irb(Scsw(fctl=guest.fctl, stctl=Stctl.PENDING)))
            self._interrupt(guest)
        else:
            self._end(passed, cpa=guest.scsw.cpa, cstat=Cstat.INTERFACE_CONTROL_CHECK)

    @staticmethod
    def _is_idle(passed: Passed) -> bool:
        try:
            return not passed.host.schib().scsw.fctl
        except PyvfioError:
            return False

    def _stopped(self, passed: Passed) -> None:
        self._take_io(passed)
        guest = passed.guest
        if guest.fctl & Fctl.START and not guest.pending and self._is_idle(passed):
            self._end(passed, cpa=guest.scsw.cpa, cstat=Cstat.INTERFACE_CONTROL_CHECK)

    def _take_reports(self, passed: Passed) -> int:
        taken = 0
        while (crw := passed.host.crw()) is not None:
            taken += 1
            # Every subchannel of a path reports it; the guest has one path, so it hears of it once.
            if crw not in self._reports:
                self._report(crw)
        self._refresh(passed)
        return taken

    def _interrupt(self, guest: GuestSubchannel) -> None:
        if guest.pmcw.ena:
            self._requests.request(guest.schid, guest.pmcw.intparm, guest.pmcw.isc)
            self._on_io_interrupt(guest.schid)

    def _end(
        self, passed: Passed, *, cpa: int = 0, dstat: Dstat = _NO_DSTAT, cstat: Cstat = _NO_CSTAT, count: int = 0
    ) -> None:
        passed.guest.end(cpa=cpa & _ADDRESS, dstat=dstat, cstat=cstat, count=count)
        self._interrupt(passed.guest)
