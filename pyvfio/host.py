"""The way in: everything on one host, found through its backend.

>>> import pyvfio
>>> with pyvfio.Host("software", machine="z15-lpar") as host:  # doctest: +SKIP
...     for device in host.ccw_devices():
...         print(device, device.cutype, device.subchannel)
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pyvfio.address import Address, DeviceNumber, MdevUuid, PciAddress, SubchannelId, parse_address
from pyvfio.backend import Backend, Holder, open_backend
from pyvfio.devices import (
    BUSES,
    ChannelDevice,
    MediatedDevice,
    PciFunction,
    Subchannel,
    device_of,
    devices_on,
    find_subchannel,
)
from pyvfio.errors import BadAddress, NoSuchDevice, WrongBus, explained
from pyvfio.groups import IommuGroup
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice
from pyvfio.uevent import UeventStream

if TYPE_CHECKING:
    from pyvfio.mdev import MdevParent

__all__ = ["Host"]

_D = TypeVar("_D", bound=SysfsDevice)
_NEARBY = 4


class Host:
    """A host, by the name of an installed backend (with its options) or by a backend that is open already.

    A context manager: it closes the backend that it opened, and leaves one that was given to it alone.  Nothing is
    read before it is asked for.  Raise `Misuse` when no such backend is installed, `TypeError` for what is none.
    """

    def __init__(self, backend: str | Backend = "kernel", **options: Any) -> None:
        self._owned = isinstance(backend, str)
        if not self._owned and not hasattr(backend, "ioctl"):
            raise TypeError(f"Host: backend is the name of one, or a pyvfio.Backend, not {backend!r}")
        self.backend: Backend = open_backend(backend, **options) if isinstance(backend, str) else backend
        self.sysfs = Sysfs(self.backend)

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backend.name

    @property
    def page_size(self) -> int:
        """Bytes of a page of the host."""
        return self.backend.sysconf("SC_PAGE_SIZE")

    @property
    def memlock(self) -> int:
        """The limit of locked memory in bytes, -1 for none."""
        return self.backend.sysconf("RLIMIT_MEMLOCK")

    def buses(self) -> list[str]:
        """The names of the host's buses."""
        return self.sysfs.names("/sys/bus")

    # devices by bus

    def functions(self) -> list[PciFunction]:
        """The PCI functions, by address."""
        return [device for device in self.devices("pci") if isinstance(device, PciFunction)]

    def subchannels(self) -> list[Subchannel]:
        """The subchannels, by address."""
        return [device for device in self.devices("css") if isinstance(device, Subchannel)]

    def ccw_devices(self) -> list[ChannelDevice]:
        """The registered channel-attached devices, by address (without those that vfio_ccw has)."""
        return [device for device in self.devices("ccw") if isinstance(device, ChannelDevice)]

    def mdevs(self) -> list[MediatedDevice]:
        """The mediated devices, by UUID."""
        return [device for device in self.devices("mdev") if isinstance(device, MediatedDevice)]

    def devices(self, bus: str) -> list[SysfsDevice]:
        """The devices on bus ``pci``, ``css``, ``ccw`` or ``mdev``.  Raise `WrongBus` for any other name."""
        if bus not in BUSES:
            raise WrongBus(
                "list devices",
                bus,
                cause="no such bus is known here",
                next_step=f"one of: {', '.join(BUSES)}",
            )
        return list(devices_on(self.sysfs, bus))

    def mdev_parents(self) -> list[MdevParent]:
        """The devices which mediated devices can be made from, in the order of their names."""
        from pyvfio.mdev import mdev_parents

        return mdev_parents(self.sysfs)

    def groups(self) -> list[IommuGroup]:
        """The IOMMU groups, by number."""
        names = self.sysfs.names("/sys/kernel/iommu_groups")
        return [IommuGroup(self.sysfs, number) for number in sorted(int(name) for name in names if name.isdecimal())]

    # one of them

    def device(self, address: str | Address | SysfsDevice, *, bus: str | None = None) -> SysfsDevice:
        """The device called `address`, on `bus` if that is given.

        A text is an address or any other name that people have for a device: an interface, a disk, a node, a path in
        sysfs (`pyvfio.lookup` lists them).  ``0.0.013f`` names a channel device; a subchannel is asked for by a
        `SubchannelId` or with ``bus="css"``.  A channel device is found by its subchannel while vfio_ccw has it.  Raise
        `BadAddress`, `NoSuchDevice` (which names what exists nearby) or `WrongBus`.
        """
        if isinstance(address, SysfsDevice):
            address = address.address
        if isinstance(address, str):
            address = self._parse(address, bus)
        elif not isinstance(address, Address):
            raise BadAddress(
                str(address), f"a device is named by text or by an address, not by {type(address).__name__}"
            )
        if bus is not None and bus != address.subsystem:
            raise WrongBus(
                f"find device on bus {bus}",
                str(address),
                cause=f"it is an address of bus {address.subsystem}",
                next_step=_FORMS.get(bus, f"one of: {', '.join(BUSES)}"),
            )
        device = device_of(self.sysfs, address)
        if device.exists or (isinstance(address, DeviceNumber) and find_subchannel(self.sysfs, address)):
            return device
        raise self._missing(device)

    def function(self, address: str | PciAddress | PciFunction) -> PciFunction:
        """The PCI function at `address`.  Errors as `device`."""
        return self._of(PciFunction, address)

    def subchannel(self, address: str | SubchannelId | Subchannel) -> Subchannel:
        """The subchannel at `address`.  Errors as `device`."""
        return self._of(Subchannel, address)

    def ccw_device(self, address: str | DeviceNumber | ChannelDevice) -> ChannelDevice:
        """The channel device called `address`, registered or with vfio_ccw.  Errors as `device`."""
        return self._of(ChannelDevice, address)

    def mdev(self, uuid: str | MdevUuid | MediatedDevice) -> MediatedDevice:
        """The mediated device called `uuid`.  Errors as `device`."""
        return self._of(MediatedDevice, uuid)

    def _of(self, kind: type[_D], address: str | Address | SysfsDevice) -> _D:
        found = self.device(address, bus=kind.bus)
        if not isinstance(found, kind):
            raise WrongBus("find device", found.name, cause=f"it is on bus {found.bus}")
        return found

    def group(self, number: int) -> IommuGroup:
        """IOMMU group `number`.  Raise `NoSuchDevice`."""
        group = IommuGroup(self.sysfs, number)
        if not group.exists:
            raise NoSuchDevice(
                "find IOMMU group",
                str(number),
                path=group.path,
                cause=f"the groups are: {', '.join(map(str, self.groups())) or 'none (no IOMMU is in use)'}",
                next_step="pyvfio list shows which device is in which group; pyvfio doctor says why there are none",
            )
        return group

    # the rest of the seam

    def uevents(self, subsystems: Sequence[str] = ()) -> UeventStream:
        """The kernel's uevents from now on; a context manager."""
        with explained("listen for uevents"):
            return self.backend.uevents(subsystems)

    def holders(self, node: str) -> list[Holder]:
        """The processes that have `node` open, as far as this user may see."""
        return self.sysfs.holders(node)

    def close(self) -> None:
        """Close the backend if this object opened it; a second call does nothing."""
        if self._owned:
            self._owned = False
            self.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Host {self.name}>"

    # errors

    def _parse(self, text: str, bus: str | None) -> Address:
        # An address whose form leaves no doubt needs no look at the host, and not the module for all other names.
        try:
            address = parse_address(text)
        except BadAddress:
            address = None
        if address is None or (isinstance(address, DeviceNumber) and "." not in text):
            from pyvfio.lookup import find_address

            return find_address(self.sysfs, text, bus)
        if bus == "css" and isinstance(address, DeviceNumber):
            return SubchannelId(address.cssid, address.ssid, address.number)
        return address

    def _missing(self, device: SysfsDevice) -> NoSuchDevice:
        name, bus = device.name, device.bus
        if not self.sysfs.exists(f"/sys/bus/{bus}"):
            cause = f"this host has no bus {bus}"
        else:
            names = [str(other) for other in devices_on(self.sysfs, bus)]
            at = bisect.bisect(names, name)
            near = names[max(0, at - _NEARBY // 2) : at + _NEARBY // 2]
            cause = f"bus {bus} has no such device; nearby: {', '.join(near)}" if near else f"bus {bus} has no devices"
            cause += self._other_reading(device)
        return NoSuchDevice(
            "find device", name, path=device.link_path, cause=cause, next_step="pyvfio list shows what there is"
        )

    def _other_reading(self, device: SysfsDevice) -> str:
        address = device.address
        if isinstance(address, DeviceNumber):
            other = Subchannel(self.sysfs, SubchannelId(address.cssid, address.ssid, address.number))
            if other.exists:
                number = other.device_number
                return f"; {other} is a subchannel" + (f", its device is {number}" if number else " without a device")
        if isinstance(address, SubchannelId):
            found = find_subchannel(self.sysfs, DeviceNumber(address.cssid, address.ssid, address.number))
            if found is not None:
                return f"; {device} is the number of the device at subchannel {found}"
        return ""


_FORMS = {
    "pci": "a PCI function is written as 0011:00:00.0",
    "css": "a subchannel is written as 0.0.0005",
    "ccw": "a channel device is written as 0.0.013f",
    "mdev": "a mediated device is named by its UUID",
}
