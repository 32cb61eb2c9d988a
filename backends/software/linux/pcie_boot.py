"""The PCI Express functions that are there at boot: firmware sets them up, Linux finds them, ports get their driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyvfio.abi.aer_inject import AER_INJECT_MODULE
from pyvfio.errors import Misuse
from pyvfio_backends.software.hardware.pcie.enumeration import Reserve
from pyvfio_backends.software.hardware.pcie.firmware import Apertures, Firmware
from pyvfio_backends.software.hardware.pcie.layout_downwards import lay_out_downwards
from pyvfio_backends.software.hardware.pcie.remapping import RemappingUnits
from pyvfio_backends.software.linux.interrupts_x86 import X86InterruptCounts
from pyvfio_backends.software.linux.kernel_log import add_node as add_kernel_log
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_drivers_boot import host_drivers
from pyvfio_backends.software.linux.pcie_aspm import boot as boot_aspm
from pyvfio_backends.software.linux.pcie_assign import assign_unassigned
from pyvfio_backends.software.linux.pcie_bus import PcieHostBridge
from pyvfio_backends.software.linux.pcie_iommu import boot_iommus, iommu_off
from pyvfio_backends.software.linux.pcie_irq import PcieMessages
from pyvfio_backends.software.linux.pcie_pins import PciePins
from pyvfio_backends.software.linux.pcie_windows import root_windows
from pyvfio_backends.software.linux.pcieport import PortDriver
from pyvfio_backends.software.linux.vfio_pci_driver import boot as boot_vfio_pci
from pyvfio_backends.software.pcie_iommus import build_units, reserve_storage, reserved_memory
from pyvfio_backends.software.pcie_peripherals import Peripherals
from pyvfio_backends.software.pcie_slots import MachineSlots, switch_on
from pyvfio_backends.software.pcie_tree import build_tree

if TYPE_CHECKING:
    from pyvfio_backends.software.machine import Machine

__all__ = ["boot"]

_MOST_LOW_MEMORY, _ECAM = 0x80000000, 0xB0000000
_HIGH = range(1 << 32, 9 << 32)


_PROCESSOR = "GenuineIntel"


def boot(machine: Machine) -> None:
    """Build ``machine.pcie`` and find its functions, with the addresses that SeaBIOS gives.

    Raise `Misuse` for a machine with hardware of IBM Z.
    """
    kernel, spec = machine.kernel, machine.spec
    if spec.functions or spec.subchannels:
        raise Misuse("boot machine", spec.name, cause=f"there is no zPCI and no channel I/O on {spec.architecture}")
    reserved = [reserved_memory(row, spec) for row in spec.pcie_reserved]
    reserve_storage(kernel.memory, reserved)
    machine.peripherals = Peripherals(machine.clock.schedule if machine.clock.paced else None)
    machine.pcie = build_tree(spec.pcie_buses, spec.pcie_functions, machine.peripherals)
    machine.slots = MachineSlots(machine)
    switch_on(machine.pcie, machine.clock)
    firmware = Firmware(arrange=lay_out_downwards, reserve=Reserve(buses=spec.slot_buses))
    firmware.set_up(machine.pcie)
    kernel.pci_mmap = True  # CONFIG_VFIO_PCI_MMAP
    kernel.dma_buf = spec.dma_buf  # CONFIG_VFIO_PCI_DMABUF, which needs PCI_P2PDMA: s390 has none
    kernel.interrupts = X86InterruptCounts(kernel.interrupts.processors)
    messages, pins = PcieMessages(kernel, machine.pcie), PciePins(kernel, machine.pcie)
    bus = PciBus(kernel)
    bus.has_vga_arbiter = True  # CONFIG_VGA_ARB
    kernel.add_bus(bus)
    boot_aspm(kernel)
    ports = PortDriver(bus)
    bus.register(ports)
    drivers = host_drivers(machine, bus)
    near = {(one.segment, one.number): one.node for one in spec.pcie_buses}
    bridges = [
        PcieHostBridge(bus, machine.pcie, root, messages, pins, near[root.segment.number, root.number])
        for root in machine.pcie.root_buses
    ]
    units = build_units(machine.pcie.segments, spec.pcie_iommus, kernel.memory)
    machine.pcie.iommu = RemappingUnits(units)
    kernel.processor = _PROCESSOR
    iommu = not iommu_off(kernel.cmdline)
    for bridge in bridges:
        bridge.isolate = iommu
        bridge.add(quiet=True)
    _give_windows(bridges, firmware.apertures, machine.spec.memory)
    assign_unassigned([bridge.root for bridge in bridges])
    if iommu:
        boot_iommus(kernel, units, bridges, reserved)
    ports.boot(device for device in bus.devices.values() if isinstance(device, PciDevice))
    add_kernel_log(kernel)
    if AER_INJECT_MODULE in {name.replace("-", "_") for name in spec.modules}:
        from pyvfio_backends.software.linux.aer_inject import load as load_aer_inject

        load_aer_inject(kernel, ports)
    devices = [device for bridge in bridges for device in bridge.devices()]
    for driver in drivers:
        driver.boot(devices)
    boot_vfio_pci(machine, bus, [])
    if "mdev" in machine.spec.modules:
        from pyvfio_backends.software.linux.mdev import mdev_bus

        mdev_bus(kernel)
    if "mtty" in machine.spec.modules:
        from pyvfio_backends.software.linux import mtty

        mtty.load(kernel)


def _give_windows(bridges: list[PcieHostBridge], apertures: Apertures, memory: int) -> None:
    """Give the root buses the addresses that firmware tells for them (``_CRS``; QEMU's ``build_q35_pci0_int``).

    Ports below 64 KiB but those of configuration space, memory from the end of the machine's to configuration space and
    from there on, and 32 GiB above 4 GiB.
    """
    claims = {
        place: [
            range(resource.start, resource.end + 1)
            for device in bridge.root.devices()
            for resource in device.resources
            if resource.flags and resource.start
        ]
        for place, bridge in enumerate(bridges)
    }
    below = range(min(memory, _MOST_LOW_MEMORY) if memory < _ECAM else _MOST_LOW_MEMORY, _ECAM)
    windows = root_windows(claims, apertures.io, [below, apertures.memory, _HIGH])
    for place, bridge in enumerate(bridges):
        bridge.windows = windows[place]
