"""Messages below a host bridge of bare-metal POWER: of the bridge's interrupts, each is one endpoint's.

Which endpoint may send it is told with the message that the function is given.
Source: ``arch/powerpc/platforms/powernv/pci-ioda.c`` of Linux 6.12.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.powerpc_irq import PowerMessages
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.opal import Opal
    from pyvfio_backends.software.hardware.ioda.phb import Phb
    from pyvfio_backends.software.linux.pci_msi import PciMsi

__all__ = ["LINES", "PnvMessages", "first_interrupt"]

LINES: Final = 8
"""The interrupts of a bridge that are no messages: four of pins, and those of errors."""
_END_OF_BRIDGES = 0xFF000


def first_interrupt(phb: Phb, before: int) -> int:
    """The machine's number of a bridge's first interrupt, `before` being how many the bridges before it have."""
    return _END_OF_BRIDGES - before - (phb.model.messages + LINES)


class PnvMessages(PowerMessages):
    """The messages of what is below a host bridge (``PNV-PCI-MSI``)."""

    def __init__(self, opal: Opal, phb: Phb) -> None:
        super().__init__(phb.number, "PNV-PCI-MSI")
        self._opal = opal
        self._phb = phb
        phb.inbound.deliver = self.arrived

    def take(self, count: int) -> int:
        """See `PowerMessages.take`: at a multiple of their number (``msi_bitmap_alloc_hwirqs``)."""
        for first in range(0, self._phb.model.messages - count + 1, count):
            if not any(self.is_taken(one) for one in range(first, first + count)):
                return first
        raise fail(errno.ENOSPC)

    def compose(self, msi: PciMsi, vector: int, cpu: int) -> tuple[int, int]:
        """See `MsiDomain.compose` (``__pnv_pci_ioda_msi_setup``): from now on it is the endpoint's; 0 and 0 without."""
        from pyvfio_backends.software.linux.pnv_function import PnvFunction

        sysdata, interrupt = msi.device.sysdata, self.interrupt_of(msi, vector)
        pe = sysdata.pe if isinstance(sysdata, PnvFunction) else None
        if pe is None or self._opal.pci_set_xive_pe(self._phb.number, pe.number, interrupt):
            return 0, 0
        ask = self._opal.get_msi_64 if self._is_wide(msi) else self._opal.get_msi_32
        _, address, data = ask(self._phb.number, 0, interrupt)
        return address, data

    @staticmethod
    def _is_wide(msi: PciMsi) -> bool:
        flags = msi.plain_capability + regs.PCI_MSI_FLAGS
        return msi.is_msix or bool(msi.device.read_config(flags, 2) & regs.PCI_MSI_FLAGS_64BIT)
