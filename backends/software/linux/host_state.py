"""What the host does with its devices: mounts, swap, consoles, programs; the text of ``/proc`` is made from it.

A subsystem that gives a device a use (a mounted partition, a console) adds the entry here, in the order in which the
kernel would list it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ConsoleEntry", "HugePages", "MountEntry", "ProcessEntry", "SwapEntry"]


@dataclass(frozen=True, slots=True)
class MountEntry:
    """A line of ``/proc/self/mountinfo`` and ``/proc/mounts`` (fs/proc_namespace.c).

    `source` is what was mounted (``/dev/vda1``, ``tmpfs``), `major` and `minor` the number of the file system's
    device, `root` the directory of the file system that is seen at `mount_point`.  `options` are those of the mount,
    `super_options` those of the file system (empty: only whether it can be written).
    """

    source: str
    mount_point: str
    fs_type: str
    major: int = 0
    minor: int = 0
    options: str = "rw,relatime"
    root: str = "/"
    super_options: str = ""


@dataclass(frozen=True, slots=True)
class SwapEntry:
    """A line of ``/proc/swaps`` (mm/swapfile.c); `kind` is ``partition`` or ``file``, sizes are in KiB."""

    path: str
    kind: str = "partition"
    size: int = 0
    used: int = 0
    priority: int = -2


@dataclass(frozen=True, slots=True)
class ConsoleEntry:
    """A line of ``/proc/consoles`` (fs/proc/consoles.c): `name` is its terminal's (``ttyS0``, ``hvc0``).

    `operations` are the columns ``R`` (read), ``W`` (write) and ``U`` (unblank), `flags` those in brackets: ``E``
    enabled, ``C`` preferred, ``B`` boot console, ``p`` for printk.  The number is that of its terminal.
    """

    name: str
    operations: str = "-W-"
    flags: str = "ECp"
    major: int = 4
    minor: int = 64


@dataclass(frozen=True, slots=True)
class ProcessEntry:
    """A program that runs on the machine: its `pid`, `name` (the command) and the paths that it has `open`.

    The first path is its descriptor 3, as the standard streams come first.
    """

    pid: int
    name: str
    open: tuple[str, ...] = ()


@dataclass(slots=True)
class HugePages:
    """Huge pages of `size` KiB on a NUMA `node`: how many there are (`total`) and how many nobody uses (`free`)."""

    size: int
    total: int = 0
    free: int = 0
    node: int = 0
