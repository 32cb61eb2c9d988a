"""VFIO groups, ``/dev/vfio/N`` (``drivers/vfio/group.c``)."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import native_struct
from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.iommu_group import IommuGroup
from pyvfio_backends.software.linux.kernel_log import WARNING, say
from pyvfio_backends.software.linux.majors import vfio_majors
from pyvfio_backends.software.linux.procfs import command_of
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_file import DeviceFile
from pyvfio_backends.software.linux.vfs import CharacterDevice, fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.iommufd import IommufdContext
    from pyvfio_backends.software.linux.vfio_container import ContainerFile
    from pyvfio_backends.software.linux.vfio_core import VfioCore, VfioDevice

__all__ = ["GroupFile", "VfioGroup"]

"""The first free dynamic major of the machines in ``fixtures/golden``; VFIO asks for any."""
_STATUS = native_struct(abi.GroupStatus)
_FD = struct.Struct("=i")
_DEVICE_LABEL = "anon_inode:[vfio-device]"


class VfioGroup:
    """The group of `iommu_group`, `emulated` if it was made for a mediated device, `without_iommu` if it was for one
    whose DMA nothing translates: then only programs with CAP_SYS_RAWIO can use it (EPERM).

    `devices` can be opened by name; `container` or `iommufd` is what the group was put into; `container_users` counts
    itself and its open devices; `opened` is the one open file.
    """

    def __init__(self, core: VfioCore, iommu_group: IommuGroup, *, emulated: bool, without_iommu: bool = False) -> None:
        self.core = core
        self.iommu_group = iommu_group
        self.emulated = emulated
        self.without_iommu = without_iommu
        self.alive = True
        self.drivers = 0
        self.devices: list[VfioDevice] = []
        self.container: ContainerFile | None = None
        self.container_users = 0
        self.iommufd: IommufdContext | None = None
        self.opened: GroupFile | None = None
        self.cdev_opened = 0
        self.dma: DmaSpace | None = None
        self.minor = core.take_minor()
        name = f"{'noiommu-' * without_iommu}{iommu_group.number}"
        self.node_path = f"vfio/{name}"
        self.node = Device(core.kernel, name, None, cls=core.kernel.class_("vfio"))
        self.major = vfio_majors(self.core.kernel)[0]
        self.node.devnode = (self.major, self.minor, self.node_path)

    def appear(self, *, quiet: bool = False) -> None:
        """Make the node and send its event."""
        self.core.kernel.add_node(self.node_path, CharacterDevice(self.major, self.minor, self.open))
        self.core.kernel.add_class_device(self.node, quiet=quiet)

    def disappear(self) -> None:
        """The last device has left: node and event go, whoever still has the group open gets ENODEV."""
        kernel = self.core.kernel
        kernel.remove_node(self.node_path)
        kernel.remove_class_device(self.node)
        if self.container is not None:
            self.container.detach(self)
        self.alive = False
        self._free_minor()

    def _free_minor(self) -> None:
        if not self.alive and self.opened is None:
            self.core.minors.discard(self.minor)

    # files

    def open(self, path: str, flags: int) -> File:
        """Open the group: ENODEV when its devices are leaving, EBUSY when it or a device's own node is in use."""
        if not self.drivers:
            raise fail(errno.ENODEV, path)
        self.check_permitted()
        if self.cdev_opened or self.opened is not None:
            raise fail(errno.EBUSY, path)
        self.opened = GroupFile(self)
        self.core.hold("vfio", 2)  # once for the node and once for the file
        return self.opened

    def check_permitted(self) -> None:
        """Raise OSError EPERM for a program that may not do without an IOMMU."""
        if self.without_iommu and not self.core.kernel.raw_io:
            raise fail(errno.EPERM)

    def closed(self) -> None:
        """The open file has lost its last user."""
        if self.container is not None:
            self.container.detach(self)
        if self.iommufd is not None:
            self.iommufd.release()
            self.iommufd = None
        self.opened = None
        self.core.hold("vfio", -2)
        self._free_minor()

    def block(self) -> None:
        """A device's own node is going to be used: the group may not be.  Raise OSError EBUSY."""
        if self.opened is not None:
            raise fail(errno.EBUSY)
        self.cdev_opened += 1

    def unblock(self) -> None:
        """Undo `block`."""
        self.cdev_opened -= 1

    # the IOMMU

    @property
    def has_iommu(self) -> bool:
        """Whether the group is in a container or an iommufd."""
        return self.container is not None or self.iommufd is not None

    @property
    def claimed(self) -> bool:
        """Whether somebody owns the group's DMA: a program, or kernel drivers of its devices."""
        if self.iommu_group.owner is not None:
            return True
        if self.emulated:
            return False
        ours = {device.device for device in self.devices}
        return any(
            device.driver is not None and device not in ours and not getattr(device.driver, "driver_managed_dma", False)
            for device in self.iommu_group.devices.values()
        )

    def set_dma(self, space: DmaSpace | None) -> None:
        """Let the DMA of all devices run in this address space."""
        self.dma = space
        for device in self.devices:
            device.set_dma(space)
        self.iommu_group.attach(space)

    def use_iommu(self, device: VfioDevice) -> None:
        """A device is opened by the group.  Raise OSError EINVAL before VFIO_SET_IOMMU."""
        if self.container is None or self.container.driver is None or self.opened is None:
            raise fail(errno.EINVAL)
        self.check_permitted()
        self.opened.references += 1
        self.container_users += 1
        self.container.driver.register_device(device)

    def unuse_iommu(self, device: VfioDevice) -> None:
        """The device is closed."""
        if self.container is not None and self.container.driver is not None:
            self.container.driver.unregister_device(device)
        self.container_users -= 1
        if self.opened is not None:
            self.opened.drop()


