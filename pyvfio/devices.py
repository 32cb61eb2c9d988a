"""Devices as sysfs shows them, one type per bus.

==================  =====  ============================================================
type                bus    what
==================  =====  ============================================================
`PciFunction`       pci    a PCI function; on s390 with its uid, fid and function handle
`Subchannel`        css    a subchannel, which is what vfio_ccw takes
`ChannelDevice`     ccw    the channel-attached device behind an I/O subchannel
`MediatedDevice`    mdev   a mediated device, the child of its parent
`OtherParent`       any    a parent of mediated devices on a bus with no type here
==================  =====  ============================================================

All facts are read when they are asked for.  Sources: ``Documentation/ABI/testing/sysfs-bus-pci``, ``-css`` and
``-vfio-mdev``; ``drivers/s390/cio/css.c``, ``drivers/s390/cio/device.c``, ``arch/s390/pci/pci_sysfs.c``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.address import Address, DeviceNumber, MdevUuid, ParentName, PciAddress, SubchannelId
from pyvfio.errors import BadAddress, NoSuchDevice
from pyvfio.refusal import refusal
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

if TYPE_CHECKING:
    from pyvfio.mdev import MdevType
    from pyvfio.pci.config import ConfigSpace

__all__ = [
    "BUSES",
    "ChannelDevice",
    "MediatedDevice",
    "OtherParent",
    "PciFunction",
    "Subchannel",
    "device_at",
    "device_named",
    "device_of",
    "devices_on",
    "find_subchannel",
    "link_path",
    "parent_at",
]

_NO_DEVICE_NUMBER = "none"


class PciFunction(SysfsDevice):
    """A PCI function.  The s390 numbers are None on a host whose sysfs does not have them."""

    bus = "pci"
    address: PciAddress

    @property
    def vendor_id(self) -> int:
        """Vendor (16 bits)."""
        return self.read_number("vendor") or 0

    @property
    def device_id(self) -> int:
        """Device (16 bits)."""
        return self.read_number("device") or 0

    @property
    def subsystem_vendor(self) -> int:
        """Vendor of the subsystem (16 bits)."""
        return self.read_number("subsystem_vendor") or 0

    @property
    def subsystem_device(self) -> int:
        """Device of the subsystem (16 bits)."""
        return self.read_number("subsystem_device") or 0

    @property
    def class_code(self) -> int:
        """Class, subclass and programming interface (24 bits)."""
        return self.read_number("class") or 0

    @property
    def revision(self) -> int:
        """Revision (8 bits)."""
        return self.read_number("revision") or 0

    @property
    def uid(self) -> int | None:
        """s390: the user-defined identifier; the stable one, and the PCI domain where `uid_is_unique`."""
        return self.read_number("uid")

    @property
    def uid_is_unique(self) -> bool | None:
        """s390: whether the machine checks UIDs for uniqueness.  Without it UID and domain are not stable names."""
        number = self.read_number("uid_is_unique")
        return None if number is None else bool(number)

    @property
    def fid(self) -> int | None:
        """s390: the function identifier."""
        return self.read_number("function_id")

    @property
    def fh(self) -> int | None:
        """s390: the function handle of this moment; it changes whenever the function is enabled or disabled."""
        return self.read_number("function_handle")

    @property
    def pchid(self) -> int | None:
        """s390: physical channel identifier."""
        return self.read_number("pchid")

    @property
    def pfgid(self) -> int | None:
        """s390: PCI function group identifier."""
        return self.read_number("pfgid")

    @property
    def pft(self) -> int | None:
        """s390: PCI function type."""
        return self.read_number("pft")

    @property
    def vfn(self) -> int | None:
        """s390: virtual function number."""
        return self.read_number("vfn")

    @property
    def port(self) -> int | None:
        """s390: port number."""
        return self.read_number("port")

    @property
    def config(self) -> ConfigSpace:
        """Configuration space through the sysfs file ``config``, as much of it as this user may read."""
        from pyvfio.pci.config import ConfigSpace

        path = f"{self.path}/config"
        try:
            size = self.sysfs.backend.stat(path).st_size
        except OSError as error:
            raise refusal(self.sysfs.backend, error, "read configuration space", path=path) from error
        return ConfigSpace(partial(self.sysfs.read_at, path), self.name, size=size)


class Subchannel(SysfsDevice):
    """A subchannel.  `number` and the rest of the address are in `address`."""

    bus = "css"
    address: SubchannelId

    @property
    def type(self) -> int:
        """0 I/O, 1 chsc, 2 message, 3 adm."""
        return self.read_number("type") or 0

    @property
    def chpids(self) -> tuple[int, ...]:
        """The eight channel-path identifiers."""
        return tuple(int(part, 16) for part in (self.attribute("chpids") or "").split())

    @property
    def masks(self) -> tuple[int, int, int]:
        """Path installed, available and operational masks: pim, pam, pom."""
        parts = [int(part, 16) for part in (self.attribute("pimpampom") or "").split()]
        return (parts[0], parts[1], parts[2]) if len(parts) == 3 else (0, 0, 0)

    @property
    def pim(self) -> int:
        """Path-installed mask (8 bits, the leftmost is path 0)."""
        return self.masks[0]

    @property
    def pam(self) -> int:
        """Path-available mask."""
        return self.masks[1]

    @property
    def pom(self) -> int:
        """Path-operational mask."""
        return self.masks[2]

    @property
    def device_number(self) -> DeviceNumber | None:
        """The number of the device at this subchannel, also while vfio_ccw has it; None when there is none."""
        text = self.attribute("dev_busid")
        return None if text in (None, "", _NO_DEVICE_NUMBER) else DeviceNumber.parse(text)

    @property
    def ccw_device(self) -> ChannelDevice | None:
        """The device below it, while io_subchannel has the subchannel."""
        number = self.device_number
        if number is None:
            return None
        device = ChannelDevice(self.sysfs, number)
        return device if device.exists else None

    @property
    def mdevs(self) -> list[MediatedDevice]:
        """Its mediated devices (vfio_ccw: at most one)."""
        return [MediatedDevice(self.sysfs, uuid) for name in self.sysfs.names(self.link_path) if (uuid := _uuid(name))]


class ChannelDevice(SysfsDevice):
    """A channel-attached device.  It does not `exists` while vfio_ccw has its subchannel."""

    bus = "ccw"
    address: DeviceNumber

    @property
    def subchannel(self) -> Subchannel:
        """The subchannel of this device, registered or not.  Raise `NoSuchDevice` when no subchannel has it."""
        path = self.sysfs.link(self.link_path)
        if path is not None:
            return Subchannel(self.sysfs, SubchannelId.parse(posixpath.basename(posixpath.dirname(path))))
        found = find_subchannel(self.sysfs, self.address)
        if found is None:
            raise NoSuchDevice("find subchannel", self.name, cause="no subchannel has this device number")
        return found

    @property
    def online(self) -> bool:
        """Whether the device is online; False while it is not registered."""
        return self.attribute("online") == "1"

    def set_online(self, online: bool) -> None:
        """Set the device online or offline.  Raise the class for the kernel's errno."""
        self.write("online", "1" if online else "0")

    @property
    def cutype(self) -> str:
        """Control-unit type and model (``3990/e9``); empty while the device is not registered."""
        return self.attribute("cutype") or ""

    @property
    def devtype(self) -> str:
        """Device type and model (``3390/0c``, ``n/a`` without one)."""
        return self.attribute("devtype") or ""

    @property
    def availability(self) -> str:
        """``good``, ``boxed``, ``no path`` or ``no device``."""
        return self.attribute("availability") or ""


