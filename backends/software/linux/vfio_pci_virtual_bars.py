"""The base address registers as vfio-pci shows them: a program can size and place them, and the device never hears.

Source: ``drivers/vfio/pci/vfio_pci_config.c`` (6.12), ``vfio_bar_fixup`` and ``vfio_bar_restore``.
"""

from __future__ import annotations

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag
from pyvfio_backends.software.linux.vfio_pci_physical import PhysicalFunction

__all__ = ["VirtualBars"]

_BARS = range(regs.PCI_BASE_ADDRESS_0, regs.PCI_BASE_ADDRESS_5 + 4)
_ROM = range(regs.PCI_ROM_ADDRESS, regs.PCI_ROM_ADDRESS + 4)
_ROM_INDEX = regs.PCI_STD_NUM_BARS
_SHADOW_SIZE = 0x20000
_DWORD = 0xFFFFFFFF


class VirtualBars:
    """The base addresses and the expansion ROM in vfio-pci's `copy`, and what the device has there."""

    def __init__(self, device: PhysicalFunction, copy: bytearray) -> None:
        self._device = device
        self._copy = copy
        self._dirty = True
        self._real = [(offset, self._word(offset)) for offset in (*_BARS[::4], _ROM.start)]

    def _word(self, offset: int) -> int:
        return int.from_bytes(self._copy[offset : offset + 4], "little")

    def _put(self, offset: int, value: int) -> None:
        self._copy[offset : offset + 4] = (value & _DWORD).to_bytes(4, "little")

    def written(self, at: int) -> None:
        """An access that begins here was written."""
        if at in _BARS or at in _ROM:
            self._dirty = True

    def read(self, first: int, end: int) -> None:
        """These bytes are about to be read: the copies are made to look as hardware would."""
        if self._dirty and first < _ROM.stop and end > _BARS.start:
            self._fix()
            self._dirty = False

    def _fix(self) -> None:
        """Size bits stay 0, flags are fixed; a base address without an address on the host is none."""
        index = 0
        while index < regs.PCI_STD_NUM_BARS:
            resource = self._device.resources[index]
            offset = _BARS.start + 4 * index
            index += 1
            if not resource.start:
                self._put(offset, 0)
                continue
            mask = -resource.size
            self._put(offset, self._word(offset) & mask | _flags(resource))
            if self._word(offset) & regs.PCI_BASE_ADDRESS_MEM_TYPE_64:
                self._put(offset + 4, self._word(offset + 4) & mask >> 32)
                index += 1
        rom = self._device.resources[_ROM_INDEX]
        size = rom.size if rom.start else _SHADOW_SIZE if rom.flags & ResourceFlag.ROM_SHADOW else 0
        self._put(_ROM.start, self._word(_ROM.start) & (-size | regs.PCI_ROM_ADDRESS_ENABLE) if size else 0)

    def recover(self, command: int) -> None:
        """Bring the device's base addresses back when it lost them by a reset that nobody told about.

        That shows when the program writes a `command` that switches decoding on which it thinks is on already.
        Raise OSError.
        """
        device = self._device
        now = device.load_config(regs.PCI_COMMAND, 2)
        lost = command & int.from_bytes(self._copy[regs.PCI_COMMAND : regs.PCI_COMMAND + 2], "little") & ~now
        if device.no_command_memory:
            lost &= ~regs.PCI_COMMAND_MEMORY
        if lost & (regs.PCI_COMMAND_MEMORY | regs.PCI_COMMAND_IO) or self._differ():
            if device.is_virtual:
                return
            for offset, value in self._real:
                device.store_config(offset, 4, value)

    def _differ(self) -> bool:
        return any(value and self._device.read_config(offset, 4) != value for offset, value in self._real[:-1])


def _flags(resource: Resource) -> int:
    if resource.flags & ResourceFlag.IO:
        return regs.PCI_BASE_ADDRESS_SPACE_IO
    flags = regs.PCI_BASE_ADDRESS_SPACE_MEMORY
    if resource.flags & ResourceFlag.PREFETCH:
        flags |= regs.PCI_BASE_ADDRESS_MEM_PREFETCH
    if resource.flags & ResourceFlag.MEM_64:
        flags |= regs.PCI_BASE_ADDRESS_MEM_TYPE_64
    return flags
