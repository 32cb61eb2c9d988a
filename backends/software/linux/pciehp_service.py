"""Which ports interrupt for services, and which of them have hot-plug's: with a slot where cards come and go.

Source: ``drivers/pci/pcie/portdrv.c``, 6.12.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyvfio_backends.software.linux.pcie_services import PortService, services_of
from pyvfio_backends.software.linux.pcie_sizing import hotplugs
from pyvfio_backends.software.linux.pcieport_irq import PortInterrupts
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.pcie_bus import PcieBus
    from pyvfio_backends.software.linux.pciehp import Controller

__all__ = ["SLOT_NAMES", "HotplugService"]

SLOT_NAMES: Final[Key[dict[str, str]]] = Key("pciehp")
"""What the slots are called, by the addresses of their ports."""


class HotplugService:
    """The `controllers` of all ports with a slot for hot-plug, and the `interrupts` of all ports that have a service.

    `booting`: what is found was there before anybody listened to events.  Not all kernels have hot-plug's service
    `built_in` (``CONFIG_HOTPLUG_PCI_PCIE``): Debian's for POWER does not.
    """

    def __init__(self, *, built_in: bool = True) -> None:
        self.built_in = built_in
        self.controllers: dict[PciDevice, Controller] = {}
        self.interrupts: dict[PciDevice, PortInterrupts] = {}
        self.booting = False

    def prepare(self, device: PciDevice) -> bool:
        """Let a port interrupt, which is enabled and bus master, if it has a service.

        False if it cannot, and has no slot for hot-plug either (``pcie_port_device_register``).
        """
        services = services_of(device)
        if services:
            interrupts = self.interrupts[device] = PortInterrupts(device)
            interrupts.allocate(services)
            if not interrupts.there and PortService.HOTPLUG not in services:
                del self.interrupts[device]
                return False
        return True

    def _below(self, device: PciDevice) -> PcieBus | None:
        """The bus that the cards of a port come to; None without a slot for that."""
        from pyvfio_backends.software.linux.pcie_function import PcieFunction  # not all machines have ports

        function = device.sysdata
        if not self.built_in or not isinstance(function, PcieFunction) or not hotplugs(device):
            return None
        return function.subordinate

    def start(self, device: PciDevice, recovered: Callable[[], bool | None]) -> None:
        """Begin for a port that was prepared; `recovered` is `Controller.recovered`.

        Raise OSError ENODEV if that cannot be (``pciehp_probe``).
        """
        interrupts, below = self.interrupts.get(device), self._below(device)
        if interrupts is None or not interrupts.there or below is None:
            raise fail(errno.ENODEV)
        from pyvfio_backends.software.linux.pciehp import Controller

        controller = Controller(device, below, recovered)
        try:
            interrupts.request(interrupts.slot_message, controller.interrupt, "pciehp")
        except OSError:
            raise fail(errno.ENODEV) from None
        self.controllers[device] = controller
        controller.start(quiet=self.booting)
        self._names(device)[device.name] = controller.name

    @staticmethod
    def _names(device: PciDevice) -> dict[str, str]:
        """What the slots are called, by the addresses of their ports."""
        return device.kernel.subsystems.get_or_make(SLOT_NAMES, dict)

    def stop(self, device: PciDevice) -> None:
        """End for a port: the slot goes, its cards stay (``pciehp_remove``)."""
        controller = self.controllers.pop(device, None)
        if controller is not None:
            controller.stop()
            self._names(device).pop(device.name, None)
            self.interrupts[device].release(controller.interrupt)

    def free(self, device: PciDevice) -> None:
        """Let a port whose services have ended interrupt no more."""
        interrupts = self.interrupts.pop(device, None)
        if interrupts is not None:
            interrupts.free()
