"""What zPCI shows below ``/sys/kernel/debug``: the measurements of functions (``pci/DEVICE/statistics``), and what the
kernel notes of functions and their events (``s390dbf/pci_msg``).

The model is ``arch/s390/pci/pci_debug.c``, with ``zpci_fmb_enable_device`` and its counterpart in
``arch/s390/pci/pci.c``; the notes are formatted as in ``arch/s390/kernel/debug.c``.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from pyvfio_backends.software.hardware.zpci import Refused
from pyvfio_backends.software.linux.debugfs import DebugFile
from pyvfio_backends.software.linux.kstrtox import kstrtoul
from pyvfio_backends.software.linux.vfs import StaticDirectory, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.clock import Clock
    from pyvfio_backends.software.linux.zpci import ZpciDev

__all__ = ["FunctionStatistics", "ZpciNotes"]

_BLOCK = 128
_COMMON = ("Load operations", "Store operations", "Store block operations", "Refresh operations")
_SOFTWARE = ("Mapped pages", "Unmapped pages", "Global RPCITs", "Sync Map RPCITs", "Sync RPCITs")
_LONGEST = 66  # kstrtoul_from_user() reads no more
_MOST_NOTES = 680  # as many as go into the pages of the log
_LEVEL = 3  # what is less important is not noted
_CALLER = "000003ffe0108922"


class _Block:
    """The block, in storage of the kernel that nothing else is in (`pyvfio.css.instructions.Storage`)."""

    address = _BLOCK

    def __init__(self) -> None:
        self.data = bytearray(_BLOCK)

    def read(self, address: int, count: int) -> bytes:
        return bytes(self.data[address - self.address :][:count])

    def write(self, address: int, data: bytes) -> None:
        place = address - self.address
        self.data[place : place + len(data)] = data


class FunctionStatistics:
    """The file ``statistics`` of a function, while its device is enabled."""

    def __init__(self, zdev: ZpciDev) -> None:
        self._zdev = zdev
        self._block: _Block | None = None

    def directory(self) -> StaticDirectory:
        """The directory of the device."""
        return StaticDirectory({"statistics": DebugFile(self._show, self._store)})

    def enable(self) -> None:
        """Have the machine measure the function.  Raise OSError EINVAL when it does already, EIO when it refuses."""
        if self._block is not None:
            raise fail(errno.EINVAL)
        counters = self._zdev.iommu.counters()
        if counters is not None:
            counters.clear()
        block = _Block()
        self._measure(block, block.address)
        self._block = block

    def disable(self) -> None:
        """End that.  Raise OSError EINVAL when it is not measured, EIO when the machine refuses."""
        if self._block is None:
            raise fail(errno.EINVAL)
        self._measure(self._block, 0)
        self._block = None

    def _measure(self, block: _Block, address: int) -> None:
        try:
            self._zdev.facility.measure(self._zdev.function.fh, block, address)
        except Refused as refused:
            if address or refused.cc != 3:  # a function that is gone is measured no more
                raise fail(errno.EIO) from None

    def _show(self) -> str:
        if self._block is None:
            return "FMB statistics disabled\n"
        from pyvfio.zpci.fmb import Fmb

        block = Fmb.from_bytes(self._block.data)
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