class GroupFile(File):
    """The open group.  Each device that was opened by it holds it open."""

    __slots__ = ("group", "references")

    def __init__(self, group: VfioGroup) -> None:
        self.group = group
        self.references = 1

    def drop(self) -> None:
        """One user less."""
        self.references -= 1
        if not self.references:
            self.group.closed()

    def release(self) -> None:
        self.drop()

    def ioctl(self, request: int, argument: Argument) -> int:
        if request == abi.VFIO_GROUP_GET_DEVICE_FD:
            return self._get_device_fd(argument)
        if request == abi.VFIO_GROUP_GET_STATUS:
            return self._get_status(argument)
        if request == abi.VFIO_GROUP_SET_CONTAINER:
            return self._set_container(argument)
        if request == abi.VFIO_GROUP_UNSET_CONTAINER:
            return self._unset_container()
        raise fail(errno.ENOTTY)

    def _get_device_fd(self, argument: Argument) -> int:
        group = self.group
        name = argument.string(group.core.kernel.page_size - 1)
        device = next((device for device in group.devices if device.match(name)), None)
        if device is None:
            raise fail(errno.ENODEV)
        file = DeviceFile(device, group)
        device.get()
        try:
            if not group.has_iommu:
                raise fail(errno.EINVAL)
            file.iommufd = group.iommufd
            if group.without_iommu and group.iommufd is not None and not device.open_count:
                group.check_permitted()
                if group.iommufd.compat is not None:
                    raise fail(errno.EPERM)  # somebody expects that addresses are translated
            file.open_device()
        except OSError:
            device.put()
            raise
        group.core.hold("vfio")
        file.granted = True
        if group.without_iommu:
            pid = argument.caller.pid
            who = f"{command_of(pid)}:{pid}"
            say(device.device, WARNING, f"vfio-noiommu device opened by user ({who})")
        try:
            if group.iommufd is not None and device.open_count == 1 and device.iommufd is not None:
                device.iommufd.attach(group.iommufd.compat_ioas().id)
            return group.core.kernel.fds.install(file, _DEVICE_LABEL)
        except OSError:
            file.release()
            raise

    def _get_status(self, argument: Argument) -> int:
        group = self.group
        argsz, _ = _STATUS.unpack(argument.read(0, _STATUS.size))
        if argsz < _STATUS.size:
            raise fail(errno.EINVAL)
        if not group.alive:
            raise fail(errno.ENODEV)
        flags = 0
        if group.has_iommu:
            flags = abi.VFIO_GROUP_FLAGS_CONTAINER_SET | abi.VFIO_GROUP_FLAGS_VIABLE
        elif not group.claimed:
            flags = abi.VFIO_GROUP_FLAGS_VIABLE
        argument.write(0, _STATUS.pack(argsz, flags))
        return 0

    def _set_container(self, argument: Argument) -> int:
        group = self.group
        from pyvfio_backends.software.linux.vfio_container import ContainerFile

        (fd,) = _FD.unpack(argument.read(0, _FD.size))
        file = group.core.file_of(fd)
        if group.has_iommu:
            raise fail(errno.EINVAL)
        if not group.alive:
            raise fail(errno.ENODEV)
        if isinstance(file, ContainerFile):
            file.attach(group)
            return 0
        context = group.core.iommufd_of(fd)
        if group.without_iommu:
            context.do_without_iommu()
        else:
            context.make_compat_ioas()
        context.hold()
        group.iommufd = context
        return 0

    def _unset_container(self) -> int:
        group = self.group
        if not group.has_iommu:
            raise fail(errno.EINVAL)
        if group.container is not None:
            if group.container_users != 1:
                raise fail(errno.EBUSY)
            group.container.detach(group)
        if group.iommufd is not None:
            group.iommufd.release()
            group.iommufd = None
        return 0
