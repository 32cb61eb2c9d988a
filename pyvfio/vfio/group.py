"""A VFIO group: ``/dev/vfio/NUMBER``, the way to its devices."""

from __future__ import annotations

import errno
import threading
from array import array
from typing import TYPE_CHECKING, Self
from uuid import UUID

from pyvfio import causes
from pyvfio.abi import vfio as abi
from pyvfio.arguments import require_host
from pyvfio.call import Call
from pyvfio.errors import PermissionDenied, PyvfioError
from pyvfio.groups import IommuGroup
from pyvfio.node import open_node
from pyvfio.vfio.token import token_refused

if TYPE_CHECKING:
    from pyvfio.host import Host
    from pyvfio.vfio.container import Container

__all__ = ["Group"]


class Group:
    """An open group.  Only one program can have it open.  A context manager; close its devices before it.

    `without_iommu` says that it is of a device which no IOMMU is in front of.  Raise `DeviceBusy` which names who has
    it, `NotAvailable` when no VFIO driver has a member, `PermissionDenied`.
    """

    def __init__(self, host: Host, number: int) -> None:
        require_host("Group", host)
        self.number = number
        self.backend = host.backend
        self._sysfs = host.sysfs
        self.iommu_group = IommuGroup(host.sysfs, number)
        self.container: Container | None = None
        self._devices: int | None = None
        self._counting = threading.Lock()
        name, node = f"group {number}", self.iommu_group.node
        self.without_iommu = self.iommu_group.without_iommu
        self._fd = self._open(host, node, name)
        self._call = Call(self.backend, self._fd, name, node)

    def _open(self, host: Host, node: str, name: str) -> int:
        try:
            return open_node(host.sysfs, node, "open VFIO group", name)
        except PermissionDenied as error:
            if self.without_iommu and error.errno == errno.EPERM:  # vfio_group_fops_open()
                error.cause = "who opens a device without an IOMMU must have CAP_SYS_RAWIO, whatever the node's mode"
                error.next_step = "run as root, or give the program that capability"
            raise

    def fileno(self) -> int:
        """The descriptor (-1 after `close`)."""
        return self._fd

    def status(self) -> abi.GroupFlags:
        """Whether it is viable and has a container."""
        answer = abi.GroupStatus.sized()
        self._call("read group status", abi.VFIO_GROUP_GET_STATUS, answer)
        return abi.GroupFlags(answer.flags)

    @property
    def viable(self) -> bool:
        """Whether the kernel finds it viable."""
        return bool(self.status() & abi.GroupFlags.VIABLE)

    @property
    def gone(self) -> bool:
        """Whether its last device has left VFIO while it was open; it is in no container any more then."""
        try:
            self.status()
        except PyvfioError as error:
            return error.errno == errno.ENODEV
        return False

    def attach(self, container: Container) -> None:
        """The same as ``container.attach(group)``."""
        container.attach(self)

    def detach(self) -> None:
        """Leave the container, if it is in one."""
        if self.container is not None:
            self.container.detach(self)

    def set_container(self, container: Container) -> None:
        """The kernel's call alone (use `Container.attach`).  Raise the class for the errno with the cause."""
        try:
            argument = array("i", [container.fileno()])
            self._call("attach group to container", abi.VFIO_GROUP_SET_CONTAINER, argument)
        except PyvfioError as error:
            raise self._refused(error, container) from error
        self.container = container

    def unset_container(self) -> None:
        """The kernel's call alone (use `Container.detach`).  Raise `DeviceBusy` while a device is open."""
        self._call("take group out of container", abi.VFIO_GROUP_UNSET_CONTAINER)
        self.container = None

    def open_device(self, name: str, *, token: UUID | None = None) -> int:
        """A new descriptor of the member called `name`; it belongs to the caller.  `token` is its VF token.

        Raise the class for the errno: ENODEV when no VFIO driver has it, EINVAL before the container has an IOMMU;
        `PermissionDenied` when a VF token is needed or wrong, EINVAL when none is wanted.
        """
        words = name if token is None else f"{name} vf_token={token}"
        try:
            return self._call(f"open device {name}", abi.VFIO_GROUP_GET_DEVICE_FD, bytearray(words.encode() + b"\0"))
        except PyvfioError as error:
            physical = self._sysfs.link_name(f"/sys/bus/pci/devices/{name}/physfn")
            why = token_refused(error.errno, name, physical, given=token is not None)
            if error.errno == errno.EINVAL:  # iommufd in the container's place takes the group's DMA only now
                kept = causes.firmware_memory(self.number, self.iommu_group.firmware_memory)
                why = kept if kept.sentence else why
            if not why.sentence or (error.errno == errno.EINVAL and not self._has_iommu):
                raise
            error.cause, error.next_step = why.sentence, why.next_step
            raise

    @property
    def _has_iommu(self) -> bool:
        return self.container is not None and self.container.has_space

    def share(self) -> None:
        """From now on it belongs to the devices that `hold` it: the last one that leaves (`leave`) closes it."""
        self._devices = 0

    def hold(self) -> bool:
        """One more device holds it.  False, and nothing to be done, when it belongs to somebody else (no `share`)."""
        with self._counting:
            if self._devices is None:
                return False
            self._devices += 1
            return True

    def leave(self) -> None:
        """A device that held it is closed; with the last one the group is."""
        with self._counting:
            if self._devices is None:
                return
            self._devices -= 1
            last = self._devices == 0
        if last:
            self.close()

    def close(self) -> None:
        """Leave the container and close the descriptor; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd < 0:
            return
        try:
            if self.container is not None:
                self._fd = fd  # the container makes one more call
                try:
                    self.container.detach(self)
                finally:
                    self._fd = -1
        finally:
            self._call.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _refused(self, error: PyvfioError, container: Container) -> PyvfioError:
        # vfio_group_ioctl_set_container(): EINVAL for a second container; claiming DMA ownership is EBUSY while the
        # driver of another member does DMA, EINVAL for a device that needs its memory (iommu_group_claim_dma_owner).
        why = causes.Cause()
        if error.errno in (errno.EBUSY, errno.EPERM, errno.EINVAL):
            why = causes.not_viable(self.number, self.iommu_group.blockers())
            if not why.sentence and error.errno == errno.EINVAL:
                why = causes.firmware_memory(self.number, self.iommu_group.firmware_memory)
            if not why.sentence and error.errno == errno.EINVAL:
                why = causes.Cause("the group has a container already, or the container an IOMMU that cannot serve it")
            if container.has_space and not why.sentence:
                kind, groups = container.space.kind, len(container.groups)
                why = causes.tce_group(self.number, error.errno_name, kind, groups)
        return type(error)(
            error.operation, error.obj, path=error.path, errno=error.errno, cause=why.sentence, next_step=why.next_step
        )
