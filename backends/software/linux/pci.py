"""The bus ``pci``: matching, dynamic ids, drivers, rescanning, and what is there at boot.

The model is ``drivers/pci/pci-driver.c``; the functions come from `zpci`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.errors import Misuse, NotModelled
from pyvfio.zpci.handle import Sharing
from pyvfio_backends.software.hardware.zpci import GroupFacts, ZpciFunction
from pyvfio_backends.software.hardware.zpci.facility import ZpciFacility
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus, Driver
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.ida import Ida
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.misc import add_misc_device
from pyvfio_backends.software.linux.nodes import DirectoryOfDirectories
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import ANY, PciDriver, PciId
from pyvfio_backends.software.linux.pci_irq import PciInterrupts, machine_instructions
from pyvfio_backends.software.linux.pci_root import PciRoot
from pyvfio_backends.software.linux.pci_slot import PciSlot
from pyvfio_backends.software.linux.pci_sysfs import number
from pyvfio_backends.software.linux.vfs import Attribute, Node, StaticDirectory, fail
from pyvfio_backends.software.linux.zpci import ZpciDev, ZpciState
from pyvfio_backends.software.linux.zpci_debug import ZpciNotes
from pyvfio_backends.software.linux.zpci_events import ZpciEvents

if TYPE_CHECKING:
    from pyvfio_backends.software.description import GroupSpec
    from pyvfio_backends.software.linux.zpci_debug import FunctionStatistics
    from pyvfio_backends.software.machine import Machine

__all__ = ["PciBus", "boot"]

_MIO = "pcimio"
_CLP_MINOR = 256  # what a dynamic minor came out as on the emulated machine


class _PortDriver(PciDriver):
    """``pcieport``: there, with nothing to hold on this machine."""

    driver_managed_dma = True
    table = (PciId(class_code=0x060400, class_mask=ANY),)

    def probe(self, device: Device) -> None:
        raise fail(errno.ENODEV)  # no function here is a port


class PciBus(Bus):
    """``/sys/bus/pci``, with all functions (`zdevs`, by function identifier) and their slots."""

    def __init__(self, kernel: Kernel, facility: ZpciFacility, interrupts: PciInterrupts) -> None:
        super().__init__(kernel, "pci")
        self.facility = facility
        self.interrupts = interrupts
        self.zdevs: dict[int, ZpciDev] = {}
        self.slots: dict[str, PciSlot] = {}
        self.roots: list[PciRoot] = []
        self.domains: set[int] = set()
        self.statistics: dict[str, FunctionStatistics] = {}
        """By device, while it is enabled."""
        self.unique_uid = facility.uid_checking
        """Whether Linux takes the UIDs for domains (``zpci_unique_uid``)."""
        self.mio = _MIO in kernel.features
        """Whether Linux uses PCI memory I/O instructions."""
        self.uses_rid = "norid" not in _options(kernel.cmdline)
        self.notes = ZpciNotes(kernel.clock)
        self.notes.note(3, f"uid checking:{int(facility.uid_checking)}")
        self.iomap = Ida()
        """The table of BARs: each has an entry, the lowest free one."""
        self._alignment = ""
        self._changing = False
        self.event = ZpciEvents(self).put
        """Takes an event of the machine."""

    # numbers

    def take_domain(self, uid: int) -> int:
        """The domain of a function: its UID if UIDs are checked, else the lowest free one (``zpci_alloc_domain``).

        A function without a UID (0) ends the use of UIDs, until the functions are listed again.  Raise OSError EEXIST.
        """
        domain = uid & 0xFFFF
        if self.unique_uid and domain:
            if domain in self.domains:
                raise fail(errno.EEXIST)
        else:
            self.unique_uid = False
            domain = next(number for number in itertools.count() if number not in self.domains)
        self.domains.add(domain)
        return domain

    def list_functions(self) -> list[ZpciFunction]:
        """CLP LIST PCI, with which Linux also learns whether UIDs are unique."""
        self.unique_uid = self.facility.uid_checking
        return self.facility.listed()

    def find_functions(self, *, quiet: bool) -> None:
        """Get to know the functions that are new, and find all devices; `quiet` at boot (``zpci_scan_devices``)."""
        new = [function for function in self.list_functions() if function.fid not in self.zdevs]
        # Those without a routing identifier first (zpci_cmp_rid).
        for function in sorted(new, key=lambda one: (one.facts.rid or 0, one.facts.rid is not None)):
            state = ZpciState.CONFIGURED if function.configured else ZpciState.STANDBY
            with contextlib.suppress(OSError):  # Linux goes on without the function
                ZpciDev(self, self.facility, function, state).add(quiet=quiet)
        for root in tuple(self.roots):
            root.scan(quiet=quiet)

    # matching and binding

    def match(self, device: Device, driver: Driver) -> bool:
        """See `Bus.match` (``pci_match_device``)."""
        if not isinstance(device, PciDevice) or not isinstance(driver, PciDriver):
            return False
        if device.override is not None and device.override != driver.name:
            return False
        ids = (device.vendor, device.device_id, device.subsystem_vendor, device.subsystem_device, device.class_code)
        return driver.knows(ids, override=device.override is not None)

    def attach(self, device: Device, driver: Driver) -> None:
        """See `Bus.attach`.  Raise OSError EBUSY also when a program owns the group's DMA."""
        if not isinstance(device, PciDevice) or not isinstance(driver, PciDriver):
            raise fail(errno.ENODEV)
        group = device.iommu_group
        self.wait_unlocked(device)
        if device.driver is not None or (
            not driver.driver_managed_dma and group is not None and group.owner is not None
        ):
            raise fail(errno.EBUSY)
        if not self._may_probe(device):
            raise fail(errno.ENODEV)
        with self.hold(device):
            try:
                super().attach(device, driver)
            except NotModelled:
                device.driver = None
                raise

    @staticmethod
    def _may_probe(device: PciDevice) -> bool:
        """``pci_device_can_probe``: the physical function can keep drivers from its virtual ones."""
        physical = device.physfn
        return physical is None or physical.sriov is None or physical.sriov.autoprobe or device.override is not None

    def detach(self, device: Device) -> None:
        """See `Bus.detach`; the device's lock is held all the time."""
        if not isinstance(device, PciDevice):
            return
        with self.hold(device):
            super().detach(device)
            device.power_state = "unknown"  # pci_device_remove

    def added(self, device: Device) -> None:
        """See `Bus.added`: a virtual function is linked with its physical one (``zpci_iov_setup_virtfn``)."""
        if isinstance(device, PciDevice):
            device.physfn = device.zdev.root.physical_of(device.zdev)
            if device.physfn is not None:
                device.uevent("change")

    def wait_unlocked(self, device: PciDevice) -> None:
        """Wait until nobody binds or unbinds the device."""
        self.kernel.clock.wait(lambda: not device.locked)

    @contextlib.contextmanager
    def hold(self, device: PciDevice) -> Iterator[None]:
        """Hold the device's lock; wait for who has it."""
        self.wait_unlocked(device)
        device.locked = True
        try:
            yield
        finally:
            device.locked = False
            self.kernel.clock.notify()

    @contextlib.contextmanager
    def rescan_remove(self) -> Iterator[None]:
        """Hold the lock of who removes devices or looks for new ones; wait for who has it (``pci_rescan_remove_lock``).

        There is one for all buses: who waits for the user of a device while it is removed keeps others waiting.
        """
        self.kernel.clock.wait(lambda: not self._changing)
        self._changing = True
        try:
            yield
        finally:
            self._changing = False
            self.kernel.clock.notify()

    def remove(self, device: Device) -> None:
        """See `Bus.remove`; the device stays in its place until its driver has let it go (``pci_stop_dev``)."""
        if device.driver is not None:
            self.detach(device)
        super().remove(device)

    def uevent_vars(self, device: Device) -> list[tuple[str, str]]:
        """See `Bus.uevent_vars`."""
        if not isinstance(device, PciDevice):
            return []
        return [
            ("PCI_CLASS", f"{device.class_code:04X}"),
            ("PCI_ID", f"{device.vendor:04X}:{device.device_id:04X}"),
            ("PCI_SUBSYS_ID", f"{device.subsystem_vendor:04X}:{device.subsystem_device:04X}"),
            ("PCI_SLOT_NAME", device.name),
            ("MODALIAS", device.modalias),
        ]

    # sysfs

    def attributes(self) -> dict[str, Node]:
        """See `Bus.attributes`."""
        return {
            "rescan": Attribute(store=self._store_rescan),
            "resource_alignment": Attribute(lambda: self._alignment, self._store_alignment),
            "slots": DirectoryOfDirectories(self.slots),
        }

    def _store_rescan(self, data: bytes) -> None:
        if number(data):
            with self.rescan_remove():
                for root in tuple(self.roots):
                    root.rescan()

    def _store_alignment(self, data: bytes) -> None:
        if len(data) >= self.kernel.page_size - 1:
            raise fail(errno.EINVAL)
        text = data.decode(errors="replace").split("\0")[0].split("\n")[0]
        self._alignment = f"{text}\n" if text else ""


