"""The journal: what a run is about to change and what was before, on the disk before the host is touched.

One file a run, in JSON lines: first the plan with all that its inverses need, then a line for each step that begins or
ends.  A run that comes to its end, done or undone, says so in a last line and removes the file.  What is left in the
directory belongs to a run that works now or was killed; `restore` undoes the latter.

::

    {"version": 1, "title": ..., "objects": [...], "boot": ..., "pid": ..., "started": ..., "steps": [...]}
    {"start": 0}
    {"done": 0}
    ...
    {"end": "done"}

The line ``end`` is the point of commitment: a run whose last line cannot be written is undone.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyvfio.binding.step import Step, step_from_dict
from pyvfio.errors import MalformedAnswer, PyvfioError
from pyvfio.files import HostFiles
from pyvfio.sysfs import Sysfs

__all__ = ["DIRECTORY", "Journal", "Record", "boot_id", "records"]

DIRECTORY = "/var/lib/pyvfio/journal"
"""Where journals are kept; ``PYVFIO_JOURNAL`` names another directory for the command."""

_VERSION = 1
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

    `waits` says what the run gave up waiting for; `damaged` why the file cannot be read.
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

    def alive(self, sysfs: Sysfs) -> bool:
        """Whether the process that made it still runs."""
        if self.pid == os.getpid():
            return False  # it is this process, which knows that it is not in a run
        now = _started(sysfs, self.pid)
        return bool(now) and now == self.began

    def left(self) -> list[Step]:
        """The steps to be undone, the last first.

        A write that the run gave up came to effect after its inverse, so all inverses are due once more then.
        """
        due = self.started if self.waits else self.started - self.undone
        return [self.steps[n] for n in sorted(due, reverse=True) if n < len(self.steps)]


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
            "steps": [step.as_dict() for step in steps],
        }
        self._files.make_directory(self.directory, 0o700)
        path = f"{self.directory}/{now.strftime('%Y%m%dT%H%M%S.%f')}-{pid}.json"
        try:
            self._files.write(path, json.dumps(header) + "\n", mode=0o600)
        except PyvfioError:
            with contextlib.suppress(PyvfioError):
                self._files.remove(path)  # it may be there although not surely on the disk
            raise
        self.path = path

    def note(self, **words: object) -> None:
        """Add a line."""
        self._files.append(self.path, json.dumps(words) + "\n")

    def end(self, how: str) -> None:
        """Say that the run came to its end (``done`` or ``undone``), and remove the file.

        Raise when the line cannot be written; a file that cannot be removed is harmless then.
        """
        self.note(end=how)
        with contextlib.suppress(PyvfioError):
            self._files.remove(self.path)


def records(sysfs: Sysfs, directory: str = DIRECTORY) -> list[Record]:
    """The journals that are there, the oldest first; those of runs that ended are left out."""
    files = HostFiles(sysfs.backend)
    found = []
    for name in files.names(directory):
        if name.endswith(".json"):
            path = f"{directory}/{name}"
            record = _read(path, files.read(path) or "")
            if not record.end:
                found.append(record)
    return found


def _read(path: str, text: str) -> Record:
    lines = text.split("\n")
    try:
        head = json.loads(lines[0])
        if not isinstance(head, dict) or head.get("version") != _VERSION:
            raise MalformedAnswer("read journal", path, "it is of another version of pyvfio")
        steps = tuple(step_from_dict(step) for step in head["steps"])
        return _record(path, head, steps, lines[1:])
    except (ValueError, KeyError, TypeError) as error:
        why = f"it is not a journal: {error}"
    except MalformedAnswer as error:
        why = error.cause
    return Record(path, path.rpartition("/")[2], (), "", 0, "", "", (), frozenset(), frozenset(), damaged=why)


def _record(path: str, head: Mapping[str, Any], steps: tuple[Step, ...], lines: Sequence[str]) -> Record:
    started: set[int] = set()
    undone: set[int] = set()
    end = waits = ""
    for line in lines:
        try:
            words = json.loads(line)
        except ValueError:
            continue  # the line that was being written when the run was killed
        if "start" in words:
            started.add(words["start"])
        if "undone" in words:
            undone.add(words["undone"])
        end, waits = words.get("end", end), words.get("waits", waits)
    return Record(
        path, str(head["title"]), tuple(head["objects"]), str(head["boot"]), int(head["pid"]), str(head["started"]),
        str(head["time"]), steps, frozenset(started), frozenset(undone), end, waits,
    )  # fmt: skip
