"""The device that the probes look at, and everything that sysfs shows below it.

The walk starts at the device's own directory and follows no link, so it ends at what the device's driver made: disks
and partitions, interfaces, terminals, character devices, mediated devices.  A channel device that belongs to a
ccwgroup device (qeth) has its interface below that, so that directory is walked too.  PCI functions behind a bridge are
not the bridge driver's and are left out, except behind a host bridge that the device itself makes (Intel VMD).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pyvfio.devices import ChannelDevice
from pyvfio.errors import PyvfioError
from pyvfio.sysfs import Sysfs
from pyvfio.sysfs_device import SysfsDevice

if TYPE_CHECKING:
    from pyvfio.binding.probes.blocks import Stack
    from pyvfio.binding.probes.surroundings import Surroundings

__all__ = ["Below", "Subject", "below_at", "error_name", "failure"]

_ATTRIBUTES = frozenset(
    {"holders", "integrity", "iommu", "mq", "msi_irqs", "power", "queue", "queues", "slaves", "statistics", "trace"}
)
"""Directories of attributes and links: no device is in them."""
_NO_SUBDIRECTORY = 2
"""Links of a directory that has none (a file system that does not count them says 1)."""


def error_name(error: OSError | PyvfioError) -> str:
    """The name of an error's errno, or of its class."""
    if error.errno is None:
        return type(error).__name__
    return errno.errorcode.get(error.errno, str(error.errno))


def failure(error: OSError | PyvfioError) -> str:
    """What a failed look was, for people: ``/proc/1/mountinfo could not be read (EACCES)``."""
    if isinstance(error, PyvfioError):
        if error.errno is None:
            return f"{error.operation}: {error.cause}" if error.cause else error.operation
        return f"{error.path or error.obj} could not be read ({error_name(error)})"
    return f"{error.filename or 'the host'} could not be read ({error_name(error)})"


@dataclass(frozen=True, slots=True)
class Below:
    """A device at or below the subject: its `subsystem`, `name`, sysfs `path` and the values of its ``uevent`` file."""

    subsystem: str
    name: str
    path: str
    values: tuple[tuple[str, str], ...] = ()

    def value(self, key: str) -> str:
        """A value of ``uevent`` (``DEVTYPE``), empty without one."""
        return dict(self.values).get(key, "")

    @property
    def node(self) -> str:
        """Its node below ``/dev``, empty without one."""
        name = self.value("DEVNAME")
        return f"/dev/{name.removeprefix('/dev/')}" if name else ""

    @property
    def number(self) -> str:
        """``MAJOR:MINOR``, empty without a node."""
        major, minor = self.value("MAJOR"), self.value("MINOR")
        return f"{major}:{minor}" if major and minor else ""


def below_at(sysfs: Sysfs, path: str) -> Below:
    """The device whose directory is `path`.  Raise the class of a failing read."""
    uevent = f"{path}/uevent"
    text = sysfs.read_text(uevent) if sysfs.exists(uevent) else ""  # an error is no empty file: a probe goes by it
    pairs = (line.partition("=") for line in text.splitlines())
    values = tuple((key, value) for key, _, value in pairs)
    return Below(sysfs.link_name(f"{path}/subsystem") or "", path.rpartition("/")[2], path, values)


class Subject:
    """`device` as the probes see it, in its `surroundings`.

    `path` is its directory: for a channel device that vfio_ccw has, that of its subchannel.  Raise `NoSuchDevice` when
    it is not there.
    """

    def __init__(self, device: SysfsDevice, surroundings: Surroundings) -> None:
        self.device = device
        self.sysfs = device.sysfs
        self.surroundings = surroundings
        holder = device.subchannel if isinstance(device, ChannelDevice) and not device.exists else device
        self.path = holder.path
        self.probe = ""
        self.blind_spots: dict[str, None] = {}
        self._without_names: list[str] = []

    def blind(self, what: str) -> None:
        """Note something that the running probe could not see."""
        self.blind_spots[f"{self.probe}: {what}" if self.probe else what] = None

    @cached_property
    def below(self) -> tuple[Below, ...]:
        """The device itself and the devices below it, each before what is below it."""
        found = list(self._walk(self.path, self.path))
        for one in list(found):
            group = self.sysfs.link(f"{one.path}/group_device") if one.subsystem == "ccw" else None
            if group is not None and not any(group == other.path for other in found):
                found += self._walk(group, group)
        return tuple(found)

    @cached_property
    def kinds(self) -> frozenset[str]:
        """The subsystems of `below`, and those of what sysfs does not show by name (`apart`)."""
        return frozenset(one.subsystem for one in self.below) | ({"net"} if self.apart else set())

    @property
    def apart(self) -> list[str]:
        """The directories ``net`` below it that are empty: their interfaces are in other network namespaces.

        The kernel removes such a directory with its last interface, and lists in it only those of the namespace that
        sysfs was mounted in (``cleanup_glue_dir()`` in ``drivers/base/core.c``, ``kernfs_dir_pos()`` in
        ``fs/kernfs/dir.c``).
        """
        return self._without_names if self.below else []

    def of(self, *subsystems: str) -> list[Below]:
        """Those of `below` in one of these subsystems."""
        return [one for one in self.below if one.subsystem in subsystems]

    @cached_property
    def blocks(self) -> Stack:
        """Its disks, their partitions, and the block devices that stand on them."""
        from pyvfio.binding.probes.blocks import Stack

        return Stack(self)

    def _walk(self, path: str, root: str) -> Iterator[Below]:
        try:
            names = self.sysfs.names(path)
            if "uevent" in names and "subsystem" in names:
                here = below_at(self.sysfs, path)
                if here.subsystem == "pci" and path != root and path.rpartition("/")[0] == root:
                    return
                yield here
            if not names and path.endswith("/net"):
                self._without_names.append(path)
            if self._lstat(path).st_nlink == _NO_SUBDIRECTORY:
                return
        except (PyvfioError, OSError) as error:
            if path == root or not self._has_gone(path, error):
                self.blind(failure(error))
            return
        for name in names:
            if name not in _ATTRIBUTES and self._is_directory(f"{path}/{name}"):
                yield from self._walk(f"{path}/{name}", root)

    def _lstat(self, path: str) -> os.stat_result:
        return self.sysfs.backend.lstat(path)

    def _is_directory(self, path: str) -> bool:
        try:
            return stat.S_ISDIR(self._lstat(path).st_mode)
        except OSError as error:
            if not self._has_gone(path, error):
                self.blind(f"{path} could not be looked at ({error_name(error)})")
            return False

    def _has_gone(self, path: str, error: OSError | PyvfioError) -> bool:
        """Whether `error` came because the device at `path` went away meanwhile: it is not there any more."""
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            return False
        try:
            self._lstat(path)
        except OSError as again:
            return again.errno == errno.ENOENT
        return False
