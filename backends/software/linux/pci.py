"""The bus ``pci``: matching, binding, rescanning, removing (``drivers/pci``: `pci-driver.c`, `remove.c`)."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import Final

from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus, Driver
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.nodes import DirectoryOfDirectories
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import PciDriver
from pyvfio_backends.software.linux.pci_host import HotplugSlot, PciHostBridge, PciSysdata
from pyvfio_backends.software.linux.pci_sysfs import WAITING, number
from pyvfio_backends.software.linux.subsystems import Key
from pyvfio_backends.software.linux.vfs import Attribute, Node, fail

__all__ = ["PCI", "PciBus"]

PCI: Final[Key[PciBus]] = Key("pci")
"""The bus of a kernel."""


class PciBus(Bus):
    """``/sys/bus/pci``, with the host bridges below which the functions are, and the slots."""

    has_vga_arbiter = False
    """Whether Linux lets several display adapters have the old addresses in turn, and vfio-pci offers them."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(kernel, "pci")
        kernel.subsystems[PCI] = self
        self.vga_default: PciSysdata | None = None
        """The display adapter that firmware uses."""
        self.slots: dict[str, HotplugSlot] = {}
        self.bridges: list[PciHostBridge] = []
        self._alignment = ""
        self._changing = False

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
            device.runtime.get()  # local_pci_probe
            try:
                super().attach(device, driver)
            except NotModelled:
                device.driver = None
                raise
            else:
                device.removed_files.add(WAITING)
            finally:
                if device.driver is None:
                    device.runtime.put()

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
            device.runtime.get()
            super().detach(device)
            device.removed_files.add(WAITING)
            device.runtime.driver_left()
            if device.sriov is not None:
                device.sriov.most = device.sriov.total  # pci_iov_remove
            device.power_state = "unknown"  # pci_device_remove

    def added(self, device: Device) -> None:
        """See `Bus.added`: a virtual function is linked with its physical one (``zpci_iov_setup_virtfn``)."""
        if isinstance(device, PciDevice):
            device.physfn = device.sysdata.physfn()
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

    def remove_device(self, device: PciDevice) -> None:
        """Take a function away (``pci_stop_and_remove_bus_device``).  May block until its users let it go.

        The caller holds the lock of who removes devices.
        """
        self.wait_unlocked(device)
        if device.dead:
            return
        for child in reversed(device.sysdata.children()):
            self.remove_device(child)
        device.physfn = None  # its links go first
        self.remove(device)
        self.kernel.groups.leave(device)
        device.sysdata.iommu_release()
        device.sysdata.pdev = None

    def remove_device_locked(self, device: PciDevice) -> None:
        """`remove_device`, when nobody else removes or looks for one."""
        with self.rescan_remove():
            self.remove_device(device)
        device.sysdata.release()

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
                for bridge in tuple(self.bridges):
                    bridge.rescan()

    def _store_alignment(self, data: bytes) -> None:
        if len(data) >= self.kernel.page_size - 1:
            raise fail(errno.EINVAL)
        text = data.decode(errors="replace").split("\0")[0].split("\n")[0]
        self._alignment = f"{text}\n" if text else ""
