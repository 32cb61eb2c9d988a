"""``pcieport``: the driver of PCI Express ports (``drivers/pci/pcie/portdrv.c``)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.pci_driver import ANY, PciDriver, PciId
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus

__all__ = ["PortDriver"]


class PortDriver(PciDriver):
    """The driver, which cares for who owns the group's DMA: a port does none."""

    driver_managed_dma = True
    table = (PciId(class_code=0x060400, class_mask=ANY),)

    def __init__(self, bus: PciBus) -> None:
        super().__init__(bus, "pcieport", module="pcieportdrv")

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise OSError ENODEV for what is no port."""
        raise fail(errno.ENODEV)  # no function is one yet
