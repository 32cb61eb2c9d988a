"""Start, halt and clear of one channel device, as steps that a thread or a task can do; and what comes unasked.

What an interrupt brings goes here, in this order::

    IRB without a status (a signal that came twice)  -> passed over
    unsolicited                                      -> kept; a start under way may have lost its end by it
    of halt or clear                                 -> who asked for it, and the program that it ended
    else                                             -> the program under way

vfio-ccw keeps one IRB, so an end is lost when something else comes before anybody looked; the SCHIB says then that no
function is under way any more.  Source: ``vfio_ccw_sch_io_todo()`` in ``drivers/s390/cio/vfio_ccw_drv.c``.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, Unpack

from pyvfio.abi import vfio_ccw as abi
from pyvfio.address import DeviceNumber, SubchannelId
from pyvfio.channel_errors import DeviceGone, StatusLost, ended_badly, start_refused
from pyvfio.channel_events import Intake, Steps, Wait
from pyvfio.channel_regions import ChannelRegions
from pyvfio.channel_status import merge
from pyvfio.channel_storage import MappedStorage
from pyvfio.css.checker import check as check_rules
from pyvfio.css.irb import Irb
from pyvfio.css.orb import Orb
from pyvfio.css.scsw import Actl, Cstat, Fctl, Scsw, Stctl
from pyvfio.css.trace import Step, StepDetails, StepListener
from pyvfio.errors import BadAddress, DeviceBusy, Misuse, NotAvailable, PyvfioError, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyvfio.vfio import Device
    from pyvfio.vfio.irq import Irq

__all__ = ["KEPT", "ChannelFunctions"]

KEPT: Final = 256
"""How many unsolicited statuses are kept; the oldest go first."""
_PATIENCE: Final = 1.0
_GRACE: Final = 0.05
_PAUSE: Final = 0.01
_RUNNING: Final = Actl.SUBCHANNEL_ACTIVE | Actl.DEVICE_ACTIVE
_STOPPED: Final = Fctl.HALT | Fctl.CLEAR
_FUNCTION: Final = {abi.VFIO_CCW_ASYNC_CMD_HSCH: Fctl.HALT, abi.VFIO_CCW_ASYNC_CMD_CSCH: Fctl.CLEAR}
_WORDS: Final = {abi.VFIO_CCW_ASYNC_CMD_HSCH: "halt subchannel", abi.VFIO_CCW_ASYNC_CMD_CSCH: "clear subchannel"}
_DONE: Final = {abi.VFIO_CCW_ASYNC_CMD_HSCH: "was halted", abi.VFIO_CCW_ASYNC_CMD_CSCH: "was cleared"}
_ITSELF: Final = "had ended"
_RUN: Final = "run channel program"


class _Awaited:
    """A function whose end is awaited: the status so far, and whether that is the end."""

    __slots__ = ("ended", "error", "fctl", "irb", "lost")

    def __init__(self, fctl: Fctl) -> None:
        self.fctl = fctl
        self.irb: Irb | None = None
        self.ended = False
        self.error: PyvfioError | None = None
        self.lost = False

    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.ended or self.error is not None

    @property
    def suspended(self) -> bool:
        """Whether it has suspended itself."""
        return self.irb is not None and bool(self.irb.scsw.actl & Actl.SUSPENDED)


class ChannelFunctions:
    """The functions of `device`; see `pyvfio.css.subchannel.Subchannel`, which is made of it.

    `last` is the last status that answered a function; `requests` says how often the host asked for the device.
    """

    def __init__(self, device: Device, name: str, trace: StepListener | None) -> None:
        self._regions = ChannelRegions(device, "drive a channel device")
        self.device = device
        self._trace = trace
        self.path = ""
        self.schid: SubchannelId | None = None
        self.name = name or device.name
        self.last: Irb | None = None
        self.requests = 0
        self._program: _Awaited | None = None
        self._stopping: list[_Awaited] = []
        self._attentions: deque[Irb] = deque(maxlen=KEPT)
        self._queue: deque[object] = deque()
        self._left_running = False
        self._intake = Intake(self.name, self._take_in, self._look)
        self._tell("Q1", f"the I/O region has {self._regions.io.size} bytes at offset {self._regions.io.offset:#x}")
        self.irq: Irq = self._regions.io_irq
        self._intake.add(self.irq)
        self._tell("Q2", "an eventfd awaits the end of I/O")
        self._find_names(name)

    def _find_names(self, name: str) -> None:
        """The sysfs path, the subchannel's id, and the device number by which people know the device."""
        path = f"/sys/bus/mdev/devices/{self.device.name}"
        with suppress(OSError, BadAddress, IndexError):
            self.schid = SubchannelId.parse(self.device.backend.readlink(path).split("/")[-2])
            self.path = path
            self.name = name or str(self.schid)
            with suppress(PyvfioError):
                pmcw = self._regions.schib().pmcw
                if pmcw.dnv and not name:
                    self.name = str(DeviceNumber(self.schid.cssid, self.schid.ssid, pmcw.devno))
        self._intake.name = self.name

    def _tell(self, name: str, text: str, **details: Unpack[StepDetails]) -> None:
        if self._trace is not None:
            self._trace(Step(name, self.device.name, text, **details))

    @contextmanager
    def _explained(self, operation: str) -> Iterator[None]:
        """Give errors of a region the device's name, its path and a cause."""
        try:
            yield
        except PyvfioError as error:
            if isinstance(error, NotAvailable | Misuse):
                error.obj, error.path = self.name, self.path
                raise
            self._intake.check()  # it may have been closed on another thread
            refused = start_refused(error, operation, self.name, self.path)
            if error.errno == errno.ENODEV:
                refused = self._gone(operation, errno.ENODEV)
            raise refused from error

    def _gone(self, operation: str, number: int | None) -> DeviceGone:
        cause = "the subchannel, or the device behind it, is not there any more"
        then = "close it; when the device is back, take it and open it anew"
        return DeviceGone(operation, self.name, path=self.path, errno=number, cause=cause, next_step=then)

    @property
    def features(self) -> frozenset[str]:
        """Which of ``halt-clear``, ``schib``, ``crw``, ``request`` this kernel's vfio-ccw has."""
        regions = self._regions
        has = {
            "halt-clear": regions.has_async,
            "schib": regions.has_schib,
            "crw": regions.has_crw,
            "request": self.device.request is not None,
        }
        return frozenset(name for name, there in has.items() if there)

    @property
    def busy(self) -> bool:
        """Whether a program of this object is under way."""
        return self._program is not None

    # what interrupts bring: called under the lock

    def _take_in(self) -> bool:
        """Take in all that came; whether something did."""
        came = False
        for irq in self._intake.irqs:
            times = irq.poll()
            if not times:
                continue
            came = True
            if irq is self.irq:
                self._take_status()
            elif irq is self.device.request:
                self.requests += times
        return came

    def _take_status(self) -> None:
        try:
            irb = self._regions.irb()
        except PyvfioError as error:
            for awaited in self._all():
                awaited.error = self._gone(_RUN, error.errno)
            return
        scsw = irb.scsw
        if not scsw.stctl and not scsw.cc:  # a signal that came late: the IRB was taken with the one before
            for awaited in self._stopping:
                awaited.lost = True
            return
        self._tell("Q6", "the event came; the IRB is read from the I/O region", irb=irb)
        if not scsw.is_solicited:
            self._attentions.append(irb)
            for awaited in self._all():
                awaited.lost = True
            return
        self.last = irb
        for awaited in self._all():
            if awaited is self._program:
                awaited.irb, awaited.ended = merge(awaited.irb, irb)
                awaited.ended |= bool(scsw.fctl & _STOPPED) and self._has_stopped(irb)
            elif scsw.fctl & (awaited.fctl | Fctl.CLEAR):
                awaited.irb, awaited.ended = irb, True

    def _all(self) -> list[_Awaited]:
        """What waits for its end."""
        awaited = self._stopping if self._program is None else [self._program, *self._stopping]
        return [one for one in awaited if not one.over()]

    def _look(self) -> None:
        """Nothing came for a while: is the device there?  Raise `DeviceGone`."""
        try:
            self._regions.schib()
        except NotAvailable:
            return
        except PyvfioError as error:
            if error.errno in (errno.ENODEV, errno.EIO):
                raise self._gone("wait for interrupt", error.errno) from error

    def _await(self, done: Callable[[], object], timeout: float | None, operation: str) -> Steps[None]:
        try:
            yield Wait(done, None if timeout is None else time.monotonic() + timeout)
        except Timeout as error:
            raise Timeout(operation, self.name, path=self.path, cause=f"none came within {timeout:g} s") from error

    # programs: one at a time

    def _turn(self, ticket: object, deadline: float) -> Steps[None]:
        """Wait until no other program of this object is under way; `_leave` ends the turn."""
        self._queue.append(ticket)
        if self._queue[0] is ticket:
            return
        try:
            yield Wait(lambda: self._queue[0] is ticket, deadline)
        except Timeout as error:
            cause = "another program of this subchannel was under way all the time"
            then = "give a longer timeout, or stop the other one"
            raise DeviceBusy(_RUN, self.name, path=self.path, cause=cause, next_step=then) from error

    def _leave(self, ticket: object) -> None:
        with suppress(ValueError):
            self._queue.remove(ticket)
        if self._queue:
            self._intake.ring()

    def _perform(self, request: bytes, deadline: float, timeout: float, check: bool, orb: Orb) -> Steps[Irb]:
        """Start the program of an ORB, of which `request` are the bytes, and await its end."""
        program = _Awaited(Fctl.START)
        try:
            if self._left_running:
                yield from self._stop()
            while not self._request(request, program, orb):
                yield Wait(lambda: not self._stopping, deadline)
            if not program.ended:
                yield from self._until_over(program, deadline)
            irb = self._status(program)
        except Timeout as error:
            if self._program is not program:
                cause = "a halt or clear of another thread or task was under way all the time"
                raise DeviceBusy(_RUN, self.name, path=self.path, cause=cause, next_step="start it again") from error
            did = yield from self._stop()
            if did != _ITSELF:
                raise self._too_late(timeout, did) from error
            irb = self._status(program)
        except BaseException as error:
            if self._program is program and not isinstance(error, DeviceGone):
                error.add_note(f"{self.name}: the channel program {yield from self._stop()}")
            raise
        finally:
            self._program = None
        return self._ended(irb, check, orb)

    def _request(self, request: bytes, program: _Awaited, orb: Orb) -> bool:
        """Write the request; false, and nothing is done, while a halt or clear is under way.

        The request is written over the IRB, so the end of that function would be lost.
        """
        with self._intake.lock:
            self._intake.check()
            if self._stopping:
                return False
            self._tell("Q3", "START SUBCHANNEL is requested", orb=orb)
            self._take_in()  # what came before this start is not its end
            self._program = program
            self._tell("Q4", "the ORB is written to the I/O region")
            try:
                self._regions.start(request)
            except PyvfioError as error:
                self._program = None
                self._tell("Q5", f"the start is refused: {error.errno_name}")
                raise start_refused(error, "start channel program", self.name, self.path) from error
            self._tell("Q5", "the condition code is 0: started", condition_code=0)
            if self._take_in():
                self._intake.ring()
        return True

    def _until_over(self, program: _Awaited, deadline: float) -> Steps[None]:
        """Await the end of a program."""
        yield from self._until(lambda: program.over() or program.suspended, program, deadline)
        if program.suspended:
            yield from self._stop()
        elif not program.over():
            cause = "another status took the place of its end: vfio-ccw keeps one"
            then = "it is over, whatever it did; start it again if that does no harm"
            raise StatusLost(_RUN, self.name, path=self.path, cause=cause, next_step=then)

    def _until(self, done: Callable[[], bool], awaited: _Awaited, deadline: float, finish: bool = False) -> Steps[None]:
        """Wait until it is done, or another status has taken the place of the end."""
        while True:
            yield Wait(lambda: done() or awaited.lost, deadline, finish)
            if done():
                return
            awaited.lost = False
            for _ in range(2):  # the kernel has an end before it signals it: if it has none twice, none comes
                try:
                    yield Wait(done, min(deadline, time.monotonic() + _GRACE), finish)
                except Timeout:
                    if time.monotonic() >= deadline or not self._idle():
                        break
                else:
                    return
            else:
                return

    def _idle(self) -> bool:
        """Whether the host's subchannel has no function under way; no, if it cannot be asked."""
        try:
            return not self._regions.schib().scsw.fctl
        except PyvfioError:
            return False

    def _status(self, program: _Awaited) -> Irb:
        if program.error is not None:
            raise program.error
        return program.irb if program.irb is not None else Irb()

    def _ended(self, irb: Irb, check: bool, orb: Orb) -> Irb:
        self._tell("Q7", "the interrupt is handed to who asked for the start")
        if check and (not irb.scsw.ok or irb.scsw.fctl & _STOPPED):
            faults = ""
            if irb.scsw.cstat & Cstat.PROGRAM_CHECK:
                with suppress(PyvfioError):
                    faults = "; ".join(map(str, check_rules(orb, MappedStorage(self.device.space))[:3]))
            raise ended_badly(_RUN, self.name, self.path, irb, faults)
        return irb

    def _too_late(self, timeout: float, did: str) -> Timeout:
        return Timeout(
            _RUN,
            self.name,
            path=self.path,
            cause=f"it did not end within {timeout:g} s and {did}",
            next_step="give a longer timeout if the device may take so long",
        )

    # halt and clear

    def _function(self, number: int, deadline: float, *, finish: bool = False) -> Steps[Irb]:
        """HALT or CLEAR SUBCHANNEL, and the IRB of its end."""
        what = _WORDS[number]
        awaited = _Awaited(_FUNCTION[number])
        with self._intake.lock:
            self._intake.check()
            self._take_in()
            if any(other.fctl == awaited.fctl for other in self._stopping):
                cause = "another thread or task does that just now"
                raise DeviceBusy(what, self.name, path=self.path, cause=cause, next_step="wait for its end")
            self._stopping.append(awaited)
        try:
            with self._explained(what):
                self._regions.command(number, what)
            yield from self._until(awaited.over, awaited, deadline, finish)
            # When its status was lost, no more is known than that it has ended.
            return self._status(awaited) if awaited.over() else Irb(Scsw(fctl=awaited.fctl, stctl=Stctl.PENDING))
        except Timeout as error:
            cause = "its end was not reported in time"
            then = "clear it" if number == abi.VFIO_CCW_ASYNC_CMD_HSCH else "reset the device (Device.reset)"
            raise Timeout(what, self.name, path=self.path, cause=cause, next_step=then) from error
        except PyvfioError:
            raise
        except BaseException:
            with suppress(PyvfioError):  # its end would be in the way of the next function
                yield Wait(awaited.over, time.monotonic() + _PATIENCE, True)
            raise
        finally:
            self._stopping.remove(awaited)
            self._intake.ring()

    def _stop(self) -> Steps[str]:
        """Halt, then clear, then reset; what was done, in words."""
        program = self._program
        with self._intake.lock:
            self._take_in()
        if program is None and self._idle():
            return "it was idle"
        self._left_running = False
        for number in _FUNCTION:
            until = time.monotonic() + _PATIENCE
            while program is None or not program.over():
                try:
                    irb = yield from self._function(number, until, finish=True)
                except DeviceBusy:
                    if time.monotonic() >= until:
                        break
                    yield from self._pause(program)
                except PyvfioError:
                    break
                else:
                    if self._has_stopped(irb):
                        return _DONE[number]
                    break
            else:
                return _ITSELF
        return self._reset()

    def _pause(self, program: _Awaited | None) -> Steps[None]:
        """A status is on its way to the kernel: give it time."""
        with suppress(Timeout):
            yield Wait(lambda: program is not None and program.over(), time.monotonic() + _PAUSE, True)

    @staticmethod
    def _has_stopped(irb: Irb) -> bool:
        """Whether a halt or clear ended the program: some subchannels end a halt and are active still."""
        return not irb.scsw.actl & _RUNNING

    def _reset(self) -> str:
        try:
            self.device.reset()
        except PyvfioError as worse:
            self._left_running = True
            self._abandon()
            return f"was left running ({worse.operation} {worse.errno_name})"
        with self._intake.lock:
            self.irq.poll()  # what was signalled before is of the program that is no more
        return "was stopped by a reset"

    def _abandon(self) -> None:
        """Give up memory that a program may use still."""
