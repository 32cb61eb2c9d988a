"""What stands on which device, as far as it can be told cheaply: interfaces, disks, VFIO devices.

`uses` reads each list once (``/sys/class/{net,block,vfio-dev}``, ``/proc/self/mountinfo``, ``/proc/swaps``) and
finds the device of each entry in the path that its link gives, so that the cost grows with the number of interfaces
and disks and not with that of devices.  These marks are for a list; what an action relies on are the probes of
`pyvfio.binding`, which look at more and more closely.

Sources: ``Documentation/ABI/testing/sysfs-class-net`` (``flags``), ``Documentation/filesystems/proc.rst``
(``mountinfo``, ``swaps``), ``block/holder.c`` (``slaves``), ``drivers/s390/cio/ccwgroup.c`` (``cdev``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pyvfio.errors import PyvfioError
from pyvfio.sysfs import Sysfs

__all__ = ["Use", "uses"]

_IFF_UP = 1
_DEVICE = re.compile(r"/(?:([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])|([0-9a-f]{1,2}\.[0-3]\.[0-9a-f]{4}))(?=/)")
_NVME = re.compile(r"nvme\d+\Z")
_ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Use:
    """One thing on a device: its `kind` (``net``, ``block``, ``vfio``), its `name`, and how it is used (``up``, ``/``).

    `active` says that taking the device away would be felt.
    """

    kind: str
    name: str
    how: str = ""
    active: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.how}" if self.how else self.name


def uses(sysfs: Sysfs) -> dict[str, list[Use]]:
    """What stands on each device, by the device's name; devices without anything are not in it."""
    found: dict[str, list[Use]] = {}
    for device, use in (*_interfaces(sysfs), *_disks(sysfs), *_vfio(sysfs)):
        found.setdefault(device, []).append(use)
    return found


def _entries(sysfs: Sysfs, kind: str) -> Iterator[tuple[str, str]]:
    """Each name in a class and the path below ``/sys/devices`` that its link gives."""
    folder = f"/sys/class/{kind}"
    readlink = sysfs.backend.readlink
    for name in sysfs.names(folder):
        try:
            yield name, readlink(f"{folder}/{name}").partition("/devices")[2]
        except OSError:
            continue  # it went away, or is no link (bonding_masters)


def _devices(sysfs: Sysfs, path: str) -> list[str]:
    """The devices that a path below ``/sys/devices`` belongs to: the last address in it, or a group's channels."""
    found = list(_DEVICE.finditer(f"{path}/"))
    if not found:
        return []
    last = found[-1]
    if last[2] and not path.startswith("/css"):  # a group of channels, called after its first one
        folder = f"/sys/devices{path[: last.end()]}"
        links = (sysfs.link_name(f"{folder}/{name}") for name in sysfs.names(folder) if name.startswith("cdev"))
        return [name for name in links if name]
    return [last[1] or last[2]]


def _interfaces(sysfs: Sysfs) -> Iterator[tuple[str, Use]]:
    for name, path in _entries(sysfs, "net"):
        for device in _devices(sysfs, path):
            try:
                up = int(sysfs.attribute(f"/sys/class/net/{name}/flags") or "0", 0) & _IFF_UP
            except ValueError:
                up = 0
            yield device, Use("net", name, "up" if up else "", bool(up))


def _vfio(sysfs: Sysfs) -> Iterator[tuple[str, Use]]:
    for name, path in _entries(sysfs, "vfio-dev"):
        # a mediated device is below its parent, and is what has the VFIO device
        owner = posixpath.basename(posixpath.dirname(posixpath.dirname(path)))
        yield owner, Use("vfio", name)


# disks


def _disks(sysfs: Sysfs) -> Iterator[tuple[str, Use]]:
    """Each disk with what is mounted from it, from its partitions, or from what is built upon either."""
    entries = dict(_entries(sysfs, "block"))
    words = _words(sysfs, entries)
    of_disk: dict[str, list[str]] = {}
    for name, path in entries.items():
        disk = posixpath.basename(posixpath.dirname(path))
        if name in words and disk in entries:
            of_disk.setdefault(disk, []).extend(words[name])
    for name, path in entries.items():
        if posixpath.basename(posixpath.dirname(path)) in entries:
            continue  # a partition: said with its disk
        how = dict.fromkeys([*words.get(name, ()), *of_disk.get(name, ())])
        for device in _devices(sysfs, path) or _nvme_paths(sysfs, path):
            yield device, Use("block", name, ", ".join(how), bool(how))


def _words(sysfs: Sysfs, entries: dict[str, str]) -> dict[str, list[str]]:
    """How each disk and partition is used, also by way of those that are built upon it."""
    own: dict[str, list[str]] = {}
    for name, places in _mounts(sysfs, entries).items():
        own.setdefault(name, []).append(f"mounted on {', '.join(places)}")
    for name in _swaps(sysfs):
        own.setdefault(name, []).append("swap")
    found = {name: list(words) for name, words in own.items()}

    def tell_below(name: str, word: str, depth: int) -> None:
        if depth and entries.get(name, "").startswith("/virtual/"):
            for lower in sysfs.names(f"/sys/class/block/{name}/slaves"):
                found.setdefault(lower, []).append(word)
                tell_below(lower, word, depth - 1)

    for name, path in entries.items():
        if path.startswith("/virtual/"):
            use = f" ({', '.join(own[name])})" if name in own else ""
            tell_below(name, f"part of {name}{use}", len(entries))
    return found


def _mounts(sysfs: Sysfs, entries: dict[str, str]) -> dict[str, list[str]]:
    """Where each disk or partition is mounted; parts of one that are mounted elsewhere again are left out."""
    whole: dict[str, list[str]] = {}
    parts: dict[str, list[str]] = {}
    names: dict[str, str | None] = {}
    for line in _lines(sysfs, "/proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        fields, source = left.split(), right.split()
        if len(fields) < 5 or len(source) < 2:
            continue
        number, root, place = fields[2:5]
        if number.startswith("0:"):  # a file system with a number of its own, such as btrfs
            name: str | None = posixpath.basename(source[1]) if source[1].startswith("/dev/") else None
        else:
            if number not in names:
                names[number] = sysfs.link_name(f"/sys/dev/block/{number}")
            name = names[number]
        if name is not None and name in entries:
            (whole if root == "/" else parts).setdefault(name, []).append(_unescaped(place))
    return {name: sorted(set(places)) for name, places in {**{n: p[:1] for n, p in parts.items()}, **whole}.items()}


def _swaps(sysfs: Sysfs) -> list[str]:
    return [posixpath.basename(line.split()[0]) for line in _lines(sysfs, "/proc/swaps") if line.startswith("/dev/")]


def _nvme_paths(sysfs: Sysfs, path: str) -> list[str]:
    """The controllers of a disk that several may lead to: the links in its subsystem's directory."""
    folder = posixpath.dirname(path)
    if not folder.startswith("/virtual/nvme-subsystem/"):
        return []
    links = (sysfs.link(f"/sys/devices{folder}/{name}") for name in sysfs.names(f"/sys/devices{folder}"))
    found = (link.partition("/devices")[2] for link in links if link and _NVME.search(link))
    return [device for path in found for device in _devices(sysfs, path)]


def _lines(sysfs: Sysfs, path: str) -> list[str]:
    try:
        return (sysfs.attribute(path) or "").splitlines()
    except PyvfioError:
        return []  # another user's business: the list says less


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
