"""``/proc``: the kernel's state as text (``fs/proc``), made when it is read.

The processes are those of the machine file, and the real ones that work on the machine; of these only this one is
listed.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.host_state import ConsoleEntry, MountEntry, ProcessEntry, SwapEntry
from pyvfio_backends.software.linux.nodes import Attribute, AttributeFile, Directory, Node, StaticDirectory, Symlink

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.kernel import Kernel

__all__ = ["ProcDirectory", "ProcFile", "command_of"]

_SPECIAL = str.maketrans({" ": r"\040", "\t": r"\011", "\n": r"\012", "\\": r"\134"})
_FLAGS = "ECBNpba"  # con_flags of fs/proc/consoles.c
_COMMAND = 15  # TASK_COMM_LEN without its end
_CAPABILITIES = (1 << 41) - 1  # CAP_LAST_CAP is 40
_CAP_IPC_LOCK, _CAP_SYS_RAWIO = 14, 17


class ProcFile(Attribute):
    """A text of ``/proc``: as an attribute, but root may open it as it likes, and its size is 0."""

    __slots__ = ()
    size = 0
    mode_binds_root = False

    def __init__(
        self,
        show: Callable[[], str],
        store: Callable[[bytes], None] | None = None,
        mode: int | None = None,
    ) -> None:
        super().__init__(show, store, mode)

    def open(self, path: str, flags: int) -> File:
        return _OpenProcFile(self)


class _OpenProcFile(AttributeFile):
    __slots__ = ()
    lasting = False

    def fsync(self) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


class ProcDirectory(Directory):
    """The root of ``/proc``."""

    __slots__ = ("_fixed", "_kernel")
    st_mode = stat.S_IFDIR | 0o555

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        random = {"boot_id": ProcFile(lambda: f"{kernel.boot_id}\n")}
        self._fixed: dict[str, Node] = {
            "cmdline": ProcFile(lambda: f"{kernel.cmdline}\n"),
            "consoles": ProcFile(lambda: "".join(map(_console, kernel.consoles))),
            "interrupts": ProcFile(lambda: kernel.interrupts.show()),
            "meminfo": ProcFile(self._meminfo),
            "modules": ProcFile(self._modules),
            "mounts": Symlink("self/mounts"),
            "swaps": ProcFile(lambda: _SWAPS + "".join(map(_swap, kernel.swaps))),
            "sys": _folder(
                {
                    "kernel": _folder(
                        {
                            "osrelease": ProcFile(lambda: f"{kernel.release}\n"),
                            "random": _folder(dict(random)),
                            "tainted": ProcFile(lambda: f"{kernel.taint}\n"),
                        }
                    )
                }
            ),
            "version": ProcFile(lambda: f"Linux version {kernel.release}\n"),
        }

    def add(self, name: str, node: Node) -> None:
        """Add a file of a subsystem."""
        self._fixed[name] = node

    def lookup(self, name: str) -> Node | None:
        if name == "self":
            return Symlink(str(os.getpid()))
        if name == "cpuinfo" and self._tells_of_processors:
            return ProcFile(self._kernel.cpuinfo or self._cpuinfo)
        if name == "irq":
            from pyvfio_backends.software.linux.irq_affinity import IrqDirectory

            return IrqDirectory(self._kernel.interrupts)
        return self._fixed.get(name) or self._process(name)

    def names(self) -> Iterable[str]:
        pids = sorted({os.getpid(), *(process.pid for process in self._kernel.processes)})
        told = ["cpuinfo"] if self._tells_of_processors else []
        return [*self._fixed, *told, "irq", "self", *map(str, pids)]

    def _process(self, name: str) -> Directory | None:
        mounts = self._kernel.mounts
        entries: dict[str, Node] = {
            "mountinfo": ProcFile(lambda: _mountinfo(mounts)),
            "mounts": ProcFile(lambda: "".join(map(_mount, mounts))),
        }
        process = next((each for each in self._kernel.processes if name == str(each.pid)), None)
        if process is not None:
            entries |= {
                "cmdline": ProcFile(lambda: f"{process.name}\0"),
                "comm": ProcFile(lambda: f"{process.name[:_COMMAND]}\n"),
                "stat": ProcFile(lambda: _stat(process)),
            }
        elif name.isdecimal() and self._kernel.runs_here(int(name)):
            entries |= {part: ProcFile(partial(_real, name, part)) for part in ("cmdline", "comm", "stat")}
            from pyvfio_backends.software.linux.pagemap import PageMap

            entries["pagemap"] = PageMap(self._kernel, int(name))
            entries["status"] = ProcFile(lambda: _real_status(name, self._kernel))
        else:
            return None
        return _folder(entries)

    @property
    def _tells_of_processors(self) -> bool:
        return bool(self._kernel.features or self._kernel.processor or self._kernel.cpuinfo)

    def _cpuinfo(self) -> str:
        """The lines of the machine, not those of each processor (``arch/s390/kernel/processor.c``); on another machine
        who made each processor (``arch/x86/kernel/cpu/proc.c``).
        """
        if not self._kernel.features:
            maker = self._kernel.processor
            return "".join(
                f"processor\t: {number}\nvendor_id\t: {maker}\n\n"
                for number in range(self._kernel.interrupts.processors)
            )
        words = "".join(f"{word} " for word in self._kernel.features)
        return (
            f"vendor_id       : IBM/S390\n# processors    : {self._kernel.interrupts.processors}\n"
            f"max thread id   : 0\nfeatures\t: {words}\n"
        )

    def _meminfo(self) -> str:
        size = self._kernel.storage_size >> 10  # nothing is taken from it
        text = "".join(f"{name + ':':<16}{size:8} kB\n" for name in ("MemTotal", "MemFree", "MemAvailable"))
        pools = self._kernel.huge_pages
        if not pools:  # hugetlb_report_meminfo()
            return text
        size = pools[0].size  # only those of the default size are counted
        total, free = (
            sum(counts) for counts in zip(*((p.total, p.free) for p in pools if p.size == size), strict=True)
        )
        for name, value in [("Total", total), ("Free", free), ("Rsvd", 0), ("Surp", 0)]:
            text += f"HugePages_{name + ':':<6}{value:8}\n"
        held = sum(pool.size * pool.total for pool in pools)
        return text + f"Hugepagesize:   {size:8} kB\nHugetlb:        {held:8} kB\n"

    def _modules(self) -> str:
        """Without the modules' sizes, which this machine does not have."""
        lines = []
        for module in (one for one in reversed(self._kernel.modules.table.values()) if not one.built_in):
            users = "".join(f"{name}," for name in module.holders) or "-"
            lines.append(f"{module.name} 0 {module.refcnt} {users} Live {0:#018x}\n")
        return "".join(lines)


