"""Chains of consecutive CCWs, as vfio-ccw copies them from a guest and looks at them.

Source: ``drivers/s390/cio/vfio_ccw_cp.c``.
"""

from __future__ import annotations

import errno
from typing import Final

from pyvfio.css.ccw import CCW_SIZE, Ccw, CcwFlag
from pyvfio.css.commands import Command, Direction
from pyvfio.errors import KernelRefused

__all__ = ["CHAIN_LENGTH_MAX", "moves_data", "read_chain", "refused"]

#: CCWs of a chain.
CHAIN_LENGTH_MAX: Final = 256


def refused(number: int, cause: str) -> KernelRefused:
    """The error of a program that cannot be copied or translated."""
    return KernelRefused("translate channel program", errno=number, cause=cause)


def _as_format_1(raw: bytes, fmt: int) -> Ccw:
    """A CCW in format 1, from either format."""
    ccw = Ccw.from_bytes(raw, fmt)
    if fmt:
        return ccw
    if ccw.is_tic:
        return Ccw(Command.TIC, CcwFlag(0), 0, ccw.cda)
    return Ccw(ccw.cmd, ccw.flags, ccw.count, ccw.cda)


def read_chain(raw: bytes, fmt: int, iova: int) -> list[Ccw]:
    """CCWs up to the one without chaining; a TIC back into the part already seen, as after a search, does not end it.

    Raise `KernelRefused` EINVAL when the end is not in `raw`.
    """
    ccws: list[Ccw] = []
    for offset in range(0, len(raw), CCW_SIZE):
        ccw = _as_format_1(raw[offset : offset + CCW_SIZE], fmt)
        ccws.append(ccw)
        if not ccw.chained and not (ccw.is_tic and iova <= ccw.cda <= iova + offset):
            return ccws
    raise refused(errno.EINVAL, f"a chain has more than {CHAIN_LENGTH_MAX} CCWs")


def moves_data(ccw: Ccw) -> bool:
    """Whether pages are needed: not for a count of 0, a NOP, or a read or sense whose data are skipped."""
    if ccw.count == 0 or ccw.cmd == Command.NOP:
        return False
    return not ccw.flags & CcwFlag.SKIP or ccw.direction not in (Direction.IN, Direction.BACKWARD)
