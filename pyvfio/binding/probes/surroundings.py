"""What the probes need to know of the whole host: read once for a plan, however many devices it has.

These are single files and short directories; the lists of the host's devices are not among them.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cached_property

from pyvfio.backend import Holder
from pyvfio.binding.probes.inputs import InputDevice, input_devices
from pyvfio.errors import PermissionDenied
from pyvfio.files import HostFiles
from pyvfio.network import Network
from pyvfio.sysfs import Sysfs

__all__ = ["Console", "Mount", "Surroundings", "Swap"]

_ESCAPED = re.compile(r"\\([0-7]{3})")
_BY = {"UUID": "by-uuid", "LABEL": "by-label", "PARTUUID": "by-partuuid", "PARTLABEL": "by-partlabel", "ID": "by-id"}


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of ``mountinfo``: the `number` of the file system's device, `point`, `fs_type` and `source`.

    `elsewhere` is set when only process 1 has it, in a mount namespace other than the caller's.
    """

    number: str
    point: str
    fs_type: str
    source: str
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Swap:
    """A line of ``/proc/swaps``: `path`, `kind` (``partition`` or ``file``), `size` and `used` in KiB."""

    path: str
    kind: str
    size: int
    used: int


@dataclass(frozen=True, slots=True)
class Console:
    """A line of ``/proc/consoles``: the terminal's `name`, its `number` (``4:64``, may be empty) and the flags."""

    name: str
    number: str
    flags: str


