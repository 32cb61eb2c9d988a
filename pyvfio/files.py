"""Plain files of a host (``/etc``, ``/var``, ``/run``) through the seam: whole reads, and writes that are there or not.

A file is written beside its name, flushed to the disk, and renamed: a crash leaves the old or the new content.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat

from pyvfio.backend import Backend
from pyvfio.refusal import MISSING, refusal

__all__ = ["HostFiles"]

_CHUNK = 1 << 16
_BESIDE = ".pyvfio-new"


class HostFiles:
    """The files of the host that `backend` answers for.  All paths are absolute.

    Raise the class of `pyvfio.errors` for the errno of a failing call.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def read(self, path: str) -> str | None:
        """The text of a file; None when there is none."""
        try:
            return self._read(path).decode("utf-8", "surrogateescape")
        except OSError as error:
            if error.errno in MISSING:
                return None
            raise refusal(self.backend, error, "read", path=path) from error

    def _read(self, path: str) -> bytes:
        fd = self.backend.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while part := self.backend.read(fd, _CHUNK):
                parts.append(part)
            return b"".join(parts)
        finally:
            self.backend.close(fd)

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; a missing directory is an empty list."""
        try:
            return sorted(self.backend.listdir(path))
        except OSError as error:
            if error.errno in MISSING:
                return []
            raise refusal(self.backend, error, "list", path=path) from error

    def make_directory(self, path: str, mode: int = 0o755) -> None:
        """Make a directory and those above it; one that is there is left as it is."""
        if path in ("", "/"):
            return
        above = posixpath.dirname(path)
        try:
            try:
                self.backend.mkdir(path, mode)
            except FileNotFoundError:
                self.make_directory(above, mode)
                self.backend.mkdir(path, mode)
        except FileExistsError:
            return
        except OSError as error:
            raise refusal(self.backend, error, "make directory", path=path) from error
        self.sync_directory(above)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Replace a file by `text`, at once and on the disk; its directory must be there.

        A file that is there keeps its owner, and gets exactly the permissions `mode`; a new one gets what the umask
        leaves of them.  A symbolic link is replaced, not followed.
        """
        beside = path + _BESIDE
        try:
            fd = self._new(beside, mode)
            try:
                self._all(fd, text.encode("utf-8", "surrogateescape"))
                self._as_before(path, beside, mode)
                self.backend.fsync(fd)
            finally:
                self.backend.close(fd)
            self.backend.rename(beside, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.backend.unlink(beside)
            raise refusal(self.backend, error, "write", path=path) from error
        self.sync_directory(posixpath.dirname(path))

    def _new(self, beside: str, mode: int) -> int:
        """Open a new file; one that is there (what a killed run left, or a link that leads elsewhere) is removed."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return self.backend.open(beside, flags, mode)
        except FileExistsError:
            self.backend.unlink(beside)
            return self.backend.open(beside, flags, mode)

    def _as_before(self, path: str, beside: str, mode: int) -> None:
        """Give the new file what the umask took away, and the owner of the one that it replaces."""
        try:
            before = self.backend.stat(path)
        except OSError as error:
            if error.errno in MISSING:
                return
            raise
        now = self.backend.stat(beside)
        if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
            with contextlib.suppress(PermissionError):  # only root gives files away; it is the caller's then
                self.backend.chown(beside, before.st_uid, before.st_gid)
        if stat.S_IMODE(now.st_mode) != mode:
            self.backend.chmod(beside, mode)

    def discard_unfinished(self, path: str) -> None:
        """Remove what a `write` of `path` that was cut off may have left beside it."""
        self.remove(path + _BESIDE)

    def append(self, path: str, text: str) -> None:
        """Add `text` to a file that is there, and flush it to the disk."""
        try:
            fd = self.backend.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            try:
                self._all(fd, text.encode("utf-8", "surrogateescape"))
                self.backend.fsync(fd)
            finally:
                self.backend.close(fd)
        except OSError as error:
            raise refusal(self.backend, error, "write", path=path) from error

    def _all(self, fd: int, data: bytes) -> None:
        while data:
            data = data[self.backend.write(fd, data) :]

    def remove(self, path: str) -> None:
        """Remove a file; one that is not there is no error."""
        try:
            self.backend.unlink(path)
        except OSError as error:
            if error.errno in MISSING:
                return
            raise refusal(self.backend, error, "remove", path=path) from error
        self.sync_directory(posixpath.dirname(path))

    def sync_directory(self, path: str) -> None:
        """Flush the names of a directory to the disk."""
        try:
            fd = self.backend.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self.backend.fsync(fd)
            finally:
                self.backend.close(fd)
        except OSError as error:
            raise refusal(self.backend, error, "flush directory", path=path) from error
