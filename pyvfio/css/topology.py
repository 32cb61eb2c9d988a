"""The channel subsystem as a tree: image, channel paths, subchannels, the devices at them, and mediated devices.

A subchannel has up to eight channel paths, and many subchannels have the same ones; so paths stand in the tree as sets,
each subchannel below the set of those that are installed at it (PIM)::

    css0
      paths 42 43 44 45
        subchannel 0.0.0000
          device 0.0.013f
      no channel path
        subchannel 0.0.0021 (a chsc subchannel)

Sources: ``drivers/s390/cio/css.c`` (``chpids``, ``pimpampom``, ``dev_busid``), ``drivers/s390/cio/chp.c``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pyvfio.address import MdevUuid
from pyvfio.devices import Subchannel, devices_on
from pyvfio.errors import BadAddress
from pyvfio.sysfs import Sysfs

__all__ = [
    "ChannelPath",
    "CssImage",
    "DeviceNode",
    "MdevNode",
    "PathSet",
    "SubchannelNode",
    "channel_branches",
    "channel_topology",
]

_PATHS = 8
_VFIO_CCW = "vfio_ccw"


@dataclass(frozen=True, slots=True)
class ChannelPath:
    """A channel path: `chpid` (8 bits), its `type` (8 bits, hexadecimal in sysfs) and state, None where not known."""

    chpid: int
    type: int | None
    online: bool | None


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """The channel device at a subchannel.  While vfio_ccw has the subchannel it is not `registered`, and only named."""

    name: str
    registered: bool
    devtype: str
    cutype: str
    driver: str | None
    online: bool


@dataclass(frozen=True, slots=True)
class MdevNode:
    """A mediated device: its UUID, type, driver and IOMMU group."""

    name: str
    type: str
    driver: str | None
    group: int | None


@dataclass(frozen=True, slots=True)
class SubchannelNode:
    """A subchannel; `type` is 0 for I/O, 1 chsc, 2 message, 3 adm, and `chpids` are those of its installed paths."""

    name: str
    type: int
    driver: str | None
    chpids: tuple[int, ...]
    device: DeviceNode | None
    mdevs: tuple[MdevNode, ...]


@dataclass(slots=True)
class PathSet:
    """Channel paths (none: no path) and the subchannels at which just these are installed."""

    paths: tuple[ChannelPath, ...]
    subchannels: list[SubchannelNode] = field(default_factory=list)


@dataclass(slots=True)
class CssImage:
    """A channel-subsystem image (``css0``), its subchannels in the order of their addresses by path set."""

    name: str
    sets: list[PathSet] = field(default_factory=list)


def channel_topology(sysfs: Sysfs) -> list[CssImage]:
    """All subchannels of the host.  Its cost grows with the host."""
    return channel_branches(sysfs, (device for device in devices_on(sysfs, "css") if isinstance(device, Subchannel)))


def channel_branches(sysfs: Sysfs, subchannels: Iterable[Subchannel]) -> list[CssImage]:
    """The tree of these subchannels; nothing else of the host is read.  One that is gone is left out."""
    images: dict[str, dict[tuple[int, ...], PathSet]] = {}
    for subchannel in subchannels:
        node = _subchannel(sysfs, subchannel)
        if node is None:
            continue
        name = f"css{subchannel.address.cssid:x}"
        sets = images.setdefault(name, {})
        if node.chpids not in sets:
            sets[node.chpids] = PathSet(tuple(_path(sysfs, name, chpid) for chpid in node.chpids))
        sets[node.chpids].subchannels.append(node)
    return [CssImage(name, list(sets.values())) for name, sets in images.items()]


def _path(sysfs: Sysfs, image: str, chpid: int) -> ChannelPath:
    directory = f"/sys/devices/{image}/chp{image.removeprefix('css')}.{chpid:02x}"
    kind, status = sysfs.attribute(f"{directory}/type"), sysfs.attribute(f"{directory}/status")
    return ChannelPath(chpid, _hexadecimal(kind), None if status is None else status == "online")


def _subchannel(sysfs: Sysfs, subchannel: Subchannel) -> SubchannelNode | None:
    base = subchannel.link_path
    kind = subchannel.attribute("type")
    if kind is None:
        return None
    installed, chpids = subchannel.pim, subchannel.chpids
    used = tuple(chpid for place, chpid in enumerate(chpids) if installed & (1 << _PATHS - 1) >> place)
    driver = subchannel.driver
    return SubchannelNode(
        subchannel.name,
        int(kind),
        driver,
        used,
        _device(sysfs, base, subchannel),
        tuple(_mdev(sysfs, base, name) for name in sysfs.names(base) if _is_uuid(name)) if driver == _VFIO_CCW else (),
    )


def _device(sysfs: Sysfs, base: str, subchannel: Subchannel) -> DeviceNode | None:
    number = subchannel.device_number
    if number is None:
        return None
    path = f"{base}/{number}"
    cutype = sysfs.attribute(f"{path}/cutype")
    if cutype is None:
        return DeviceNode(str(number), False, "", "", None, False)
    devtype = sysfs.attribute(f"{path}/devtype") or ""
    driver = sysfs.link_name(f"{path}/driver")
    return DeviceNode(str(number), True, devtype, cutype, driver, sysfs.attribute(f"{path}/online") == "1")


def _mdev(sysfs: Sysfs, base: str, name: str) -> MdevNode:
    group = sysfs.link_name(f"{base}/{name}/iommu_group")
    return MdevNode(
        name,
        sysfs.link_name(f"{base}/{name}/mdev_type") or "",
        sysfs.link_name(f"{base}/{name}/driver"),
        int(group) if group is not None and group.isdecimal() else None,
    )


def _is_uuid(name: str) -> bool:
    try:
        MdevUuid.parse(name)
    except BadAddress:
        return False
    return True


def _hexadecimal(text: str | None) -> int | None:
    try:
        return None if text is None else int(text, 16)
    except ValueError:
        return None
