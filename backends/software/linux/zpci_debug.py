"""What zPCI shows below ``/sys/kernel/debug``: the measurements of functions (``pci/DEVICE/statistics``), and what the
kernel notes of functions and their events (``s390dbf/pci_msg``).

The model is ``arch/s390/pci/pci_debug.c``, with ``zpci_fmb_enable_device`` and its counterpart in
``arch/s390/pci/pci.c``; the notes are formatted as in ``arch/s390/kernel/debug.c``.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.debugfs import DebugFile
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.vfs import StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.clock import Clock
    from pyvfio_backends.software.linux.zpci import ZpciDev

__all__ = ["FunctionStatistics", "ZpciNotes"]

_BLOCK = 128
_GONE = 3  # the function is not there: it is measured no more
_MOMENT = 1e-6
_COMMON = ("Load operations", "Store operations", "Store block operations", "Refresh operations")
_SOFTWARE = ("Mapped pages", "Unmapped pages", "Global RPCITs", "Sync Map RPCITs", "Sync RPCITs")
_LONGEST = 66  # kstrtoul_from_user() reads no more
_MOST_NOTES = 680  # as many as go into the pages of the log
_LEVEL = 3  # what is less important is not noted
_CALLER = "000003ffe0108922"


class FunctionStatistics:
    """The file ``statistics`` of a function, while its device is enabled.

    What is enabled at boot is measured from when somebody could notice: a moment later, or when the machine's
    instructions are used or the file is read.
    """

    def __init__(self, zdev: ZpciDev) -> None:
        self._zdev = zdev
        self._memory = zdev.bus.kernel.memory
        self._address = 0
        self._put_off = False

    def directory(self) -> StaticDirectory:
        """The directory of the device."""
        return StaticDirectory({"statistics": DebugFile(self._show, self._store)})

    def enable(self) -> None:
        """Have the machine measure the function.  Raise OSError EINVAL when it does already, EIO when it refuses."""
        if self._address:
            raise fail(errno.EINVAL)
        counters = self._zdev.iommu.counters()
        if counters is not None:
            counters.clear()
        self._address = self._memory.allocate(_BLOCK)
        if self._zdev.host.interrupts.booting:
            self._put_off = True
            self._zdev.host.interrupts.later.append(self._begin)
            self._zdev.bus.kernel.clock.schedule(_MOMENT, self._begin, background=True)
        elif self._measure(self._address):
            self._free()
            raise fail(errno.EIO)

    def disable(self) -> None:
        """End that.  Raise OSError EINVAL when it is not measured, EIO when the machine refuses."""
        if not self._address:
            raise fail(errno.EINVAL)
        if self._put_off:
            self._put_off = False
        elif self._measure(0) not in (0, _GONE):
            raise fail(errno.EIO)
        self._zdev.function.counts.clear()
        self._free()

    def _begin(self) -> None:
        """Do what was put off at boot."""
        if self._put_off:
            self._put_off = False
            if self._measure(self._address):
                self._free()

    def _measure(self, address: int) -> int:
        """MODIFY PCI FUNCTION CONTROLS, set measurement; its condition code."""
        from pyvfio.zpci.fib import Fib
        from pyvfio.zpci.instructions import FunctionOperation

        zdev = self._zdev
        processor = zdev.host.interrupts.processor
        return processor.mpcifc(zdev.function.fh, 0, FunctionOperation.SET_MEASUREMENT, Fib(fmb=address)).cc

    def _free(self) -> None:
        self._memory.free(self._address)
        self._address = 0

    def _show(self) -> str:
        self._begin()
        if not self._address:
            return "FMB statistics disabled\n"
        from pyvfio.zpci.fmb import Fmb

        block = Fmb.from_bytes(self._memory.block(self._address))
        lines = [
            f"Update interval: {self._zdev.function.group.frame_update} ms",
            f"Samples: {block.samples}",
            f"Last update TOD: {block.updated:x}",
        ]
        # The machine's functions have blocks of format 0, without counters of DMA.
        common = (block.loads, block.stores, block.store_blocks, block.refreshes)
        pairs = list(zip(_COMMON, common, strict=True))
        counters = self._zdev.iommu.counters()
        if counters is not None:
            pairs += zip(_SOFTWARE, counters.values, strict=True)
        return "".join(f"{line}\n" for line in [*lines, *(f"{name:>26}:\t{value}" for name, value in pairs)])

    def _store(self, data: bytes) -> None:
        value = kstrtoul(data[:_LONGEST], 10)
        if value == 0:
            self.disable()
        elif value == 1:
            self.enable()


class ZpciNotes:
    """The log ``pci_msg``: what `note` was told lately, a line each."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: deque[str] = deque(maxlen=_MOST_NOTES)
        self._last = -1

    def note(self, level: int, text: str) -> None:
        """Note something of `level` (0 is the most important).  Each note has a time of its own."""
        if level > _LEVEL:
            return
        self._last = max(self._last + 1, int(self._clock.now * 1_000_000))
        seconds, rest = divmod(self._last, 1_000_000)
        self._lines.append(f"00 {seconds:011}:{rest:06} {level} - 0000 {_CALLER}  {text}\n")

    def directory(self) -> StaticDirectory:
        """The directory of the log."""
        return StaticDirectory(
            {
                "level": DebugFile(lambda: f"{_LEVEL}\n", mode=0o600),
                "sprintf": DebugFile(lambda: "".join(self._lines), mode=0o400),
            }
        )
