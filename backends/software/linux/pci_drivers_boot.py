"""The host's own drivers of PCI functions, as far as a machine's description loads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.host_pci_drivers import HostPciDriver
    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.shpchp import ShpchpDriver
    from pyvfio_backends.software.linux.virtio_pci import VirtioPciDriver
    from pyvfio_backends.software.machine import Machine

__all__ = ["host_drivers"]

_BootDriver: TypeAlias = "HostPciDriver | VirtioPciDriver | ShpchpDriver"


def host_drivers(machine: Machine, bus: PciBus) -> list[_BootDriver]:
    """The host's drivers that the machine's description loads, registered, in the order of what they take."""
    from pyvfio_backends.software.linux.host_pci_drivers import StubDriver, host_pci_drivers
    from pyvfio_backends.software.linux.shpchp import ShpchpDriver
    from pyvfio_backends.software.linux.virtio_pci import VirtioPciDriver

    names = {name.replace("-", "_") for name in machine.spec.modules}
    every: list[_BootDriver] = [ShpchpDriver(bus), VirtioPciDriver(bus), *host_pci_drivers(bus)]
    found = [driver for driver in every if driver.name.replace("-", "_") in names]
    for driver in found:
        bus.register(driver)
    if "pci_stub" in names:
        bus.register(StubDriver(bus))
    return found
