"""The BARs of a function through vfio-pci's file (``drivers/vfio/pci/vfio_pci_rdwr.c``, 6.12)."""

from __future__ import annotations

import errno
from typing import NamedTuple

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_device import ROM, PciDevice
from pyvfio_backends.software.linux.pci_rom import map_rom, unmap_rom
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.vfio_pci_config import VirtualConfig
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["Access", "Bars"]

_WIDTHS = (8, 4, 2, 1)
_ROM_WIDTHS = _WIDTHS[1:]


class Access(NamedTuple):
    """One access of a transfer: `size` bytes at `offset`; `excluded` when it lies in the MSI-X table."""

    offset: int
    size: int
    excluded: bool


class Bars:
    """Reads and writes of BARs.

    A transfer is cut into the widest aligned accesses that fit.  The MSI-X table is the kernel's: reading it gives all
    ones, writing it nothing.
    """

    def __init__(self, device: PciDevice, config: VirtualConfig) -> None:
        self._device = device
        self._config = config
        # BAR, start and end of the MSI-X table, noted once as vfio_pci_core_enable() does
        self._table = (-1, 0, 0)
        if device.msi.capability:
            bar, start = device.msi.table
            self._table = (bar, start, start + device.msi.table_size * regs.PCI_MSIX_ENTRY_SIZE)

    def read(self, count: int, index: int, position: int) -> bytes:
        """Read up to `count` bytes, fewer at the end of the BAR.

        Raise OSError EINVAL (no such BAR, or past its end), EIO (the program has memory decoding off).
        """
        parts: list[bytes] = []
        if index == ROM:
            return self._read_rom(position, count)
        for offset, size, excluded in self._transfer(index, position, count, ROM):
            if excluded:
                parts.append(b"\xff" * size)
            else:
                self._check_decoding(index)
                parts.append(self._device.load_bar(index, offset, size).to_bytes(size, "little"))
        return b"".join(parts)

    def write(self, data: bytes, index: int, position: int) -> int:
        """Write up to all of `data`; the bytes taken.  Errors as `read`; also EINVAL for the ROM."""
        taken = 0
        for offset, size, excluded in self._transfer(index, position, len(data), ROM - 1):
            if not excluded:
                self._check_decoding(index)
                value = int.from_bytes(data[offset - position : offset - position + size], "little")
                self._device.store_bar(index, offset, size, value)
            taken += size
        return taken

    def _check_decoding(self, index: int) -> None:
        if self._device.resources[index].flags & ResourceFlag.MEM and not self._config.memory_enabled:
            raise fail(errno.EIO)

    def _read_rom(self, position: int, count: int) -> bytes:
        """By up to four bytes; what follows the images is ones.  Raise OSError ENOMEM, too: there is no image."""
        self._transfer(ROM, position, 1, ROM)
        size = map_rom(self._device)
        if size is None:
            raise fail(errno.ENOMEM)
        try:
            end = position + min(count, self._device.resources[ROM].size - position)
            parts: list[bytes] = []
            while position < min(end, size):
                room = min(end, size) - position
                width = next(one for one in _ROM_WIDTHS if room >= one and position % one == 0)
                self._check_decoding(ROM)
                parts.append(self._device.load_bar(ROM, position, width).to_bytes(width, "little"))
                position += width
            return b"".join(parts) + b"\xff" * (end - position)
        finally:
            unmap_rom(self._device)

    def _transfer(self, index: int, position: int, count: int, last: int) -> list[Access]:
        if index > last:
            raise fail(errno.EINVAL)
        resource = self._device.resources[index]
        if not resource.start or position >= resource.size:
            raise fail(errno.EINVAL)
        return self.accesses(index, position, min(count, resource.size - position))

    def in_table(self, index: int, position: int, count: int) -> bool:
        """Whether an access touches the MSI-X table."""
        bar, first, last = self._table
        return bar == index and position < last and first < position + count

    def accesses(self, index: int, position: int, count: int) -> list[Access]:
        """Cut a transfer within a BAR into accesses (``vfio_pci_core_do_io_rw``)."""
        bar, first, last = self._table
        if bar != index:
            if count in _WIDTHS and position % count == 0:
                return [Access(position, count, False)]
            first = last = 0
        cuts: list[Access] = []
        end = position + count
        while position < end:
            excluded = first <= position < last
            if excluded:
                size = min(end, last) - position
            else:
                room = min(end, first) - position if position < first else end - position
                size = next(width for width in _WIDTHS if room >= width and position % width == 0)
            cuts.append(Access(position, size, excluded))
            position += size
        return cuts
