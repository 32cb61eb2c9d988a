"""Addresses that firmware put into base address registers and into windows of bridges (``drivers/pci/probe.c``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.bar_sizing import FoundBar
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

__all__ = ["bar_resource", "bridge_windows"]

Read: TypeAlias = Callable[[int, int], int]
"""Reads a register of configuration space: offset, size."""
_BAR_FLAGS: Final = 0xF
_ROM_FLAGS: Final = ResourceFlag.MEM | ResourceFlag.PREFETCH | ResourceFlag.READONLY | ResourceFlag.SIZEALIGN
_IO_SHIFT, _MEMORY_SHIFT = 8, 16
_IO_MASK, _MEMORY_MASK = 0xF0, 0xFFF0
_IO_PAGE, _MEMORY_PAGE = 0xFFF, 0xFFFFF


def bar_resource(read: Read, bar: FoundBar, *, place: bool) -> Resource:
    """What a base address register holds (``__pci_read_base``); without its `place` only the size and the flags."""
    value = read(bar.register, 4)
    if bar.rom:
        start, flags = value & regs.PCI_ROM_ADDRESS_MASK, _ROM_FLAGS
    elif bar.io:
        start = value & regs.PCI_BASE_ADDRESS_IO_MASK
        flags = ResourceFlag.IO | ResourceFlag.SIZEALIGN | value & 3
    else:
        start = value & regs.PCI_BASE_ADDRESS_MEM_MASK
        flags = ResourceFlag.MEM | ResourceFlag.SIZEALIGN | value & _BAR_FLAGS
        flags |= ResourceFlag.PREFETCH if bar.prefetchable else 0
        flags |= ResourceFlag.MEM_64 if bar.wide else 0
    start &= 0xFFFFFFFF
    if bar.wide:
        start |= read(bar.register + 4, 4) << 32
    if not place:
        start = 0
    return Resource(start, start + bar.size - 1, flags)


def bridge_windows(read: Read) -> list[Resource]:
    """The windows of a bridge: ports, memory, prefetchable memory (``pci_read_bridge_bases``)."""
    memory = _window(read, bridge_regs.PCI_MEMORY_BASE, bridge_regs.PCI_MEMORY_LIMIT)
    return [_io_window(read), memory, _prefetchable_window(read)]


def _io_window(read: Read) -> Resource:
    """``pci_read_bridge_io``."""
    low = read(bridge_regs.PCI_IO_BASE, 1)
    base = (low & _IO_MASK) << _IO_SHIFT
    limit = (read(bridge_regs.PCI_IO_LIMIT, 1) & _IO_MASK) << _IO_SHIFT
    kind = low & bridge_regs.PCI_IO_RANGE_TYPE_MASK
    if kind == bridge_regs.PCI_IO_RANGE_TYPE_32:
        base |= read(bridge_regs.PCI_IO_BASE_UPPER16, 2) << 16
        limit |= read(bridge_regs.PCI_IO_LIMIT_UPPER16, 2) << 16
    if not base or base > limit:
        return Resource()
    return Resource(base, limit | _IO_PAGE, ResourceFlag.IO | kind)


def _window(read: Read, base_register: int, limit_register: int) -> Resource:
    """``pci_read_bridge_mmio``."""
    low = read(base_register, 2)
    base = (low & _MEMORY_MASK) << _MEMORY_SHIFT
    limit = (read(limit_register, 2) & _MEMORY_MASK) << _MEMORY_SHIFT
    if not base or base > limit:
        return Resource()
    return Resource(base, limit | _MEMORY_PAGE, ResourceFlag.MEM | low & bridge_regs.PCI_MEMORY_RANGE_TYPE_MASK)


def _prefetchable_window(read: Read) -> Resource:
    """``pci_read_bridge_mmio_pref``."""
    low = read(bridge_regs.PCI_PREF_MEMORY_BASE, 2)
    base = (low & _MEMORY_MASK) << _MEMORY_SHIFT
    limit = (read(bridge_regs.PCI_PREF_MEMORY_LIMIT, 2) & _MEMORY_MASK) << _MEMORY_SHIFT
    kind = low & bridge_regs.PCI_PREF_RANGE_TYPE_MASK
    flags = ResourceFlag.MEM | ResourceFlag.PREFETCH | kind
    if kind == bridge_regs.PCI_PREF_RANGE_TYPE_64:
        flags |= ResourceFlag.MEM_64
        base |= read(bridge_regs.PCI_PREF_BASE_UPPER32, 4) << 32
        limit |= read(bridge_regs.PCI_PREF_LIMIT_UPPER32, 4) << 32
    if not base or base > limit:
        return Resource()
    return Resource(base, limit | _MEMORY_PAGE, flags)
