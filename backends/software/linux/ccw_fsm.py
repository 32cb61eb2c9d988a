"""What a ccw device is, and what each event does to it (``drivers/s390/cio/device_fsm.c``).

=====================  ===================  =====================  ====================  ==========================
state                  not operational      interruption           timeout               verify
=====================  ===================  =====================  ====================  ==========================
not operational        nothing              disable                nothing               nothing
sense id               request              request                request               nothing
offline                gone                 disable                nothing               look at the subchannel
verify                 request              request                request               once more afterwards
online                 gone                 the driver's           stop the program      verify, or after the program
disband                request              request                request               nothing
boxed                  gone                 nothing                nothing               verify, or look
stopping a program     gone                 tell driver, verify    once more             nothing
quiesce                done                 done                   once more             nothing
disconnected           nothing              sense id again         nothing               sense id again
disconnected sense id  request              request                request               nothing
steal lock             request              request                request               nothing
=====================  ===================  =====================  ====================  ==========================

"Request" is the request of cio that runs; "gone" asks the driver whether it keeps the device, which is disconnected
then, and unregistered otherwise.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.css.irb import Irb
from pyvfio.css.scsw import Stctl
from pyvfio_backends.software.linux.ccw_paths import PathVerification, disband, steal_lock
from pyvfio_backends.software.linux.ccw_recognition import Recognition
from pyvfio_backends.software.linux.ccw_request import CcwRequest
from pyvfio_backends.software.linux.ccw_state import REQUESTING, CcwState, Notice, Todo

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw import CcwDevice
    from pyvfio_backends.software.linux.subchannel import SubchannelDevice

__all__ = ["CcwFsm"]

_KILL_TIMEOUT: Final = 3.0
_CANCEL_TRIES: Final = 255
_PATHS: Final = 8


class CcwFsm:
    """The machine of `device`, made when something happens to the device.

    `grouping` and `multipath` are what path verification aims at; `gone_paths`, `new_paths` and `reset_paths` what
    happened to the paths since the driver was told.
    """

    def __init__(self, device: CcwDevice) -> None:
        self.device = device
        self.request: CcwRequest | None = None
        self.recognition = Recognition(self)
        self.verify_again = False
        self.notify_when_done = False
        self.grouping = self.multipath = False
        self.gone_paths = self.new_paths = self.reset_paths = 0
        self.todo = Todo.NOTHING
        self._broken = 0
        self._timer = 0
        self._armed = False
        self._retries = [0]
        self._kill_code = 0
        self._waiting: list[Callable[[], None]] = []

    @property
    def subchannel(self) -> SubchannelDevice | None:
        """The subchannel of the device; None for an orphan."""
        return self.device.subchannel

    # time

    def set_timeout(self, seconds: float) -> None:
        """Have the timeout event after `seconds`; 0 takes it back."""
        self._timer += 1
        self._armed = bool(seconds)
        if seconds:
            turn = self._timer
            clock = self.device.kernel.clock
            clock.schedule(seconds, lambda: self.timeout() if self._timer == turn else None, background=True)

    def wait(self, ready: Callable[[], bool]) -> None:
        """Let the machine work until `ready()`; a timer expires when nothing else can happen."""
        while not self.device.kernel.clock.run_until(ready):
            if not self._armed:
                return
            self.timeout()

    def when_final(self, work: Callable[[], None]) -> None:
        """Do `work` when the device is in a final state, or disconnected."""
        if self._settled():
            work()
        else:
            self._waiting.append(work)

    def _settled(self) -> bool:
        return self.device.state.final or self.device.state is CcwState.DISCONNECTED

    def wake(self) -> None:
        """Do what waits for a final state, if it is in one."""
        if self._waiting and self._settled():
            works, self._waiting = self._waiting, []
            for work in works:
                self.device.kernel.clock.schedule(0.0, work)

    def begin(self, request: CcwRequest) -> None:
        """Run a request of cio."""
        self.request = request
        request.start()

    # events

    def not_operational(self) -> None:
        """The subchannel or the device does not answer any more."""
        state = self.device.state
        if state in REQUESTING:
            if self.request is not None:
                self.request.not_operational()
        elif state is CcwState.QUIESCE:
            self._quiesced()
        elif state not in (CcwState.NOT_OPERATIONAL, CcwState.DISCONNECTED):
            self._gone()

    def interrupt(self, irb: Irb) -> None:
        """The subchannel presented a status."""
        state, sch = self.device.state, self.subchannel
        if state in REQUESTING:
            if self.request is not None:
                self.request.interrupt(irb)
        elif state in (CcwState.NOT_OPERATIONAL, CcwState.OFFLINE):
            if sch is not None:
                sch.disable()
        elif state is CcwState.ONLINE:
            self._driver_interrupt(irb)
        elif state is CcwState.TIMEOUT_KILL:
            self.set_timeout(0)
            self._verify_online()
            self._tell_handler(None, self._kill_code)
        elif state is CcwState.QUIESCE:
            self._quiesced()
        elif state is CcwState.DISCONNECTED:
            self.recognition.again()

    def timeout(self) -> None:
        """The time that was set is over."""
        self._armed = False
        state, sch = self.device.state, self.subchannel
        if state in REQUESTING:
            if self.request is not None:
                self.request.expired()
        elif state is CcwState.ONLINE:
            self.kill(errno.ETIMEDOUT)
        elif state is CcwState.TIMEOUT_KILL and sch is not None:
            if sch.cancel_halt_clear(self._retries) == errno.EBUSY:
                self.set_timeout(_KILL_TIMEOUT)
                return
            self._verify_online()
            self._tell_handler(None, self._kill_code)
        elif state is CcwState.QUIESCE:
            self._quiesced()

    def verify(self) -> None:
        """Something happened to the paths."""
        state, sch, device = self.device.state, self.subchannel, self.device
        if state is CcwState.VERIFY:
            self.verify_again = True
        elif state is CcwState.ONLINE:
            self._verify_online()
        elif state is CcwState.DISCONNECTED:
            self.recognition.again()
        elif state is CcwState.OFFLINE or (state is CcwState.BOXED and not device.online):
            if sch is not None:
                sch.css.schedule_evaluation(sch)
        elif state is CcwState.BOXED and sch is not None:
            if sch.enable():
                self._done(CcwState.NOT_OPERATIONAL)
            else:
                self._verify_online()

    # online and offline

    def go_online(self) -> int:
        """Enable and verify the paths: 0 when that has begun, or an errno (``ccw_device_online``)."""
        device, sch = self.device, self.subchannel
        if sch is None or device.state not in (CcwState.OFFLINE, CcwState.BOXED):
            return errno.EINVAL
        code = sch.enable()
        if code:
            if code == errno.ENODEV:
                self.not_operational()
            return code
        device.state = CcwState.VERIFY
        self._start_verification(sch)
        return 0

    def _start_verification(self, sch: SubchannelDevice) -> None:
        driver = self.device.ccw_driver
        self.grouping = driver is not None and driver.path_groups
        self.multipath = self.grouping
        self.verify_again = False
        PathVerification(self, sch, sch.css.path_group_id, self._verification_done).start()

    def _verify_online(self) -> None:
        """See ``ccw_device_online_verify``: at once if the device is idle, else after its program."""
        sch = self.subchannel
        if sch is None or sch.update_schib():
            self._verification_done(errno.ENODEV)
            return
        scsw = sch.schib.scsw
        if scsw.actl or scsw.stctl & Stctl.PENDING:
            self.device.state = CcwState.ONLINE
            self.verify_again = True
            return
        self.device.state = CcwState.VERIFY
        self._start_verification(sch)

    def _verification_done(self, code: int) -> None:
        sch = self.subchannel
        if sch is None or sch.update_schib():
            code = errno.ENODEV
        else:
            sch.lpm = sch.vpm
            if self.verify_again:
                self._start_verification(sch)
                return
        if code:
            self.notify_when_done = False
        if not code:
            self._done(CcwState.ONLINE)
            self._report_paths()
            self._note_broken_paths()
        elif code in (errno.ETIME, errno.EUSERS):
            self._done(CcwState.BOXED)
        else:
            self._done(CcwState.DISCONNECTED if code == errno.EACCES else CcwState.NOT_OPERATIONAL)
        self.gone_paths = self.new_paths = self.reset_paths = 0

    def _report_paths(self) -> None:
        """Tell the driver which paths went, came, or are in the path group anew."""
        device, sch = self.device, self.subchannel
        driver = device.ccw_driver
        if sch is None or driver is None or not device.online:
            return
        gone = self.gone_paths & ~sch.vpm
        new, reset = self.new_paths & sch.vpm, self.reset_paths & sch.vpm
        if gone or new or reset:
            driver.path_event(device, gone, new, reset)

    def _note_broken_paths(self) -> None:
        sch = self.subchannel
        if sch is None:
            return
        broken = sch.schib.pmcw.pam & sch.opm ^ sch.vpm
        if broken and broken != self._broken:
            sch.css.ccw.schedule_recovery()
        self._broken = broken

    def go_offline(self) -> int:
        """Disable: 0 when that has begun or is done, or an errno (``ccw_device_offline``)."""
        device, sch = self.device, self.subchannel
        if device.state in (CcwState.DISCONNECTED, CcwState.NOT_OPERATIONAL):
            self.notify_when_done = False
            self._done(CcwState.NOT_OPERATIONAL)
            return 0
        if device.state is CcwState.BOXED:
            self._done(CcwState.BOXED)
            return 0
        if sch is None:
            self._done(CcwState.OFFLINE)
            return 0
        if sch.update_schib():
            return errno.ENODEV
        if sch.schib.scsw.actl:
            return errno.EBUSY
        if device.state is not CcwState.ONLINE:
            return errno.EINVAL
        if not self.grouping:
            self._done(CcwState.OFFLINE)
            return 0
        device.state = CcwState.DISBAND
        disband(self, sch, sch.css.path_group_id, self._disbanded)
        return 0

    def _disbanded(self, code: int) -> None:
        if code and code != errno.ETIME:
            self.notify_when_done = False
        self._done(
            CcwState.OFFLINE if not code else CcwState.BOXED if code == errno.ETIME else CcwState.NOT_OPERATIONAL
        )

    def _done(self, state: CcwState) -> None:
        """The end of going online or offline (``ccw_device_done``)."""
        device, sch = self.device, self.subchannel
        self.set_timeout(0)
        if state is not CcwState.ONLINE and sch is not None:
            sch.disable()
        device.state = state
        if state is CcwState.BOXED:
            if device.online and not device.notify(Notice.BOXED):
                self.schedule(Todo.UNREGISTER)
            self.notify_when_done = False
        elif state is CcwState.NOT_OPERATIONAL:
            if device.notify(Notice.GONE):
                self.set_disconnected()
            else:
                self.schedule(Todo.UNREGISTER)
            self.notify_when_done = False
        elif state is CcwState.DISCONNECTED:
            if device.notify(Notice.NO_PATH):
                self.set_disconnected()
            else:
                device.state = CcwState.NOT_OPERATIONAL
                self.schedule(Todo.UNREGISTER)
            self.notify_when_done = False
        if self.notify_when_done:
            self.notify_when_done = False
            self._operational_again()
        self.wake()

    def _operational_again(self) -> None:
        sch = self.subchannel
        if self.device.notify(Notice.OPERATIONAL):
            self.schedule(Todo.ENABLE_CMF)
            self.new_paths = sch.vpm if sch is not None else 0
        else:
            self.set_not_operational()
            self.schedule(Todo.REBIND)

    def set_disconnected(self) -> None:
        """Keep the device without its paths or its subchannel; cio looks for them now and then."""
        self.set_timeout(0)
        self.device.state = CcwState.DISCONNECTED
        if self.device.online and self.device.bus is not None:
            self.device.ccw_bus.schedule_recovery()

    def set_not_operational(self) -> None:
        """Give the device up."""
        self.set_timeout(0)
        sch = self.subchannel
        if sch is not None:
            sch.disable()
        self.device.state = CcwState.NOT_OPERATIONAL

    def _gone(self) -> None:
        if self.device.notify(Notice.GONE):
            self.set_disconnected()
        else:
            self.schedule(Todo.UNREGISTER)

    # programs of the driver

    def _driver_interrupt(self, irb: Irb) -> None:
        self._tell_handler(irb, 0)
        ended = not irb.scsw.is_solicited or irb.scsw.stctl & Stctl.SECONDARY or irb.scsw.stctl in _ENDS
        if self.verify_again and ended and self.device.state is CcwState.ONLINE:
            self._verify_online()

    def _tell_handler(self, irb: Irb | None, code: int) -> None:
        driver = self.device.ccw_driver
        if driver is not None:
            driver.interrupt(self.device, irb, code)

    def kill(self, code: int = errno.EIO) -> None:
        """Stop the driver's program, and verify the paths then (``ccw_device_kill_io``)."""
        sch = self.subchannel
        self.set_timeout(0)
        self._retries = [_CANCEL_TRIES]
        self._kill_code = code
        result = errno.ENODEV if sch is None else sch.cancel_halt_clear(self._retries)
        if result == errno.EBUSY:
            self.set_timeout(_KILL_TIMEOUT)
            self.device.state = CcwState.TIMEOUT_KILL
        elif result and code == errno.ETIMEDOUT:
            self.not_operational()
        else:
            if code != errno.ETIMEDOUT:
                self._verify_online()
            self._tell_handler(None, code)

    def quiesce(self) -> None:
        """Disable the subchannel whatever runs on it (``io_subchannel_quiesce``)."""
        sch = self.subchannel
        if sch is None or not sch.schib.pmcw.ena or sch.disable() != errno.EBUSY:
            return
        self._tell_handler(None, errno.EIO)
        code = errno.EBUSY
        while code == errno.EBUSY:
            self.device.state = CcwState.QUIESCE
            self._retries = [_CANCEL_TRIES]
            if sch.cancel_halt_clear(self._retries) == errno.EBUSY:
                self.device.kernel.clock.run_until(lambda: self.device.state is not CcwState.QUIESCE)
            code = sch.disable()

    def _quiesced(self) -> None:
        self.set_timeout(0)
        self.device.state = CcwState.NOT_OPERATIONAL
        self.wake()

    def steal_lock(self) -> int:
        """Take a boxed device from the system that reserved it: 0 or an errno (``ccw_device_stlck``)."""
        sch, driver = self.subchannel, self.device.ccw_driver
        if driver is not None and not driver.may_force:
            return errno.EINVAL
        code = errno.ENODEV if sch is None else sch.enable()
        if sch is None or code:
            return code
        result: list[int] = []
        self.device.state = CcwState.STEAL_LOCK
        steal_lock(self, sch, result.append)
        self.wait(lambda: bool(result))
        sch.disable()
        self.device.state = CcwState.BOXED
        return result[0] if result else errno.EIO

    # work that waits

    def schedule(self, todo: Todo) -> None:
        """Have it done soon, unless something more important waits (``ccw_device_sched_todo``)."""
        if self.todo < todo:
            first = self.todo is Todo.NOTHING
            self.todo = todo
            if first:
                self.device.kernel.clock.schedule(0.0, self._work)

    def _work(self) -> None:
        todo, self.todo = self.todo, Todo.NOTHING
        if todo is not Todo.NOTHING and not self.device.dead:
            self.device.do(todo)


_ENDS: Final = frozenset({Stctl.PENDING, Stctl.ALERT | Stctl.PENDING})
