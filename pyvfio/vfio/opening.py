"""Opening a device, by the way this host has for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from pyvfio.address import Address
from pyvfio.arguments import require_host, require_kind, require_numbers
from pyvfio.call import Call
from pyvfio.devices import ChannelDevice, Subchannel
from pyvfio.errors import Misuse, NotAvailable, PermissionDenied, PyvfioError, WrongBus
from pyvfio.iommu.address_space import AddressSpace
from pyvfio.iommu.iommufd import IoasTable, Iommufd
from pyvfio.sysfs_device import SysfsDevice
from pyvfio.vfio.cdev import Cdev
from pyvfio.vfio.container import Container
from pyvfio.vfio.device import Device
from pyvfio.vfio.group import Group
from pyvfio.vfio.token import vf_token as parse_token
from pyvfio.vfio.ways import Obstacle, Way, ways

if TYPE_CHECKING:
    from pyvfio.host import Host

__all__ = ["WAYS", "open_device", "vfio_target"]

WAYS = ("auto", "iommufd", "group", "type1v2", "type1", "tcev2", "tce", "noiommu")

_GROUP_ONLY = ("type1v2", "type1", "tcev2", "tce")
"""Ways that insist on an IOMMU of the container, by its name (`AddressSpace.kind`)."""
_TRIED_ANYWAY = (None, Obstacle.NO_PERMISSION, Obstacle.NOT_VIABLE)
"""What was judged from outside and only the kernel knows for sure."""
_TRIED_AT_LAST = (*_TRIED_ANYWAY, Obstacle.NO_NODE, Obstacle.NO_CONTAINER)
"""The same for the group, where the kernel's answer says more than that a node was not found."""
_NOT_ALLOWED = (
    "it was not allowed: without an IOMMU the device can do anything to the host",
    "allow_no_iommu=True, if you mean it",
)
_UNSAFE = "UNSAFE: no IOMMU is in front of it: it can read and write all memory, and the kernel is tainted by its bind"


def open_device(
    host: Host,
    device: str | Address | SysfsDevice,
    *,
    way: str = "auto",
    space: AddressSpace | Container | None = None,
    fd: int | None = None,
    vf_token: UUID | str | None = None,
    allow_no_iommu: bool = False,
    let_go: bool = False,
) -> Device:
    """Open a device that a VFIO driver has; for a channel device, its mediated device.

    `way` is ``iommufd`` (the device's own node), ``group`` (group and container with type 1 version 2, else 1, and on
    POWER with the TCE IOMMU version 2, else 1; ``type1v2``, ``type1``, ``tcev2`` or ``tce`` insist on one),
    ``noiommu``, or ``auto``: the first of these that works, the last one only with `allow_no_iommu`, because such a
    device can do anything to the host.  `Device.way` says which was taken, `Device.why` why, and `Device.ways` why each
    of the others was not.

    `space` shares an address space, which outlives the device: a `Container` (way group) or an `AddressSpace` of
    iommufd, also that of another device; without it the device gets its own.  A `way` beside it must be its own.

    `fd` is a device's descriptor that somebody else opened and handed over (by inheritance or over a socket): of the
    device's node, not bound yet, which is then bound to `space` or to an address space of its own; or one that may be
    used already, whose address space its opener has, so that `Device.space` maps nothing.  It belongs to the device
    from then on, and is closed with it; after an error it is still the caller's.

    `vf_token` is the secret of a physical function whose virtual functions vfio-pci guards (`pyvfio.vfio.token`); with
    ``auto`` the group is taken then, which is the way that every kernel knows for it.  With `let_go` the device is
    closed when the kernel asks for it back, so that an unbind ends (`Device.on_request`, on a thread of its own).

    Raise `NoSuchDevice`, `NotAvailable` (no VFIO driver has it, or no way is open), `DeviceBusy` (who has it),
    `PermissionDenied` (owner and mode of the node, or a VF token that is missing or wrong), `Misuse` for a wrong `way`
    or a device that cannot be asked back, `BadAddress` for a token that is no UUID, or the class for the errno.
    """
    require_host("open_device", host)
    if space is not None:
        require_kind("open_device", "space", space, (AddressSpace, Container), "an AddressSpace or a Container")
    require_numbers("open_device", optional=True, fd=fd)
    if way not in WAYS:
        raise Misuse("open device", str(device), cause=f"way is one of {', '.join(WAYS)}, not {way!r}")
    token = None if vf_token is None else parse_token(vf_token)
    target = vfio_target(device if isinstance(device, SysfsDevice) else host.device(device))
    opening = _Opening(host, target, token)
    allowed = allow_no_iommu or way == "noiommu"
    if fd is not None:
        opened = _handed_over(opening, fd, way, space)
    elif space is not None:
        opened = _shared(opening, space, way, allow_no_iommu=allowed)
    else:
        opened = _own(opening, way, allow_no_iommu=allowed)
    if let_go:
        try:
            opened.on_request(Device.close)
        except BaseException:
            opening.lent = fd is not None
            opened.close()
            raise
    return opened


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


