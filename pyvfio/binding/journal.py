"""The journal: what a run is about to change and what was before, on the disk before the host is touched.

One file a run, in JSON lines: first the plan with all that its inverses need, then a line for each step that begins or
ends.  A run that comes to its end, done or undone, says so in a last line and removes the file.  What is left in the
directory belongs to a run that works now or was killed; `restore` undoes the latter.

::

    {"version": 1, "title": ..., "objects": [...], "boot": ..., "pid": ..., "started": ..., "before": ..., "steps": ...}
    {"start": 0}
    {"done": 0}
    ...
    {"end": "done"}

The line ``end`` is the point of commitment: a run whose last line cannot be written is undone.  A line behind it says
that the run was undone after all, and that is not ended then.

Whoever can write a journal says what `restore` does, which is often root: only files of root or of the caller are
believed, in a directory that nobody else can write to.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyvfio.binding.present import present_state
from pyvfio.binding.step import Step, step_from_dict
from pyvfio.errors import MalformedAnswer, Misuse, PyvfioError, from_oserror
from pyvfio.files import HostFiles
from pyvfio.process.credentials import effective_user
from pyvfio.sysfs import Sysfs

__all__ = ["DIRECTORY", "Journal", "Record", "boot_id", "records"]

DIRECTORY = "/var/lib/pyvfio/journal"
"""Where journals are kept; ``PYVFIO_JOURNAL`` names another directory for the command."""

_VERSION = 1
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_MISSING = (errno.ENOENT, errno.ENOTDIR)
_at_work: set[str] = set()
"""The journals of the runs of this process."""
_START_TIME = 19
"""Field of ``/proc/PID/stat``, counted after the program's name (proc_pid_stat(5): starttime is field 22)."""


def boot_id(sysfs: Sysfs) -> str:
    """What names this boot of the host; empty where it cannot be read."""
    return sysfs.attribute("/proc/sys/kernel/random/boot_id") or ""


def _started(sysfs: Sysfs, pid: int | str) -> str:
    """When a process began, in the kernel's ticks; empty when there is no such process (or none can be seen)."""
    text = sysfs.attribute(f"/proc/{pid}/stat") or ""
    fields = text.rpartition(")")[2].split()
    return fields[_START_TIME] if len(fields) > _START_TIME else ""


@dataclass(frozen=True, slots=True)
class Record:
    """A journal as it was found: the `steps` of the plan, which of them were begun (`started`), how the run `end`-ed
    (empty: it did not), and the process that made it.

    `waits` says what the run gave up waiting for; `damaged` why the file cannot be read; `before` what the devices were
    like (device, what, value).
    """

    path: str
    title: str
    objects: tuple[str, ...]
    boot: str
    pid: int
    began: str
    time: str
    steps: tuple[Step, ...]
    started: frozenset[int]
    undone: frozenset[int]
    end: str = ""
    waits: str = ""
    damaged: str = ""
    before: tuple[tuple[str, ...], ...] = ()

    def alive(self, sysfs: Sysfs) -> bool:
        """Whether the process that made it still runs (for one that is this process: whether that run does)."""
        if self.pid == os.getpid():
            return self.path in _at_work
        if self.boot != boot_id(sysfs):
            return False  # numbers and start times of processes begin anew
        now = _started(sysfs, self.pid)
        return bool(now) and now == self.began

    def left(self) -> list[Step]:
        """The steps to be undone, the last first.

        A write that the run gave up came to effect after its inverse, so all inverses are due once more then.
        """
        due = self.started if self.waits else self.started - self.undone
        return [self.steps[n] for n in sorted(due, reverse=True)]


class Journal:
    """The journal of a run, in `directory` of the host that `sysfs` shows.  Raise the class of a failing write."""

    def __init__(self, sysfs: Sysfs, directory: str = DIRECTORY) -> None:
        self._files = HostFiles(sysfs.backend)
        self._sysfs = sysfs
        self.directory = directory
        self.path = ""

    def begin(self, title: str, objects: Sequence[str], steps: Sequence[Step]) -> None:
        """Write the plan down; it is on the disk when this returns."""
        now = datetime.now(UTC)
        pid = os.getpid()
        header = {
            "version": _VERSION,
            "title": title,
            "objects": list(objects),
            "boot": boot_id(self._sysfs),
            "pid": pid,
            "started": _started(self._sysfs, pid),
            "time": now.isoformat(timespec="seconds"),
            "before": present_state(self._sysfs, objects),
            "steps": [step.as_dict() for step in steps],
        }
        self._files.make_directory(self.directory, 0o700)
        path = f"{self.directory}/{now.strftime('%Y%m%dT%H%M%S.%f')}-{pid}.json"
        try:
            self._files.write(path, json.dumps(header) + "\n", mode=0o600)
        except PyvfioError:
            self._drop(path)  # it may be there although not surely on the disk
            raise
        except BaseException:  # interrupted
            self._drop(path)
            raise
        self.path = path
        _at_work.add(path)

    def leave(self) -> None:
        """Say that this process does no more about it; the file stays as it is."""
        _at_work.discard(self.path)

    def note(self, **words: object) -> None:
        """Add a line."""
        self._files.append(self.path, json.dumps(words) + "\n")

    def end(self, how: str) -> None:
        """Say that the run came to its end (``done`` or ``undone``), and remove the file.

        Raise when the line cannot be written; a file that cannot be removed is harmless then.
        """
        self.note(end=how)
        self._drop(self.path)

    def withdraw(self) -> None:
        """Remove the file of a run that does nothing after all."""
        self._drop(self.path)

    def _drop(self, path: str) -> None:
        with contextlib.suppress(PyvfioError):
            self._files.remove(path)


