"""Expansion ROMs (``drivers/pci/rom.c``, 6.12): where they are, and how much of one is an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.resource import ResourceFlag

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["SHADOW_SIZE", "map_rom", "rom_size", "unmap_rom"]

SHADOW_SIZE: Final = 0x20000
"""Bytes of the copy that firmware makes of the ROM of the display."""
_ROM = 6
_HEADER, _POINTER, _UNIT, _LEAST, _UNKNOWN = 0x1A, 0x18, 512, 0x18, 0xFFFF
_SIGNATURE, _STRUCTURE = 0xAA55, int.from_bytes(b"PCIR", "little")
_STRUCTURE_LENGTH, _IMAGE_LENGTH, _INDICATOR, _LAST = 0x0A, 0x10, 0x15, 0x80


def rom_size(read: Callable[[int, int], int], size: int) -> int:
    """How many bytes of a ROM of `size` bytes are images; `read` reads 1, 2 or 4 of them (``pci_get_rom_size``)."""
    image = 0
    while image + _HEADER <= size and read(image, 2) == _SIGNATURE:
        at = image + read(image + _POINTER, 2)
        if at % 4 or at + _STRUCTURE_LENGTH + 1 >= size or read(at, 4) != _STRUCTURE:
            break
        length = read(at + _STRUCTURE_LENGTH, 2)
        if length < _LEAST or length == _UNKNOWN or at + length > size:
            break
        units = read(at + _IMAGE_LENGTH, 2)
        image += units * _UNIT
        if not units or read(at + _INDICATOR, 1) & _LAST:
            break
    return min(image, size)


def _register(device: PciDevice) -> int:
    return bridge_regs.PCI_ROM_ADDRESS1 if device.is_bridge else regs.PCI_ROM_ADDRESS


def map_rom(device: PciDevice) -> int | None:
    """Let the ROM be read, up to `unmap_rom`; how many bytes are images, None when it cannot be (``pci_map_rom``).

    One without an address is noted as such: there is none to be had.
    """
    rom = device.resources[_ROM]
    if not rom.flags:
        return None
    if not rom.start:
        rom.flags |= ResourceFlag.UNSET
        return None
    if not rom.flags & ResourceFlag.ROM_SHADOW:
        at = _register(device)
        low = device.read_config(at, 4) & ~regs.PCI_ROM_ADDRESS_MASK & 0xFFFFFFFF
        start = device.sysdata.bus_address(rom.start) & 0xFFFFFFFF
        device.write_config(at, 4, low | start | regs.PCI_ROM_ADDRESS_ENABLE)
    size = rom_size(lambda offset, length: device.load_bar(_ROM, offset, length), rom.size)
    if size:
        return size
    unmap_rom(device)
    return None


def unmap_rom(device: PciDevice) -> None:
    """End it (``pci_unmap_rom``)."""
    if not device.resources[_ROM].flags & ResourceFlag.ROM_SHADOW:
        at = _register(device)
        device.write_config(at, 4, device.read_config(at, 4) & ~regs.PCI_ROM_ADDRESS_ENABLE)
