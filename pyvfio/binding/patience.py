"""A backend that does not wait for ever: each call has a deadline, as the kernel may wait in a write for a program.

The kernel's unbind, for instance, does not return while somebody has the device open, and holds the device's lock, so
that reading its attributes waits, too.  A call that is given up cannot be taken back: it stays `pending`, and the
kernel carries it out when it can.
"""

from __future__ import annotations

import errno
import mmap as _mmap
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

from pyvfio.backend import Backend, Holder
from pyvfio.network import Network
from pyvfio.uevent import UeventStream

__all__ = ["Patience", "Pending"]

_OPENING = ("open", "create")
_SEARCH = 15.0
_WRITING = frozenset({"create", "write", "pwrite", "ioctl", "rename", "unlink", "mkdir", "rmdir", "chmod", "chown"})


class Pending:
    """A call of `verb` on `path` that was given up; `done` is set when the kernel comes back from it.

    The verbs are those of a `Backend`, and ``create`` for an open that makes the file.  `least` are the seconds that it
    is given however short the deadline is.
    """

    def __init__(self, verb: str, path: str, least: float = 0.0) -> None:
        self.verb = verb
        self.path = path
        self.least = least
        self.done = threading.Event()
        self.lock = threading.Lock()
        self.given_up = False

    @property
    def writes(self) -> bool:
        """Whether it may still change the host."""
        return self.verb in _WRITING

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


class _Worker:
    """A thread that makes one call after another."""

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name="pyvfio-call", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        while (call := self.calls.get()) is not None:
            call()