class Surroundings:
    """The host behind `sysfs`.  Each fact is read when it is first asked for, and kept.

    Raise the class of `pyvfio.errors` for the errno of a failing call; a missing file is an empty list.
    """

    def __init__(self, sysfs: Sysfs) -> None:
        self.sysfs = sysfs
        self.files = HostFiles(sysfs.backend)
        self._users: dict[str, list[Holder]] = {}

    # block devices

    @cached_property
    def mounts(self) -> tuple[Mount, ...]:
        """The mounts of the caller, and those which only process 1 has.

        Raise `KernelRefused` where there is no ``/proc/self/mountinfo``: nobody can tell then what is mounted.
        """
        mine = _mounts(self.sysfs.read_bytes("/proc/self/mountinfo").decode("utf-8", "surrogateescape"), False)
        known = {(mount.number, mount.point) for mount in mine}
        others = _mounts(self.files.read("/proc/1/mountinfo") or "", True)
        return (*mine, *(mount for mount in others if (mount.number, mount.point) not in known))

    @cached_property
    def swaps(self) -> tuple[Swap, ...]:
        """The swap areas in use."""
        found = []
        for line in (self.files.read("/proc/swaps") or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) >= 4:
                found.append(Swap(_unescaped(fields[0]), fields[1], int(fields[2]), int(fields[3])))
        return tuple(found)

    @cached_property
    def loops(self) -> dict[str, tuple[str, ...]]:
        """The loop devices by the file behind them."""
        found: dict[str, tuple[str, ...]] = {}
        for name in self.sysfs.names("/sys/block"):
            if name.startswith("loop"):
                file = self.sysfs.attribute(f"/sys/block/{name}/loop/backing_file")
                if file:
                    found[file] = (*found.get(file, ()), name)
        return found

    @cached_property
    def btrfs(self) -> dict[str, tuple[str, ...]]:
        """The block devices of each btrfs that is mounted anywhere, by its UUID (``fs/btrfs/sysfs.c``)."""
        top = "/sys/fs/btrfs"
        return {
            uuid: tuple(self.sysfs.names(f"{top}/{uuid}/devices"))
            for uuid in self.sysfs.names(top)
            if self.sysfs.exists(f"{top}/{uuid}/devices")
        }

    def real_node(self, node: str) -> str:
        """The node that a name below ``/dev`` links to, or the name itself."""
        for _ in range(8):
            target = self.sysfs.link(node)
            if target is None:
                break
            node = target
        return node

    def named(self, spec: str) -> str:
        """The node that ``UUID=``, ``LABEL=``, ``PARTUUID=``, ``PARTLABEL=`` or a path names; empty if none does."""
        key, equals, value = spec.partition("=")
        if equals and key in _BY:
            value = value.strip('"').replace("/", r"\x2f").replace(" ", r"\x20")
            target = self.sysfs.link(f"{self.by(spec)}/{value}")
            return self.real_node(target) if target is not None else ""
        return self.real_node(spec) if spec.startswith("/dev/") else ""

    def by(self, spec: str) -> str:
        """The directory of udev's links that ``UUID=`` and the like are looked up in; empty for anything else."""
        key, equals, _ = spec.partition("=")
        return f"/dev/disk/{_BY[key]}" if equals and key in _BY else ""

    # network

    @cached_property
    def network(self) -> Network:
        """The interfaces, addresses and routes."""
        return self.sysfs.backend.network()

    # consoles and input

    @cached_property
    def consoles(self) -> tuple[Console, ...]:
        """The consoles of the kernel."""
        found = []
        for line in (self.files.read("/proc/consoles") or "").splitlines():
            name, _, rest = line.partition(" ")
            inside = re.search(r"\(([^)]*)\)\s*(\d+:\d+)?", rest)
            if name:
                found.append(Console(name, (inside[2] or "") if inside else "", inside[1] if inside else ""))
        return tuple(found)

    @cached_property
    def active(self) -> tuple[str, ...]:
        """The terminals behind ``/dev/console``; the last one takes what is typed."""
        return tuple((self.sysfs.attribute("/sys/class/tty/console/active") or "").split())

    @cached_property
    def terminals(self) -> dict[str, str]:
        """The nodes of the caller's own standard streams below ``/dev`` and their numbers (``4:64``)."""
        found: dict[str, str] = {}
        for fd in range(3):
            target = self.sysfs.link(f"/proc/self/fd/{fd}")
            if target is not None and target.startswith("/dev/") and self.sysfs.exists(target):
                number = self.sysfs.backend.stat(target).st_rdev
                found[target] = f"{os.major(number)}:{os.minor(number)}" if number else ""
        return found

    @cached_property
    def inputs(self) -> tuple[InputDevice, ...]:
        """The input devices of the host."""
        return input_devices(self.files.read("/proc/bus/input/devices") or "")

    # the start of the system

    @cached_property
    def cmdline(self) -> tuple[str, ...]:
        """The options of the kernel's command line."""
        text = self.files.read("/proc/cmdline") or ""
        return tuple(option.replace('"', "") for option in re.findall(r'(?:[^\s"]|"[^"]*")+', text))

    def option(self, name: str) -> tuple[str, ...]:
        """The values of a command-line option, in order."""
        return tuple(option[len(name) + 1 :] for option in self.cmdline if option.startswith(f"{name}="))

    @cached_property
    def ipl(self) -> dict[str, str]:
        """s390: how the system was started: ``ipl_type``, ``device``, ``wwpn``, ``lun``, ``fid``, ``nsid``."""
        top = "/sys/firmware/ipl"
        kind = self.sysfs.attribute(f"{top}/ipl_type")
        if kind is None:
            return {}
        values = {name: self.sysfs.attribute(f"{top}/{name}") for name in ("device", "wwpn", "lun", "fid", "nsid")}
        return {"ipl_type": kind} | {name: value for name, value in values.items() if value}

    # programs

    def users(self, node: str) -> list[Holder]:
        """The programs that have `node` open.  Raise OSError when it is not there."""
        if node not in self._users:
            self._users[node] = self.sysfs.backend.holders(node)
        return self._users[node]

    @cached_property
    def unseen_programs(self) -> str:
        """Why not all programs can be looked at, in words; empty when they can."""
        try:
            self.sysfs.names("/proc/1/fd")
        except PermissionDenied:
            return "programs of other users could not be looked at (run as root)"
        return ""


def _unescaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)


def _mounts(text: str, elsewhere: bool) -> list[Mount]:
    """See ``Documentation/filesystems/proc.rst``, 3.5: fields 3 and 5, and the first two behind the hyphen."""
    found = []
    for line in text.splitlines():
        front, _, back = line.partition(" - ")
        fields, rest = front.split(" "), back.split(" ")
        if len(fields) >= 6 and len(rest) >= 2:
            found.append(Mount(fields[2], _unescaped(fields[4]), rest[0], _unescaped(rest[1]), elsewhere))
    return found
