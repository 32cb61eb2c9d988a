"""A device descriptor of VFIO (``struct vfio_device_file``), from a group or from the device's own node.

One that came from ``/dev/vfio/devices`` may do nothing before VFIO_DEVICE_BIND_IOMMUFD.
"""

from __future__ import annotations

import errno
import mmap
import sys
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_feature
from pyvfio.abi.layout import native_struct, offset_of
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommufd import IommufdContext
    from pyvfio_backends.software.linux.vfio_core import VfioDevice
    from pyvfio_backends.software.linux.vfio_group import VfioGroup

__all__ = ["DeviceFile"]

_BYTE_ORDER = sys.byteorder
_FEATURE = native_struct(abi.DeviceFeature)
_BIND = native_struct(abi.DeviceBindIommufd)
_ATTACH = native_struct(abi.DeviceAttachIommufdPt)
_DETACH = native_struct(abi.DeviceDetachIommufdPt)
_FEATURE_FLAGS = (
    abi.VFIO_DEVICE_FEATURE_MASK
    | abi.VFIO_DEVICE_FEATURE_GET
    | abi.VFIO_DEVICE_FEATURE_SET
    | abi.VFIO_DEVICE_FEATURE_PROBE
)
# Migration and logging are the core's: it answers ENOTTY where a driver has no operations for them.
_MIGRATION = frozenset(
    (
        vfio_feature.VFIO_DEVICE_FEATURE_MIGRATION,
        vfio_feature.VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
        vfio_feature.VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
    )
)
_LOGGING = frozenset(
    (
        vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_START,
        vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP,
        vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT,
    )
)


