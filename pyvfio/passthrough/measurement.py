"""Channel measurement for a guest: starts are counted in its measurement blocks.

Times are the channel's to measure, and the host's subchannel is measured for the host, if at all.  So, as in QEMU, the
count of START SUBCHANNEL goes up in the block that the guest's SCHIB designates, and everything else stays as it is.
Source: z/Architecture Principles of Operation, "Channel-Subsystem Monitoring"; ``css_update_chnmon()``, QEMU's
``hw/s390x/css.c``.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from pyvfio.css.instructions import Storage, StorageError
from pyvfio.css.measurement import ChannelMonitor, ExtendedMeasurementBlock, MeasurementBlock
from pyvfio.css.schib import Schib

__all__ = ["count_start"]

_BLOCKS: Final = 2  # of the PMCW's measurement mode: blocks are updated
_WIDTH: Final = 2
_EXTENDED_WIDTH: Final = 4


def count_start(schib: Schib, monitor: ChannelMonitor, memory: Storage) -> None:
    """Add one to the count of starts in a subchannel's block; nothing happens where there is no storage for it."""
    pmcw = schib.pmcw
    if not pmcw.mme & _BLOCKS:
        return
    if pmcw.mbfc:
        at, width, boundary = schib.mba, _EXTENDED_WIDTH, ExtendedMeasurementBlock.BOUNDARY
    else:
        at, width = monitor.origin + pmcw.mbi * MeasurementBlock.SIZE, _WIDTH
        boundary = MeasurementBlock.BOUNDARY
    with suppress(StorageError):
        if at % boundary == 0:
            count = int.from_bytes(memory.read(at, width), "big") + 1
            memory.write(at, (count % (1 << 8 * width)).to_bytes(width, "big"))
