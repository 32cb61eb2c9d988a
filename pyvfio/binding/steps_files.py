"""Steps that change plain files: persistent settings, units and rules.

A file is replaced at once and flushed to the disk (`pyvfio.files`), so a killed run leaves the old or the new one.
"""

from __future__ import annotations

import contextlib
import posixpath
import stat
from dataclasses import dataclass
from typing import ClassVar

from pyvfio.binding.step import Step, journaled
from pyvfio.errors import PyvfioError, from_oserror
from pyvfio.files import HostFiles
from pyvfio.refusal import MISSING
from pyvfio.sysfs import Sysfs

__all__ = ["RemoveFile", "WriteFile", "remove_file", "write_file"]

_MODE = 0o644


@journaled("write-file")
@dataclass(frozen=True, slots=True)
class WriteFile(Step):
    """Give the file at `path` the text `content` and the permissions `mode`.

    `before` is what it held (None: it was not there); `made` are the directories that have to be made for it, the
    outermost first, and that the inverse removes if they are empty.  `what` says in words what the file is.
    """

    path: str
    content: str
    before: str | None = None
    mode: int = _MODE
    made: tuple[str, ...] = ()
    what: str = ""
    survives_boot: ClassVar[bool] = True

    @property
    def text(self) -> str:
        """See `Step.text`."""
        verb = "write" if self.before is None else "change"
        return f"{verb} {self.path}" + (f" ({self.what})" if self.what else "")

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "remove it" if self.before is None else "write what it held"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (self.path,)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        files = HostFiles(sysfs.backend)
        files.make_directory(posixpath.dirname(self.path))
        files.write(self.path, self.content, self.mode)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        now = HostFiles(sysfs.backend).read(self.path)
        return "" if now == self.content else "it is not there" if now is None else "it holds another text"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        return _changed(sysfs, self.path, self.before)

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        files = HostFiles(sysfs.backend)
        files.discard_unfinished(self.path)
        if self.before is not None:
            if files.read(self.path) != self.before:
                files.write(self.path, self.before, self.mode)
            return
        files.remove(self.path)
        for directory in reversed(self.made):
            with contextlib.suppress(OSError):  # somebody else may use it by now
                sysfs.backend.rmdir(directory)


@journaled("remove-file")
@dataclass(frozen=True, slots=True)
class RemoveFile(Step):
    """Remove the file at `path`, which held `before` and had the permissions `mode`.  `what` says what the file is."""

    path: str
    before: str
    mode: int = _MODE
    what: str = ""
    survives_boot: ClassVar[bool] = True

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"remove {self.path}" + (f" ({self.what})" if self.what else "")

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return "write it again"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (self.path,)

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        HostFiles(sysfs.backend).remove(self.path)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        return "" if HostFiles(sysfs.backend).read(self.path) is None else "it is still there"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        return _changed(sysfs, self.path, self.before)

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        files = HostFiles(sysfs.backend)
        if files.read(self.path) != self.before:
            files.make_directory(posixpath.dirname(self.path))
            files.write(self.path, self.before, self.mode)


def _changed(sysfs: Sysfs, path: str, before: str | None) -> str:
    now = HostFiles(sysfs.backend).read(path)
    if now == before:
        return ""
    return f"{path} is " + ("not there any more" if now is None else "there" if before is None else "another text")


def write_file(sysfs: Sysfs, path: str, content: str, *, what: str = "") -> WriteFile | None:
    """The step that gives a file this text; None when it has it already.  Raise when it cannot be read."""
    before = HostFiles(sysfs.backend).read(path)
    if before == content:
        return None
    return WriteFile(path, content, before, _mode(sysfs, path), _missing(sysfs, posixpath.dirname(path)), what)


def remove_file(sysfs: Sysfs, path: str, *, what: str = "") -> RemoveFile | None:
    """The step that removes a file; None when there is none.  Raise when it cannot be read."""
    before = HostFiles(sysfs.backend).read(path)
    return None if before is None else RemoveFile(path, before, _mode(sysfs, path), what)


def _mode(sysfs: Sysfs, path: str) -> int:
    try:
        return stat.S_IMODE(sysfs.backend.stat(path).st_mode)
    except OSError as error:
        if error.errno in MISSING:
            return _MODE
        raise from_oserror(error, "look up", path=path) from error


def _missing(sysfs: Sysfs, directory: str) -> tuple[str, ...]:
    """The directories above a file that are not there, the outermost first."""
    found: list[str] = []
    while directory not in ("", "/") and not _is_there(sysfs, directory):
        found.insert(0, directory)
        directory = posixpath.dirname(directory)
    return tuple(found)


def _is_there(sysfs: Sysfs, path: str) -> bool:
    try:
        return sysfs.exists(path)
    except PyvfioError:
        return True  # it is there, and writing to it will say what is wrong
