"""``copier-vfio-pci``: vfio-pci for copiers, which can be migrated (a variant driver, as ``mlx5_vfio_pci`` is one).

The program gets the lower half of BAR 0; the upper one stops the device and takes its state out, so it is the driver's
(as ``hisi_acc_vfio_pci.c`` keeps its part of BAR 2).  Like every variant driver it has a device only when
``driver_override`` names it.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import native_struct
from pyvfio.pci import copier
from pyvfio.pci.copier_control import OWNERS_HALF
from pyvfio_backends.software.linux.copier_migration import CopierLog, CopierMigration
from pyvfio_backends.software.linux.module import Module
from pyvfio_backends.software.linux.pci_device import PciDevice
from pyvfio_backends.software.linux.pci_driver import PciId
from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice
from pyvfio_backends.software.linux.vfio_pci_driver import VfioPciDriver
from pyvfio_backends.software.linux.vfio_pci_info import OFFSET_SHIFT
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from mmap import mmap

    from pyvfio_backends.software.linux.pci import PciBus
    from pyvfio_backends.software.linux.uaccess import Argument
    from pyvfio_backends.software.machine import Machine

__all__ = ["CopierVfioDevice", "CopierVfioPciDriver", "boot"]

_REGION = native_struct(abi.RegionInfo)
_OFFSET_MASK = (1 << OFFSET_SHIFT) - 1


class CopierVfioDevice(VfioPciDevice):
    """A copier under the driver."""

    exports_memory = False

    def __init__(self, pdev: PciDevice) -> None:
        super().__init__(pdev)
        self.migration = self._migration = CopierMigration(pdev)
        self.dma_log = self._log = CopierLog(pdev)

    def open_device(self) -> None:
        """See `VfioDevice.open_device`: it runs."""
        super().open_device()
        self._migration.reset()

    def close_device(self) -> None:
        """See `VfioDevice.close_device`: it runs again, and nothing of it is logged."""
        self._migration.reset()
        self._log.stop()
        super().close_device()

    def was_reset(self) -> None:
        """See `VfioPciDevice.was_reset`."""
        self._migration.reset()

    def _room(self, offset: int, count: int) -> int:
        """How many bytes of a transfer are in the program's half.  Raise OSError EINVAL for none."""
        index, position = offset >> OFFSET_SHIFT, offset & _OFFSET_MASK
        if index != copier.BAR:
            return count
        if position >= OWNERS_HALF:
            raise fail(errno.EINVAL)
        return min(count, OWNERS_HALF - position)

    def read(self, n: int, offset: int) -> bytes:
        """See `VfioDevice.read`."""
        return super().read(self._room(offset, n) if n else 0, offset)

    def write(self, data: bytes, offset: int) -> int:
        """See `VfioDevice.write`."""
        return super().write(data[: self._room(offset, len(data))] if data else data, offset)

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap:
        """See `VfioDevice.mmap`: half of a page cannot be mapped.  Raise OSError EINVAL."""
        if offset >> OFFSET_SHIFT == copier.BAR:
            raise fail(errno.EINVAL)
        return super().mmap(length, flags, prot, offset)

    def ioctl(self, request: int, argument: Argument) -> int:
        """See `VfioDevice.ioctl`: BAR 0 is half as long as it is."""
        if request == abi.VFIO_DEVICE_GET_REGION_INFO:
            argsz, flags, index, *_ = _REGION.unpack(argument.read(0, _REGION.size))
            if index == copier.BAR and argsz >= _REGION.size:
                flags = abi.VFIO_REGION_INFO_FLAG_READ | abi.VFIO_REGION_INFO_FLAG_WRITE
                answer = _REGION.pack(_REGION.size, flags, index, 0, OWNERS_HALF, index << OFFSET_SHIFT)
                argument.write(0, answer)
                return 0
        return super().ioctl(request, argument)


class CopierVfioPciDriver(VfioPciDriver):
    """The driver ``copier-vfio-pci``."""

    table = (PciId(copier.VENDOR_ID, copier.DEVICE_ID, override_only=True),)

    def make(self, device: PciDevice) -> VfioPciDevice:
        """See `VfioPciDriver.make`.  Raise OSError ENODEV for another device."""
        if (device.vendor, device.device_id) != (copier.VENDOR_ID, copier.DEVICE_ID):
            raise fail(errno.ENODEV)
        return CopierVfioDevice(device)


def boot(machine: Machine, bus: PciBus) -> None:
    """Load the module, after ``vfio_pci``."""
    driver = CopierVfioPciDriver(bus, machine.random, name="copier-vfio-pci", module="copier_vfio_pci")
    module = machine.kernel.modules.load(Module("copier_vfio_pci"), needs=("vfio", "vfio_pci_core"))
    module.drivers["pci:copier-vfio-pci"] = driver.sysfs_path
    bus.register(driver)
