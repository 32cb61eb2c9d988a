"""VFIO's core: the devices it knows, and what all its modules share (``drivers/vfio/vfio_main.c``).

A driver makes a `VfioDevice` of its own subclass in its probe, calls `VfioDevice.register`, and in its remove
`VfioDevice.unregister`.  Group, container, descriptor and IOMMU are the core's business.
"""

from __future__ import annotations

import errno
import mmap
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import offset_of
from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.kernel import TAINT_USER, Kernel
from pyvfio_backends.software.linux.kernel_log import WARNING, say
from pyvfio_backends.software.linux.majors import vfio_majors
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_boot import boot
from pyvfio_backends.software.linux.vfio_file import DeviceFile
from pyvfio_backends.software.linux.vfio_group import VfioGroup
from pyvfio_backends.software.linux.vfio_state import VfioCore, lowest_free, vfio_core
from pyvfio_backends.software.linux.vfs import CharacterDevice, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommufd_access import Access
    from pyvfio_backends.software.linux.iommufd_device import Binding
    from pyvfio_backends.software.linux.type1_pages import Type1Pages
    from pyvfio_backends.software.linux.vfio_dma_logging import DmaLog
    from pyvfio_backends.software.linux.vfio_migration import Migration

__all__ = ["FEATURE_DATA", "VfioCore", "VfioDevice", "boot", "check_feature", "vfio_core"]

