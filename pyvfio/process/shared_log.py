"""A file of lines that several programs write, and that each of them reads in the same order."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator

__all__ = ["SharedLog"]

_CHUNK = 1 << 20


class SharedLog:
    """The log at `path`, which is made if it is not there.  Raise OSError.

    `position` is how many bytes of it were read.  A line counts when its newline is there: what a program wrote of one
    when it was killed is dropped by the next that writes.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self.position = 0
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()

    @property
    def grown(self) -> bool:
        """Whether there is something that was not read."""
        return os.fstat(self._fd).st_size != self.position

    @property
    def grown_by_a_line(self) -> bool:
        """Whether a whole line was not read; exact while the caller is `exclusive`."""
        if not self.grown:
            return False
        at = self.position
        while part := os.pread(self._fd, _CHUNK, at):
            if b"\n" in part:
                return True
            at += len(part)
        return False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep all others, also in other programs, from writing; no thread may enter twice."""
        with self._lock:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def read_new(self) -> list[bytes]:
        """The lines since the last call, without their newlines."""
        parts = []
        at = self.position
        while part := os.pread(self._fd, _CHUNK, at):
            parts.append(part)
            at += len(part)
        whole, newline, _ = b"".join(parts).rpartition(b"\n")
        self.position += len(whole) + len(newline)
        return whole.split(b"\n") if newline else []

    def append(self, line: bytes) -> None:
        """Add a line (without newline).  The caller is `exclusive` and has read all others."""
        os.ftruncate(self._fd, self.position)
        data, at = line + b"\n", self.position
        while data:
            written = os.pwrite(self._fd, data, at)
            at += written
            data = data[written:]
        self.position = at  # not before: what a full disk took of a line is dropped by the next that writes

    def used_by(self, pid: int) -> bool:
        """Whether that process has the log open, as far as this user may see."""
        folder = f"/proc/{pid}/fd"
        try:
            return any(_link(f"{folder}/{name}") == self.path for name in os.listdir(folder))
        except OSError:
            return False

    def users(self) -> list[int]:
        """The processes that have the log open, this one too."""
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and self.used_by(int(name))]

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
