"""Events of frozen endpoints, and who handles them one at a time (``arch/powerpc/kernel/eeh_event.c``, Linux 6.12).

The newest is handled first, by the kernel's thread ``eehd``; a program that causes one does not wait for it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pyvfio.abi.eeh_state import EehPeFlag
from pyvfio_backends.software.linux.eeh_pe import EehPe, PeType
from pyvfio_backends.software.linux.kernel_log import ERROR

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.eeh import Eeh

__all__ = ["EehEvents"]


class EehEvents:
    """The events that wait, of `eeh`; whoever recovers subclasses it."""

    def __init__(self, eeh: Eeh) -> None:
        self.eeh = eeh
        self._events: list[EehPe | None] = []
        self._masked = True
        self._pending = False
        self._scheduled = False

    def handle(self, pe: EehPe) -> None:
        """Recover an endpoint."""

    def handle_special(self) -> None:
        """Ask the firmware what there is."""

    def start(self) -> None:
        """Take the bridges' interrupts from now on."""
        self.unmask()

    def interrupt(self) -> None:
        """A bridge has found an error (``pnv_eeh_event``): masked until everything is handled."""
        if self._masked:
            self._pending = True
            return
        self._masked = True
        if self.eeh.enabled:
            self.send(None)

    def unmask(self) -> None:
        """Take the bridges' interrupts again, also one that came meanwhile."""
        self._masked = False
        if self._pending:
            self._pending = False
            self.interrupt()

    def send(self, pe: EehPe | None) -> None:
        """Have an endpoint recovered; None: the firmware is asked which (``eeh_send_failure_event``)."""
        if self.eeh.no_recover:
            self.eeh.say(ERROR, "Event dropped due to no_recover setting")
            return
        self.send_anyway(pe)

    def send_anyway(self, pe: EehPe | None) -> None:
        """`send`, although people do not want any."""
        if pe is not None:
            pe.mark(EehPeFlag.RECOVERING)
        self._events.insert(0, pe)
        if not self._scheduled and self.eeh.worker is None:
            self._scheduled = True
            self.eeh.kernel.clock.schedule(0, self._wake)

    def forget(self, pe: EehPe | None, *, force: bool) -> None:
        """Take events of an endpoint, or all, out of the queue (``eeh_remove_event``)."""

        def goes(event: EehPe | None) -> bool:
            if not force and event is not None and event.flags & EehPeFlag.ISOLATED:
                return False
            if pe is None or event is pe:
                return True
            return bool(pe.type & PeType.PHB) and event is not None and event.host is pe.host

        self._events = [event for event in self._events if not goes(event)]

    def _wake(self) -> None:
        self._scheduled = False
        if self._events and self.eeh.worker is None:
            self.eeh.kernel.clock.run_apart(self._work, "eehd")

    def _work(self) -> None:
        if self.eeh.worker is not None:
            return
        self.eeh.worker = threading.current_thread()
        try:
            while self._events:
                pe = self._events.pop(0)
                if pe is None:
                    self.handle_special()
                else:
                    self.handle(pe)
        finally:
            self.eeh.worker = None
