"""Path verification: which channel paths work, and the path group on them (``drivers/s390/cio/device_pgid.c``).

A device without path groups gets a no-operation on each path.  One with them has its path-group identifiers sensed on
each path, and set where the path is not in the group yet; the identifier is 12 bytes::

    byte  0       1      3          6       8        12
         +-------+------+----------+-------+---------+
         | state | high | CPU      | model | time of |
         |       |      | identity |       | day     |
         +-------+------+----------+-------+---------+

    state (sensed): 2 bits reset 0, ungrouped 2, grouped 3; 2 bits reserved for another system 2; 1 bit multipath
    function (set): 80 multipath; 00 establish, 20 disband, 40 resign

Masks have path 0 leftmost, as everywhere.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pyvfio.css.ccw import Ccw, CcwFlag, Command
from pyvfio.css.irb import Irb
from pyvfio_backends.software.linux.ccw_request import CcwRequest, Outcome, next_path

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.ccw_fsm import CcwFsm
    from pyvfio_backends.software.linux.subchannel import SubchannelDevice

__all__ = ["PathVerification", "disband", "steal_lock"]

_TIMEOUT: Final = 10.0
_RETRIES: Final = 256
_FIRST: Final = 0x80
_ID_SIZE: Final = 12
_MULTIPATH: Final = 0x80
_ESTABLISH: Final = 0x00
_DISBAND: Final = 0x20
_RESIGN: Final = 0x40
_GROUPED: Final = 3
_UNGROUPED: Final = 2
_RESERVED_ELSEWHERE: Final = 2
_STEAL_LOCK: Final = 0x14
_RELEASE: Final = 0x94
_LOCK_BLOCK: Final = 32


def _place(mask: int) -> int:
    return 8 - mask.bit_length()


class PathVerification:
    """One verification of an enabled subchannel; `done` gets 0, EACCES (no path works), or another errno."""

    def __init__(self, fsm: CcwFsm, sch: SubchannelDevice, identifier: bytes, done: Callable[[int], None]) -> None:
        self.fsm = fsm
        self.sch = sch
        self.identifier = identifier
        self.done = done
        self.no_interruption = 0
        self.unknown = False
        self._identifiers: dict[int, bytes] = {}
        self._todo = 0

    def start(self) -> None:
        """Begin (again) on the first path."""
        sch = self.sch
        sch.vpm = 0
        sch.lpm = sch.schib.pmcw.pam
        self._identifiers.clear()
        self._todo = sch.schib.pmcw.pam
        if self.fsm.grouping:
            self._sense(_FIRST)
        else:
            self._no_operation(_FIRST)

    def _finish(self, code: int) -> None:
        """Have the multipath mode of the subchannel fit the device's, and report."""
        sch = self.sch
        if not code and sch.config.mp != self.fsm.multipath:
            sch.config = replace(sch.config, mp=self.fsm.multipath)
            code = sch.commit_config()
        self.done(code)

    def _request(self, ccw: Ccw, data: bytes, path: int, callback: Callable[[int], None]) -> CcwRequest:
        return CcwRequest(self.fsm, (ccw,), data, path, callback, _TIMEOUT, _RETRIES, single_path=True)

    # without path groups

    def _no_operation(self, path: int) -> None:
        sch = self.sch
        path = next_path(path, sch.schib.pmcw.pam & sch.opm & ~self.no_interruption)
        if not path:
            self._finish(0 if sch.vpm else errno.EACCES)
            return

        def ended(code: int) -> None:
            if code == errno.ETIME:
                self.no_interruption |= path
            elif not code:
                sch.vpm |= path
            elif code != errno.EACCES:
                self._finish(code)
                return
            self._no_operation(path >> 1)

        request = self._request(Ccw(Command.NOP, CcwFlag.SLI, 0, 0), b"", path, ended)
        request.filter = _only_subchannel_errors
        self.fsm.begin(request)

    # with path groups

    def _sense(self, path: int) -> None:
        path = next_path(path, self.sch.schib.pmcw.pam & ~self.no_interruption)
        if not path:
            if self._identifiers:
                self._sensed(0)
            else:
                self._sensed(errno.ETIME if self.no_interruption else errno.EACCES)
            return

        def ended(code: int) -> None:
            if code == errno.ETIME:
                self.unknown = True
                self.no_interruption |= path
            elif not code:
                self._identifiers[path] = request.read()
            elif code != errno.EACCES:
                self._sensed(code)
                return
            self._sense(path >> 1)

        request = self._request(Ccw(Command.SENSE_PGID, CcwFlag.SLI, _ID_SIZE, 0), bytes(_ID_SIZE), path, ended)
        self.fsm.begin(request)

    def _sensed(self, code: int) -> None:
        sch, fsm = self.sch, self.fsm
        if not code:
            states = {path: raw[0] for path, raw in self._identifiers.items()}
            names = {raw[1:] for raw in self._identifiers.values() if any(raw[1:])}
            if all(state >> 4 & 3 == _RESERVED_ELSEWHERE for state in states.values()):
                code = errno.EUSERS
            elif len(names) > 1:
                code = errno.EOPNOTSUPP
            else:
                for path, raw in self._identifiers.items():
                    if not any(raw[1:]):
                        fsm.reset_paths |= path
                self.identifier = names.pop() if names else self.identifier
                ready = sum(path for path, state in states.items() if self._is_ready(path, state))
                sch.vpm = ready & sch.opm
                self._todo &= ~(ready | self.no_interruption)
        if code == errno.EOPNOTSUPP:
            fsm.grouping = fsm.multipath = False
            self.start()
        elif code:
            self._finish(code)
        elif self.unknown:
            self._wipe_out()
        elif not self._todo:
            self._finish(0 if sch.vpm else errno.EACCES)
        else:
            self._set(_FIRST)

    def _is_ready(self, path: int, state: int) -> bool:
        wanted = _GROUPED if self.sch.opm & path else _UNGROUPED
        return state >> 6 == wanted and bool(state >> 3 & 1) == self.fsm.multipath

    def _set(self, path: int) -> None:
        sch, fsm = self.sch, self.fsm
        path = next_path(path, self._todo)
        if not path:
            if self.unknown:
                self._wipe_out()
            else:
                self._finish(0 if sch.vpm else errno.EACCES)
            return

        def ended(code: int) -> None:
            if code == errno.ETIME:
                self.unknown = True
                self.no_interruption |= path
            elif not code:
                sch.vpm |= path & sch.opm
            elif code == errno.EOPNOTSUPP:
                if fsm.multipath:
                    fsm.multipath = False
                else:
                    fsm.grouping = False
                self.start()
                return
            elif code != errno.EACCES:
                self._finish(code)
                return
            self._set(path >> 1)

        function = _ESTABLISH if path & sch.opm else _RESIGN
        fsm.begin(_set_group(fsm, function, self.identifier, path, ended))

    def _wipe_out(self) -> None:
        """A path group may be half done: disband it and start anew, without the paths that do not answer."""

        def ended(code: int) -> None:
            if code:
                self._finish(code)
            else:
                self.unknown = False
                self.start()

        request = _set_group(self.fsm, _DISBAND, self.identifier, self.sch.schib.pmcw.pam, ended)
        request.single_path = False
        self.fsm.begin(request)


