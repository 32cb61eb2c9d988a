"""The s390 half of PCI: functions as Linux keeps them.

The model is ``arch/s390/pci`` (`pci.c`, `pci_bus.c`).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from pyvfio.abi import pci_regs as regs
from pyvfio.address import PciAddress
from pyvfio.zpci.handle import FH_ENABLED
from pyvfio_backends.software.hardware.zpci import CONFIG_SPACE, Refused, ZpciFunction
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.vfs import Node, fail
from pyvfio_backends.software.linux.zpci_access import ZpciAccess
from pyvfio_backends.software.linux.zpci_bus import ZpciBus
from pyvfio_backends.software.linux.zpci_debug import FunctionStatistics
from pyvfio_backends.software.linux.zpci_iommu import ZpciIommu
from pyvfio_backends.software.linux.zpci_slot import ZpciSlot
from pyvfio_backends.software.linux.zpci_state import ZpciState
from pyvfio_backends.software.linux.zpci_sysfs import zpci_attributes, zpci_shown

if TYPE_CHECKING:
    from pyvfio.abi.layout import Capability
    from pyvfio_backends.software.hardware.dma import DmaSpace
    from pyvfio_backends.software.linux.iommu_group import IommuGroup, Region
    from pyvfio_backends.software.linux.kvm_zpci import KvmZdev
    from pyvfio_backends.software.linux.zpci_host import ZpciHost
    from pyvfio_backends.software.linux.zpci_irq import PciInterrupts

__all__ = ["ZpciDev", "ZpciState", "to_zpci"]


class ZpciDev(ZpciAccess):
    """A function that Linux knows (``struct zpci_dev``), with or without a PCI device on top (`pdev`).

    `busy` is the lock of its state: held while a slot is switched or the function recovers.  `bridge` is its bus, from
    `add` on.
    """

    bridge: ZpciBus

    def __init__(self, host: ZpciHost, function: ZpciFunction, state: ZpciState) -> None:
        self.host = host
        self.bus = host.bus
        self.function = function
        self.fid = function.fid
        self.state = state
        self.busy = False
        self._references = 0
        self.pdev: PciDevice | None = None
        self.entries = {}
        self.statistics: FunctionStatistics | None = None
        self.iommu = ZpciIommu(self)
        self.devfn = 0
        self.slot = ZpciSlot(self)
        self.indexed = False
        """Whether its device has the attribute ``index``."""
        self.kzdev: KvmZdev | None = None
        """What KVM keeps of a function that its guest uses by its own instructions."""

    def __repr__(self) -> str:
        return f"<ZpciDev {self.fid:08x} {self.state.value}>"

    @property
    def configured(self) -> bool:
        """Whether the function is this system's."""
        return self.state is ZpciState.CONFIGURED

    @property
    def no_command_memory(self) -> bool:
        """See `PciSysdata.no_command_memory`."""
        return self.function.facts.vfn != 0

    # life (zpci_add_device, zpci_release_device)

    def add(self, *, quiet: bool) -> None:
        """Register the IOMMU, the bus and the slot.

        Raise OSError EEXIST (the domain is taken), EINVAL (the place on the bus is, or the function has none); then
        Linux does not know the function.
        """
        kernel = self.bus.kernel
        kernel.add_class_device(self.iommu, quiet=quiet)
        try:
            self.bridge = ZpciBus.of(self, self.host)
            self.devfn = self.bridge.join(self, quiet=quiet)
        except OSError:
            kernel.remove_class_device(self.iommu)
            raise
        self.bus.slots[f"{self.fid:08x}"] = self.slot
        self.host.zdevs[self.fid] = self
        self._note(1, f"add fid:{self.fid:x}, fh:{self.function.fh:x}, c:{int(self.state is ZpciState.CONFIGURED)}")
        if not quiet:
            self.slot.uevent("add")

    def forget(self) -> None:
        """Forget the function: it is gone from the machine and so is its device."""
        kernel = self.bus.kernel
        del self.host.zdevs[self.fid]
        del self.bus.slots[f"{self.fid:08x}"]
        self.slot.uevent("remove")
        for entry in self.entries.values():
            self.host.iomap.free(entry)
        self.entries.clear()
        self.bridge.leave(self)
        kernel.remove_class_device(self.iommu)
        self._note(3, f"rem fid:{self.fid:x}")

    def _note(self, level: int, text: str) -> None:
        self.host.notes.note(level, text)

    def enable_function(self) -> None:
        """Enable the function (``clp_enable_fh``).  Raise `Refused`."""
        self.function.enable()
        self._note(3, f"ena fid:{self.fid:x}, fh:{self.function.fh:x}, rc:0")

    def disable_function(self) -> None:
        """Disable the function (``clp_disable_fh``).  Raise `Refused`."""
        self.function.disable()
        self._note(3, f"dis fid:{self.fid:x}, fh:{self.function.fh:x}, rc:0")

    # devices

    def prepare(self) -> None:
        """Enable the function and give its BARs addresses (``zpci_bus_prepare_device``).  Raise OSError EIO."""
        if not self.function.fh & FH_ENABLED:
            try:
                self.enable_function()
            except Refused:
                raise fail(errno.EIO) from None
        if not self.entries:
            for index in sorted(self.function.bars):
                self.entries[index] = self.host.iomap.take()

    def scan_configured(self) -> None:
        """Make the PCI device of a function that was configured (``zpci_scan_configured_device``).

        Raise OSError EIO when the function cannot be enabled, ENODEV when nothing is found.
        """
        self.prepare()
        with self.bus.rescan_remove():
            self.find()
        if self.pdev is None:
            raise fail(errno.ENODEV)

    def find(self, *, quiet: bool = False) -> PciDevice | None:
        """The PCI device; a new one, bound to a driver if there is one, when the function answers and had none.

        The caller holds the bus's lock for this (`PciBus.rescan_remove`).
        """
        if self.pdev is not None or not self._answers():
            return self.pdev
        kernel = self.bus.kernel
        address = PciAddress(self.bridge.domain, 0, self.devfn >> 3, self.devfn & 7)
        self.indexed = self.host.unique_uid
        device = self.pdev = PciDevice(self, self.bridge.device, self.bus, address)
        group = self.iommu_group()
        if group is not None:
            kernel.groups.join(group, device)
        self.bus.add(device, quiet=quiet)
        return device

    def _answers(self) -> bool:
        """Whether configuration space can be read (``pci_bus_generic_read_dev_vendor_id``)."""
        try:
            return self.function.load(CONFIG_SPACE, regs.PCI_VENDOR_ID, 2) not in (0, 0xFFFF)
        except Refused:
            return False

    def release(self) -> None:
        """See `PciSysdata.release`."""
        self.put()

    @contextlib.contextmanager
    def state_lock(self) -> Iterator[None]:
        """Hold the lock of the state; wait for who has it."""
        self.bus.kernel.clock.wait(lambda: not self.busy)
        self.busy = True
        try:
            yield
        finally:
            self.busy = False
            self.bus.kernel.clock.notify()

    # what else the PCI core asks

    @property
    def iommu_device(self) -> ZpciIommu:
        """See `PciSysdata.iommu_device`."""
        return self.iommu

    def iommu_group(self) -> IommuGroup | None:
        """See `PciSysdata.iommu_group`."""
        return self.iommu.group(self.bus.kernel)

    def reserved_regions(self) -> Iterable[Region]:
        """See `PciSysdata.reserved_regions`."""
        return self.iommu.regions()

    def attach_dma(self, space: DmaSpace | None) -> None:
        """See `PciSysdata.attach_dma`."""
        self.iommu.attach(space)

    @property
    def msi_domain(self) -> PciInterrupts:
        """See `PciSysdata.msi_domain`."""
        return self.host.interrupts

    def physfn(self) -> PciDevice | None:
        """See `PciSysdata.physfn` (``zpci_iov_find_parent_pf``)."""
        return self.bridge.physical_of(self)

    def virtfns(self) -> dict[int, PciDevice]:
        """See `PciSysdata.virtfns`: those that are linked with their physical function."""
        found = {}
        for zdev in tuple(self.bridge.functions.values()):
            if zdev.pdev is not None and zdev.pdev.physfn is self.pdev:
                found[zdev.function.facts.vfn - 1] = zdev.pdev
        return found

    def attributes(self, device: PciDevice) -> Mapping[str, Node]:
        """See `PciSysdata.attributes`."""
        return zpci_attributes(self, device)

    def shown(self) -> Mapping[str, Callable[[], str]]:
        """See `PciSysdata.shown`."""
        return zpci_shown(self)

    def vfio_capabilities(self) -> Iterable[Capability]:
        """See `PciSysdata.vfio_capabilities`."""
        from pyvfio_backends.software.linux.vfio_pci_zdev import zpci_capabilities

        return zpci_capabilities(self)

    def vfio_closed(self) -> None:
        """See `PciSysdata.vfio_closed`: no guest uses it any more."""
        if self.kzdev is not None:
            self.kzdev.unregister()

    # reset and recovery

    def reset_methods(self) -> tuple[str, ...]:
        """See `PciSysdata.reset_methods`: the slot can be reset, which the kernel calls ``bus``."""
        return ("bus",) if self.may_reset() else ()

    def reset(self, method: str) -> None:
        """See `PciSysdata.reset`."""
        self.reset_slot()

    def probe_reset_bus(self) -> bool:
        """See `PciSysdata.probe_reset_bus`."""
        return self.may_reset()

    def reset_bus(self) -> None:
        """See `PciSysdata.reset_bus`."""
        self.reset_slot()

    def may_reset(self) -> bool:
        """Whether the slot could be reset now: not while its state is changing (``reset_slot`` with probe)."""
        return not self.busy and self.state is ZpciState.CONFIGURED

    # measurement (pci_debug.c)

    def enable(self, device: PciDevice) -> None:
        """See `PciSysdata.enable`: the measurement of the function begins."""
        self.statistics = self.host.statistics[device.name] = FunctionStatistics(self)
        with contextlib.suppress(OSError):
            self.statistics.enable()

    def disable(self, device: PciDevice) -> None:
        """See `PciSysdata.disable`."""
        if self.statistics is not None:
            with contextlib.suppress(OSError):
                self.statistics.disable()
            self.statistics = None
            self.host.statistics.pop(device.name, None)

    def reset_slot(self) -> None:
        """Disable and enable the function, keeping its address space.  Raise OSError EIO."""
        if not self.may_reset():
            raise fail(errno.EIO)
        self.hot_reset()

    def hot_reset(self) -> None:
        """Note and do what a hot reset is (``zpci_hot_reset_device``).  Raise OSError EIO."""
        self._note(3, f"rst fid:{self.fid:x}, fh:{self.function.fh:x}")
        self.cycle()

    def cycle(self) -> None:
        """Disable and enable the function below its device; its address space stays.  Raise OSError EIO."""
        try:
            if self.function.fh & FH_ENABLED:
                self.disable_function()
            self.enable_function()
        except Refused:
            raise fail(errno.EIO) from None
        self.function.dma = self.iommu.space

    # configuring

    def deconfigure(self) -> None:
        """Take the device away and give the function back; may block (``zpci_deconfigure_device``).

        The caller holds the lock of the state.  Raise OSError EIO when the machine refuses.
        """
        if self.state is not ZpciState.CONFIGURED:
            return
        if self.pdev is not None:
            self.bus.remove_device_locked(self.pdev)
        if self.function.fh & FH_ENABLED:
            try:
                self.disable_function()
            except Refused:
                raise fail(errno.EIO) from None
        self._sclp(configure=False)
        self.state = ZpciState.STANDBY

    def configure(self) -> None:
        """Have the machine make a function in standby this system's (``sclp_pci_configure``).  Raise OSError EIO."""
        self._sclp(configure=True)
        self.state = ZpciState.CONFIGURED

    def _sclp(self, *, configure: bool) -> None:
        from pyvfio.zpci import sclp  # few runs change what is configured

        command = sclp.SclpCommand.CONFIGURE_ADAPTER if configure else sclp.SclpCommand.DECONFIGURE_ADAPTER
        block = sclp.AdapterSccb(length=self.bus.kernel.page_size, type=sclp.ADAPTER_PCI, fid=self.fid)
        answer = sclp.AdapterSccb.from_bytes(sclp.call(self.host.facility, command, block.to_bytes()))
        good = answer.code in (sclp.SclpCode.COMPLETED, sclp.SclpCode.NOTHING_TO_DO)
        self._note(3, f"{'conf' if configure else 'deconf'} fid:{self.fid:x}, rc:{0 if good else -errno.EIO}")
        if not good:
            raise fail(errno.EIO)

    # references

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the function known meanwhile, also when it is reserved."""
        self._references += 1
        try:
            yield
        finally:
            self._references -= 1
            self.put()

    def reserved(self) -> None:
        """The function is gone; it is forgotten when its device is gone, too (``zpci_device_reserved``)."""
        self.state = ZpciState.RESERVED
        self._note(3, f"rsv fid:{self.fid:x}")
        self.put()

    def put(self) -> None:
        """Forget a reserved function that nothing refers to (``zpci_zdev_put``)."""
        unused = self.pdev is None and not self._references
        if self.state is ZpciState.RESERVED and unused and self.host.zdevs.get(self.fid) is self:
            self.forget()


def to_zpci(device: PciDevice) -> ZpciDev:
    """What s390 knows of a device (``to_zpci``).  Raise OSError ENODEV for one that is no zPCI function."""
    if not isinstance(device.sysdata, ZpciDev):
        raise fail(errno.ENODEV)
    return device.sysdata