def records(sysfs: Sysfs, directory: str = DIRECTORY) -> list[Record]:
    """The journals that are there, the oldest first; those of runs that ended are left out.

    A file that is no journal, or that somebody else than root and the caller may have written, is `damaged`.  Raise
    `Misuse` for a directory that others can write to.
    """
    if not _trusted_directory(sysfs, directory):
        return []
    files = HostFiles(sysfs.backend)
    found = []
    for name in files.names(directory):
        if name.endswith(".json"):
            path = f"{directory}/{name}"
            why = _distrust(sysfs, path)
            text = None if why else files.read(path)
            if why:
                found.append(_damaged(path, why))
            elif text is not None and not (record := _read(path, text)).end:  # else it has ended meanwhile
                found.append(record)
    return found


def _trusted_directory(sysfs: Sysfs, directory: str) -> bool:
    """Whether the directory is there.  Raise `Misuse` when others can write to it."""
    try:
        status = sysfs.backend.stat(directory)
    except OSError as error:
        if error.errno in _MISSING:
            return False
        raise from_oserror(error, "look at the journals", path=directory) from error
    why = _writers(status)
    if why and stat.S_ISDIR(status.st_mode):
        raise Misuse(
            "look at the journals",
            directory,
            path=directory,
            cause=f"{why}: a journal there could make this program write anything",
            next_step=f"look at what is in it; then chown root {directory}; chmod 700 {directory}",
        )
    return True


def _distrust(sysfs: Sysfs, path: str) -> str:
    """Why a journal is not believed; an empty string when it is, or when it is gone."""
    try:
        status = sysfs.backend.lstat(path)
    except OSError as error:
        if error.errno in _MISSING:
            return ""
        raise from_oserror(error, "look at journal", path=path) from error
    if not stat.S_ISREG(status.st_mode):
        return "it is not a plain file"
    return _writers(status)


def _writers(status: os.stat_result) -> str:
    """Who else can write a file; an empty string when nobody can."""
    if status.st_uid not in (0, effective_user()):
        return f"it belongs to uid {status.st_uid}"
    return f"others can write to it (mode {stat.S_IMODE(status.st_mode):04o})" if status.st_mode & _OTHERS else ""


def _read(path: str, text: str) -> Record:
    lines = text.split("\n")
    head: Any = None
    try:
        head = json.loads(lines[0])
        if not isinstance(head, dict) or head.get("version") != _VERSION:
            raise MalformedAnswer("read journal", path, "it is of another version of pyvfio")
        steps = tuple(step_from_dict(step) for step in head["steps"])
        return _record(path, head, steps, lines[1:])
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        why = f"it is not a journal: {error}"
    except MalformedAnswer as error:
        why = error.cause
    return _damaged(path, why, head)


def _damaged(path: str, why: str, head: Any = None) -> Record:
    """The record of a file that cannot be undone; its objects are left alone, as far as `head` names them."""
    names = head.get("objects") if isinstance(head, dict) else None
    objects = tuple(name for name in names if isinstance(name, str)) if isinstance(names, list) else ()
    title = path.rpartition("/")[2]
    return Record(path, title, objects, "", 0, "", "", (), frozenset(), frozenset(), damaged=why)


def _record(path: str, head: Mapping[str, Any], steps: tuple[Step, ...], lines: Sequence[str]) -> Record:
    started: set[int] = set()
    undone: set[int] = set()
    end = waits = ""
    for line in lines:
        try:
            words = json.loads(line)
        except ValueError:
            continue  # the line that was being written when the run was killed
        if not isinstance(words, dict):
            raise TypeError(f"a line is {line[:80]!r}")
        for key, numbers in (("start", started), ("undone", undone)):
            if key in words:
                numbers.add(range(len(steps)).index(words[key]))
        end, waits = str(words.get("end", "")), str(words.get("waits", waits))
    return Record(
        path, str(head["title"]), tuple(map(str, head["objects"])), str(head["boot"]), int(head["pid"]),
        str(head["started"]), str(head["time"]), steps, frozenset(started), frozenset(undone), end, waits,
        before=tuple(tuple(map(str, fact)) for fact in head.get("before", ())),
    )  # fmt: skip
