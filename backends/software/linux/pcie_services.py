"""The services of PCI Express ports as devices: the bus ``pci_express`` (``drivers/pci/pcie/portdrv.c``, 6.12).

==========  =========  ============================================================================
service     driver     ports that have it
==========  =========  ============================================================================
``001``     pcie_pme   root ports and event collectors: power management events
``002``     aer        those of them with advanced error reporting
``004``     pciehp     ports with a hot-pluggable slot
``008``     dpc        those with containment where ``aer`` is, or all (`pcie_dpc.contains`)
``010``     none       ports that tell of a change of their link's bandwidth
==========  =========  ============================================================================

A device is called ``PORT:pcieTSS``: T is the type of the port (0: root port, 2: downstream, 6: event collector), SS the
service.  A driver can be taken from a service and given back: its interrupts are off in the port's registers meanwhile,
and nobody handles them; the port keeps its messages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from pyvfio.abi import pci_express_regs as express_regs
from pyvfio.abi import pci_regs as regs
from pyvfio.abi.pci_regs import ExpressType
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus, Driver
from pyvfio_backends.software.linux.pcie_type import express_type
from pyvfio_backends.software.linux.vfs import Node, StaticDirectory

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.linux.pci_device import PciDevice

__all__ = ["PortService", "PortServices", "Work", "services_of"]


class PortService(IntEnum):
    """The numbers of the services (``PCIE_PORT_SERVICE_*``)."""

    PME = 0x01
    AER = 0x02
    HOTPLUG = 0x04
    DPC = 0x08
    BANDWIDTH = 0x10


_DRIVERS = {
    "pcie_pme": PortService.PME,
    "aer": PortService.AER,
    "pciehp": PortService.HOTPLUG,
    "dpc": PortService.DPC,
}
_LINKED = (ExpressType.ROOT_PORT, ExpressType.DOWNSTREAM)
_ROOTS = (ExpressType.ROOT_PORT, ExpressType.RC_EC)


class Work(NamedTuple):
    """What a driver does for a port: `begin`, which raises OSError if it cannot, and `end`."""

    begin: Callable[[PciDevice], None]
    end: Callable[[PciDevice], None]


class _Service(Device):
    """One service of a port (``struct pcie_device``)."""

    def __init__(self, port: PciDevice, bus: Bus, service: PortService) -> None:
        self.port = port
        kind = (express_type(port) or ExpressType.ROOT_PORT) - ExpressType.ROOT_PORT
        super().__init__(port.kernel, f"{port.name}:pcie{kind << 8 | service:03x}", port, bus=bus)
        self.service = service

    def attributes(self) -> dict[str, Node]:
        """See `Device.attributes`: its power is the port's."""
        return {"power": StaticDirectory({})}


class _ServiceDriver(Driver):
    def __init__(self, bus: Bus, name: str, work: Work) -> None:
        super().__init__(bus, name)
        self.service = _DRIVERS[name]
        self._work = work

    def probe(self, device: Device) -> None:
        """See `Driver.probe` (``pcie_port_probe_service``)."""
        if isinstance(device, _Service):
            self._work.begin(device.port)

    def remove(self, device: Device) -> None:
        """See `Driver.remove` (``pcie_port_remove_service``)."""
        if isinstance(device, _Service):
            self._work.end(device.port)


class _ServiceBus(Bus):
    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "pci_express")

    def match(self, device: Device, driver: Driver) -> bool:
        """See `Bus.match`."""
        return isinstance(device, _Service) and isinstance(driver, _ServiceDriver) and device.service == driver.service


class PortServices:
    """The bus, with the drivers that the kernel has built in, by name: what each does."""

    def __init__(self, kernel: Kernel, drivers: Mapping[str, Work]) -> None:
        self.bus = _ServiceBus(kernel)
        kernel.add_bus(self.bus)
        for name, work in drivers.items():
            self.bus.register(_ServiceDriver(self.bus, name, work))

    def add(self, port: PciDevice, *, quiet: bool, interrupts: bool) -> None:
        """Add the services of a port, each with its driver, unless that cannot work.

        A port that cannot interrupt (not `interrupts`) has hot-plug's alone (``pcie_port_device_register``).
        """
        for service in services_of(port):
            if not interrupts and service != PortService.HOTPLUG:
                continue
            device = _Service(port, self.bus, service)
            self.bus.add(device, quiet=quiet)
            if quiet:
                self._hold(device)

    def _hold(self, device: _Service) -> None:
        """Give it its driver, as after boot, without events."""
        for driver in self.bus.drivers.values():
            if self.bus.match(device, driver):
                try:
                    driver.probe(device)
                except OSError:
                    continue
                device.driver = driver
                driver.devices[device.name] = device

    def remove(self, port: PciDevice) -> None:
        """Take them away, with their port or its driver."""
        for child in list(port.child_devices()):
            if isinstance(child, _Service):
                self.bus.remove(child)


def services_of(port: PciDevice) -> list[PortService]:
    """What a port can do (``get_port_device_capability``)."""
    from pyvfio_backends.software.linux.pcie_dpc import contains  # not all machines have ports
    from pyvfio_backends.software.linux.pcie_sizing import hotplugs

    kind = express_type(port)
    root = kind in _ROOTS
    errors = root and port.aer is not None and port.aer.root
    link = port.read_config(port.express + regs.PCI_EXP_LNKCAP, 4) if kind in _LINKED else 0
    there = {
        PortService.PME: root,
        PortService.AER: errors,
        PortService.HOTPLUG: kind in _LINKED and hotplugs(port),
        PortService.DPC: contains(port),
        PortService.BANDWIDTH: bool(link & express_regs.PCI_EXP_LNKCAP_LBNC),
    }
    return [service for service, has in there.items() if has]