class MediatedDevice(SysfsDevice):
    """A mediated device."""

    bus = "mdev"
    address: MdevUuid

    @property
    def parent(self) -> SysfsDevice:
        """The device that it is a share of."""
        return parent_at(self.sysfs, posixpath.dirname(self.path))

    @property
    def type(self) -> MdevType:
        """The type it was made from."""
        from pyvfio.mdev import MdevType

        return MdevType(self.sysfs, self.parent, self.sysfs.link_name(f"{self.link_path}/mdev_type") or "")

    def remove(self, *, deadline: float | None = 30.0) -> None:
        """Remove it.  Raise `Timeout` with the holders' names when a program has it open for `deadline` seconds."""
        group = self.group
        held = "" if group is None else group.node
        self.sysfs.write_text(f"{self.path}/remove", "1", deadline=deadline, held=held)


class OtherParent(SysfsDevice):
    """A parent of mediated devices that is on another bus, or on none: vfio_ap's ``matrix``, a sample's ``mtty``."""

    bus = "mdev_bus"
    address: ParentName

    @property
    def link_path(self) -> str:
        """The link in the class of parents."""
        return link_path(self.bus, self.name)


BUSES = ("pci", "css", "ccw", "mdev")
"""The buses that this library knows."""

_TYPES: dict[str, tuple[type[SysfsDevice], type[Address]]] = {
    "pci": (PciFunction, PciAddress),
    "css": (Subchannel, SubchannelId),
    "ccw": (ChannelDevice, DeviceNumber),
    "mdev": (MediatedDevice, MdevUuid),
    "mdev_bus": (OtherParent, ParentName),
}


