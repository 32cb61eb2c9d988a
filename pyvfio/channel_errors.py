"""How a start function of a channel device fails: one class for each kind of end, all of them `ChannelProgramFailed`.

====================  =================================================================  ===========================
class                 the end                                                            as a rule
====================  =================================================================  ===========================
UnitCheck             the device says unit check; `UnitCheck.sense` are its sense bytes  the sense bytes say
ProgramFault          program check or protection check                                  correct the program
ChannelFault          chaining, channel-data, channel-control, interface-control check   start it again
DeferredStart         deferred condition code 1: the device had a status of its own      start it again
NotOperational        condition code 3, at once (errno) or deferred                      no path leads to the device
DeviceGone            the subchannel or its device went away                             open it anew when it is back
ProgramStopped        halted or cleared, by another thread or by the host                start it again if wanted
ProgramSuspended      suspended; vfio-ccw cannot resume, so it was stopped               leave the flag out
StatusLost            another status took the place of the end                           whatever it did, it is over
ChannelProgramFailed  anything else: busy, unit exception, incorrect length              the status says
====================  =================================================================  ===========================

A start that the kernel does not take is `NotOperational`, `pyvfio.errors.DeviceBusy`, or the class for its errno; a
program that did not end in time is `pyvfio.errors.Timeout`.
Source: z/Architecture Principles of Operation, "Subchannel-Status Word"; ``drivers/s390/cio/vfio_ccw_fsm.c``.
"""

from __future__ import annotations

import errno
from typing import Final

from pyvfio.channel_status import decode, sense_words
from pyvfio.css.irb import Irb
from pyvfio.css.scsw import Actl, Cstat, Dstat, Fctl
from pyvfio.errors import ChannelProgramFailed, DeviceBusy, PyvfioError

__all__ = [
    "ChannelFault",
    "DeferredStart",
    "DeviceGone",
    "NotOperational",
    "ProgramFault",
    "ProgramStopped",
    "ProgramSuspended",
    "StatusLost",
    "UnitCheck",
    "ended_badly",
    "start_refused",
]

_PROGRAM: Final = Cstat.PROGRAM_CHECK | Cstat.PROTECTION_CHECK
_CHANNEL: Final = (
    Cstat.CHAINING_CHECK | Cstat.CHANNEL_DATA_CHECK | Cstat.CHANNEL_CONTROL_CHECK | Cstat.INTERFACE_CONTROL_CHECK
)
_AGAIN: Final = "start it again"
_PATHS: Final = "pyvfio lscss --vpm and lschp show its paths; vary or configure one on"
_CAUSES: Final = {
    errno.EINVAL: "the program cannot be translated: an address in it is not mapped, or it has more than 256 CCWs",
    errno.ENOENT: "an address in the program is not mapped",
    errno.EFAULT: "an address in the program is mapped to memory that is not there any more",
    errno.EPERM: "an address in the program is mapped without the permission that it needs",
    errno.EBUSY: "a start is under way, or its status was not taken yet",
    errno.EAGAIN: "the subchannel is busy with another request",
    errno.EACCES: "no path to the device is operational for the ORB's path mask",
    errno.ENODEV: "the device is not operational",
    errno.EIO: "the subchannel is not operational",
    errno.EOPNOTSUPP: "vfio-ccw does not do this (transport mode, or halt and clear as part of a start)",
}
_NEXT: Final = {
    errno.EINVAL: "Subchannel.check names the CCW; map what it names",
    errno.ENOENT: "Subchannel.check names the CCW; map what it names",
    errno.EFAULT: "keep the memory until the program has ended",
    errno.EPERM: "map the memory for reading and writing",
    errno.EBUSY: "wait for its end, or halt or clear the subchannel",
    errno.EAGAIN: _AGAIN,
    errno.EACCES: _PATHS,
    errno.ENODEV: _PATHS,
    errno.EIO: "close the device; when it is back, open it anew",
    errno.EOPNOTSUPP: "start it in command mode; Subchannel.halt and Subchannel.clear stop it",
}
_KINDS: Final[dict[int, type[PyvfioError]]] = {errno.EBUSY: DeviceBusy, errno.EAGAIN: DeviceBusy}


