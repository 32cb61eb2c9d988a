"""``pcieport``: the driver of PCI Express ports (``drivers/pci/pcie/portdrv.c``)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import ANY, PciDriver, PciId
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus

__all__ = ["PortDriver", "express_type"]

_BRIDGE_CLASS = 0x060400
_PORTS = (ExpressType.ROOT_PORT, ExpressType.UPSTREAM, ExpressType.DOWNSTREAM, ExpressType.RC_EC)


class PortDriver(PciDriver):
    """The driver, which cares for who owns the group's DMA: a port does none."""

    driver_managed_dma = True
    table = (PciId(class_code=_BRIDGE_CLASS, class_mask=ANY),)

    def __init__(self, bus: PciBus) -> None:
        super().__init__(bus, "pcieport", module="pcieportdrv")

    def probe(self, device: Device) -> None:
        """See `Driver.probe` (``pcie_portdrv_probe``).  Raise OSError ENODEV for what is no port."""
        if not isinstance(device, PciDevice) or express_type(device) not in _PORTS:
            raise fail(errno.ENODEV)
        device.enable()
        device.set_master(True)

    def boot(self, devices: Iterable[PciDevice]) -> None:
        """Hold those of the devices that are ports, as after boot, without events."""
        for device in devices:
            if device.class_code == _BRIDGE_CLASS and express_type(device) in _PORTS:
                device.driver = self
                self.devices[device.name] = device
                self.probe(device)

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, PciDevice):
            device.disable()


def express_type(device: PciDevice) -> int | None:
    """What a device is to PCI Express (``pci_pcie_type``); None for conventional PCI."""
    if not device.express:
        return None
    return regs.pci_exp_type(device.read_config(device.express + regs.PCI_EXP_FLAGS, 2))