class _Opening:
    """A device to open: `found` are its ways, and what became of those that were tried."""

    def __init__(self, host: Host, device: SysfsDevice, token: UUID | None) -> None:
        self.host = host
        self.device = device
        self.token = token
        self.lent = False
        """Whether a descriptor that was handed over is the caller's again."""
        self.found = {way.name: way for way in ways(device)}

    def note(self, name: str, obstacle: Obstacle, reason: str, next_step: str = "") -> None:
        """Say why a way was not taken after all."""
        way = replace(self.found[name], obstacle=obstacle, reason=reason, next_step=next_step)
        self.found[name] = way

    def failed(self, name: str, error: PyvfioError) -> None:
        """A way was tried and refused."""
        kind = Obstacle.NO_PERMISSION if isinstance(error, PermissionDenied) else Obstacle.REFUSED
        self.note(name, kind, f"{error.path or error.operation}: {error.errno_name}", error.next_step)

    def done(self, name: str) -> tuple[Way, ...]:
        """All ways, those that were not needed marked so."""
        if name in self.found:
            self.found[name] = replace(self.found[name], obstacle=None)
        for other in list(self.found.values()):
            if other.name != name and other.obstacle is None:
                self.note(other.name, Obstacle.NOT_NEEDED, f"{name} was taken")
        return tuple(self.found.values())

    def unless_lent(self, close: Callable[[], None], leave: Callable[[], None] = lambda: None) -> Callable[[], None]:
        """What closes a descriptor that was handed over; `leave` is done instead when it is the caller's again."""
        return lambda: leave() if self.lent else close()

    def make(self, stack: ExitStack, fd: int, close_fd: Callable[[], None], space: AddressSpace, **how: str) -> Device:
        """The device; what is on `stack` is closed with it."""
        name = how["way"]
        return Device(
            self.host.backend,
            self.device.name,
            fd,
            close_fd=close_fd,
            space=space,
            way=name,
            why=how["why"],
            ways=self.done(name),
            resources=stack.pop_all(),
        )

    def by_iommufd(self, why: str, shared: AddressSpace | None = None, *, fd: int | None = None) -> Device:
        """By the device's own node."""
        with ExitStack() as stack:
            if shared is None:
                iommufd = stack.enter_context(Iommufd(self.host))
                space = stack.enter_context(iommufd.allocate())
            else:
                space = shared
                if not isinstance(space.table, IoasTable):
                    raise Misuse("open device", self.device.name, cause=f"the address space is {space.kind}")
                iommufd = space.table.iommufd
            cdev = Cdev(self.host, self.device, fd=fd)
            if fd is None:
                stack.callback(cdev.close)
            cdev.bind(iommufd, token=self.token)
            cdev.attach(space)
            close = cdev.close if fd is None else self.unless_lent(cdev.close, cdev.detach)
            if fd is not None:
                stack.callback(close)
            made = self.make(stack, cdev.fileno(), close, space, way="iommufd", why=why)
            made.cdev = cdev
            return made

    def by_group(self, why: str, shared: Container | None = None, *, kind: str | None = None) -> Device:
        """By its group, with or without an IOMMU."""
        device, group = self.device, self.device.group
        if group is None:
            raise NotAvailable("open device", device.name, cause="it has no IOMMU group", next_step="pyvfio doctor")
        host = self.host
        with ExitStack() as stack:
            container = stack.enter_context(Container(host)) if shared is None else shared
            joined = next((one for one in container.groups if one.number == group.number), None)
            opened = joined or Group(host, group.number)
            if joined is None:
                opened.share()
            if opened.hold():
                stack.callback(opened.leave)
            if joined is None:
                container.attach(opened)
            space = container.space if container.has_space else container.set_iommu_called(kind)
            if shared is None:
                stack.callback(space.close)
            fd = opened.open_device(device.name, token=self.token)
            close = Call(host.backend, fd, device.name).close
            name = "noiommu" if opened.without_iommu else "group"
            made = self.make(stack, fd, close, space, way=name, why=_UNSAFE if opened.without_iommu else why)
            made.group = opened
            return made


def _own(opening: _Opening, asked: str, *, allow_no_iommu: bool) -> Device:
    """Open with an address space of the device's own."""
    kind = asked if asked in _GROUP_ONLY else None
    name = "group" if kind else asked
    if name == "auto":
        return _first(opening, allow_no_iommu=allow_no_iommu)
    way = opening.found[name]
    if name == "iommufd":
        if way.obstacle in (Obstacle.NO_DRIVER, Obstacle.NO_DEVICE_NODES, Obstacle.NO_NODE):
            step = way.next_step or 'take way="group"'
            raise NotAvailable("open device", opening.device.name, path=way.node, cause=way.reason, next_step=step)
        return opening.by_iommufd("asked for")
    if way.obstacle is Obstacle.HAS_IOMMU:
        raise Misuse("open device without an IOMMU", opening.device.name, cause=way.reason, next_step='way="group"')
    if way.obstacle not in _TRIED_AT_LAST:
        raise NotAvailable("open device", opening.device.name, cause=way.reason, next_step=way.next_step)
    return opening.by_group("asked for", kind=kind)


