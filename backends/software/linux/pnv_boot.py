"""Linux boots on bare-metal POWER (``arch/powerpc/platforms/powernv``): host bridges, endpoints, groups, drivers.

Firmware has numbered the buses; Linux gives all addresses, then each bus its endpoint from the top down, and enables
the bridges that something is behind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.ioda.opal import Opal
from pyvfio_backends.software.linux.interrupts_powerpc import PowerInterruptCounts
from pyvfio_backends.software.linux.kernel_log import add_node as add_kernel_log
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_drivers_boot import host_drivers
from pyvfio_backends.software.linux.pcie_aspm import boot as boot_aspm
from pyvfio_backends.software.linux.pcie_assign import assign_unassigned
from pyvfio_backends.software.linux.pcie_services import PortServices
from pyvfio_backends.software.linux.pnv_device_tree import MODEL, add_device_tree
from pyvfio_backends.software.linux.pnv_eeh_boot import start_eeh
from pyvfio_backends.software.linux.pnv_host import PnvHostBridge
from pyvfio_backends.software.linux.pnv_irq import LINES, PnvMessages, first_interrupt
from pyvfio_backends.software.linux.pnv_opal_irq import add_late_interrupts, add_opal_interrupts
from pyvfio_backends.software.linux.powerpc_irq import PowerPins
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfio_pci_driver import boot as boot_vfio_pci
from pyvfio_backends.software.linux.vfio_state import vfio_core
from pyvfio_backends.software.pcie_peripherals import Peripherals
from pyvfio_backends.software.pcie_slots import MachineSlots, switch_on
from pyvfio_backends.software.phb_tree import build_phbs, m64_of, start_phbs

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.ioda.phb import Phb
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.machine import Machine

__all__ = ["OPAL", "boot"]

OPAL: Final[Key[Opal]] = Key("opal")
"""The firmware of a machine."""


def boot(machine: Machine) -> None:
    """Build ``machine.pcie`` and find its functions.  Raise `Misuse` for a machine with hardware of IBM Z.

    The firmware's calls are ``kernel.subsystems[OPAL]`` from then on.
    """
    kernel, spec = machine.kernel, machine.spec
    if spec.functions or spec.subchannels:
        raise Misuse("boot machine", spec.name, cause=f"there is no zPCI and no channel I/O on {spec.architecture}")
    machine.peripherals = Peripherals(machine.clock.schedule if machine.clock.paced else None)
    hub = build_phbs(spec.pcie_phbs, spec.pcie_functions, vfio_core(kernel).real_memory, machine.peripherals)
    machine.pcie = hub
    machine.slots = MachineSlots(machine)
    switch_on(hub, machine.clock)
    start_phbs(hub, spec.slot_buses)
    kernel.pci_mmap = True  # CONFIG_VFIO_PCI_MMAP
    kernel.interrupts = PowerInterruptCounts(kernel.interrupts.processors)
    opal = Opal(hub.phbs)
    kernel.subsystems[OPAL] = opal
    bus = PciBus(kernel)
    kernel.add_bus(bus)
    boot_aspm(kernel)
    PortServices(kernel, {})  # without drivers, and without that of ports: the platform sets pcie_ports_disabled
    drivers = host_drivers(machine, bus)
    bridges: list[PnvHostBridge] = []
    firsts: list[tuple[Phb, int]] = []
    for number, phb in sorted(hub.phbs.items()):
        first = first_interrupt(phb, sum(one.model.messages + LINES for one, _ in firsts))
        firsts.append((phb, first))
        pins = PowerPins(kernel, phb, first + phb.model.messages)
        bridges.append(PnvHostBridge(bus, phb, opal, PnvMessages(opal, phb), pins, m64_of(number)))
    add_opal_interrupts(kernel, firsts)
    for bridge in bridges:
        bridge.add(quiet=True)
    assign_unassigned([bridge.root for bridge in bridges])
    start_eeh(kernel, opal, bridges)
    for bridge in bridges:
        bridge.add_devices()
    add_late_interrupts(kernel)
    for bridge in bridges:
        bridge.enable_bridges()
    add_device_tree(kernel, bridges)
    kernel.cpuinfo = lambda: _cpuinfo(kernel)
    add_kernel_log(kernel)
    devices = [device for bridge in bridges for device in bridge.devices()]
    for driver in drivers:
        driver.boot(devices)
    boot_vfio_pci(machine, bus, [])


def _cpuinfo(kernel: Kernel) -> str:
    """``arch/powerpc/kernel/setup-common.c``, ``platforms/powernv/setup.c``; the processor is the lab's."""
    processor = "cpu\t\t: POWER9, altivec supported\nclock\t\t: 4000.000000MHz\nrevision\t: 2.2 (pvr 004e 1202)\n\n"
    every = "".join(f"processor\t: {number}\n{processor}" for number in range(kernel.interrupts.processors))
    return (
        f"{every}timebase\t: 512000000\nplatform\t: PowerNV\nmodel\t\t: {MODEL}\n"
        f"machine\t\t: PowerNV {MODEL}\nfirmware\t: OPAL\nMMU\t\t: Radix\n"
    )
