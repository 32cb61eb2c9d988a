"""Sizing of base addresses: write ones, read what stuck, put back what was there.

The lowest writable address bit is the size.  While a register holds ones, the function answers nothing
(memory and I/O are switched off in the command register).  Source: PCI Local Bus Specification, 3.0, 6.2.5.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.config_mechanism import ConfigAccess

__all__ = ["FoundBar", "size_bars"]

_DWORD = 0xFFFFFFFF
_BRIDGE_BARS = 2


@dataclass(frozen=True, slots=True)
class FoundBar:
    """A base address register at `register`: the bytes it asks for (all that `count` virtual functions do together),
    the alignment of its address, and of what kind it is.  `rom`: an expansion ROM.
    """

    register: int
    size: int
    align: int
    io: bool
    wide: bool
    prefetchable: bool
    rom: bool = False
    virtual: bool = False


def size_bars(
    access: ConfigAccess, segment: int, rid: int, *, bridge: bool = False, sriov: int = 0, count: int = 1
) -> list[FoundBar]:
    """The base addresses of a function (and its ROM), or those of the SR-IOV capability at `sriov`."""

    def read(offset: int) -> int:
        return access.config_read(segment, rid, offset, 4)

    def ones(offset: int, mask: int = _DWORD) -> int:
        before = read(offset)
        access.config_write(segment, rid, offset, 4, mask)
        stuck = read(offset)
        access.config_write(segment, rid, offset, 4, before)
        return stuck

    command = access.config_read(segment, rid, regs.PCI_COMMAND, 2)
    if not sriov and command & (regs.PCI_COMMAND_IO | regs.PCI_COMMAND_MEMORY):
        off = command & ~(regs.PCI_COMMAND_IO | regs.PCI_COMMAND_MEMORY)
        access.config_write(segment, rid, regs.PCI_COMMAND, 2, off)
    found: list[FoundBar] = []
    first = sriov + regs.PCI_SRIOV_BAR if sriov else regs.PCI_BASE_ADDRESS_0
    end = first + 4 * (_BRIDGE_BARS if bridge else regs.PCI_STD_NUM_BARS)
    at = first
    while at < end:
        stuck = ones(at)
        register, at = at, at + 4
        if not stuck:
            continue
        io = bool(stuck & regs.PCI_BASE_ADDRESS_SPACE_IO)
        wide = not io and stuck & regs.PCI_BASE_ADDRESS_MEM_TYPE_MASK == regs.PCI_BASE_ADDRESS_MEM_TYPE_64
        mask = stuck & (regs.PCI_BASE_ADDRESS_IO_MASK if io else regs.PCI_BASE_ADDRESS_MEM_MASK)
        if wide:
            mask |= ones(at) << 32
            at += 4
        size = mask & -mask
        if size:
            prefetchable = not io and bool(stuck & regs.PCI_BASE_ADDRESS_MEM_PREFETCH)
            found.append(FoundBar(register, size * count, size, io, wide, prefetchable, virtual=bool(sriov)))
    if not sriov:
        rom = bridge_regs.PCI_ROM_ADDRESS1 if bridge else regs.PCI_ROM_ADDRESS
        mask = ones(rom, regs.PCI_ROM_ADDRESS_MASK & _DWORD)
        if mask:
            size = mask & -mask
            found.append(FoundBar(rom, size, size, False, False, False, rom=True))
        access.config_write(segment, rid, regs.PCI_COMMAND, 2, command)
    return found
