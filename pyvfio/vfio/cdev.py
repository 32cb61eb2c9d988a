"""A device's own node, ``/dev/vfio/devices/vfioN``, which is used with iommufd and no group."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Self
from uuid import UUID

from pyvfio import causes
from pyvfio.abi import vfio as abi
from pyvfio.abi.vfio_later import VFIO_DEVICE_BIND_FLAG_TOKEN, DeviceBindIommufdToken
from pyvfio.call import Call
from pyvfio.errors import DeviceBusy, KernelRefused, Misuse, NotAvailable, PyvfioError
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.iommu.iommufd import IoasTable, Iommufd
from pyvfio.node import open_node
from pyvfio.sysfs_device import SysfsDevice
from pyvfio.vfio.token import token_refused
from pyvfio.vfio.ways import Obstacle, ways

if TYPE_CHECKING:
    from pyvfio.host import Host
    from pyvfio.iommu.nested import NestedTable

__all__ = ["Cdev"]


class Cdev:
    """The open node of a device.  A context manager.  Order: bind to an iommufd, attach to an address space.

    With `fd` it is a descriptor of the node that somebody else opened; it is this object's from then on.  Raise
    `NotAvailable` when the device has no node, `PermissionDenied`, or the class for the errno.
    """

    def __init__(self, host: Host, device: SysfsDevice, *, fd: int | None = None) -> None:
        self.backend = host.backend
        self._sysfs = host.sysfs
        self.name = device.name
        self._group = device.group
        way = ways(device)[0]
        if fd is None and way.obstacle not in (None, Obstacle.NO_PERMISSION):
            raise NotAvailable("open VFIO device", device.name, cause=way.reason, next_step='take way="group"')
        self.path = node = way.node
        self.space: AddressSpace | None = None
        self._iommufd: Iommufd | None = None
        self.number = 0
        """The device's in its iommufd."""
        self._fd = open_node(host.sysfs, node, "open VFIO device", device.name) if fd is None else fd
        self._call = Call(self.backend, self._fd, device.name, node)

    @property
    def bound(self) -> bool:
        """Whether it is bound to an iommufd, so that it may be used."""
        return self._iommufd is not None

    @property
    def iommufd(self) -> Iommufd | None:
        """What it is bound to."""
        return self._iommufd

    def fileno(self) -> int:
        """The descriptor (-1 after `close`)."""
        return self._fd

    def bind(self, iommufd: Iommufd, *, token: UUID | None = None) -> int:
        """Give the device to an iommufd; its number there.  `token` is its VF token, which kernels before 6.17 refuse.

        Raise `DeviceBusy` while its group is open, `PermissionDenied` when a token is needed or wrong.
        """
        if token is not None:
            return self._bind_with(iommufd, token)
        argument = abi.DeviceBindIommufd.sized(iommufd=iommufd.fileno())
        try:
            self._call("bind device to iommufd", abi.VFIO_DEVICE_BIND_IOMMUFD, argument)
        except KernelRefused as error:
            raise self._refused(error) from error
        self._iommufd, self.number = iommufd, int(argument.out_devid)
        return self.number

    def _bind_with(self, iommufd: Iommufd, token: UUID) -> int:
        given = ctypes.create_string_buffer(token.bytes, len(token.bytes))
        argument = DeviceBindIommufdToken.sized(
            flags=VFIO_DEVICE_BIND_FLAG_TOKEN, iommufd=iommufd.fileno(), token_uuid_ptr=ctypes.addressof(given)
        )
        try:
            self._call("bind device to iommufd with a VF token", abi.VFIO_DEVICE_BIND_IOMMUFD, argument)
        except PyvfioError as error:
            physical = self._sysfs.link_name(f"/sys/bus/pci/devices/{self.name}/physfn")
            why = token_refused(error.errno, self.name, physical, given=True)
            step = why.next_step
            if error.errno == errno.EINVAL:
                step += '; kernels before 6.17 take one by the group only (way="group")'
            raise type(error)(
                error.operation, self.name, path=self.path, errno=error.errno, cause=why.sentence, next_step=step
            ) from error
        self._iommufd, self.number = iommufd, int(argument.out_devid)
        return self.number

    def _refused(self, error: KernelRefused) -> PyvfioError:
        """vfio_df_open(): EINVAL while the device is open by another file; the node itself can be opened again.

        EINVAL is also the answer when firmware has reserved memory for the device.
        """
        others = [one for one in self._sysfs.holders(self.path) if (one.pid, one.fd) != (os.getpid(), self._fd)]
        if error.errno != errno.EINVAL:
            return error
        if not others:
            group = self._group
            why = causes.firmware_memory(group.number, group.firmware_memory) if group is not None else causes.Cause()
            if why.sentence:
                error.cause, error.next_step = why.sentence, why.next_step
            return error
        why = causes.busy(self.path, others)
        return DeviceBusy(
            error.operation, self.name, path=self.path, errno=error.errno, cause=why.sentence, next_step=why.next_step
        )

    def attach(self, space: AddressSpace, *, dirty_tracking: bool = False) -> None:
        """Let the device use an address space of its iommufd, in place of the one that it used until now, if any.

        With `dirty_tracking` the IOMMU notes what the device writes (`AddressSpace.dirty_log`).  On IBM Z there is a
        moment between the two address spaces in which the device has none (``s390_iommu_attach_device``).

        Raise `NotAvailable` when the IOMMU does not note writes, `Misuse` for another kind of address space or one of
        another iommufd, else the class for the errno; then nothing was changed.
        """
        if not isinstance(space.table, IoasTable):
            raise Misuse("attach device", self.name, cause=f"the address space is {space.kind}, not iommufd")
        if space.table.iommufd is not self._iommufd:  # their numbers would mean others in the device's own iommufd
            cause = "the device is bound to another iommufd" if self._iommufd else "the device is bound to no iommufd"
            raise Misuse("attach device", self.name, cause=cause)
        table = space.table.page_table(self.number) if dirty_tracking else space.table.ioas_id
        argument = abi.DeviceAttachIommufdPt.sized(pt_id=table)
        try:
            self._call("attach device to address space", abi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument)
        except BaseException:
            if dirty_tracking:
                space.table.give_up(table)
            raise
        before, self.space = self.space, space
        space.refresh()
        if before is not None and before is not space:
            before.refresh()

    def attach_nested(self, table: NestedTable) -> None:
        """Let the device use a page table of this program, in place of what it used until now.

        Its address space is the one that the table is nested in.  Raise `NotAvailable` for a table that the device's
        IOMMU cannot use (EINVAL, ENODEV), `Misuse` for one of another iommufd, else the class for the errno; then
        nothing was changed.
        """
        if table.parent.ioas.iommufd is not self._iommufd:
            raise Misuse("attach device", self.name, cause="the page table is of another iommufd")
        argument = abi.DeviceAttachIommufdPt.sized(pt_id=table.number)
        try:
            self._call("attach device to nested page table", abi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument)
        except PyvfioError as error:
            if error.errno not in (errno.EINVAL, errno.ENODEV):
                raise
            raise NotAvailable(
                error.operation,
                self.name,
                errno=error.errno,
                cause=f"the device's IOMMU cannot use the {table.words}; or others of its group use another table",
                next_step="see the kernel log, which names what it lacks; /sys/class/iommu/*/intel-iommu/{cap,ecap}",
            ) from error
        before, self.space = self.space, table.parent.space
        table.parent.space.refresh()
        if before is not None and before is not table.parent.space:
            before.refresh()

    def detach(self) -> None:
        """Take the device out of its address space; its mappings stay there.  After an error it is in it still."""
        if self.space is not None:
            argument = abi.DeviceDetachIommufdPt.sized()
            self._call("detach device from address space", abi.VFIO_DEVICE_DETACH_IOMMUFD_PT, argument)
            space, self.space = self.space, None
            space.refresh()

    def close(self) -> None:
        """Close the descriptor, which detaches and unbinds; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            space, self.space = self.space, None
            self._call.close()
            if space is not None:
                space.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
