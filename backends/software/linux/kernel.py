"""The kernel of the software machine: the trees ``/sys`` and ``/dev``, and what all subsystems share."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pyvfio.network import Network
from pyvfio_backends.software.clock import Clock
from pyvfio_backends.software.linux.debugfs import DebugDirectory
from pyvfio_backends.software.linux.descriptors import DescriptorTable
from pyvfio_backends.software.linux.device import Device, DeviceClass
from pyvfio_backends.software.linux.driver_core import Bus
from pyvfio_backends.software.linux.host_state import (
    ConsoleEntry,
    HugePages,
    MountEntry,
    ProcessEntry,
    SwapEntry,
)
from pyvfio_backends.software.linux.huge_pages import node_directory, size_directory
from pyvfio_backends.software.linux.interrupts import InterruptCounts
from pyvfio_backends.software.linux.iommu_group import IommuGroups
from pyvfio_backends.software.linux.module import Modules
from pyvfio_backends.software.linux.procfs import ProcDirectory
from pyvfio_backends.software.linux.subsystems import Subsystems
from pyvfio_backends.software.linux.uevents import UeventSource
from pyvfio_backends.software.linux.vfs import (
    Attribute,
    Directory,
    Node,
    StaticDirectory,
    Symlink,
    TemporaryDirectory,
    Vfs,
)
from pyvfio_backends.software.memory import HostMemory

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.virqfd import EventWatch

__all__ = ["TAINT_FIRMWARE_WORKAROUND", "TAINT_USER", "Kernel"]

TAINT_USER, TAINT_FIRMWARE_WORKAROUND = 1 << 6, 1 << 11
"""The kernel is tainted because somebody in user space asked for it, or for what firmware got wrong
(``include/linux/panic.h``).
"""


class Kernel:
    """Shared state of the kernel's half; subsystems add their buses, classes and nodes to it.

    `memlock` is the limit of locked memory in bytes (-1: none), which binds unless callers have CAP_IPC_LOCK
    (`ipc_lock`); `page_size` that of the machine, which has so many `processors`.  `mounts`, `swaps`, `consoles`,
    `processes` and `network` are what the host does with its devices; whoever gives a device a use adds to them.
    """

    def __init__(
        self,
        lock: threading.RLock,
        clock: Clock,
        memory: HostMemory,
        *,
        seqnum: int = 0,
        memlock: int = -1,
        ipc_lock: bool = False,
        processors: int = 1,
    ) -> None:
        self.lock = lock
        self.clock = clock
        self.memory = memory
        self.page_size = memory.page_size
        self.memlock = memlock
        self.ipc_lock = ipc_lock
        self.lock_limit = -1 if ipc_lock else memlock
        self.uevents = UeventSource(seqnum)
        self.fds = DescriptorTable()
        self.groups = IommuGroups()
        self.modules = Modules(self.uevents)
        self.interrupts = InterruptCounts(processors)
        self.buses: dict[str, Bus] = {}
        self.classes: dict[str, DeviceClass] = {}
        self.roots: dict[str, Device] = {}
        self.cmdline = ""
        """The options of the kernel's command line (``/proc/cmdline``)."""
        self.pci_mmap = False
        """Whether programs may map the BARs of PCI functions, as on s390 from Linux 6.15 on."""
        self.map_file = False
        """Whether iommufd maps memory files, as from Linux 6.13 on."""
        self.dma_buf = False
        """Whether vfio-pci makes dma-bufs and iommufd maps them, as from Linux 6.19 on."""
        self.numa_nodes = 0
        """How many NUMA nodes there are; 0: the kernel knows nothing of such (``CONFIG_NUMA``)."""
        self.storage_size = 0
        """The machine's storage in bytes."""
        self.mounts: list[MountEntry] = [
            MountEntry("rootfs", "/", "rootfs", minor=2, options="rw"),
            MountEntry("sysfs", "/sys", "sysfs", minor=20, options="rw,nosuid,nodev,noexec,relatime"),
            MountEntry("proc", "/proc", "proc", minor=21, options="rw,nosuid,nodev,noexec,relatime"),
            MountEntry("debugfs", "/sys/kernel/debug", "debugfs", minor=7, options="rw,nosuid,nodev,noexec,relatime"),
            MountEntry("devtmpfs", "/dev", "devtmpfs", minor=5, options="rw,nosuid"),
            MountEntry("tmpfs", "/run", "tmpfs", minor=22, options="rw,nosuid,nodev"),
            MountEntry("tmpfs", "/tmp", "tmpfs", minor=23, options="rw,nosuid,nodev"),
        ]
        self.swaps: list[SwapEntry] = []
        self.consoles: list[ConsoleEntry] = []
        self.processes: list[ProcessEntry] = []
        self.features: tuple[str, ...] = ()
        self.processor = ""
        """Who made the processors (``vendor_id`` of x86)."""
        self.cpuinfo: Callable[[], str] | None = None
        """What ``/proc/cpuinfo`` says, where neither `features` nor `processor` do."""
        self.huge_page_size = 1 << 20
        """Bytes of a large page (``HPAGE_SIZE``): s390's have 1 MiB."""
        self.huge_pages = [HugePages(self.huge_page_size >> 10)]  # the default size first
        self.network = Network()
        self.release = "6.12.0"
        self.boot_id = str(uuid.UUID(int=0))
        self.runs_here: Callable[[int], bool] = lambda pid: pid == os.getpid()
        """Whether a real process works on this machine."""
        self.raw_io = True
        """Whether programs have CAP_SYS_RAWIO."""
        self.sys_resource = True
        """Whether they have CAP_SYS_RESOURCE."""
        self.taint = 0
        """Why the kernel is not to be trusted any more, as bits (``/proc/sys/kernel/tainted``)."""
        self.locked_pages: Callable[[int], tuple[int, int]] = lambda pid: (0, 0)
        """How many pages of a process devices keep locked (``mm->locked_vm``) and pinned (``mm->pinned_vm``)."""
        self.subsystems = Subsystems()
        """What subsystems keep for the whole kernel."""
        self.debug: dict[str, Callable[[], Node]] = {}
        """What subsystems show in debugfs."""
        self.event_watch: EventWatch | None = None
        """The eventfds of programs that it listens to."""
        self.dev = TemporaryDirectory()
        self.sys = StaticDirectory(
            {
                "bus": _Table(lambda: {name: bus.directory for name, bus in self.buses.items()}, self._bus),
                "class": _Table(lambda: {name: cls.directory for name, cls in self.classes.items()}),
                "dev": StaticDirectory(
                    {
                        "block": _Table(lambda: self._numbers("block", True)),
                        "char": _Table(lambda: self._numbers("block", False)),
                    }
                ),
                "devices": _Table(self._devices, self._root),
                "kernel": StaticDirectory(
                    {
                        "debug": DebugDirectory(lambda: self.debug, permissions=0o700),
                        "iommu_groups": self.groups,
                        "mm": _Table(self._memory),
                        "uevent_seqnum": Attribute(lambda: f"{self.uevents.seqnum}\n"),
                    }
                ),
                "module": self.modules,
            },
            permissions=0o555,
        )
        self.proc = ProcDirectory(self)
        self.root = TemporaryDirectory(
            {
                "dev": self.dev,
                "etc": TemporaryDirectory(),
                "proc": self.proc,
                "run": TemporaryDirectory(),
                "sys": self.sys,
                "tmp": TemporaryDirectory(permissions=0o1777),
                "var": TemporaryDirectory({"lib": TemporaryDirectory()}),
            }
        )
        self.vfs = Vfs(self.root, self.mounts)

    def _memory(self) -> dict[str, Callable[[], Node]]:
        return {"hugepages": lambda: size_directory(self.huge_pages)} if self.huge_pages else {}

    def _devices(self) -> dict[str, Callable[[], Node]]:
        table: dict[str, Callable[[], Node]] = {name: device.node for name, device in self.roots.items()}
        table["system"] = lambda: StaticDirectory({"node": node_directory(self)})
        table["virtual"] = lambda: _Table(self._virtual)
        return table

    def _bus(self, name: str) -> Callable[[], Node] | None:
        bus = self.buses.get(name)
        return None if bus is None else bus.directory

    def _root(self, name: str) -> Callable[[], Node] | None:
        device = self.roots.get(name)
        return self._devices().get(name) if device is None else device.node

    def _virtual(self) -> dict[str, Callable[[], Node]]:
        table: dict[str, Callable[[], Node]] = {}
        for name, cls in self.classes.items():
            members = {device.name: device.node for device in cls.devices.values() if device.parent is None}
            if members:
                table[name] = partial(StaticDirectory, members)
        return table

    def _numbers(self, block: str, wanted: bool) -> dict[str, Callable[[], Node]]:
        """Links named by device number, as in ``/sys/dev/char``: those of class `block`, or all others."""
        table: dict[str, Callable[[], Node]] = {}
        for cls in self.classes.values():
            if (cls.name == block) is not wanted:
                continue
            for device in cls.devices.values():
                if device.devnode is not None:
                    major, minor, _ = device.devnode
                    table[f"{major}:{minor}"] = partial(_by_number, device)
        return table

    def add_bus(self, bus: Bus) -> None:
        """Register a bus."""
        self.buses[bus.name] = bus

    def class_(self, name: str) -> DeviceClass:
        """The class called `name`, made when it is first asked for."""
        if name not in self.classes:
            self.classes[name] = DeviceClass(self, name)
        return self.classes[name]

    def add_root(self, device: Device) -> None:
        """Put a device directly below ``/sys/devices``."""
        self.roots[device.name] = device

    def remove_root(self, device: Device) -> None:
        """Take it away again."""
        self.roots.pop(device.name, None)

    def add_class_device(self, device: Device, *, quiet: bool = False) -> None:
        """Add a device of a class, below its parent or ``/sys/devices/virtual``; event "add" unless `quiet`."""
        if device.cls is not None:
            device.cls.devices[device.name] = device
        if device.parent is not None:
            device.parent.children[device.name] = device
        if not quiet:
            device.uevent("add")

    def remove_class_device(self, device: Device) -> None:
        """Remove a device of a class, its children first; event "remove"."""
        for child in reversed(list(device.child_devices())):
            if child.bus is not None:
                child.bus.remove(child)
            else:
                self.remove_class_device(child)
        device.dead = True
        if device.cls is not None:
            device.cls.devices.pop(device.name, None)
        if device.parent is not None:
            device.parent.children.pop(device.name, None)
        self.vfs.forget(f"/sys{device.devpath}")
        device.uevent("remove")

    def add_node(self, path: str, node: Node) -> None:
        """Make ``/dev/PATH``, with the directories above it."""
        *folders, name = path.split("/")
        at = self.dev
        for folder in folders:
            below = at.entries.setdefault(folder, TemporaryDirectory())
            if not isinstance(below, TemporaryDirectory):
                raise TypeError(f"/dev/{path}: {folder} is not a directory")
            at = below
        at.entries[name] = node

    def remove_node(self, path: str) -> None:
        """Remove ``/dev/PATH`` and the directories that are empty then."""
        *folders, name = path.split("/")
        trail = [self.dev]
        for folder in folders:
            below = trail[-1].entries.get(folder)
            if not isinstance(below, TemporaryDirectory):
                return
            trail.append(below)
        trail[-1].entries.pop(name, None)
        self.vfs.forget(f"/dev/{path}")
        for depth in range(len(folders), 0, -1):
            if not trail[depth].entries:
                trail[depth - 1].entries.pop(folders[depth - 1], None)


def _by_number(device: Device) -> Symlink:
    return Symlink(f"../..{device.devpath}")


class _Table(Directory):
    """A directory over a dictionary that is made at each look; `find` looks for one name without making it."""

    __slots__ = ("_find", "_table")

    def __init__(
        self,
        table: Callable[[], dict[str, Callable[[], Node]]],
        find: Callable[[str], Callable[[], Node] | None] | None = None,
    ) -> None:
        self._table = table
        self._find = find

    def lookup(self, name: str) -> Node | None:
        make = self._table().get(name) if self._find is None else self._find(name)
        return None if make is None else make()

    def names(self) -> list[str]:
        return list(self._table())
