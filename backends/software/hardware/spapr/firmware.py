"""The addresses that SLOF, the firmware of a guest, gives the functions of a host bridge.

Bus after bus address by function: ports at multiples of their size, memory at multiples of 64 KiB at least.  What is
64 bits wide and prefetchable is in the 64-bit window, everything else in the other.  Nothing decodes its addresses
after that.  Those of a virtio file system get no addresses: Linux gives them.
Source: the POWER lab's recording of its pseries guest.
"""

from __future__ import annotations

from typing import Final

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.bar_sizing import FoundBar, size_bars
from pyvfio_backends.software.hardware.spapr.phb import LogicalPhb

__all__ = ["is_left_out", "place_functions"]

_LEAST_MEMORY: Final = 1 << 16
_FIRST_PORT: Final = 1
_WORD: Final = 0xFFFFFFFF
_LEFT_OUT: Final = {(0x1AF4, 0x1009)}


def is_left_out(vendor: int, device: int) -> bool:
    """Whether the firmware gives a function no addresses, though it keeps room for them."""
    return (vendor, device) in _LEFT_OUT


class _Room:
    """Addresses of one kind, given out upwards."""

    def __init__(self, first: int, least: int) -> None:
        self._next = first
        self._least = least

    def take(self, size: int) -> int:
        step = max(size, self._least)
        place = -(-self._next // step) * step
        self._next = place + size
        return place


def place_functions(phb: LogicalPhb) -> None:
    """Give the functions on the root bus their addresses, and have them report errors."""
    ports = _Room(_FIRST_PORT, 1)
    low, high = _Room(phb.m32_bus.start, _LEAST_MEMORY), _Room(phb.m64.start, _LEAST_MEMORY)
    for devfn in sorted(phb.root_bus.functions):
        function = phb.root_bus.functions[devfn]
        left_out = is_left_out(function.config.read(regs.PCI_VENDOR_ID, 2), function.config.read(regs.PCI_DEVICE_ID, 2))
        for bar in size_bars(phb, phb.number, function.rid):
            room = ports if bar.io else high if bar.wide and bar.prefetchable else low
            address = room.take(bar.size)
            if not left_out:
                _write(phb, function.rid, bar, address)
        phb.config_write(phb.number, function.rid, regs.PCI_COMMAND, 2, regs.PCI_COMMAND_SERR)


def _write(phb: LogicalPhb, rid: int, bar: FoundBar, address: int) -> None:
    phb.config_write(phb.number, rid, bar.register, 4, address & _WORD)
    if bar.wide:
        phb.config_write(phb.number, rid, bar.register + 4, 4, address >> 32)