def _folder(entries: dict[str, Node]) -> StaticDirectory:
    return StaticDirectory(entries, permissions=0o555)


def _real(pid: str, part: str) -> str:
    with open(f"/proc/{pid}/{part}", encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def command_of(pid: int) -> str:
    """What a real process calls itself (``comm``)."""
    return _real(str(pid), "comm").rstrip("\n")


def _real_status(pid: str, kernel: Kernel) -> str:
    """With the machine's capabilities of root, of which two are choices of its file, and what its devices lock."""
    lacks = {_CAP_IPC_LOCK: kernel.ipc_lock, _CAP_SYS_RAWIO: kernel.raw_io}
    capabilities = _CAPABILITIES & ~sum(1 << number for number, there in lacks.items() if not there)
    text = re.sub(r"(?m)^(Cap(?:Prm|Eff):\s*)[0-9a-f]+$", rf"\g<1>{capabilities:016x}", _real(pid, "status"))
    for name, pages in zip(("VmLck", "VmPin"), kernel.locked_pages(int(pid)), strict=True):
        text = _more_locked(text, name, pages * kernel.page_size >> 10)
    return text


def _more_locked(text: str, name: str, kib: int) -> str:
    line = rf"(?m)^({name}:\t)\s*(\d+) kB$"
    return re.sub(line, lambda found: f"{found[1]}{int(found[2]) + kib:8} kB", text)


def _stat(process: ProcessEntry) -> str:
    """Only the first fields and the start time (field 22, in ticks) have values of their own (``do_task_stat``)."""
    fields = [str(process.pid), f"({process.name[:_COMMAND]})", "S", "1", *[str(process.pid)] * 2]
    fields += ["0"] * (52 - len(fields))
    fields[21] = str(process.pid)
    return " ".join(fields) + "\n"


def _options(entry: MountEntry) -> list[str]:
    first, *others = (entry.super_options or entry.options.split(",")[0]).split(",")
    return [first, *others]


def _mount(entry: MountEntry) -> str:
    options = [*entry.options.split(","), *_options(entry)[1:]]
    source, point = entry.source.translate(_SPECIAL).replace("#", r"\043"), entry.mount_point.translate(_SPECIAL)
    return f"{source} {point} {entry.fs_type} {','.join(options)} 0 0\n"


def _mountinfo(mounts: list[MountEntry]) -> str:
    """Numbers of mounts are their places in the list, from 21 on; the root's parent is 1 (``show_mountinfo``)."""
    lines = []
    for place, entry in enumerate(mounts):
        parent, length = 1, -1
        for number, other in enumerate(mounts[:place]):
            below = other.mount_point.rstrip("/")
            if len(below) > length and f"{entry.mount_point}/".startswith(f"{below}/"):
                parent, length = 21 + number, len(below)
        source = entry.source.translate(_SPECIAL).replace("#", r"\043")
        lines.append(
            f"{21 + place} {parent} {entry.major}:{entry.minor} {entry.root.translate(_SPECIAL)} "
            f"{entry.mount_point.translate(_SPECIAL)} {entry.options} - {entry.fs_type} {source} "
            f"{','.join(_options(entry))}\n"
        )
    return "".join(lines)


_SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


def _swap(entry: SwapEntry) -> str:
    path = entry.path.translate(_SPECIAL)
    kind = entry.kind if entry.kind == "partition" else "file\t"
    size, used = (f"{value}\t" if value < 10_000_000 else f"{value}" for value in (entry.size, entry.used))
    return f"{path}{' ' * max(1, 40 - len(path))}{kind}\t{size}\t{used}\t{entry.priority}\n"


def _console(entry: ConsoleEntry) -> str:
    flags = "".join(letter if letter in entry.flags else " " for letter in _FLAGS)
    number = f" {entry.major:4}:{entry.minor}" if entry.major else ""
    return f"{entry.name:<20} {entry.operations} ({flags}){number}\n"
