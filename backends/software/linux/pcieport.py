"""``pcieport``: the driver of PCI Express ports, and what it does for errors (``drivers/pci/pcie/portdrv.c``, 6.12)."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyvfio.abi import pci_extended_regs as extended_regs
from pyvfio.abi import pci_ids as ids
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.kernel_log import INFO, say
from pyvfio_backends.software.linux.pci_device import ErrorState, PciDevice, SavedState
from pyvfio_backends.software.linux.pci_driver import ANY, PciDriver, PciId, Recovery
from pyvfio_backends.software.linux.pcie_services import PortServices, Work, services_of
from pyvfio_backends.software.linux.pcie_type import express_type
from pyvfio_backends.software.linux.pciehp_service import HotplugService
from pyvfio_backends.software.linux.pcieport_irq import PortInterrupts
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.pcie_aer import ErrorService
    from pyvfio_backends.software.linux.pcie_dpc import ContainmentService
    from pyvfio_backends.software.linux.pcie_pme import PowerEventService

__all__ = ["PortDriver"]

_CLASSES = (
    ids.PCI_CLASS_BRIDGE_PCI_NORMAL,
    ids.PCI_CLASS_BRIDGE_PCI_SUBTRACTIVE,
    ids.PCI_CLASS_SYSTEM_RCEC << 8,
)
_PORTS = (ExpressType.ROOT_PORT, ExpressType.UPSTREAM, ExpressType.DOWNSTREAM, ExpressType.RC_EC)


class PortDriver(PciDriver):
    """The driver, which cares for who owns the group's DMA: a port does none.

    `events`, `errors` and `containments` are the services of the ports that have them.
    """

    driver_managed_dma = True
    table = tuple(PciId(class_code=one, class_mask=ANY) for one in _CLASSES)

    def __init__(self, bus: PciBus, *, hotplug: bool = True) -> None:
        super().__init__(bus, "pcieport", module="pcieportdrv")
        self.events: dict[PciDevice, PowerEventService] = {}
        self.errors: dict[PciDevice, ErrorService] = {}
        self.containments: dict[PciDevice, ContainmentService] = {}
        self._saved: dict[PciDevice, SavedState] = {}
        self.hotplug = HotplugService(built_in=hotplug)
        drivers = {
            "pcie_pme": Work(self._start_events, self._stop_events),
            "aer": Work(self._start_errors, self._stop_errors),
            "pciehp": Work(lambda port: self.hotplug.start(port, lambda: self._contained(port)), self.hotplug.stop),
            "dpc": Work(self._start_containment, self._stop_containment),
        }
        if not hotplug:
            del drivers["pciehp"]
        self.services = PortServices(bus.kernel, drivers)

    def probe(self, device: Device) -> None:
        """See `Driver.probe` (``pcie_portdrv_probe``).

        Raise OSError ENODEV for what is no port, and for one that cannot interrupt and has no slot for hot-plug.
        """
        if not isinstance(device, PciDevice) or express_type(device) not in _PORTS:
            raise fail(errno.ENODEV)
        if express_type(device) == ExpressType.RC_EC:
            from pyvfio_backends.software.linux.pcie_rcec import link

            link(device)
        device.enable()
        if services_of(device):  # without any, nothing more is done to the port (`pcie_port_device_register`)
            device.set_master(True)
        if not self.hotplug.prepare(device):
            device.disable()
            raise fail(errno.ENODEV)
        interrupts = self.hotplug.interrupts.get(device)
        self.services.add(device, quiet=self.hotplug.booting, interrupts=interrupts is not None and interrupts.there)
        self._saved[device] = device.save_state()

    def _interrupts(self, port: PciDevice) -> PortInterrupts:
        """The interrupts of a port.  Raise OSError ENODEV if it cannot have any."""
        interrupts = self.hotplug.interrupts.get(port)
        if interrupts is None or not interrupts.there:
            raise fail(errno.ENODEV)
        return interrupts

    def _start_events(self, port: PciDevice) -> None:
        """Power management events, where their messages end (``pcie_pme_probe``)."""
        from pyvfio_backends.software.linux.pcie_pme import PowerEventService  # not all machines have ports

        interrupts, service = self._interrupts(port), PowerEventService(port)
        service.prepare()
        interrupts.request(interrupts.slot_message, service.interrupt, "PCIe PME")
        self.events[port] = service
        say(port, INFO, f"PME: Signaling with IRQ {interrupts.number(interrupts.slot_message)}")
        service.start()

    def _stop_events(self, port: PciDevice) -> None:
        service = self.events.pop(port)
        service.stop()
        self._interrupts(port).release(service.interrupt)

    def _start_errors(self, port: PciDevice) -> None:
        """AER where messages end (``aer_probe``)."""
        from pyvfio_backends.software.linux.pcie_aer import ErrorService

        if port.aer is None:
            raise fail(errno.ENODEV)
        interrupts, service = self._interrupts(port), ErrorService(port, port.aer)
        interrupts.request(interrupts.error_message, service.interrupt, "aerdrv")
        self.errors[port] = service
        service.start()
        say(port, INFO, f"AER: enabled with IRQ {interrupts.number(interrupts.error_message)}")

    def _stop_errors(self, port: PciDevice) -> None:
        service = self.errors.pop(port)
        service.stop()
        self._interrupts(port).release(service.interrupt)

    def _start_containment(self, port: PciDevice) -> None:
        """Downstream port containment (``dpc_probe``)."""
        from pyvfio_backends.software.linux.pcie_dpc import ContainmentService

        interrupts = self._interrupts(port)
        service = ContainmentService(port, port.find_extended_capability(extended_regs.PCI_EXT_CAP_ID_DPC))
        interrupts.request(interrupts.containment_message, service.interrupt, "pcie-dpc")
        self.containments[port] = service
        service.start()
        say(port, INFO, f"DPC: enabled with IRQ {interrupts.number(interrupts.containment_message)}")
        service.tell()

    def _stop_containment(self, port: PciDevice) -> None:
        service = self.containments.pop(port)
        service.stop()
        self._interrupts(port).release(service.interrupt)

    def _contained(self, port: PciDevice) -> bool | None:
        """Whether containment was recovered from, which is told once; None: not yet (``pci_dpc_recovered``)."""
        service = self.containments.get(port)
        if service is None:
            return False
        if service.busy:
            return None
        found, service.recovered = service.recovered, False
        return found

    def boot(self, devices: Iterable[PciDevice]) -> None:
        """Hold those of the devices that are ports, as after boot, without events."""
        self.hotplug.booting = True
        for device in devices:
            if device.class_code in _CLASSES and express_type(device) in _PORTS:
                device.driver = self
                self.devices[device.name] = device
                try:
                    self.probe(device)
                except OSError:
                    device.driver = None
                    del self.devices[device.name]
        self.hotplug.booting = False

    def remove(self, device: Device) -> None:
        """See `Driver.remove`."""
        if isinstance(device, PciDevice):
            self.services.remove(device)
            self.hotplug.free(device)
            device.msi.driver_left()
            self._saved.pop(device, None)
            device.disable()

    # errors

    def error_detected(self, device: PciDevice) -> Recovery:
        """See `PciDriver.error_detected`: after a reset of its link a port is to be set up again."""
        return Recovery.NEED_RESET if device.error_state is ErrorState.FROZEN else Recovery.CAN_RECOVER

    def mmio_enabled(self, device: PciDevice) -> Recovery | None:
        """See `PciDriver.mmio_enabled`."""
        return Recovery.RECOVERED

    def slot_reset(self, device: PciDevice) -> Recovery:
        """See `PciDriver.slot_reset`: as it was when its services had begun; that the link was down is no event."""
        controller = self.hotplug.controllers.get(device)
        if controller is not None:
            controller.slot_reset()
        device.restore_state(self._saved[device])
        return Recovery.RECOVERED