class DeviceFile(File):
    """An open device; `granted` once it may be used, `group` if it came from one, `iommufd` the context if any."""

    __slots__ = ("device", "granted", "group", "iommufd", "position")

    def __init__(self, device: VfioDevice, group: VfioGroup | None = None) -> None:
        self.device = device
        self.group = group
        self.iommufd: IommufdContext | None = None
        self.granted = False
        self.position = 0

    # opening and closing the device behind it (drivers/vfio/vfio_main.c)

    def open_device(self) -> int:
        """Open the device for this file; its number in iommufd, 0 without (``vfio_df_open``)."""
        device = self.device
        if device.open_count and self.group is None:
            raise fail(errno.EINVAL)  # the cdev has no safe way to share a device
        device.open_count += 1
        if device.open_count > 1:
            return 0
        device.hold_driver()
        try:
            return self._first_open()
        except OSError:
            device.release_driver()
            device.open_count -= 1
            raise

    def _first_open(self) -> int:
        devid = 0
        if self.iommufd is not None:
            if self.group is None or not self.group.without_iommu:
                devid = self.iommufd.bind(self.device)
        elif self.group is not None:
            self.group.use_iommu(self.device)
        try:
            self.device.open_device()
        except OSError:
            self._leave_iommu()
            raise
        return devid

    def _leave_iommu(self) -> None:
        if self.device.iommufd is not None:
            self.device.iommufd.unbind()
        elif self.iommufd is None and self.group is not None:
            self.group.unuse_iommu(self.device)

    def close_device(self) -> None:
        """Close the device for this file (``vfio_df_close``)."""
        device = self.device
        if device.open_count == 1:
            device.close_device()
            self._leave_iommu()
            device.release_driver()
        device.open_count -= 1

    def release(self) -> None:
        device = self.device
        if self.group is not None:
            self.close_device()
            self.iommufd = None
        elif self.granted:
            self._unbind()
        self.granted = False
        device.core.hold("vfio", -1 if self.group is not None else -2)
        device.put()

    # use

    def read(self, n: int) -> bytes:
        if not self.granted:
            raise fail(errno.EINVAL)
        data = self.device.read(n, self.position)
        if self.device.moves_position:
            self.position += len(data)
        return data

    def write(self, data: bytes) -> int:
        if not self.granted:
            raise fail(errno.EINVAL)
        taken = self.device.write(data, self.position)
        if self.device.moves_position:
            self.position += taken
        return taken

    def pread(self, n: int, offset: int) -> bytes:
        if not self.granted:
            raise fail(errno.EINVAL)
        return self.device.read(n, offset)

    def pwrite(self, data: bytes, offset: int) -> int:
        if not self.granted:
            raise fail(errno.EINVAL)
        return self.device.write(data, offset)

    def mmap(self, length: int, flags: int, prot: int, offset: int) -> mmap.mmap:
        if not self.granted:
            raise fail(errno.EINVAL)
        return self.device.mmap(length, flags, prot, offset)

    def ioctl(self, request: int, argument: Argument) -> int:
        if request == abi.VFIO_DEVICE_BIND_IOMMUFD:
            return self._bind(argument)
        if not self.granted:
            raise fail(errno.EINVAL)
        if self.group is None:
            if request == abi.VFIO_DEVICE_ATTACH_IOMMUFD_PT:
                return self._attach(argument)
            if request == abi.VFIO_DEVICE_DETACH_IOMMUFD_PT:
                return self._detach(argument)
        if request == abi.VFIO_DEVICE_FEATURE:
            return self._feature(argument)
        return self.device.ioctl(request, argument)

    def _feature(self, argument: Argument) -> int:
        argsz, flags = _FEATURE.unpack(argument.read(0, _FEATURE.size))
        if argsz < _FEATURE.size or flags & ~_FEATURE_FLAGS:
            raise fail(errno.EINVAL)
        both = abi.VFIO_DEVICE_FEATURE_GET | abi.VFIO_DEVICE_FEATURE_SET
        if not flags & abi.VFIO_DEVICE_FEATURE_PROBE and flags & both == both:
            raise fail(errno.EINVAL)
        number, size = flags & abi.VFIO_DEVICE_FEATURE_MASK, argsz - _FEATURE.size
        if number in _MIGRATION:
            return self._migrate(flags, argument, size)
        if number in _LOGGING:
            return self._log_dma(flags, argument, size)
        return self.device.feature(flags, argument, size)

    # what does so is imported where a driver can: most never do

    def _migrate(self, flags: int, argument: Argument, size: int) -> int:
        if self.device.migration is None:
            raise fail(errno.ENOTTY)
        from pyvfio_backends.software.linux import vfio_migration

        return vfio_migration.feature(self.device.migration, flags, argument, size)

    def _log_dma(self, flags: int, argument: Argument, size: int) -> int:
        if self.device.dma_log is None:
            raise fail(errno.ENOTTY)
        from pyvfio_backends.software.linux import vfio_dma_logging

        return vfio_dma_logging.feature(self.device.dma_log, flags, argument, size)

    # iommufd (drivers/vfio/device_cdev.c)

    def _bind(self, argument: Argument) -> int:
        device = self.device
        argsz, flags, fd, _ = _BIND.unpack(argument.read(0, _BIND.size))
        if argsz < _BIND.size or flags or fd < 0 or self.group is not None or device.group is None:
            raise fail(errno.EINVAL)
        device.group.block()
        try:
            if self.granted:
                raise fail(errno.EINVAL)
            context = device.core.iommufd_of(fd)
            context.hold()
            self.iommufd = context
            try:
                devid = self.open_device()
                try:
                    argument.write(offset_of(abi.DeviceBindIommufd, "out_devid"), devid.to_bytes(4, _BYTE_ORDER))
                except OSError:
                    self.close_device()
                    raise
            except OSError:
                self.iommufd = None
                context.release()
                raise
        except OSError:
            device.group.unblock()
            raise
        self.granted = True
        return 0

    def _unbind(self) -> None:
        self.close_device()
        if self.iommufd is not None:
            self.iommufd.release()
            self.iommufd = None
        if self.device.group is not None:
            self.device.group.unblock()

    def _attach(self, argument: Argument) -> int:
        argsz, flags, pt_id = _ATTACH.unpack(argument.read(0, _ATTACH.size))
        if argsz < _ATTACH.size or flags or self.device.iommufd is None:
            raise fail(errno.EINVAL)
        binding = self.device.iommufd
        attached = binding.attach(pt_id)
        try:
            argument.write(offset_of(abi.DeviceAttachIommufdPt, "pt_id"), attached.to_bytes(4, _BYTE_ORDER))
        except OSError:
            binding.detach()
            raise
        return 0

    def _detach(self, argument: Argument) -> int:
        argsz, flags = _DETACH.unpack(argument.read(0, _DETACH.size))
        if argsz < _DETACH.size or flags:
            raise fail(errno.EINVAL)
        if self.device.iommufd is not None:
            self.device.iommufd.detach()
        return 0
