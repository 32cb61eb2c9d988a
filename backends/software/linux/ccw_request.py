"""A channel program of cio itself on a ccw device, tried again and on other paths until it is done (``ccwreq.c``)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag, Command
from pyvfio.css.irb import Irb, erw_concurrent_sense
from pyvfio.css.scsw import Dstat, Fctl, Stctl

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw_fsm import CcwFsm

__all__ = ["CcwRequest", "Outcome", "next_path"]

_SENSE_COUNT: Final = 32
_COMMAND_REJECT: Final = 0x80
_TWICE_EACH_PATH: Final = 0x8080
_PATH: Final = 0xFF


class Outcome(Enum):
    """What an interruption says about the program (``enum io_status``)."""

    DONE = auto()
    RUNNING = auto()
    ERROR = auto()
    PATH_ERROR = auto()
    REJECTED = auto()
    KILLED = auto()


def next_path(lpm: int, mask: int) -> int:
    """Shift `lpm` right until it has a bit in common with `mask`; 0 when it never has (``lpm_adjust``)."""
    while lpm and not lpm & mask:
        lpm >>= 1
    return lpm


@dataclass(slots=True)
class CcwRequest:
    """`program` (data addresses are offsets into `data`) on the paths of `lpm`; `callback` gets 0 or an errno.

    With `single_path` each path is tried by itself, and all of them twice; else the channel subsystem chooses.
    `check` looks at the data of a program that is done: 0, EAGAIN (again), EACCES (next path) or another errno.
    """

    fsm: CcwFsm
    program: Sequence[Ccw]
    data: bytes
    lpm: int
    callback: Callable[[int], None]
    timeout: float
    retries: int
    single_path: bool = False
    check: Callable[[], int] | None = None
    filter: Callable[[Irb, Outcome], Outcome] | None = None
    done: bool = False
    cancelled: bool = False
    irb: Irb = field(default_factory=Irb)
    _address: int = 0
    _mask: int = 0
    _left: int = 0
    _final: int = 0
    _sensing: bool = False

    def start(self) -> None:
        """Begin on the first path; without one the request ends with EACCES."""
        memory = self.fsm.device.kernel.memory
        size = CCW_SIZE * (len(self.program) + 1)
        self._address = memory.allocate(size + len(self.data) + _SENSE_COUNT)
        at = self._data_at
        for index, ccw in enumerate(self.program):
            memory.write(
                self._address + CCW_SIZE * index, replace(ccw, cda=at + ccw.cda if ccw.count else 0).to_bytes()
            )
        memory.write(at, self.data)
        self._left = self.retries
        self._mask = next_path(_TWICE_EACH_PATH if self.single_path else self.lpm, self.lpm)
        if self._mask:
            self._do()
        else:
            self._stop(errno.EACCES)

    @property
    def _data_at(self) -> int:
        return self._address + CCW_SIZE * (len(self.program) + 1)

    def read(self) -> bytes:
        """The data area as the program left it."""
        return self.fsm.device.kernel.memory.read(self._data_at, len(self.data))

    def cancel(self) -> None:
        """Have it end with EIO."""
        if not self.done:
            self.cancelled = True
            sch = self.fsm.subchannel
            code = errno.ENODEV if sch is None else sch.clear()
            if code:
                self._stop(code)

    # events

    def interrupt(self, irb: Irb) -> None:
        """The subchannel presented a status (``ccw_request_handler``)."""
        outcome = self._outcome(irb)
        if self.filter is not None:
            outcome = self.filter(self.irb, outcome)
        if outcome is Outcome.RUNNING:
            return
        self.fsm.set_timeout(0)
        if outcome is Outcome.DONE:
            code = 0 if self.check is None else self.check()
            if code not in (errno.EAGAIN, errno.EACCES):
                self._stop(0 if code == 0 else errno.EOPNOTSUPP)
                return
            outcome = Outcome.ERROR if code == errno.EAGAIN else Outcome.PATH_ERROR
        if outcome is Outcome.REJECTED:
            self._stop(errno.EOPNOTSUPP)
        elif outcome is Outcome.KILLED and self.cancelled:
            self._stop(errno.EIO)
        elif outcome is Outcome.PATH_ERROR and not self._next():
            self._stop(errno.EACCES)
        else:
            self._do()

    def expired(self) -> None:
        """No interruption came in time: clear, and go on with the next path."""
        sch = self.fsm.subchannel
        code = errno.ENODEV
        if sch is not None and not sch.update_schib():
            if not self._next():
                self._final = errno.ETIME
            code = sch.clear()
        if code:
            self._stop(code)

    def not_operational(self) -> None:
        """The device is gone."""
        self._stop(errno.ENODEV)

    # parts

    def _next(self) -> int:
        if self.single_path:
            self._left = self.retries
            self._mask = next_path(self._mask >> 1, self.lpm)
        else:
            self._mask = 0
        return self._mask

    def _do(self) -> None:
        sch = self.fsm.subchannel
        code = errno.ENODEV if sch is None else errno.EACCES
        while self._mask and sch is not None:
            if not self._left:
                self._next()
                continue
            self._left -= 1
            self._sensing = False
            self.irb = Irb()
            code = sch.start(self._address, self._mask & _PATH)
            if not code:
                self.fsm.set_timeout(self.timeout)
                return
            if code == errno.ENODEV:
                break
            if code == errno.EACCES:
                self._next()
                continue
            code = sch.clear()  # a status or a function is in the way; its interruption starts this again
            if not code:
                return
            break
        self._stop(code)

    def _stop(self, code: int) -> None:
        if self.done:
            return
        self.done = True
        self.fsm.set_timeout(0)
        if code not in (0, errno.ENODEV) and self._final:
            code = self._final
        try:
            self.callback(code)
        finally:
            self.fsm.device.kernel.memory.free(self._address)

    def _outcome(self, irb: Irb) -> Outcome:
        """See ``ccwreq_status``; a unit check without sense data has them fetched first."""
        sensed = self._sensing
        if sensed and not irb.scsw.fctl & (Fctl.HALT | Fctl.CLEAR):
            self._sensing = False
            sense = self.fsm.device.kernel.memory.read(self._data_at + len(self.data), _SENSE_COUNT)
            esw = self.irb.esw[:4] + erw_concurrent_sense(_SENSE_COUNT).to_bytes(4, "big") + self.irb.esw[8:]
            irb = replace(self.irb, scsw=replace(self.irb.scsw, ectl=True), esw=esw, ecw=sense)
        self.irb = irb
        scsw = irb.scsw
        if scsw.fctl & (Fctl.HALT | Fctl.CLEAR):
            return Outcome.KILLED
        if scsw.cc == 3 or scsw.pno:
            return Outcome.PATH_ERROR
        if scsw.dstat & Dstat.UNIT_CHECK and not sensed and not irb.sense and self._sense():
            return Outcome.RUNNING
        if irb.sense:
            return Outcome.REJECTED if irb.sense[0] & _COMMAND_REJECT else Outcome.ERROR
        if scsw.cstat or scsw.dstat & ~(Dstat.CHANNEL_END | Dstat.DEVICE_END):
            return Outcome.ERROR
        if not scsw.dstat & Dstat.DEVICE_END:
            return Outcome.RUNNING
        if scsw.cc == 1 and scsw.stctl & Stctl.ALERT:
            return Outcome.ERROR
        return Outcome.DONE

    def _sense(self) -> bool:
        """Start a basic sense on the path that the program used; whether it runs."""
        sch = self.fsm.subchannel
        if sch is None:
            return False
        at = self._address + CCW_SIZE * len(self.program)
        sense = Ccw(Command.SENSE, CcwFlag.SLI, _SENSE_COUNT, self._data_at + len(self.data))
        self.fsm.device.kernel.memory.write(at, sense.to_bytes())
        self._sensing = sch.start(at, self._mask & _PATH) == 0
        return self._sensing
