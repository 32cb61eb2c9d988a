"""``shpchp``: hot-plug of conventional PCI by a Standard Hot-Plug Controller.

Source: ``drivers/pci/hotplug/shpchp_{core,ctrl,hpc,pci}.c`` (6.12).

It holds the bridge that has the controller, and says nothing about DMA: it keeps all behind the bridge from programs.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from pyvfio.abi import pci_regs as regs
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import ANY, PciDriver, PciId
from pyvfio_backends.software.linux.pcie_function import PcieFunction
from pyvfio_backends.software.linux.shpchp_controller import ShpcController
from pyvfio_backends.software.linux.vfs import fail

__all__ = ["ShpchpDriver"]

_BRIDGE_CLASS = 0x060400


class ShpchpDriver(PciDriver):
    """The driver; it knows every bridge, and takes those with the capability."""

    table = (PciId(class_code=_BRIDGE_CLASS, class_mask=ANY),)

    def __init__(self, bus: PciBus) -> None:
        super().__init__(bus, "shpchp")
        self.controllers: dict[PciDevice, ShpcController] = {}

    def probe(self, device: Device) -> None:
        """See `Driver.probe`.  Raise OSError ENODEV for a bridge without a controller or an interrupt."""
        self._take(device, quiet=False)

    def _take(self, device: Device, *, quiet: bool) -> None:
        function = device.sysdata if isinstance(device, PciDevice) else None
        at = device.find_capability(regs.PCI_CAP_ID_SHPC) if isinstance(device, PciDevice) else 0
        if not isinstance(device, PciDevice) or not isinstance(function, PcieFunction) or not at:
            raise fail(errno.ENODEV)
        if function.subordinate is None:
            raise fail(errno.ENODEV)
        self.controllers[device] = ShpcController(device, function, at, quiet=quiet)

    def boot(self, devices: Sequence[PciDevice]) -> None:
        """Hold those of the devices that it knows, as after boot, without events."""
        for device in devices:
            if device.driver is None and self.bus.match(device, self) and device.find_capability(regs.PCI_CAP_ID_SHPC):
                device.driver = self
                try:
                    self._take(device, quiet=True)
                except OSError:
                    device.driver = None
                    continue
                self.devices[device.name] = device

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, PciDevice):
            self.controllers.pop(device).stop()
            device.msi.driver_left()
            device.disable()
