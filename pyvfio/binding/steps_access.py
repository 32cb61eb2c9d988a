"""The step that gives a node to a user or a group."""

from __future__ import annotations

import stat
from dataclasses import dataclass

from pyvfio.binding.step import Step, journaled
from pyvfio.errors import NoSuchDevice
from pyvfio.refusal import MISSING, refusal
from pyvfio.sysfs import Sysfs

__all__ = ["SetOwner", "set_owner"]


@journaled("owner")
@dataclass(frozen=True, slots=True)
class SetOwner(Step):
    """Give the node at `path` the owner `uid`, the group `gid` and the permissions `mode`; the rest is what it had."""

    path: str
    uid: int
    gid: int
    mode: int
    uid_before: int
    gid_before: int
    mode_before: int

    @property
    def text(self) -> str:
        """See `Step.text`."""
        return f"give {self.path} to uid {self.uid}, gid {self.gid}, mode {self.mode:04o}"

    @property
    def undo_text(self) -> str:
        """See `Step.undo_text`."""
        return f"give it back to uid {self.uid_before}, gid {self.gid_before}, mode {self.mode_before:04o}"

    @property
    def paths(self) -> tuple[str, ...]:
        """See `Step.paths`."""
        return (self.path,)

    def _set(self, sysfs: Sysfs, uid: int, gid: int, mode: int) -> None:
        if _owner(sysfs, self.path) == (uid, gid, mode):
            return
        try:
            sysfs.backend.chown(self.path, uid, gid)
            sysfs.backend.chmod(self.path, mode)
        except OSError as error:
            raise refusal(sysfs.backend, error, "change the owner", path=self.path) from error

    def do(self, sysfs: Sysfs) -> None:
        """See `Step.do`."""
        self._set(sysfs, self.uid, self.gid, self.mode)

    def verify(self, sysfs: Sysfs) -> str:
        """See `Step.verify`."""
        uid, gid, mode = _owner(sysfs, self.path)
        if (uid, gid, mode) == (self.uid, self.gid, self.mode):
            return ""
        return f"it belongs to uid {uid}, gid {gid}, mode {mode:04o}"

    def changed(self, sysfs: Sysfs) -> str:
        """See `Step.changed`."""
        uid, gid, mode = _owner(sysfs, self.path)
        known = (self.uid_before, self.gid_before, self.mode_before), (self.uid, self.gid, self.mode)
        if (uid, gid, mode) in known:  # two devices of a plan may share a node
            return ""
        return f"it belongs to uid {uid}, gid {gid}, mode {mode:04o}"

    def undo(self, sysfs: Sysfs) -> None:
        """See `Step.undo`."""
        try:
            self._set(sysfs, self.uid_before, self.gid_before, self.mode_before)
        except NoSuchDevice:
            return  # the node went with its device; a new one belongs to root


def _owner(sysfs: Sysfs, path: str) -> tuple[int, int, int]:
    try:
        status = sysfs.backend.stat(path)
    except OSError as error:
        if error.errno in MISSING:
            raise NoSuchDevice("look at node", path, path=path, errno=error.errno, cause="it is not there") from error
        raise refusal(sysfs.backend, error, "look at node", path=path) from error
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def set_owner(sysfs: Sysfs, path: str, *, uid: int | None, gid: int | None, mode: int) -> SetOwner | None:
    """The step that gives a node away (None: as it is); None when it is so already.  Raise `NoSuchDevice`."""
    before = _owner(sysfs, path)
    wanted = (before[0] if uid is None else uid, before[1] if gid is None else gid, mode)
    return None if wanted == before else SetOwner(path, *wanted, *before)
