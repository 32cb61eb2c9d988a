"""Opening a device, by the way this host has for it."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING
from uuid import UUID

from pyvfio.address import Address
from pyvfio.call import Call
from pyvfio.devices import ChannelDevice, Subchannel
from pyvfio.errors import Misuse, NotAvailable, PermissionDenied, WrongBus
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.iommu.iommufd import IoasTable, Iommufd
from pyvfio.sysfs_device import SysfsDevice
from pyvfio.vfio.cdev import Cdev, cdev_node
from pyvfio.vfio.container import Container
from pyvfio.vfio.device import Device
from pyvfio.vfio.group import Group
from pyvfio.vfio.token import vf_token as parse_token

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["WAYS", "open_device", "vfio_target"]

WAYS = ("auto", "group", "iommufd")


def open_device(
    host: Host,
    device: str | Address | SysfsDevice,
    *,
    way: str = "auto",
    space: AddressSpace | Container | None = None,
    vf_token: UUID | str | None = None,
    let_go: bool = False,
) -> Device:
    """Open a device that a VFIO driver has; for a channel device, its mediated device.

    `way` is ``iommufd`` (the device's own node), ``group`` (group and container, which every kernel with VFIO has), or
    ``auto``: iommufd when the device has its node and ``/dev/iommu`` is there, else group.  With ``auto``, when the
    iommufd way cannot be opened for lack of permission the group is tried.  `space` shares an address space: a
    `Container` (way group) or the `AddressSpace` of another device; without it the device gets its own.

    `vf_token` is the secret of a physical function whose virtual functions vfio-pci guards (`pyvfio.vfio.token`); with
    ``auto`` the group is taken then, which is the way that every kernel knows for it.  With `let_go` the device is
    closed when the kernel asks for it back, so that an unbind ends (`Device.on_request`, on a thread of its own).

    Raise `NoSuchDevice`, `NotAvailable` (no VFIO driver has it), `DeviceBusy` (who has it), `PermissionDenied` (owner
    and mode of the node, or a VF token that is missing or wrong), `Misuse` for a wrong `way` or a device that cannot be
    asked back, `BadAddress` for a token that is no UUID, or the class for the errno.
    """
    opened = _open(host, device, way, space, None if vf_token is None else parse_token(vf_token))
    if let_go:
        try:
            opened.on_request(Device.close)
        except BaseException:
            opened.close()
            raise
    return opened


def _open(
    host: Host,
    device: str | Address | SysfsDevice,
    way: str,
    space: AddressSpace | Container | None,
    token: UUID | None,
) -> Device:
    if way not in WAYS:
        raise Misuse("open device", str(device), cause=f"way is one of {', '.join(WAYS)}, not {way!r}")
    target = vfio_target(host.device(device) if not isinstance(device, SysfsDevice) else device)
    node, no_node = cdev_node(target)
    if space is not None:
        return _shared(host, target, space, token)
    if way == "auto" and token is not None:
        return _by_group(host, target, None, "a VF token is given by the group", token)
    if way == "iommufd" or (way == "auto" and node):
        why = "asked for" if way == "iommufd" else f"{node} and /dev/iommu are there; groups are the older way"
        try:
            return _by_iommufd(host, target, None, why, token)
        except PermissionDenied as error:
            if way == "iommufd":
                raise
            no_node = f"{error.path}: {error.errno_name}"
    return _by_group(host, target, None, "asked for" if way == "group" else f"no iommufd: {no_node}", token)


def vfio_target(device: SysfsDevice) -> SysfsDevice:
    """The device which has a VFIO node: for a channel device or a subchannel, the mediated device.

    Raise `NotAvailable` when there is none.
    """
    if isinstance(device, ChannelDevice):
        if device.exists:
            raise NotAvailable(
                "open device",
                device.name,
                cause=f"driver {device.driver or 'none'} has it, and io_subchannel its subchannel",
                next_step=f"pyvfio ccw take {device}",
            )
        device = device.subchannel
    if isinstance(device, Subchannel):
        mdevs = device.mdevs
        if not mdevs:
            raise NotAvailable(
                "open device",
                device.name,
                cause="the subchannel has no mediated device",
                next_step=f"pyvfio ccw take {device.device_number or device}",
            )
        return mdevs[0]
    return device


def _shared(host: Host, device: SysfsDevice, space: AddressSpace | Container, token: UUID | None) -> Device:
    if isinstance(space, Container):
        return _by_group(host, device, space, "the container was given", token)
    if isinstance(space.table, IoasTable):
        return _by_iommufd(host, device, space, "the address space was given", token)
    raise WrongBus("open device", device.name, cause=f"a {space.kind} address space is shared by its Container")


def _by_iommufd(host: Host, device: SysfsDevice, shared: AddressSpace | None, why: str, token: UUID | None) -> Device:
    with ExitStack() as stack:
        if shared is None:
            iommufd = stack.enter_context(Iommufd(host))
            space = stack.enter_context(iommufd.allocate())
        else:
            space = shared
            if not isinstance(space.table, IoasTable):
                raise Misuse("open device", device.name, cause=f"the address space is {space.kind}, not iommufd")
            iommufd = space.table.iommufd
        cdev = Cdev(host, device)
        stack.callback(cdev.close)
        cdev.bind(iommufd, token=token)
        cdev.attach(space)
        return Device(
            host.backend,
            device.name,
            cdev.fileno(),
            close_fd=cdev.close,
            space=space,
            way="iommufd",
            why=why,
            resources=stack.pop_all(),
        )


def _by_group(host: Host, device: SysfsDevice, shared: Container | None, why: str, token: UUID | None) -> Device:
    group = device.group
    if group is None:
        raise NotAvailable(
            "open device",
            device.name,
            cause=f"it has no IOMMU group (driver: {device.driver or 'none'})",
            next_step="bind it to a VFIO driver; a host without an IOMMU cannot give devices away",
        )
    with ExitStack() as stack:
        container = stack.enter_context(Container(host)) if shared is None else shared
        joined = next((one for one in container.groups if one.number == group.number), None)
        opened = joined or stack.enter_context(Group(host, group.number))
        if joined is None:
            container.attach(opened)
        space = container.space if container.has_space else container.set_iommu()
        if shared is None:
            stack.callback(space.close)
        fd = opened.open_device(device.name, token=token)
        return Device(
            host.backend,
            device.name,
            fd,
            close_fd=Call(host.backend, fd, device.name).close,
            space=space,
            way="group",
            why=why,
            resources=stack.pop_all(),
        )