def _group(spec: GroupSpec) -> GroupFacts:
    return GroupFacts(spec.pfgid, spec.dasm, spec.msia, spec.refresh, spec.mui, spec.noi, spec.maxstbl, spec.version)


def _options(cmdline: str) -> frozenset[str]:
    """The values of the kernel's parameter ``pci=``."""
    words = [word.removeprefix("pci=") for word in cmdline.split() if word.startswith("pci=")]
    return frozenset(option for word in words for option in word.split(","))


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
    if "nomio" in _options(kernel.cmdline):
        kernel.features = tuple(word for word in kernel.features if word != _MIO)
    facility = machine.zpci = ZpciFacility(
        spec.functions,
        uid_checking=spec.uid_checking,
        # A machine interprets instructions for its own functions, not for those that a hypervisor emulates.
        sharing=Sharing.NONE if spec.interpretation else Sharing.EMULATED,
        mio=_MIO in spec.features,
        groups=[_group(each) for each in spec.groups],
        processors=spec.processors if spec.directed_interrupts else 0,
        forwards=spec.interpretation,
        schedule=machine.clock.schedule,
        lock=machine.lock,
    )
    directed = spec.directed_interrupts and "force_floating" not in _options(kernel.cmdline)
    interrupts = PciInterrupts(kernel, partial(machine_instructions, machine), directed=directed)
    bus = PciBus(kernel, facility, interrupts)
    kernel.add_bus(bus)
    notes = bus.notes
    kernel.debug["s390dbf"] = lambda: StaticDirectory({"pci_msg": notes.directory})
    kernel.debug["pci"] = lambda: DirectoryOfDirectories(bus.statistics)
    add_misc_device(kernel, "clp", _CLP_MINOR, "clp", 0o600, lambda path, flags: _clp(facility))
    kernel.class_("iommu")  # there even without a function
    bus.register(_PortDriver(bus, "pcieport", module="pcieportdrv"))
    holder = VirtioPciDriver(bus)
    bus.register(holder)
    bus.find_functions(quiet=True)
    drivers = {each.fid: each.driver for each in spec.functions}
    unknown = sorted(set(drivers.values()) - {"", *bus.drivers, "vfio-pci"})
    if unknown:
        raise Misuse("boot machine", spec.name, cause=f"there is no PCI driver {unknown[0]!r}")

    def held_by(name: str) -> list[PciDevice]:
        return [zdev.pdev for zdev in bus.zdevs.values() if zdev.pdev is not None and drivers[zdev.fid] == name]

    holder.boot(held_by(holder.name))
    boot_vfio_pci(machine, bus, held_by("vfio-pci"))
    interrupts.booting = False
    facility.takes_reports = spec.error_reports
    facility.on_event = bus.event
    if spec.zpci_events:
        from pyvfio_backends.software import zpci_events  # few machines have any

        zpci_events.plan(machine)
