"""BASIC SENSE for a guest that does not want concurrent sense.

Linux always enables concurrent sense for a subchannel of vfio-ccw, so with unit check the sense bytes come in the
interruption response, and the device has none left.  A guest without concurrent sense asks for them with BASIC SENSE;
this command, when it is the whole program, is then answered from the bytes that were kept.
"""

from __future__ import annotations

from typing import Final

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag, Command
from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.orb import Orb

__all__ = ["give_sense"]

_ALLOWED: Final = CcwFlag.SLI


def give_sense(orb: Orb, memory: Storage, sense: bytes) -> tuple[int, bool] | None:
    """Store `sense` where the program wants it; the residual count, and whether the length is incorrect.

    None, and nothing is stored, when the program is anything but one BASIC SENSE with a direct address.
    """
    try:
        ccw = Ccw.from_bytes(memory.read(orb.cpa, CCW_SIZE), orb.fmt)
        if ccw.cmd != Command.SENSE or ccw.flags & ~_ALLOWED or not ccw.count:
            return None
        given = sense[: ccw.count]
        memory.write(ccw.cda, given)
    except StorageError:
        return None
    residual = ccw.count - len(given)
    return residual, not ccw.flags & CcwFlag.SLI and len(sense) != ccw.count
