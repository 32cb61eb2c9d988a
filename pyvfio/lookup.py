"""The names that people have for a device, each of which leads to the same address.

=========================================  ==========================================================================
``3b:00.0``, ``0011:00:00.0``              a PCI function; without a domain it is domain 0
``013f``, ``0x013f``, ``0.0.013f``         a channel device (with bus ``css``: a subchannel)
a UUID, in any case                        a mediated device
``pci/0011:00:00.0``, ``css/0.0.0005``     the bus said in front, as ``devlink`` does
``pci_0011_00_00_0``, ``css_0_0_0005``     libvirt's names of node devices
``/sys/...``                               anything below the directory of a device, or a link to it
``/dev/nvme0n1p1``, ``/dev/disk/by-id/x``  the device behind a node, by the node's number
``/dev/vfio/12``                           the members of a group, without its bridges
``eth0``, ``nvme0``, ``dasda``, ``vfio0``  a name in ``/sys/class``
=========================================  ==========================================================================

A name of something virtual (a bond, a bridge, device-mapper, a loop device) is refused with what it stands on: which
of those is meant, only the caller knows.

Sources: ``net/core/dev.c`` (the ``lower_`` links), ``block/holder.c`` (``slaves``), ``drivers/s390/cio/ccwgroup.c``
(the ``cdev`` links), ``drivers/nvme/host/core.c`` (the links of a subsystem), libvirt's ``node_device_driver.c``.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterator

from pyvfio.address import Address, DeviceNumber, MdevUuid, PciAddress, SubchannelId, parse_address
from pyvfio.devices import BUSES, ChannelDevice, device_at
from pyvfio.errors import BadAddress, NoSuchDevice, PyvfioError, from_oserror
from pyvfio.groups import IommuGroup
from pyvfio.sysfs import Sysfs

__all__ = ["addresses_of", "find_address", "group_members"]

_PREFIXED = re.compile(r"(pci|css|ccw|mdev)/([^/]+)\Z")
_LIBVIRT = re.compile(r"(pci|css|ccw|mdev)((?:_[0-9a-fA-F]+)+)(?:_.*)?\Z")
_LIBVIRT_PCI = re.compile(r"_([0-9a-fA-F]+)_([0-9a-fA-F]+)_([0-9a-fA-F]+)_([0-7])\Z")
_VFIO_NODE = re.compile(r"/dev/vfio/devices/(vfio\d+)\Z")
_GROUP_NODE = re.compile(r"/dev/vfio/(?:noiommu-)?(\d+)\Z")
_WORD = re.compile(r"[A-Za-z][\w.!@-]*\Z")
_NVME = re.compile(r"nvme\d+\Z")
_LONGEST = 1024
_LINKS = 40  # as many links as Linux follows in one look-up (MAXSYMLINKS)
_CLASSES = ("net", "block", "nvme", "vfio-dev")
_GROUPS = "pyvfio list --sort group shows the groups with their members"
_BRIDGES = ("pcieport",)
_PARSERS: dict[str, type[Address]] = {
    "pci": PciAddress,
    "css": SubchannelId,
    "ccw": DeviceNumber,
    "mdev": MdevUuid,
}


def find_address(sysfs: Sysfs, text: str, bus: str | None = None) -> Address:
    """The one address that `text` names.  Raise as `addresses_of`, and `NoSuchDevice` when it names several."""
    found = addresses_of(sysfs, text, bus)
    if len(found) == 1:
        return found[0]
    raise NoSuchDevice(
        "find device",
        text,
        cause=f"it stands for {len(found)} devices: {', '.join(map(str, found))}",
        next_step="name one of them",
    )


def addresses_of(sysfs: Sysfs, text: str, bus: str | None = None) -> list[Address]:
    """The addresses that `text` names, at least one; several for a group or for a network device of several channels.

    An address is not looked for: it may name a device that is not there.  `bus` says which one an address without
    a bus is of, and turns a channel device found by another name into its subchannel.  Raise `BadAddress` for what no
    name looks like, `NoSuchDevice` for a name of nothing and for what is virtual.
    """
    cleaned = text.strip()
    if not cleaned.isprintable() or len(cleaned) > _LONGEST:
        raise BadAddress(text, "no device has a name like this")
    prefixed = _PREFIXED.match(cleaned)
    if prefixed is not None:
        return [_PARSERS[prefixed[1]].parse(prefixed[2])]
    if cleaned.startswith("/"):
        return _on_bus(sysfs, _by_path(sysfs, cleaned), bus)
    libvirt = _libvirt(cleaned)
    if libvirt is not None:
        return [libvirt]
    try:
        address = parse_address(cleaned)
    except BadAddress:
        if _WORD.match(cleaned) is None:
            raise
        found = _by_class(sysfs, cleaned)
        if found is None:
            raise _nothing(
                cleaned, "it is no address, and no interface, disk or other class device has this name"
            ) from None
        return _on_bus(sysfs, found, bus)
    if not isinstance(address, DeviceNumber):
        return [address]
    if bus == "css":
        return [SubchannelId(address.cssid, address.ssid, address.number)]
    if "." not in cleaned and not ChannelDevice(sysfs, address).exists:
        # an interface may be called "fade": four hexadecimal digits, so it is looked for before giving up
        return _on_bus(sysfs, _by_class(sysfs, cleaned) or [address], bus)
    return [address]


def group_members(sysfs: Sysfs, number: int) -> list[Address]:
    """The devices of IOMMU group `number` that are given away with it: all but its bridges.  Raise `NoSuchDevice`."""
    group = IommuGroup(sysfs, number)
    if not group.exists:
        raise NoSuchDevice(
            "find IOMMU group", str(number), path=group.path, cause="there is no such group", next_step=_GROUPS
        )
    found = [device.address for device in group.devices if device.driver not in _BRIDGES]
    if not found:
        raise NoSuchDevice(
            "find IOMMU group",
            str(number),
            path=group.path,
            cause="it has no members that could be given away",
            next_step=_GROUPS,
        )
    return found


def _libvirt(text: str) -> Address | None:
    match = _LIBVIRT.match(text)
    if match is None:
        return None
    bus, rest = match[1], match[2]
    if bus == "pci":
        parts = _LIBVIRT_PCI.match(rest)
        return None if parts is None else PciAddress.parse(f"{parts[1]}:{parts[2]}:{parts[3]}.{parts[4]}")
    pieces = rest[1:].split("_")
    if bus == "mdev":
        return MdevUuid.parse("-".join(pieces[:5]))
    return _PARSERS[bus].parse(".".join(pieces))


def _on_bus(sysfs: Sysfs, found: list[Address], bus: str | None) -> list[Address]:
    if bus != "css":
        return found
    return [ChannelDevice(sysfs, one).subchannel.address if isinstance(one, DeviceNumber) else one for one in found]


# by path


def _by_path(sysfs: Sysfs, text: str) -> list[Address]:
    path = posixpath.normpath(text)
    if path.startswith("/sys/kernel/iommu_groups/") and path.count("/") == 4:
        return group_members(sysfs, _number(text, posixpath.basename(path)))
    if path.startswith("/sys/"):
        return _at(sysfs, path, text)
    vfio, group = _VFIO_NODE.match(path), _GROUP_NODE.match(path)
    if vfio is not None:
        return _at(sysfs, f"/sys/class/vfio-dev/{vfio[1]}", text)
    if group is not None:
        return group_members(sysfs, int(group[1]))
    if path.startswith("/dev/"):
        return _by_node(sysfs, path, text)
    raise BadAddress(text, "a path to a device is below /sys or /dev")


def _number(text: str, digits: str) -> int:
    if not digits.isdecimal():
        raise BadAddress(text, "the name of an IOMMU group is a number")
    return int(digits)


def _by_node(sysfs: Sysfs, path: str, text: str) -> list[Address]:
    try:
        status = sysfs.backend.stat(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise from_oserror(error, "look up", path=path) from error
    else:
        kind = "block" if stat.S_ISBLK(status.st_mode) else "char" if stat.S_ISCHR(status.st_mode) else None
        if kind is None:
            raise BadAddress(text, "it is neither a block nor a character device")
        place = f"/sys/dev/{kind}/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        if sysfs.exists(place):
            return _at(sysfs, place, text)
    # a container may have the classes and not the nodes
    found = _by_class(sysfs, path.removeprefix("/dev/").replace("/", "!"))
    if found is None:
        raise _nothing(text, "there is no such node, and nothing in /sys/class has this name")
    return found


def _by_class(sysfs: Sysfs, name: str) -> list[Address] | None:
    """The devices behind a name in ``/sys/class``; None when no class has it."""
    for kind in (*_CLASSES, *sysfs.names("/sys/class")):
        path = f"/sys/class/{kind}/{name}"
        if sysfs.link(path) is not None:
            return _at(sysfs, path, name)
    return None


def _at(sysfs: Sysfs, path: str, text: str) -> list[Address]:
    """The devices that a path in sysfs belongs to; `text` is what the user wrote."""
    real = _real_path(sysfs, path)
    if real is None:
        raise _nothing(text, "there is no such path", path)
    found = _above(sysfs, real)
    if not found:
        raise _virtual(sysfs, real, text)
    return found


def _above(sysfs: Sysfs, real: str) -> list[Address]:
    """The address of the nearest device at or above a directory; those of its channels for a network device of s390."""
    here = real
    while here.count("/") > 2:
        bus = sysfs.link_name(f"{here}/subsystem")
        if bus in BUSES:
            try:
                return [device_at(sysfs, here).address]
            except BadAddress:
                pass  # a child of another form, such as that of a chsc subchannel
        if bus == "ccwgroup":
            channels = [sysfs.link_name(f"{here}/{name}") for name in sysfs.names(here) if name.startswith("cdev")]
            return [DeviceNumber.parse(name) for name in channels if name]
        if bus == "nvme-subsystem":
            paths = [found for name in sysfs.names(here) if _NVME.match(name) for found in _linked(sysfs, here, name)]
            return paths if len(paths) == 1 else []  # a disk with several ways to it stands on several devices
        here = posixpath.dirname(here)
    return []


def _linked(sysfs: Sysfs, folder: str, name: str) -> list[Address]:
    real = _real_path(sysfs, f"{folder}/{name}")
    return [] if real is None else _above(sysfs, real)


def _real_path(sysfs: Sysfs, path: str) -> str | None:
    """`path` with all its links followed, as `os.path.realpath` does; None when it is not there."""
    done, todo, links = "", path.strip("/").split("/"), 0
    while todo:
        done = f"{done}/{todo.pop(0)}"
        target = sysfs.link(done)
        if target is not None:
            links += 1
            if links > _LINKS:
                return None
            done, todo = "", [*target.strip("/").split("/"), *todo]
    return done if sysfs.exists(done) else None


# what is virtual


def _virtual(sysfs: Sysfs, real: str, text: str) -> NoSuchDevice:
    below = list(_foundation(sysfs, real, {real}))
    if below:
        return NoSuchDevice(
            "find device",
            text,
            path=real,
            cause=f"it is not a device of its own: it stands on {', '.join(below)}",
            next_step="name the device that is meant",
        )
    return NoSuchDevice(
        "find device",
        text,
        path=real,
        cause=f"it is no device on a bus that VFIO takes from ({', '.join(BUSES)}), and stands on none",
        next_step="pyvfio list shows what there is",
    )


def _foundation(sysfs: Sysfs, real: str, seen: set[str]) -> Iterator[str]:
    """What a virtual interface or disk stands on, down to devices and files, each with its address."""
    for name, path in _lower(sysfs, real):
        below = _real_path(sysfs, path)
        if below is None or below in seen:
            continue
        seen.add(below)
        found = _above(sysfs, below)
        if found:
            yield f"{name} ({', '.join(map(str, found))})"
        else:
            deeper = list(_foundation(sysfs, below, seen))
            yield from deeper or [name]
    file = sysfs.attribute(f"{real}/loop/backing_file")
    if file:
        yield f"the file {file}"


def _lower(sysfs: Sysfs, real: str) -> Iterator[tuple[str, str]]:
    names = sysfs.names(real)
    for name in names:
        if name.startswith("lower_"):
            yield name.removeprefix("lower_"), f"{real}/{name}"
    for name in (sysfs.attribute(f"{real}/bonding/slaves") or "").split():
        yield name, f"/sys/class/net/{name}"
    for name in sysfs.names(f"{real}/brif"):
        yield name, f"/sys/class/net/{name}"
    for name in sysfs.names(f"{real}/slaves"):
        yield name, f"{real}/slaves/{name}"
    if "partition" in names:
        yield posixpath.basename(posixpath.dirname(real)), posixpath.dirname(real)
    parent = posixpath.dirname(real)
    if sysfs.link_name(f"{parent}/subsystem") == "nvme-subsystem":
        for name in sysfs.names(parent):
            if _NVME.match(name):
                yield name, f"{parent}/{name}"


def _nothing(text: str, cause: str, path: str = "") -> PyvfioError:
    return NoSuchDevice(
        "find device",
        text,
        path=path,
        cause=cause,
        next_step="pyvfio list shows the devices of this host; one that a VFIO driver has goes by its address alone",
    )
