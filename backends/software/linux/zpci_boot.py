"""The zPCI functions that are there at boot, and who has them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pyvfio.errors import Misuse
from pyvfio.zpci.handle import Sharing
from pyvfio_backends.software.hardware.zpci import GroupFacts
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.misc import add_misc_device
from pyvfio_backends.software.linux.nodes import DirectoryOfDirectories
from pyvfio_backends.software.linux.pci import PciBus
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pcieport import PortDriver
from pyvfio_backends.software.linux.vfs import StaticDirectory
from pyvfio_backends.software.linux.zpci_host import MIO, ZpciHost, kernel_options
from pyvfio_backends.software.linux.zpci_irq import PciInterrupts, machine_instructions

if TYPE_CHECKING:
    from pyvfio_backends.software.description import GroupSpec
    from pyvfio_backends.software.machine import Machine

__all__ = ["boot"]

_CLP_MINOR = 256  # what a dynamic minor came out as on the emulated machine


def _group(spec: GroupSpec) -> GroupFacts:
    return GroupFacts(spec.pfgid, spec.dasm, spec.msia, spec.refresh, spec.mui, spec.noi, spec.maxstbl, spec.version)


def _clp(facility: ZpciFacility) -> File:
    # What opens the node is imported then: most runs only look at a machine.
    from pyvfio.zpci.logical import LogicalProcessor
    from pyvfio_backends.software.linux.clp import ClpFile

    return ClpFile(LogicalProcessor(facility))


def boot(machine: Machine) -> None:
    """Find the functions of the machine and give them the drivers that its description names.

    ``machine.zpci`` is the hardware, for plugging and unplugging.
    """
    from pyvfio_backends.software.linux.vfio_pci_driver import boot as boot_vfio_pci
    from pyvfio_backends.software.linux.virtio_pci import VirtioPciDriver

    kernel, spec = machine.kernel, machine.spec
    if "nomio" in kernel_options(kernel.cmdline):
        kernel.features = tuple(word for word in kernel.features if word != MIO)
    facility = machine.zpci = ZpciFacility(
        spec.functions,
        uid_checking=spec.uid_checking,
        # A machine interprets instructions for its own functions, not for those that a hypervisor emulates.
        sharing=Sharing.NONE if spec.interpretation else Sharing.EMULATED,
        mio=MIO in spec.features,
        groups=[_group(each) for each in spec.groups],
        processors=spec.processors if spec.directed_interrupts else 0,
        forwards=spec.interpretation,
        schedule=machine.clock.schedule,
        lock=machine.lock,
    )
    directed = spec.directed_interrupts and "force_floating" not in kernel_options(kernel.cmdline)
    interrupts = PciInterrupts(kernel, partial(machine_instructions, machine), directed=directed)
    bus = PciBus(kernel)
    kernel.add_bus(bus)
    host = ZpciHost(bus, facility, interrupts)
    notes = host.notes
    kernel.debug["s390dbf"] = lambda: StaticDirectory({"pci_msg": notes.directory})
    kernel.debug["pci"] = lambda: DirectoryOfDirectories(host.statistics)
    add_misc_device(kernel, "clp", _CLP_MINOR, "clp", 0o600, lambda path, flags: _clp(facility))
    kernel.class_("iommu")  # there even without a function
    bus.register(PortDriver(bus))
    holder = VirtioPciDriver(bus)
    bus.register(holder)
    host.find_functions(quiet=True)
    drivers = {each.fid: each.driver for each in spec.functions}
    unknown = sorted(set(drivers.values()) - {"", *bus.drivers, "vfio-pci"})
    if unknown:
        raise Misuse("boot machine", spec.name, cause=f"there is no PCI driver {unknown[0]!r}")

    def held_by(name: str) -> list[PciDevice]:
        return [zdev.pdev for zdev in host.zdevs.values() if zdev.pdev is not None and drivers[zdev.fid] == name]

    holder.boot(held_by(holder.name))
    boot_vfio_pci(machine, bus, held_by("vfio-pci"))
    interrupts.booting = False
    facility.takes_reports = spec.error_reports
    facility.on_event = host.event
    if spec.zpci_events:
        from pyvfio_backends.software import zpci_events  # few machines have any

        zpci_events.plan(machine)
