"""VFIO's core: the devices it knows, and what all its modules share (``drivers/vfio/vfio_main.c``).

A driver makes a `VfioDevice` of its own subclass in its probe, calls `VfioDevice.register`, and in its remove
`VfioDevice.unregister`.  Group, container, descriptor and IOMMU are the core's business.
"""

from __future__ import annotations

import errno
import mmap
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.linux.dma_domain import LockedMemory
from pyvfio_backends.software.linux.driver_core import Device
from pyvfio_backends.software.linux.kernel import Kernel
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommu_group import IommuGroup
    from pyvfio_backends.software.linux.iommufd_device import Binding
    from pyvfio_backends.software.linux.vfio_group import VfioGroup

__all__ = ["VfioCore", "VfioDevice", "check_feature", "vfio_core"]

GROUP_MAJOR = 253
DEVICE_MAJOR = 252
REQUEST_INTERVAL = 10.0
"""Seconds of machine time between two requests to give a device back (``HZ * 10``)."""


class VfioCore:
    """What VFIO keeps for a kernel: groups, numbers, the pages its users have locked and the modules' parameters.

    `cdev` says whether devices get a node of their own (``CONFIG_VFIO_DEVICE_CDEV``), `type1` whether the module
    vfio_iommu_type1 is loaded, `dma_entry_limit` is its parameter.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.cdev = True
        self.type1 = True
        self.dma_entry_limit = 65535
        self.groups: dict[IommuGroup, VfioGroup] = {}
        self.minors: set[int] = set()
        self.indexes: set[int] = set()
        self.locked = LockedMemory(kernel)

    def hold(self, module: str, change: int = 1) -> None:
        """Count a user of a module, if it is loaded (``try_module_get``, ``module_put``)."""
        loaded = self.kernel.modules.table.get(module)
        if loaded is not None:
            loaded.refcnt += change


def vfio_core(kernel: Kernel) -> VfioCore:
    """The core of this kernel, made when it is first asked for."""
    core = kernel.subsystems.get("vfio")
    if not isinstance(core, VfioCore):
        core = kernel.subsystems["vfio"] = VfioCore(kernel)
    return core


def lowest_free(numbers: set[int], first: int = 0) -> int:
    """Take the lowest number from `first` on that is not in the set (an ida)."""
    number = first
    while number in numbers:
        number += 1
    numbers.add(number)
    return number


def check_feature(flags: int, size: int, supported: int, minimum: int) -> bool:
    """Whether a feature with these `supported` operations and this `minimum` of data is to be executed now.

    False means that it was only probed, and all is well.  `size` is what the caller gave, in bytes without the head.
    Raise OSError EINVAL.  Source: ``vfio_check_feature()`` in ``include/linux/vfio.h``.
    """
    both = abi.VFIO_DEVICE_FEATURE_GET | abi.VFIO_DEVICE_FEATURE_SET
    if flags & both & ~supported:
        raise fail(errno.EINVAL)
    if flags & abi.VFIO_DEVICE_FEATURE_PROBE:
        return False
    if not flags & both or size < minimum:
        raise fail(errno.EINVAL)
    return True


class VfioDevice:
    """A device that VFIO offers to programs (``struct vfio_device``); drivers subclass it.

    `device` is what the driver was bound to and `emulated` whether it is a mediated device, whose DMA goes through
    `pin_pages` and `dma_read`.  `index` is the number of ``/dev/vfio/devices/vfioN``, `group` exists once registered,
    `open_count` counts the open descriptors that may use the device.

    All methods are called under the machine's lock and raise OSError.
    """

    def __init__(self, kernel: Kernel, device: Device, *, emulated: bool = False) -> None:
        self.kernel = kernel
        self.device = device
        self.emulated = emulated
        self.core = vfio_core(kernel)
        if not self.core.indexes:
            self.core.hold("vfio")  # the pseudo file system of the devices' inodes
        self.index = lowest_free(self.core.indexes)
        self.group: VfioGroup | None = None
        self.open_count = 0
        self.iommufd: Binding | None = None
        """Its object in iommufd: a device of its own or an access (mediated), or None."""
        self.node: Device | None = None
        self._references = 0
        self._released = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} vfio{self.index} {self.device.name}>"

    # what drivers override

    def open_device(self) -> None:
        """The first descriptor may use the device now.  Raise OSError to refuse."""

    def close_device(self) -> None:
        """The last descriptor is gone.  Must give back what `pin_pages` gave."""

    def ioctl(self, request: int, argument: Argument) -> int:
        """Answer a request that is not the core's.  The kernel's default is EINVAL, drivers give ENOTTY."""
        raise fail(errno.EINVAL)

    def read(self, n: int, offset: int) -> bytes:
        """Read up to `n` bytes of a region at `offset` of the file."""
        raise fail(errno.EINVAL)

    def write(self, data: bytes, offset: int) -> int:
        """Write to a region; the number of bytes taken."""
        raise fail(errno.EINVAL)

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        """Map a region."""
        raise fail(errno.EINVAL)

    def request(self, count: int) -> None:
        """Ask the user to give the device back, for the time number `count` (from 0)."""

    def dma_unmap(self, iova: int, length: int) -> None:
        """A range is going to be unmapped: unpin all pages of it.  Only devices with this method may pin."""

    def match(self, name: str) -> bool:
        """Whether the name given to VFIO_GROUP_GET_DEVICE_FD means this device.  OSError ends the search."""
        return name == self.device.name

    def feature(self, flags: int, argument: Argument, size: int) -> int:
        """Answer VFIO_DEVICE_FEATURE; the data are `size` bytes at offset `FEATURE_DATA` of `argument`.

        `check_feature` has the rules for the flags.
        """
        raise fail(errno.ENOTTY)

    def set_dma(self, space: DmaSpace | None) -> None:
        """The address space in which the device's DMA runs from now on; None: the kernel's own, or blocked."""

    # what drivers use

    @property
    def pins(self) -> bool:
        """Whether the driver can pin pages at all (it has a `dma_unmap`)."""
        return type(self).dma_unmap is not VfioDevice.dma_unmap

    def dma_read(self, iova: int, count: int) -> bytes:
        """Copy `count` bytes out of the program's memory (``vfio_dma_rw``).

        Errors: by type 1 EINVAL (not mapped), EPERM, EFAULT; by iommufd ENOENT (not mapped or not attached), EPERM,
        EFAULT; EINVAL without either.
        """
        raise fail(errno.EINVAL)

    def dma_write(self, iova: int, data: bytes) -> None:
        """Copy into the program's memory; errors as `dma_read`.  Type 1 also wants the mapping to be readable."""
        raise fail(errno.EINVAL)

    def pin_pages(self, iova: int, npages: int, write: bool) -> list[int]:
        """Hold the `npages` pages from the page of `iova` on; their absolute host addresses (``vfio_pin_pages``).

        Errors: EINVAL, E2BIG (type 1: more pages than fit in a page of pointers), EACCES (type 1 version 1), EPERM,
        EFAULT, ENOMEM, EBUSY; by iommufd ENOENT for an address not mapped.  Nothing stays pinned then.
        """
        raise fail(errno.EINVAL)

    def unpin_pages(self, iova: int, npages: int) -> None:
        """Let pages go that `pin_pages` gave."""

    # life

    def register(self) -> None:
        """Offer the device: nodes and events.  Raise OSError (EINVAL: the device has no IOMMU group)."""

    def unregister(self) -> None:
        """Take the device back: block until no descriptor refers to it."""


FEATURE_DATA = abi.DeviceFeature.data.offset
"""Offset of the data of VFIO_DEVICE_FEATURE."""
