"""The initial RAM disk of a guest whose kernel has no driver of the root disk: busybox, the drivers, and a script.

A cpio archive of the "newc" form: for each file thirteen fields of eight hexadecimal digits behind a magic number, the
name and the content, each padded to four bytes.
Source: ``Documentation/driver-api/early-userspace/buffer-format.rst``.
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .progress import StepFailed

NAME = "initrd.img"
SCRIPT = Path(__file__).with_name("initrd-init")
_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"
_DIRECTORY, _PROGRAM, _FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o755, stat.S_IFREG | 0o644
_CONSOLE = (5, 1)


@dataclass(frozen=True)
class Entry:
    """A file of the archive: its name, type and mode, content, and for a device node its numbers."""

    name: str
    mode: int
    content: bytes = b""
    numbers: tuple[int, int] = (0, 0)


def archive(entries: Iterable[Entry]) -> bytes:
    """Make the archive, uncompressed."""
    parts = [_member(number, entry) for number, entry in enumerate((*entries, Entry(_TRAILER, 0)), 1)]
    return b"".join(parts)


def _member(number: int, entry: Entry) -> bytes:
    name = entry.name.encode() + b"\0"
    fields = (number, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, *entry.numbers, len(name), 0)
    head = _MAGIC + b"".join(b"%08x" % field for field in fields) + name
    return _padded(head) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def build(root: Path, kernel: Path, names: tuple[str, ...], result: Path) -> None:
    """Write the compressed archive, with the shell of the tree `root` and these modules of the kernel's entry.

    They are loaded in the order of `names`.
    """
    shell = root / "usr/bin/busybox"
    if not shell.is_file():
        raise StepFailed(f"{root} has no {shell.relative_to(root)}; the initial RAM disk needs it")
    folders = [Entry(name, _DIRECTORY) for name in ("bin", "dev", "lib", "proc", "root", "sys")]
    console = Entry("dev/console", stat.S_IFCHR | 0o600, numbers=_CONSOLE)
    programs = [Entry("bin/busybox", _PROGRAM, shell.read_bytes()), Entry("init", _PROGRAM, SCRIPT.read_bytes())]
    modules = [Entry(f"lib/{name}.ko", _FILE, _module(kernel, name)) for name in names]
    modules.append(Entry("lib/order", _FILE, "".join(f"{name}\n" for name in names).encode()))
    result.write_bytes(gzip.compress(archive([*folders, console, *programs, *modules]), mtime=0))


def _module(kernel: Path, name: str) -> bytes:
    found = next((kernel / "usr/lib/modules").rglob(f"{name}.ko"), None)
    if found is None:
        raise StepFailed(f"the kernel in {kernel} has no module {name}")
    return found.read_bytes()
