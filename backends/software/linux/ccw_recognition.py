"""Finding out what a channel device is: sense ID, and what follows from its answer.

Source: ``drivers/s390/cio/device_id.c``, and ``ccw_device_recognition`` with its end in ``device_fsm.c``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio.css.ccw import Ccw, CcwFlag, Command
from pyvfio.css.senseid import SenseId
from pyvfio.errors import Misuse
from pyvfio_backends.software.linux.ccw_request import CcwRequest
from pyvfio_backends.software.linux.ccw_state import CcwState, Todo

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw_fsm import CcwFsm
    from pyvfio_backends.software.linux.subchannel import SubchannelDevice

__all__ = ["Recognition"]

_SENSE_ID_TIMEOUT: Final = 10.0
_SENSE_ID_RETRIES: Final = 256
_SENSE_ID_SIZE: Final = 256
_SENSE_ID_LEAST: Final = 4


class Recognition:
    """Of the device that has the machine `fsm`; `over` says whether it is known what became of it."""

    def __init__(self, fsm: CcwFsm) -> None:
        self.over = False
        self._fsm = fsm
        self._sensed: SenseId | None = None

    def start(self) -> None:
        """Find out what the device is (``ccw_device_recognition``)."""
        sch = self._fsm.subchannel
        self.over = False
        self._fsm.device.state = CcwState.SENSE_ID
        if sch is None or sch.enable():
            self._done(CcwState.NOT_OPERATIONAL)
        else:
            self._start_sense_id(sch)

    def _start_sense_id(self, sch: SubchannelDevice) -> None:
        ccw = Ccw(Command.SENSE_ID, CcwFlag.SLI, _SENSE_ID_SIZE, 0)
        blank = bytes(1) + b"\xff\xff" + bytes(_SENSE_ID_SIZE - 3)
        lpm = sch.schib.pmcw.pam & sch.opm
        request = CcwRequest(self._fsm, (ccw,), blank, lpm, self._sense_id_done, _SENSE_ID_TIMEOUT, _SENSE_ID_RETRIES)

        def check() -> int:
            data = request.read()
            if _SENSE_ID_SIZE - request.irb.scsw.count < _SENSE_ID_LEAST or data[1:3] == b"\xff\xff":
                return errno.EAGAIN
            try:
                self._sensed = SenseId.from_bytes(data)
            except Misuse:
                return errno.EOPNOTSUPP
            return 0

        request.check = check
        self._fsm.begin(request)

    def _sense_id_done(self, code: int) -> None:
        self._done(
            CcwState.OFFLINE if not code else CcwState.BOXED if code == errno.ETIME else CcwState.NOT_OPERATIONAL
        )

    def _done(self, state: CcwState) -> None:
        device, sch = self._fsm.device, self._fsm.subchannel
        if sch is None or sch.disable():
            state = CcwState.NOT_OPERATIONAL
        if sch is None or sch.update_schib():
            state = CcwState.NOT_OPERATIONAL
        else:
            sch.lpm = sch.schib.pmcw.pam & sch.opm
        if device.state is CcwState.DISCONNECTED_SENSE_ID and state is not CcwState.OFFLINE:
            self.over = True
            device.state = CcwState.DISCONNECTED
            self._fsm.wake()
            return
        if state is CcwState.OFFLINE and device.online:
            device.state = CcwState.OFFLINE
            self.over = True
            if self._sensed is not None and _same(self._sensed, device.identity):
                self._fsm.notify_when_done = True
                self._fsm.go_online()
                self._fsm.wake()
            else:
                device.identity = self._sensed or device.identity
                self._fsm.schedule(Todo.REBIND)
            return
        if state is CcwState.OFFLINE:
            device.identity = self._sensed or device.identity
        elif state is CcwState.BOXED and device.identity.cu_type:
            self.over = True
            device.state = state
            self._fsm.wake()
            return
        device.state = state
        if state is CcwState.OFFLINE:
            self._fsm.schedule(Todo.REGISTER)
        else:
            self.over = True
            self._fsm.schedule(Todo.UNREGISTER)
        self._fsm.wake()

    def again(self) -> None:
        """Ask a disconnected device again."""
        sch = self._fsm.subchannel
        if sch is not None and not sch.enable():
            self._fsm.device.state = CcwState.DISCONNECTED_SENSE_ID
            self._start_sense_id(sch)

    def reprobe(self) -> None:
        """Look whether a disconnected device is there again (``ccw_device_trigger_reprobe``)."""
        sch = self._fsm.subchannel
        if self._fsm.device.state is not CcwState.DISCONNECTED or sch is None or sch.update_schib():
            return
        sch.lpm = sch.schib.pmcw.pam & sch.opm
        sch.init_config()
        if sch.commit_config():
            return
        if sch.schib.pmcw.devno != self._fsm.device.devno:
            sch.css.schedule_evaluation(sch)
        else:
            self.again()


def _same(one: SenseId, other: SenseId) -> bool:
    return (one.cu_type, one.cu_model, one.dev_type, one.dev_model) == (
        other.cu_type,
        other.cu_model,
        other.dev_type,
        other.dev_model,
    )
