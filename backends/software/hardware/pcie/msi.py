"""MSI: sending a message, or keeping it pending while its vector is masked.

The registers are drawn in `capabilities`.  With several vectors enabled the low bits of the message data are the
number of the vector; a vector beyond those enabled is sent as one within them (its number modulo theirs).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.hardware.pcie.capabilities import Msi

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.pcie.function import Function

__all__ = ["MsiSender"]


class MsiSender:
    """Sends the messages of `function`, whose capability, `declared`, is at an offset."""

    def __init__(self, function: Function, declared: Msi, offset: int) -> None:
        self.function = function
        self.declared = declared
        self.offset = offset
        function.config.watch(offset, declared.size, lambda before, ones: self.release())

    def _read(self, field: int, width: int) -> int:
        return self.function.config.read(self.offset + field, width)

    @property
    def enabled(self) -> int:
        """How many vectors are on; 0 while MSI is off."""
        flags = self._read(regs.PCI_MSI_FLAGS, 2)
        count = 1 << ((flags & regs.PCI_MSI_FLAGS_QSIZE) >> 4)
        return min(count, self.declared.vectors) if flags & regs.PCI_MSI_FLAGS_ENABLE else 0

    @property
    def _masked(self) -> int:
        return self._read(self.declared.mask_offset, 4) if self.declared.maskable else 0

    @property
    def _pending(self) -> int:
        return self._read(self.declared.mask_offset + 4, 4) if self.declared.maskable else 0

    @_pending.setter
    def _pending(self, bits: int) -> None:
        if self.declared.maskable:
            self.function.config.put(self.offset + self.declared.mask_offset + 4, 4, bits)

    def signal(self, vector: int) -> None:
        """Send the message of a vector; a masked one becomes pending.  Nothing while MSI is off."""
        count = self.enabled
        if not count:
            return
        vector %= count
        if self._masked >> vector & 1:
            self._pending |= 1 << vector
            return
        address = self._read(regs.PCI_MSI_ADDRESS_LO, 4)
        if self.declared.wide:
            address |= self._read(regs.PCI_MSI_ADDRESS_HI, 4) << 32
        data = self._read(self.declared.data_offset, 2) & -count | vector
        self.function.send_message(address, data)

    def release(self) -> None:
        """Send what is pending and masked no more."""
        ready = self._pending & ~self._masked if self.enabled else 0
        self._pending &= ~ready
        for vector in range(ready.bit_length()):
            if ready >> vector & 1:
                self.signal(vector)
