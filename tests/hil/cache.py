"""The store of what is slow to build, by content, under the user's cache directory.

<root>/kernel/<key>/     bzImage or vmlinux, modules, headers
<root>/image/<key>/      root.ext4, initrd.img, python (a host build of the guest's Python)
<root>/emulator/<key>/   QEMU with all that it needs
<root>/tmp/              what is being built; renamed into place when complete
<root>/lock              held by the one builder
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .progress import StepFailed

KEEP = 2


def default_root() -> Path:
    """Give `$XDG_CACHE_HOME/pyvfio/hil`, or `~/.cache/pyvfio/hil`."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "pyvfio" / "hil"


def key(*labels: str, files: tuple[Path, ...] = (), texts: tuple[str, ...] = ()) -> str:
    """Make a cache key: the labels, readable, then a hash of the files' and the texts' content.

    The hash does not depend on where the files lie, only on their names, order and content.
    """
    digest = hashlib.sha256()
    parts = [(path.name, path.read_bytes()) for path in files] + [("", text.encode()) for text in texts]
    for name, content in parts:
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return "-".join((*labels, digest.hexdigest()[:12]))


class Cache:
    """Directories by kind and key, each complete or absent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def find(self, kind: str, name: str) -> Path | None:
        """Give the complete entry of this name and mark it as used now, or None."""
        entry = self.root / kind / name
        if not entry.is_dir():
            return None
        os.utime(entry)
        return entry

    def newest(self, kind: str, prefix: str, suffix: str) -> str | None:
        """Name the entry used last whose name begins and ends so, or None."""
        names = [
            entry for entry in self._entries(kind) if entry.name.startswith(prefix) and entry.name.endswith(suffix)
        ]
        return names[0].name if names else None

    def build(self, kind: str, name: str, make: Callable[[Path], None], need: int = 0) -> Path:
        """Give the entry, made by `make(directory)` if absent: whole or not at all.

        `need` is the disk space in bytes that `make` uses while it works. The caller holds the lock.
        Older entries of the kind and label (the name up to the first hyphen) beyond the last two used are removed.
        """
        found = self.find(kind, name)
        if found is not None:
            return found
        free = shutil.disk_usage(self.root).free
        if free < need:
            raise StepFailed(
                f"{self.root} has {free >> 20} MiB free, {need >> 20} MiB are needed to build the guest's {kind}; "
                "make room, or point XDG_CACHE_HOME to another disk"
            )
        entry = self.root / kind / name
        entry.parent.mkdir(exist_ok=True)
        with self.scratch() as work:
            result = work / "entry"
            result.mkdir()
            make(result)
            result.rename(entry)
        label = name.partition("-")[0]
        for old in [one for one in self._entries(kind) if one.name.partition("-")[0] == label][KEEP:]:
            shutil.rmtree(old, ignore_errors=True)
        return entry

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Lend a directory under the cache that is removed at the end, and by the next builder otherwise."""
        base = self.root / "tmp"
        base.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base, ignore_cleanup_errors=True) as name:
            yield Path(name)

    @contextmanager
    def lock(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Hold the builder's lock; `waiting(text)` is called once if another process has it."""
        with open(self.root / "lock", "a+", encoding="ascii") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                waiting(f"process {file.read().strip() or '?'} builds into {self.root}; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            # With the lock held nobody builds, so what lies here is from a build that was interrupted.
            shutil.rmtree(self.root / "tmp", ignore_errors=True)
            yield

    def clean(self) -> None:
        """Remove everything that was built."""
        for kind in ("kernel", "image", "emulator", "tmp", "apt"):
            shutil.rmtree(self.root / kind, ignore_errors=True)

    def _entries(self, kind: str) -> list[Path]:
        folder = self.root / kind
        entries = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        return sorted(entries, key=lambda path: path.stat().st_mtime, reverse=True)
