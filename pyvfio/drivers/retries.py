"""When a program that failed is started again: a plain count for passing errors, a time for a busy device.

Source: ``drivers/s390/block/dasd_3990_erp.c``; ``dasd.c`` (a device that is busy is tried again later).
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field, replace

from pyvfio.css.irb import ECW_SIZE, Irb, erw_concurrent_sense
from pyvfio.css.scsw import Dstat
from pyvfio.drivers.sense import DasdFailed, is_busy, is_retryable
from pyvfio.errors import DeviceBusy, KernelRefused, PyvfioError

__all__ = ["Retries", "wants_sense", "with_sense"]

_PAUSE = 0.05


def wants_sense(irb: Irb) -> bool:
    """Whether the reason of a unit check has to be asked for, as it did not come with the status."""
    return bool(irb.scsw.dstat & Dstat.UNIT_CHECK) and not irb.sense


def with_sense(irb: Irb, sense: bytes) -> Irb:
    """The status with sense bytes that were read afterwards."""
    esw = irb.esw[:4] + erw_concurrent_sense(len(sense)).to_bytes(4, "big") + irb.esw[8:]
    return replace(irb, scsw=replace(irb.scsw, ectl=True), esw=esw, ecw=sense.ljust(ECW_SIZE, b"\0"))


@dataclass
class Retries:
    """The tries of one program: at most `most` more after the first, for a busy device as long as `patience` (s)."""

    most: int
    patience: float
    tries: int = 0
    began: float = field(default_factory=time.monotonic)

    def pause(self, irb: Irb) -> float | None:
        """Seconds after which to try again, None when that is no use (or the program ended well)."""
        self.tries += 1
        if irb.scsw.ok:
            return None
        if is_busy(irb):
            return _PAUSE if time.monotonic() - self.began < self.patience else None
        return 0.0 if is_retryable(irb) and self.tries <= self.most else None

    def refused(self, error: PyvfioError) -> float:
        """Seconds after which to ask again for a start that was refused.  Raise `error` when that is no use."""
        self.tries += 1
        again = isinstance(error, KernelRefused) and error.errno == errno.EAGAIN
        if not again or self.tries > self.most:
            raise error
        return _PAUSE

    def error(self, words: str, name: str, irb: Irb) -> PyvfioError:
        """The error of the last try, when it is one."""
        if is_busy(irb):
            cause = f"it was busy for {self.patience:g} s; another system may have reserved it"
            return DeviceBusy(words, name, cause=cause)
        return DasdFailed(words, name, irb, self.tries)