class Patience:
    """A `Backend` that gives a call of `backend` up after `deadline` seconds, with `OSError` ETIMEDOUT.

    `wait` more seconds (None: for ever) are spent first, after `on_wait` was told of the `Pending` call.  `pending` are
    the calls given up that have not come back.  `close` without a descriptor ends the helper thread; it leaves
    `backend` open.
    """

    def __init__(
        self,
        backend: Backend,
        deadline: float,
        *,
        wait: float | None = 0.0,
        on_wait: Callable[[Pending], None] | None = None,
    ) -> None:
        self.backend = backend
        self.deadline = deadline
        self.wait = wait
        self.on_wait = on_wait
        self._given_up: list[Pending] = []
        self._worker: _Worker | None = None
        self._paths: dict[int, str] = {}

    @property
    def name(self) -> str:
        """The backend's name."""
        return self.backend.name

    @property
    def behind(self) -> Backend:
        """See `pyvfio.backend.beyond`."""
        return self.backend

    @property
    def pending(self) -> list[Pending]:
        """The calls given up which the kernel has not come back from."""
        return [call for call in self._given_up if not call.done.is_set()]

    def _call(self, verb: str, path: str, work: Callable[..., Any], *args: Any, least: float = 0.0) -> Any:
        pending = Pending(verb, path, least)
        outcome: list[Any] = []
        failure: list[BaseException] = []

        def call() -> None:
            try:
                outcome.append(work(*args))
            except BaseException as error:
                failure.append(error)
            with pending.lock:
                pending.done.set()
                late = pending.given_up
            if late and verb in _OPENING and outcome:
                self.backend.close(outcome[0])  # nobody waits for this descriptor any more

        if self._worker is None:
            self._worker = _Worker()
        self._worker.calls.put(call)
        try:
            self._await(pending)
        except BaseException as error:
            with pending.lock:
                back_meanwhile = pending.done.is_set()
                pending.given_up = not back_meanwhile
            if not back_meanwhile:
                # The thread is still in the kernel: whoever calls next gets another one.
                self._given_up.append(pending)
                self._worker.calls.put(None)
                self._worker = None
                raise
            if not isinstance(error, TimeoutError):  # else the kernel came back at the last moment: that counts
                if verb in _OPENING and outcome:
                    self.backend.close(outcome[0])
                raise
        if failure:
            raise failure[0]
        return outcome[0]

    def _await(self, pending: Pending) -> None:
        if pending.done.wait(max(self.deadline, pending.least)):
            return
        if self.on_wait is not None:
            self.on_wait(pending)
        if self.wait != 0 and pending.done.wait(self.wait):
            return
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT), pending.path)

    # the verbs

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """See `Backend.open`."""
        verb = "create" if flags & os.O_CREAT else "open"
        fd: int = self._call(verb, path, self.backend.open, path, flags, mode)
        self._paths[fd] = path
        return fd

    def close(self, fd: int | None = None) -> None:
        """See `Backend.close`; without a descriptor only the helper thread ends."""
        if fd is not None:
            self._call("close", self._paths.pop(fd, ""), self.backend.close, fd)
        elif self._worker is not None:
            self._worker.calls.put(None)
            self._worker.thread.join(self.deadline)
            self._worker = None

    def read(self, fd: int, n: int) -> bytes:
        """See `Backend.read`."""
        return bytes(self._call("read", self._paths.get(fd, ""), self.backend.read, fd, n))

    def write(self, fd: int, data: bytes) -> int:
        """See `Backend.write`."""
        return int(self._call("write", self._paths.get(fd, ""), self.backend.write, fd, data))

    def pread(self, fd: int, n: int, offset: int) -> bytes:
        """See `Backend.pread`."""
        return bytes(self._call("pread", self._paths.get(fd, ""), self.backend.pread, fd, n, offset))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """See `Backend.pwrite`."""
        return int(self._call("pwrite", self._paths.get(fd, ""), self.backend.pwrite, fd, data, offset))

    def ioctl(self, fd: int, request: int, arg: Any = 0, mutate_flag: bool = True) -> Any:
        """See `Backend.ioctl`."""
        return self._call("ioctl", self._paths.get(fd, ""), self.backend.ioctl, fd, request, arg, mutate_flag)

    def mmap(
        self,
        fd: int,
        length: int,
        flags: int = _mmap.MAP_SHARED,
        prot: int = _mmap.PROT_READ | _mmap.PROT_WRITE,
        offset: int = 0,
    ) -> _mmap.mmap:
        """See `Backend.mmap`."""
        return self.backend.mmap(fd, length, flags, prot, offset)

    def listdir(self, path: str) -> list[str]:
        """See `Backend.listdir`."""
        return list(self._call("listdir", path, self.backend.listdir, path))

    def readlink(self, path: str) -> str:
        """See `Backend.readlink`."""
        return str(self._call("readlink", path, self.backend.readlink, path))

    def stat(self, path: str) -> os.stat_result:
        """See `Backend.stat`."""
        status: os.stat_result = self._call("stat", path, self.backend.stat, path)
        return status

    def lstat(self, path: str) -> os.stat_result:
        """See `Backend.lstat`."""
        status: os.stat_result = self._call("lstat", path, self.backend.lstat, path)
        return status

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """See `Backend.mkdir`."""
        self._call("mkdir", path, self.backend.mkdir, path, mode)

    def rmdir(self, path: str) -> None:
        """See `Backend.rmdir`."""
        self._call("rmdir", path, self.backend.rmdir, path)

    def rename(self, source: str, target: str) -> None:
        """See `Backend.rename`."""
        self._call("rename", source, self.backend.rename, source, target)

    def unlink(self, path: str) -> None:
        """See `Backend.unlink`."""
        self._call("unlink", path, self.backend.unlink, path)

    def fsync(self, fd: int) -> None:
        """See `Backend.fsync`."""
        self._call("fsync", self._paths.get(fd, ""), self.backend.fsync, fd)

    def chmod(self, path: str, mode: int) -> None:
        """See `Backend.chmod`."""
        self._call("chmod", path, self.backend.chmod, path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """See `Backend.chown`."""
        self._call("chown", path, self.backend.chown, path, uid, gid)

    def network(self) -> Network:
        """See `Backend.network`."""
        found: Network = self._call("network", "", self.backend.network)
        return found

    def uevents(self, subsystems: Sequence[str] = ()) -> UeventStream:
        """See `Backend.uevents`."""
        return self.backend.uevents(subsystems)

    def holders(self, path: str) -> list[Holder]:
        """See `Backend.holders`; it looks at every process: it has `_SEARCH` seconds even where calls have less."""
        return list(self._call("holders", path, self.backend.holders, path, least=_SEARCH))

    def sysconf(self, name: str) -> int:
        """See `Backend.sysconf`."""
        return self.backend.sysconf(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