REQUEST_INTERVAL = 10.0
"""Seconds of machine time between two requests to give a device back (``HZ * 10``)."""


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

    moves_position = True
    """Whether ``read`` and ``write`` move the file's position, which is the driver's business."""

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
        self.migration: Migration | None = None
        """How its driver migrates it, if it does (``vfio_device.mig_ops``)."""
        self.dma_log: DmaLog | None = None
        """How its driver logs what it writes, if it does (``vfio_device.log_ops``)."""
        self._references = 0
        self._released = False
        self._module = ""

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

    def _memory(self) -> Access | Type1Pages:
        """What gives access to the program's memory.  Raise OSError EINVAL without a container or iommufd."""
        if not self.open_count:
            raise fail(errno.EINVAL)
        if self.group is not None and self.group.container is not None:
            driver = self.group.container.driver
            if driver is None or driver.pages is None:
                raise fail(errno.ENOTTY)
            return driver.pages
        if self.iommufd is not None:
            from pyvfio_backends.software.linux.iommufd_access import Access

            if isinstance(self.iommufd, Access):
                return self.iommufd
        raise fail(errno.EINVAL)

    def dma_read(self, iova: int, count: int) -> bytes:
        """Copy `count` bytes out of the program's memory (``vfio_dma_rw``).

        Errors: by type 1 EINVAL (not mapped), EPERM, EFAULT; by iommufd ENOENT (not mapped or not attached), EPERM,
        EFAULT; EINVAL without either.
        """
        if count <= 0:
            raise fail(errno.EINVAL)
        return self._memory().read(iova, count)

    def dma_write(self, iova: int, data: bytes) -> None:
        """Copy into the program's memory; errors as `dma_read`.  Type 1 also wants the mapping to be readable."""
        if not data:
            raise fail(errno.EINVAL)
        self._memory().write(iova, data)

    def pin_pages(self, iova: int, npages: int, write: bool) -> list[int]:
        """Hold the `npages` pages from the page of `iova` on; their absolute host addresses (``vfio_pin_pages``).

        `write` asks for pages that the device may read and write, as vfio_ccw always does.  Errors: EINVAL, E2BIG
        (type 1: more pages than fit in a page of pointers), EACCES (type 1 version 1), EPERM, EFAULT, ENOMEM, EBUSY;
        by iommufd ENOENT for an address not mapped.  Nothing stays pinned then.
        """
        if not npages or not self.pins:
            raise fail(errno.EINVAL)
        memory = self._memory()
        return memory.pin(self, iova, npages, write)

    def unpin_pages(self, iova: int, npages: int) -> None:
        """Let pages go that `pin_pages` gave."""
        if self.open_count and self.pins:
            self._memory().unpin(iova, npages)

    # references: open files, and the registration itself

    def get(self) -> None:
        """One more file refers to the device."""
        self._references += 1

    def put(self) -> None:
        """One file less; an unregistration may be waiting for it."""
        self._references -= 1
        if not self._references:
            self.kernel.clock.notify()

    def hold_driver(self) -> None:
        """Count the driver's module as used while the device is open."""
        driver = self.device.driver
        self._module = driver.module if driver is not None else ""
        self.core.hold(self._module)

    def release_driver(self) -> None:
        """Undo `hold_driver`."""
        self.core.hold(self._module, -1)

    # life

    def register(self, *, quiet: bool = False) -> None:
        """Offer the device: make the nodes and send the events (none if `quiet`, for the state at boot).

        An emulated device gets an IOMMU group of its own, and so does one without an IOMMU, where that is allowed; that
        taints the kernel.  Else raise OSError EINVAL for a device without a group.
        """
        kernel, core = self.kernel, self.core
        without_iommu = not self.emulated and self.device.iommu_group is None and core.without_iommu
        if self.emulated or without_iommu:
            iommu_group = kernel.groups.create(name="vfio-noiommu", type_="unknown")
            kernel.groups.join(iommu_group, self.device)
            if without_iommu:
                kernel.taint |= TAINT_USER
                say(self.device, WARNING, "Adding kernel taint for vfio-noiommu group on device")
        elif self.device.iommu_group is None:
            raise fail(errno.EINVAL)
        else:
            iommu_group = self.device.iommu_group
        group = core.groups.get(iommu_group)
        if group is None:
            group = VfioGroup(core, iommu_group, emulated=self.emulated, without_iommu=without_iommu)
            core.groups[iommu_group] = group
            group.appear(quiet=quiet)
        group.drivers += 1
        self.group = group
        node = self.node = Device(kernel, f"vfio{self.index}", self.device, cls=kernel.class_("vfio-dev"))
        if core.cdev and not group.without_iommu:
            path = f"vfio/devices/{node.name}"
            major = vfio_majors(kernel)[1]
            node.devnode = (major, self.index, path)
            kernel.add_node(path, CharacterDevice(major, self.index, self._open_cdev))
        kernel.add_class_device(node, quiet=quiet)
        self._references = 1
        group.devices.insert(0, self)
        if group.dma is not None:
            self.set_dma(group.dma)

    def _open_cdev(self, path: str, flags: int) -> File:
        if not self._references:
            raise fail(errno.ENODEV, path)
        self.get()
        self.core.hold("vfio", 2)
        return DeviceFile(self)

    def unregister(self) -> None:
        """Take the device back.

        It can no longer be opened at once; then the user is asked (`request`) until no descriptor is left, every
        `REQUEST_INTERVAL`; the call blocks that long.  Then the group goes with its last device.
        """
        group = self.group
        if group is None:
            return
        clock = self.kernel.clock
        group.devices.remove(self)
        if self.node is not None:
            if self.node.devnode is not None:
                self.kernel.remove_node(self.node.devnode[2])
            self.kernel.remove_class_device(self.node)
            self.node = None
        self.put()
        asked = 0

        def ask() -> None:
            nonlocal asked
            if self._references:
                self.request(asked)
                asked += 1
                clock.schedule(REQUEST_INTERVAL, ask, background=True)

        ask()
        clock.wait(lambda: not self._references)
        if self._references:
            return  # the machine was switched off meanwhile
        if self.emulated or group.without_iommu:
            self.kernel.groups.leave(self.device)
        group.drivers -= 1
        if not group.drivers:
            self.core.groups.pop(group.iommu_group, None)
            group.disappear()
        self.group = None
        self.release()

    def release(self) -> None:
        """Give the device's number back; also for a driver whose probe failed before `register`."""
        if not self._released:
            self._released = True
            self.core.indexes.discard(self.index)
            if not self.core.indexes:
                self.core.hold("vfio", -1)


FEATURE_DATA = offset_of(abi.DeviceFeature, "data")
"""Offset of the data of VFIO_DEVICE_FEATURE."""