def device_of(sysfs: Sysfs, address: Address) -> SysfsDevice:
    """The device called `address` on its bus, registered or not."""
    return _TYPES[address.subsystem][0](sysfs, address)


def device_named(sysfs: Sysfs, bus: str, name: str) -> SysfsDevice:
    """The device called `name` on a bus that this library knows, registered or not.  Raise `BadAddress`."""
    kind, address = _TYPES[bus]
    return kind(sysfs, address.parse(name))


def link_path(bus: str, name: str) -> str:
    """Where sysfs lists the device called `name` of a bus; ``mdev_bus`` is the class of `OtherParent`."""
    return f"/sys/class/{bus}/{name}" if bus == OtherParent.bus else f"/sys/bus/{bus}/devices/{name}"


def device_at(sysfs: Sysfs, path: str) -> SysfsDevice:
    """The device whose directory is `path`, by its ``subsystem`` link.  Raise `NoSuchDevice` for anything else."""
    bus = sysfs.link_name(f"{path}/subsystem")
    if bus not in BUSES:
        raise NoSuchDevice("find device", posixpath.basename(path), path=path, cause=f"it is on bus {bus}")
    kind, address = _TYPES[bus]
    return kind(sysfs, address.parse(posixpath.basename(path)))


def parent_at(sysfs: Sysfs, path: str) -> SysfsDevice:
    """The parent of mediated devices whose directory is `path`, whatever bus it is on."""
    if sysfs.link_name(f"{path}/subsystem") in BUSES:
        return device_at(sysfs, path)
    return OtherParent(sysfs, ParentName(posixpath.basename(path)))


def devices_on(sysfs: Sysfs, bus: str) -> Iterator[SysfsDevice]:
    """The devices of a bus this library knows, in the order of their addresses."""
    kind, parser = _TYPES[bus]
    addresses: list[Address] = []
    for name in sysfs.names(f"/sys/bus/{bus}/devices"):
        try:
            addresses.append(parser.parse(name))
        except BadAddress:
            continue  # a device of another form: a chsc subchannel's child, a vendor's own name
    for address in sorted(addresses):
        yield kind(sysfs, address)


def find_subchannel(sysfs: Sysfs, number: DeviceNumber) -> Subchannel | None:
    """The subchannel whose device has `number`; those that vfio_ccw has are looked at first."""
    taken = sysfs.names("/sys/bus/css/drivers/vfio_ccw")
    for name in (*taken, *sysfs.names("/sys/bus/css/devices")):
        if not name[0].isalnum() or "." not in name:
            continue
        if sysfs.attribute(f"/sys/bus/css/devices/{name}/dev_busid") == str(number):
            return Subchannel(sysfs, SubchannelId.parse(name))
    return None


def _uuid(name: str) -> MdevUuid | None:
    try:
        return MdevUuid.parse(name)
    except BadAddress:
        return None
