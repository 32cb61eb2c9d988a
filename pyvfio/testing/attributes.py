"""Files of a host as the contract uses them: text attributes of sysfs, and descriptors that are closed after a test."""

from __future__ import annotations

import os
from typing import Self

from pyvfio.backend import Backend

__all__ = ["Attributes", "OpenFiles"]


class Attributes:
    """Sysfs through the seam.  Each call opens, reads or writes once, and closes, as a shell's redirection does."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def read(self, path: str) -> str:
        """The attribute's text without its last newline.  Raise OSError as open and read do."""
        fd = self.backend.open(path, os.O_RDONLY)
        try:
            return self.backend.read(fd, 1 << 16).decode().removesuffix("\n")
        finally:
            self.backend.close(fd)

    def write(self, path: str, text: str | bytes) -> int:
        """Write in one call; the number of bytes taken.  Raise OSError as open and write do."""
        fd = self.backend.open(path, os.O_WRONLY)
        try:
            return self.backend.write(fd, text.encode() if isinstance(text, str) else text)
        finally:
            self.backend.close(fd)

    def exists(self, path: str) -> bool:
        """Whether the path leads to something (links are not followed)."""
        try:
            self.backend.lstat(path)
        except OSError:
            return False
        return True

    def link(self, path: str) -> str | None:
        """The last part of a link's target, None where there is no link (a device without driver)."""
        try:
            return self.backend.readlink(path).rsplit("/", 1)[-1]
        except FileNotFoundError:
            return None


class OpenFiles:
    """Descriptors of one test, closed in reverse order at its end.  A context manager."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._fds: list[int] = []

    def open(self, path: str, flags: int = os.O_RDWR) -> int:
        """Open a node; the descriptor is closed at the end unless `close` was called."""
        return self.adopt(self.backend.open(path, flags))

    def adopt(self, fd: int) -> int:
        """Take over a descriptor that an ioctl gave."""
        self._fds.append(fd)
        return fd

    def close(self, fd: int) -> None:
        """Close one now."""
        self._fds.remove(fd)
        self.backend.close(fd)

    def close_all(self) -> None:
        """Close what is still open, the newest first."""
        while self._fds:
            self.backend.close(self._fds.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_all()
