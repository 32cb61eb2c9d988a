"""When a program that failed is started again, and on which paths: the basics of the kernel's error recovery.

==========================================  =====================================================================
what came                                   what is done
==========================================  =====================================================================
equipment, data, bus-out check, overrun     started again, `most` times (dasd_3990_erp_equip_check, ...)
interface- or channel-control check         the same; from the second time on without the path it came by
busy                                        asked again for `patience` seconds: another system has it
intervention required                       the same: somebody makes the drive ready
environmental data                          started again: it is a report, not an error
no path for the start (EACCES, deferred     all paths are tried again, then the error is the caller's
condition code)
start refused for now (EAGAIN)              asked again, `most` times
command reject, no record found, ...        nothing: it would come again
==========================================  =====================================================================

Source: ``drivers/s390/block/dasd_3990_erp.c``; ``dasd.c`` (a device that is busy is tried again later).
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field, replace

from pyvfio.css.irb import ECW_SIZE, Irb, erw_concurrent_sense
from pyvfio.css.scsw import Dstat
from pyvfio.drivers.sense import DasdFailed, Sense, is_busy, is_channel_error, is_retryable
from pyvfio.errors import DeviceBusy, PyvfioError

__all__ = ["Retries", "reserved_elsewhere", "wants_sense", "with_sense"]

_PAUSE = 0.05


def wants_sense(irb: Irb) -> bool:
    """Whether the reason of a unit check has to be asked for, as it did not come with the status."""
    return bool(irb.scsw.dstat & Dstat.UNIT_CHECK) and not irb.sense


def with_sense(irb: Irb, sense: bytes) -> Irb:
    """The status with sense bytes that were read afterwards."""
    esw = irb.esw[:4] + erw_concurrent_sense(len(sense)).to_bytes(4, "big") + irb.esw[8:]
    return replace(irb, scsw=replace(irb.scsw, ectl=True), esw=esw, ecw=sense.ljust(ECW_SIZE, b"\0"))


def reserved_elsewhere(words: str, name: str, seconds: float) -> DeviceBusy:
    """The error of a disk that another system kept busy for so long."""
    cause = f"it was busy for {seconds:g} s; another system may have reserved it"
    step = f"release it there; pyvfio dasd release {name} --steal breaks that reservation"
    return DeviceBusy(words, name, cause=cause, next_step=step)


@dataclass
class Retries:
    """The tries of one program: at most `most` more after the first, and as long as `patience` (s) for a busy device.

    `avoid` is the mask of the paths that shall not be taken again.
    """

    most: int
    patience: float
    tries: int = 0
    avoid: int = 0
    began: float = field(default_factory=time.monotonic)

    def paths(self, among: int) -> int:
        """Which of the paths `among` to take: those that were not found bad, or all of them when no other is left."""
        return among & ~self.avoid or among

    def pause(self, irb: Irb) -> float | None:
        """Seconds after which to try again, None when that is no use (or the program ended well)."""
        self.tries += 1
        if irb.scsw.ok:
            return None
        if is_busy(irb) or self._awaits_somebody(irb):
            return _PAUSE if time.monotonic() - self.began < self.patience else None
        if irb.scsw.cc and self.tries <= self.most:
            self.avoid |= irb.lpum
            return _PAUSE  # the start was accepted and then found no path, or a status in its way
        if not is_retryable(irb) or self.tries > self.most:
            return None
        if is_channel_error(irb) and self.tries > 1:
            self.avoid |= irb.lpum
        return 0.0

    @staticmethod
    def _awaits_somebody(irb: Irb) -> bool:
        return bool(irb.scsw.dstat & Dstat.UNIT_CHECK) and Sense(irb.sense).intervention_required

    def refused(self, error: PyvfioError) -> float:
        """Seconds after which to ask again for a start that was refused.  Raise `error` when that is no use."""
        self.tries += 1
        again = error.errno == errno.EAGAIN
        if error.errno == errno.EACCES:
            again, self.avoid = True, 0  # no path of the mask: one that was avoided may be all that is left
        if not again or self.tries > self.most:
            raise error
        return _PAUSE

    def error(self, words: str, name: str, irb: Irb) -> PyvfioError:
        """The error of the last try, when it is one."""
        if is_busy(irb):
            return reserved_elsewhere(words, name, self.patience)
        return DasdFailed(words, name, irb, self.tries)
