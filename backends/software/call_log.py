"""The calls that changed a machine, in a file, so that several programs work with one and the same machine.

The state of a machine follows from its machine file, its seed and the calls in their order.  Every program boots the
machine for itself and makes the calls of the log; before a call of its own that changes something, it makes those that
others have added meanwhile, and adds its own.  So all come to the same state, and a program that is killed leaves the
calls that it began.  What is added is one JSON list a line, after a first line that names the machine::

    {"version": 1, "machine": "z15-lpar", "seed": 0}
    ["write", "/sys/devices/pci0011:00/0011:00:00.0/driver_override", "vfio-pci", 0]
    ["mkdir", "/var/lib/pyvfio", 493]

Kept are changes of names, modes and owners, and writes to files of sysfs, plain files (named by their inode number)
and disks; and the buttons that are pressed at slots, with the time that passes after that. What a program does with
an open VFIO device is its own, as the device is given back when the program ends; a second program does not see it,
except that `holders` names who has a node open.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pyvfio.backend import Holder
from pyvfio.errors import Misuse, NotModelled
from pyvfio.process import SharedLog, reservations
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.machine import Machine

__all__ = ["CallLog"]

_VERSION = 1
_SHOWN = 200
_INTERVAL = 0.05
"""Real seconds between two looks at the log, while somebody listens for uevents."""


class CallLog:
    """The log at `path` of `machine`, which was just booted from `seed`: the calls in it are made here.

    All methods are called with the machine's lock.  Raise `Misuse` for a log of another machine or a file that
    is no log, OSError for one that cannot be opened.
    """

    def __init__(self, path: str, machine: Machine, seed: int) -> None:
        self._machine = machine
        self._vfs = machine.kernel.vfs
        self._log = SharedLog(path)
        self._making = False
        self._ended = threading.Event()
        self._follower: threading.Thread | None = None
        self._replayed: dict[str, Callable[..., object]] = {
            "open": self._open,
            "write": self._write,
            "mkdir": self._vfs.mkdir,
            "rmdir": self._vfs.rmdir,
            "rename": self._vfs.rename,
            "unlink": self._vfs.unlink,
            "chmod": self._vfs.chmod,
            "chown": self._vfs.chown,
            "press_button": self._press_button,
            "let_pass": lambda microseconds: machine.clock.advance(microseconds / 1_000_000),
        }
        machine.kernel.runs_here = self._log.used_by
        try:
            self._begin({"version": _VERSION, "machine": machine.name, "seed": seed})
            self.follow()
        except BaseException:
            self._log.close()
            raise

    def _begin(self, head: dict[str, object]) -> None:
        """Read the first lines, or write the first."""
        with self._log.exclusive():
            lines = self._log.read_new()
            if not lines:
                self._log.append(json.dumps(head).encode())
                return
        try:
            found = json.loads(lines[0])
        except ValueError as error:
            raise Misuse("read the log of calls", self._log.path, cause=f"it is not JSON: {error}") from error
        if found != head:
            raise Misuse(
                "use the log of calls",
                self._log.path,
                cause=f"it is of {found}, not of {head}",
                next_step="begin a new one",
            )
        self._make(lines[1:])

    # calls of others

    def follow(self) -> None:
        """Make the calls that others have added."""
        while self._making:  # on another thread, which let the machine's lock go
            self._machine.clock.condition.wait()
        if self._log.grown:
            self._make(self._log.read_new())

    def _make(self, lines: list[bytes]) -> None:
        self._making = True
        try:
            for line in lines:
                self._make_one(line)
        finally:
            self._making = False
            self._machine.clock.notify()

    def _make_one(self, line: bytes) -> None:
        try:
            verb, *arguments = json.loads(line)
            call = self._replayed[verb]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._no_call(line) from error
        if self._machine.kernel.fds.busy:  # the call may wait for what this program has open
            self._machine.clock.run_apart(lambda: self._again(call, arguments), "pyvfio-log")
            return
        try:
            self._again(call, arguments)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            raise self._no_call(line) from error

    def _no_call(self, line: bytes) -> Misuse:
        return Misuse(
            "read the log of calls",
            self._log.path,
            cause=f"this is no call: {line[:_SHOWN]!r}",
            next_step="begin a new one",
        )

    def _again(self, call: Callable[..., object], arguments: list[Any]) -> None:
        """Make a call; one that failed for its program fails here, too."""
        with contextlib.suppress(OSError, NotModelled):
            call(*arguments)
        self._machine.clock.settle()

    def _press_button(self, slot: str) -> None:
        self._machine.slots.press(slot)

    def _open(self, path: str, flags: int, mode: int) -> None:
        self._vfs.open(path, flags, mode)[0].release()

    def _write(self, place: str | int, text: str, offset: int) -> None:
        data = text.encode("latin-1")
        if isinstance(place, int):
            node = self._vfs.regular_file(place)
            if node is not None:
                node.put(data, offset)
            return
        file, _ = self._vfs.open(place, os.O_WRONLY)
        try:
            file.pwrite(data, offset)
        finally:
            file.release()

    # calls of this program

    @contextlib.contextmanager
    def _up_to_date(self) -> Iterator[None]:
        """All calls of others were made, and nobody adds one."""
        while True:
            self.follow()
            with self._log.exclusive():
                if not self._log.grown_by_a_line:
                    yield
                    return

    def note(self, verb: str, *arguments: str | int) -> None:
        """Add a call that is about to be made."""
        with self._up_to_date():
            self._append([verb, *arguments])

    def note_open(self, path: str, flags: int, mode: int) -> None:
        """Add an opening, if it will make or empty a plain file."""
        if flags & (os.O_CREAT | os.O_TRUNC):
            with self._up_to_date():
                if self._vfs.changed_by_open(path, flags):
                    self._append(["open", path, flags & ~os.O_EXCL, mode])

    def note_write(self, file: File, path: str, data: bytes, offset: int | None) -> None:
        """Add a write at `offset`, None for the position, if the machine keeps what is written to this kind of file."""
        if file.lasting:
            with self._up_to_date():
                place, at = file.place(path, offset)
                self._append(["write", place, data.decode("latin-1"), at])

    def _append(self, call: list[str | int]) -> None:
        self._log.append(json.dumps(call).encode())

    # other programs

    def holders(self, path: str) -> Iterator[Holder]:
        """The other programs on this machine that have a path (without links) open."""
        import psutil  # slow to import, and only needed here

        for pid in self._log.users():
            if pid != os.getpid():
                for fd, label in reservations(pid).items():
                    if label == path:
                        with contextlib.suppress(psutil.Error):
                            yield Holder(pid, psutil.Process(pid).name(), fd)

    def keep_following(self) -> None:
        """Follow from now on also while this program makes no calls."""
        if self._follower is None:
            self._follower = threading.Thread(target=self._follow_on, name="pyvfio-follower", daemon=True)
            self._follower.start()

    def _follow_on(self) -> None:
        while not self._ended.wait(_INTERVAL):
            with self._machine.lock:
                if not self._ended.is_set():
                    self.follow()

    def close(self) -> None:
        """Stop following and close the file; without the machine's lock."""
        self._ended.set()
        if self._follower is not None:
            self._follower.join()
        with self._machine.lock:
            self._log.close()