def _first(opening: _Opening, *, allow_no_iommu: bool) -> Device:
    """The first way that works."""
    if not allow_no_iommu and opening.found["noiommu"].open:
        opening.note("noiommu", Obstacle.NOT_ALLOWED, *_NOT_ALLOWED)
    if opening.token is not None and opening.found["iommufd"].open:
        opening.note("iommufd", Obstacle.NOT_NEEDED, "a VF token is given by the group, which every kernel knows")
    refused: PyvfioError | None = None
    for way in list(opening.found.values()):
        if way.obstacle not in (_TRIED_AT_LAST if way.name == "group" else _TRIED_ANYWAY):
            continue
        try:
            if way.name == "iommufd":
                return opening.by_iommufd(f"{way.node} and /dev/iommu are there; groups are the older way")
            iommufd = opening.found["iommufd"]
            return opening.by_group(f"no iommufd: {iommufd.reason}" if not iommufd.open else "a group is there")
        except PermissionDenied as error:
            opening.failed(way.name, error)
            refused = error
    if refused is not None:
        raise refused
    found = opening.found.values()
    steps = [way.next_step for way in found if way.next_step]
    steps = [opening.found["noiommu"].next_step] if opening.found["noiommu"].obstacle is Obstacle.NOT_ALLOWED else steps
    reasons = dict.fromkeys(way.reason for way in found if way.obstacle is not Obstacle.NOT_ENABLED)
    raise NotAvailable(
        "open device",
        opening.device.name,
        cause="; ".join(reasons),
        next_step=steps[0] if steps else "pyvfio doctor",
    )


def _shared(opening: _Opening, space: AddressSpace | Container, way: str, *, allow_no_iommu: bool) -> Device:
    """Open with an address space of the caller's."""
    name = opening.device.name
    if isinstance(space, Container):
        return _in_container(opening, space, way, allow_no_iommu=allow_no_iommu)
    if not isinstance(space.table, IoasTable):
        cause = f"a {space.kind} address space is shared by its Container"
        raise WrongBus("open device", name, cause=cause)
    if way not in ("auto", "iommufd"):
        cause = f"the address space that was given is of iommufd, and way is {way!r}"
        raise Misuse("open device", name, cause=cause, next_step="leave one of them out")
    return opening.by_iommufd("the address space was given", space)


def _in_container(opening: _Opening, container: Container, way: str, *, allow_no_iommu: bool) -> Device:
    name, group, asked = opening.device.name, opening.device.group, way if way in _GROUP_ONLY else None
    unsafe = group is not None and group.without_iommu
    kind = container.space.kind if container.has_space else None
    if way == "iommufd" or (asked and kind not in (None, asked)) or (way == "noiommu" and not unsafe):
        cause = f"a container was given ({kind or 'no IOMMU is set'}), and way is {way!r}"
        raise Misuse("open device", name, cause=cause, next_step="leave one of them out")
    if unsafe and not allow_no_iommu:
        cause, step = _NOT_ALLOWED
        raise NotAvailable("open device", name, cause=cause, next_step=step)
    return opening.by_group("the container was given", container, kind=asked)


def _handed_over(opening: _Opening, fd: int, way: str, space: AddressSpace | Container | None) -> Device:
    """Use a descriptor that somebody else opened.

    One that may not be used yet is one of the device's node: any call but VFIO_DEVICE_BIND_IOMMUFD is EINVAL
    (``vfio_device_fops_unl_ioctl`` in ``drivers/vfio/vfio_main.c``).
    """
    from pyvfio.vfio.handed_over import SomebodyElses, is_usable

    name = opening.device.name
    if way not in ("auto", "iommufd") or isinstance(space, Container):
        raise Misuse("use a device's descriptor", name, cause="a descriptor is used as it is, or bound to iommufd")
    if not is_usable(opening.host.backend, fd, name):
        return opening.by_iommufd("a descriptor of its node was handed over", space, fd=fd)
    if space is not None:
        cause = "the device has an address space, which belongs to who opened it"
        raise Misuse("use a device's descriptor", name, cause=cause, next_step="leave space out")
    backend = opening.host.backend
    with ExitStack() as stack:
        own = AddressSpace(SomebodyElses(), backend)
        close = opening.unless_lent(Call(backend, fd, name).close)
        return opening.make(stack, fd, close, own, way="handed-over", why="its opener handed it over")
