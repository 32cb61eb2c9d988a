"""How a start function ends: statuses put together, and said in words.

Source: z/Architecture Principles of Operation, "Subchannel-Status Word"; ``ccw_device_accumulate_irb()`` in
``drivers/s390/cio/device_status.c``; ``vfio_ccw_sch_io_todo()`` in ``drivers/s390/cio/vfio_ccw_drv.c``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pyvfio.css.irb import Irb
from pyvfio.css.scsw import Actl, Cstat, Dstat, Stctl

__all__ = ["decode", "merge", "sense_words"]

_ENDINGS = Stctl.PRIMARY | Stctl.SECONDARY | Stctl.ALERT
_ACTIVE = Actl.DEVICE_ACTIVE | Actl.SUBCHANNEL_ACTIVE


def merge(before: Irb | None, now: Irb) -> tuple[Irb | None, bool]:
    """Put the status of `now` together with what came `before`; and whether the function has ended with it.

    Channel end and device end may come apart.  The later status has no meaningful CCW address and count, so those of
    the first are kept.  A status that answers no start (attention) changes nothing.
    """
    scsw = now.scsw
    if not scsw.is_solicited:
        return before, False
    whole = now
    if before is not None and scsw.stctl & Stctl.SECONDARY and not scsw.stctl & Stctl.PRIMARY:
        first = before.scsw
        united = replace(
            scsw,
            cpa=first.cpa,
            count=first.count,
            dstat=first.dstat | scsw.dstat,
            cstat=first.cstat | scsw.cstat,
            stctl=first.stctl | scsw.stctl,
        )
        whole = replace(now, scsw=united)
    return whole, (scsw.cc != 0 or bool(scsw.stctl & _ENDINGS)) and not scsw.actl & _ACTIVE


#: Byte 0 of the sense bytes is the same for devices of all types: (bit, words, what to do next).
_SENSE: Final = (
    (0x80, "command reject", "the device does not know this command, or not now: its manual lists them"),
    (0x40, "intervention required", "make the device ready, then start it again"),
    (0x20, "bus-out check", "start it again"),
    (0x10, "equipment check", "start it again; if it stays, the device needs service"),
    (0x08, "data check", "start it again; if it stays, the medium is damaged"),
    (0x04, "overrun", "start it again"),
)


def sense_words(sense: bytes) -> tuple[str, str]:
    """What sense bytes say, as far as it is the same for all devices; and what to do next."""
    if not sense:
        return "not given", "ask with BASIC SENSE (Subchannel.sense)"
    found = [(words, then) for bit, words, then in _SENSE if sense[0] & bit]
    then = found[0][1] if found else "the device's manual explains the sense bytes"
    return ", ".join(words for words, _ in found), then


def decode(irb: Irb) -> str:
    """An unusual status in words."""
    scsw = irb.scsw
    words = [str(scsw)]
    if scsw.dstat & Dstat.UNIT_CHECK:
        said = sense_words(irb.sense)[0]
        tail = f" ({said})" if irb.sense and said else ""
        words.append(f"unit check, sense {irb.sense.hex() or 'not given: ask with BASIC SENSE'}{tail}")
    if scsw.cstat & Cstat.PROGRAM_CHECK:
        words.append("program check: a CCW before cpa breaks a rule of the architecture (Subchannel.check names it)")
    return "; ".join(words)
