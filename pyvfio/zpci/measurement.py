"""Measuring a function: the machine keeps its measurement block in storage up to date, once an interval.

While it updates, the last bit of the block's time is one; a program that finds it so, or finds another time after it
has read the counters, reads again.

Sources: ``arch/s390/pci/pci_debug.c``, ``arch/s390/pci/pci.c`` (``zpci_fmb_enable_device``);
``hw/s390x/s390-pci-inst.c`` of QEMU (``fmb_update``: the order of the updates).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeAlias

from pyvfio.css.instructions import Storage, StorageError
from pyvfio.zpci.fmb import FMB_SIZE
from pyvfio.zpci.function import Counts

__all__ = ["Counts", "Measurement", "Schedule"]

Schedule: TypeAlias = Callable[[float, Callable[[], None]], None]

_TIME = slice(8, 16)
_BLOCK = struct.Struct(">4xIQQQQQ")


class Measurement:
    """One function's measurement.

    `interval` is in seconds (0: the machine never updates the block), `now` gives the time of the machine's clock (an
    unsigned number of 63 bits that grows); `on_error` is called when the block cannot be written: the measurement has
    ended then.
    """

    def __init__(
        self,
        storage: Storage,
        counts: Counts,
        interval: float,
        schedule: Schedule,
        now: Callable[[], int],
        on_error: Callable[[int], None],
    ) -> None:
        self._storage = storage
        self._counts = counts
        self._interval = interval
        self._schedule = schedule
        self._now = now
        self._on_error = on_error
        self._samples = 0
        self._epoch = 0
        self.address = 0

    def start(self, address: int) -> None:
        """Keep the block at `address` from the next interval on; its samples count from one."""
        self.stop()
        self.address = address
        self._next()

    def stop(self) -> None:
        """End the measurement; the block stays as it is."""
        self._epoch += 1
        self._samples = 0
        self.address = 0

    def _next(self) -> None:
        if self._interval <= 0:
            return  # "at once, again and again" would never end
        epoch = self._epoch
        self._schedule(self._interval, lambda: self._update() if epoch == self._epoch else None)

    def _update(self) -> None:
        counts = self._counts
        self._samples += 1
        time = self._now() << 1 & (1 << 64) - 1
        # As `pyvfio.zpci.fmb.Fmb` would make it; machines do this for each function every few seconds.
        block = _BLOCK.pack(
            self._samples & 0xFFFFFFFF, time | 1, counts.loads, counts.stores, counts.store_blocks, counts.refreshes
        ).ljust(FMB_SIZE, b"\0")
        try:
            self._storage.write(self.address + _TIME.start, block[_TIME])
            self._storage.write(self.address, block)
            self._storage.write(self.address + _TIME.start, time.to_bytes(8, "big"))
        except StorageError:
            address = self.address
            self.stop()
            self._on_error(address)
            return
        self._next()
