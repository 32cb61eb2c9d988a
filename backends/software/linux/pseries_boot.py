"""Linux boots as a guest on POWER (``arch/powerpc/platforms/pseries``): host bridges, groups, drivers; no EEH.

The hypervisor made the device tree, and firmware gave addresses.  No adapter is capable of EEH, as in QEMU: Linux says
that it is disabled, and containers do not have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pyvfio.errors import Misuse
from pyvfio_backends.software.linux.debugfs import DebugDirectory
from pyvfio_backends.software.linux.eeh import Eeh
from pyvfio_backends.software.linux.eeh_files import debug_files, proc_file
from pyvfio_backends.software.linux.interrupts_powerpc import PowerInterruptCounts
from pyvfio_backends.software.linux.kernel_log import add_node as add_kernel_log
from pyvfio_backends.software.linux.nodes import StaticDirectory
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_drivers_boot import host_drivers
from pyvfio_backends.software.linux.pcie_assign import assign_unassigned
from pyvfio_backends.software.linux.pseries_device_tree import MODEL, add_device_tree, name_functions
from pyvfio_backends.software.linux.pseries_host import PseriesHostBridge
from pyvfio_backends.software.linux.pseries_irq import (
    PseriesMessages,
    PseriesPins,
    add_early_interrupts,
    add_late_interrupts,
)
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfio_pci_driver import boot as boot_vfio_pci
from pyvfio_backends.software.linux.vfio_state import vfio_core
from pyvfio_backends.software.pcie_peripherals import Peripherals
from pyvfio_backends.software.pcie_slots import MachineSlots
from pyvfio_backends.software.spapr_tree import build_bridges, start_bridges

if TYPE_CHECKING:
    from pyvfio_backends.software.hardware.spapr.hypervisor import Hypervisor
    from pyvfio_backends.software.linux.kernel import Kernel
    from pyvfio_backends.software.machine import Machine

__all__ = ["HYPERVISOR", "boot"]

HYPERVISOR: Final[Key[Hypervisor]] = Key("hypervisor")
"""The hypervisor of a machine."""


def boot(machine: Machine) -> None:
    """Build ``machine.pcie`` and find its functions.  Raise `Misuse` for a machine with hardware of IBM Z.

    The hypervisor is ``kernel.subsystems[HYPERVISOR]`` from then on.
    """
    kernel, spec = machine.kernel, machine.spec
    if spec.functions or spec.subchannels:
        raise Misuse("boot machine", spec.name, cause=f"there is no zPCI and no channel I/O on {spec.architecture}")
    machine.peripherals = Peripherals(machine.clock.schedule if machine.clock.paced else None)
    machine.pcie, hypervisor = build_bridges(
        spec.pcie_phbs, spec.pcie_functions, vfio_core(kernel).real_memory, machine.peripherals
    )
    machine.slots = MachineSlots(machine)
    start_bridges(machine.pcie)
    kernel.pci_mmap = True  # CONFIG_VFIO_PCI_MMAP
    kernel.interrupts = PowerInterruptCounts(kernel.interrupts.processors)
    kernel.subsystems[HYPERVISOR] = hypervisor
    bus = PciBus(kernel)
    kernel.add_bus(bus)
    drivers = host_drivers(machine, bus)
    add_early_interrupts(kernel)
    bridges = [
        PseriesHostBridge(bus, phb, hypervisor, PseriesMessages(hypervisor, phb), PseriesPins(kernel, phb), place)
        for place, (_, phb) in enumerate(sorted(machine.pcie.phbs.items()))
    ]
    for bridge in bridges:
        bridge.add(quiet=True)
    assign_unassigned([bridge.root for bridge in bridges])
    for bridge in bridges:
        bridge.add_devices()
    add_late_interrupts(kernel)
    names = name_functions(bridges)
    for bridge in bridges:
        bridge.names = names
    add_device_tree(kernel, bridges, names)
    eeh = Eeh(kernel)
    kernel.proc.add("powerpc", StaticDirectory({"eeh": proc_file(eeh)}))
    files = debug_files(eeh)
    kernel.debug["powerpc"] = lambda: DebugDirectory(lambda: files)
    kernel.cpuinfo = lambda: _cpuinfo(kernel)
    add_kernel_log(kernel)
    devices = [device for bridge in bridges for device in bridge.devices()]
    for driver in drivers:
        driver.boot(devices)
    boot_vfio_pci(machine, bus, [])


def _cpuinfo(kernel: Kernel) -> str:
    """``arch/powerpc/kernel/setup-common.c``, ``platforms/pseries/setup.c``; all but the processor is the lab's."""
    processor = (
        "cpu\t\t: POWER9 (architected), altivec supported\nclock\t\t: 1000.000000MHz\n"
        "revision\t: 2.2 (pvr 004e 1202)\n\n"
    )
    every = "".join(f"processor\t: {number}\n{processor}" for number in range(kernel.interrupts.processors))
    return (
        f"{every}timebase\t: 512000000\nplatform\t: pSeries\nmodel\t\t: {MODEL}\n"
        f"machine\t\t: CHRP {MODEL}\nMMU\t\t: Radix\n"
    )
