"""Sysfs through the seam: attributes, links and lists, with errors that name the object.

Everything is read when it is asked for; nothing is kept, because the kernel changes it behind our back.
"""

from __future__ import annotations

import errno
import os
import posixpath
import threading

from pyvfio.backend import Backend, Holder
from pyvfio.errors import Misuse, Timeout
from pyvfio.refusal import MISSING, NO_VALUE, refusal

__all__ = ["Sysfs"]


class Sysfs:
    """Files below ``/sys`` (and the names of nodes below ``/dev``) of one host.

    `backend` answers.  All paths are absolute.  Raise the class of `pyvfio.errors` for the errno of a failing call.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def read_bytes(self, path: str, count: int | None = None) -> bytes:
        """Read a file from its start: up to `count` bytes, or all of it."""
        try:
            return self._read(path, count)
        except OSError as error:
            raise refusal(self.backend, error, "read", path=path) from error

    def read_at(self, path: str, offset: int, count: int) -> bytes:
        """Read up to `count` bytes at `offset` of a binary attribute; fewer, or none, where it ends."""
        try:
            fd = self.backend.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                return self.backend.pread(fd, count, offset)
            finally:
                self.backend.close(fd)
        except OSError as error:
            raise refusal(self.backend, error, "read", path=path) from error

    def read_text(self, path: str) -> str:
        """Read an attribute, without white space at its ends."""
        return self.read_bytes(path).decode("utf-8", "replace").strip()

    def attribute(self, path: str, default: str | None = None) -> str | None:
        """Read an attribute; `default` when there is no such file or the kernel has no value for it.

        Drivers answer ENODEV, ENXIO, EINVAL or EOPNOTSUPP for a value that a device does not have.
        """
        try:
            data = self._read(path, None)
        except OSError as error:
            if error.errno in (*MISSING, *NO_VALUE):
                return default
            raise refusal(self.backend, error, "read", path=path) from error
        return data.decode("utf-8", "replace").strip()

    def _read(self, path: str, count: int | None) -> bytes:
        fd = self.backend.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            chunk = self.backend.sysconf("SC_PAGE_SIZE")
            parts: list[bytes] = []
            left = chunk if count is None else count
            while left > 0:
                part = self.backend.read(fd, left)
                if not part:
                    break
                parts.append(part)
                left = chunk if count is None else left - len(part)
            return b"".join(parts)
        finally:
            self.backend.close(fd)

    def write_text(self, path: str, text: str, *, deadline: float | None = None, held: str = "") -> None:
        """Write an attribute in one ``write``.

        With `deadline` (seconds) the write is made on a helper thread, because the kernel may wait in it for a program
        to let go of a device.  When it passes, raise `Timeout` which names the holders of the node `held`; the write
        itself cannot be taken back and ends when they let go.  Raise `Misuse` for an empty text: no call would reach
        the attribute, so it never clears anything.
        """
        if not text:
            raise Misuse("write attribute", path=path, cause="an empty write does not reach the kernel's attribute")
        if deadline is None:
            self._write(path, text)
            return
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._write(path, text)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=work, name=f"pyvfio-write-{posixpath.basename(path)}", daemon=True)
        thread.start()
        thread.join(deadline)
        if thread.is_alive():
            who = ", ".join(str(holder) for holder in self.holders(held)) if held else ""
            raise Timeout(
                "write attribute",
                path=path,
                cause=f"the kernel still waits after {deadline:g} s" + (f"; {held} is open in {who}" if who else ""),
                next_step="close the device there; the kernel then finishes what was written",
            )
        if failures:
            raise failures[0]

    def _write(self, path: str, text: str) -> None:
        try:
            fd = self.backend.open(path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                self.backend.write(fd, text.encode())
            finally:
                self.backend.close(fd)
        except OSError as error:
            raise refusal(self.backend, error, "write", path=path) from error

    def exists(self, path: str) -> bool:
        """Whether `path` can be found (a dangling link cannot)."""
        try:
            self.backend.stat(path)
        except OSError as error:
            if error.errno in MISSING:
                return False
            raise refusal(self.backend, error, "look up", path=path) from error
        return True

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; a missing directory is an empty list."""
        try:
            return sorted(self.backend.listdir(path))
        except OSError as error:
            if error.errno in MISSING:
                return []
            raise refusal(self.backend, error, "list", path=path) from error

    def link(self, path: str) -> str | None:
        """The absolute path a link points at; None when there is no such link."""
        try:
            target = self.backend.readlink(path)
        except OSError as error:
            if error.errno in (*MISSING, errno.EINVAL):
                return None
            raise refusal(self.backend, error, "read link", path=path) from error
        return posixpath.normpath(posixpath.join(posixpath.dirname(path), target))

    def link_name(self, path: str) -> str | None:
        """The last part of what a link points at; None when there is no such link."""
        target = self.link(path)
        return None if target is None else posixpath.basename(target)

    def holders(self, node: str) -> list[Holder]:
        """The processes that have `node` open, as far as this user may see; empty when it does not exist."""
        try:
            return self.backend.holders(node)
        except OSError:
            return []