def _only_subchannel_errors(irb: Irb, outcome: Outcome) -> Outcome:
    """A path is bad when the subchannel says so; what the device thinks of a no-operation does not matter."""
    return Outcome.DONE if outcome is Outcome.ERROR and not irb.scsw.cstat else outcome


def _set_group(fsm: CcwFsm, function: int, identifier: bytes, path: int, callback: Callable[[int], None]) -> CcwRequest:
    word = bytes([function | (_MULTIPATH if fsm.multipath else 0)])
    ccw = Ccw(Command.SET_PGID, CcwFlag.SLI, _ID_SIZE, 0)
    return CcwRequest(fsm, (ccw,), word + identifier, path, callback, _TIMEOUT, _RETRIES, single_path=True)


def disband(fsm: CcwFsm, sch: SubchannelDevice, identifier: bytes, done: Callable[[int], None]) -> None:
    """Leave the path group on all paths (``ccw_device_disband_start``)."""

    def ended(code: int) -> None:
        if not code:
            fsm.multipath = False
            if sch.config.mp:
                sch.config = replace(sch.config, mp=False)
                code = sch.commit_config()
        done(code)

    fsm.begin(_set_group(fsm, _DISBAND, identifier, sch.schib.pmcw.pam & sch.opm, ended))


def steal_lock(fsm: CcwFsm, sch: SubchannelDevice, done: Callable[[int], None]) -> None:
    """Unconditional reserve, then release: another system loses the device (``ccw_device_stlck_start``)."""
    program = (
        Ccw(_STEAL_LOCK, CcwFlag.CC, _LOCK_BLOCK, 0),
        Ccw(_RELEASE, CcwFlag(0), _LOCK_BLOCK, _LOCK_BLOCK),
    )
    lpm = sch.schib.pmcw.pam & sch.opm
    fsm.begin(CcwRequest(fsm, program, bytes(2 * _LOCK_BLOCK), lpm, done, _TIMEOUT, _RETRIES))
