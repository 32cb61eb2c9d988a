"""The display adapter that firmware uses: which it is, and the copy of its ROM (``arch/x86/pci/fixup.c``, 6.12).

Firmware copies the ROM to c0000, where Linux reads it from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_bridge_regs as bridge_regs
from pyvfio.abi import pci_ids
from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.pci_rom import SHADOW_SIZE
from pyvfio_backends.software.linux.resource import Resource, ResourceFlag

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pcie_function import PcieFunction

__all__ = ["SHADOW", "is_vga", "shadow"]

_AT: Final = 0xC0000
SHADOW: Final = Resource(
    _AT, _AT + SHADOW_SIZE - 1, ResourceFlag.MEM | ResourceFlag.ROM_SHADOW | ResourceFlag.PCI_FIXED, claimed=True
)
"""The resource that stands for the ROM."""
_ROM = 6


def is_vga(function: PcieFunction) -> bool:
    """Whether it is a display adapter."""
    return int.from_bytes(function.config.data[regs.PCI_CLASS_DEVICE :][:2], "little") == pci_ids.PCI_CLASS_DISPLAY_VGA


def shadow(function: PcieFunction) -> bytes | None:
    """The copy of the ROM of the adapter that firmware uses, None of any other (``pci_fixup_video``)."""
    on = function.on
    while on.above is not None:
        if not on.above.config_read(bridge_regs.PCI_BRIDGE_CONTROL, 2) & bridge_regs.PCI_BRIDGE_CTL_VGA:
            return None
        on = on.above.on
    if not function.config.command & (regs.PCI_COMMAND_IO | regs.PCI_COMMAND_MEMORY):
        return None
    rom = function.hardware.bars.get(_ROM)
    size = 0 if rom is None else min(rom.size, SHADOW_SIZE)
    image = b"" if rom is None else b"".join(rom.read(at, 8).to_bytes(8, "little") for at in range(0, size, 8))
    return image.ljust(SHADOW_SIZE, b"\xff")
