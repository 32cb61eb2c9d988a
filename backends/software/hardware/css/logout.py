"""The subchannel logout: the extended status (format 0) that comes with a check of the channel itself.

It is stored with channel-data, channel-control and interface-control check, and only with these.  With program,
protection and chaining checks the status word says all there is to say (formats 1 and 3).

Source: z/Architecture Principles of Operation, "Extended-Status Format 0", "Subchannel Logout".
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.commands import Direction, direction
from pyvfio.css.esw import Erw, Esw
from pyvfio.css.scsw import Cstat
from pyvfio_backends.software.hardware.css.engine import ProgramStatus

__all__ = ["needs_logout", "subchannel_logout"]

_CHECKS: Final = int(Cstat.CHANNEL_DATA_CHECK | Cstat.CHANNEL_CONTROL_CHECK | Cstat.INTERFACE_CONTROL_CHECK)
#: All fields have meaning: path, termination code, sequence code, device status, CCW address.
_ALL_VALID: Final = 0x1F
#: The operation was ended normally by the channel.
_STOPPED: Final = 1
#: How far it was: the device had accepted the command; a byte at least had been moved.
_ACCEPTED: Final = 3
_MOVED: Final = 4
_ACCESS: Final = {Direction.IN: 1, Direction.OUT: 2, Direction.BACKWARD: 3, Direction.NONE: 0}


def needs_logout(cstat: int) -> bool:
    """Whether a status comes with a logout."""
    return bool(cstat & _CHECKS)


def subchannel_logout(status: ProgramStatus, path: int, erw: int) -> Esw:
    """The logout of a program that ended so, on the path of the one-bit mask `path`, with the report word `erw`."""
    report = Erw.from_word(erw)
    address = status.failing_address
    if address is not None:
        # The format of the address is that of the ERW: here always one of 64 bits.
        report = Erw(cons=report.cons, scnt=report.scnt, fsavf=True, fsaf=True)
    return Esw(
        fmt=0,
        lpum=path,
        erw=report,
        fvf=_ALL_VALID,
        sacc=_ACCESS[direction(status.command)] if status.moved else 0,
        termc=_STOPPED,
        seqc=_MOVED if status.moved else _ACCEPTED,
        fsa=address or 0,
    )