class UnitCheck(ChannelProgramFailed):
    """The device ended it with unit check; `sense` are the sense bytes that came with the status, maybe none."""

    @property
    def sense(self) -> bytes:
        """The sense bytes, empty when the device has them still (BASIC SENSE gets them)."""
        return self.irb.sense if self.irb is not None else b""


class ProgramFault(ChannelProgramFailed):
    """Program check or protection check: the channel could not take a CCW or reach its data."""


class ChannelFault(ChannelProgramFailed):
    """A check of the channel or of the path to the device."""


class DeferredStart(ChannelProgramFailed):
    """Deferred condition code 1: a status of the device's own came first, and the program was not begun."""


class NotOperational(ChannelProgramFailed):
    """Condition code 3: no path leads to the device now.  `errno` when the kernel refused the start, else deferred."""


class DeviceGone(NotOperational):
    """The subchannel or its device went away, or the kernel gave up on it."""


class ProgramStopped(ChannelProgramFailed):
    """It was halted or cleared before its end."""


class ProgramSuspended(ChannelProgramFailed):
    """It suspended itself; as vfio-ccw has no resume, it was stopped."""


class StatusLost(ChannelProgramFailed):
    """It has ended, but another status took the place of its own (vfio-ccw keeps one)."""


def _kind(irb: Irb) -> tuple[type[ChannelProgramFailed], str]:
    """The class for an end, and what to do next."""
    scsw = irb.scsw
    if scsw.cc == 1:
        return DeferredStart, _AGAIN
    if scsw.cc:
        return NotOperational, _PATHS
    if scsw.fctl & (Fctl.HALT | Fctl.CLEAR):
        return ProgramStopped, _AGAIN
    if scsw.actl & Actl.SUSPENDED:
        return ProgramSuspended, "leave the suspend flag and the ORB's suspend control out"
    if scsw.cstat & _PROGRAM:
        return ProgramFault, "correct that CCW, or map the storage that it names"
    if scsw.dstat & Dstat.UNIT_CHECK:
        return UnitCheck, sense_words(irb.sense)[1]
    if scsw.cstat & _CHANNEL:
        return ChannelFault, _AGAIN
    if scsw.cstat & Cstat.INCORRECT_LENGTH:
        return ChannelProgramFailed, "give the count that the device has, or the flag SLI"
    if scsw.dstat & Dstat.BUSY:
        return ChannelProgramFailed, "wait for the device's end (an unsolicited status), then start it again"
    return ChannelProgramFailed, ""


def ended_badly(operation: str, obj: str, path: str, irb: Irb, faults: str = "") -> ChannelProgramFailed:
    """The error for a status that is not success; `faults` are the rules that the program breaks, if that is known."""
    kind, next_step = _kind(irb)
    cause = f"{decode(irb)}: {faults}" if faults and kind is ProgramFault else decode(irb)
    return kind(operation, obj, path=path, cause=cause, next_step=next_step, irb=irb)


def start_refused(error: PyvfioError, operation: str, obj: str, path: str) -> PyvfioError:
    """The error for a request that the kernel answered with an errno."""
    number = error.errno
    if number is None:
        kind: type[PyvfioError] = type(error)
    elif number == errno.EIO:
        kind = DeviceGone
    elif number in (errno.ENODEV, errno.EACCES):
        kind = NotOperational
    else:
        kind = _KINDS.get(number, type(error))
    cause = _CAUSES.get(number or 0, error.cause)
    return kind(operation, obj, path=path, errno=number, cause=cause, next_step=_NEXT.get(number or 0, error.next_step))
