"""The seam: whoever answers these calls is a host.

A VFIO program talks to Linux through a dozen system calls on files under ``/sys`` and ``/dev``.  A `Backend` is
whoever answers them.  The verbs have the names, the signatures, the results and the errors of Python's own `os`,
`fcntl.ioctl` and `mmap.mmap`, so there is nothing new to learn and the kernel backend adds nothing of its own.

Guarantees, which ``pyvfio.testing`` checks on every backend:

* A failing call raises `OSError` with the errno that the kernel gives.  No other exception leaves a verb, except
  `TypeError` for arguments of a wrong type and `NotModelled` where a software machine says so.
* A descriptor is a real descriptor of this process: `os.fstat`, `select`, `os.dup` and inheritance work on it.
* Memory named by address in an ``ioctl`` is memory of the calling process.  A bad address ends as EFAULT.
* Eventfds given to a backend are the caller's real eventfds; the backend keeps its own reference.
* `close` of the backend releases all that it holds; it is a context manager.

Backends are found by entry point, group ``pyvfio.backends``.
"""

from __future__ import annotations

import mmap as _mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, overload, runtime_checkable

from pyvfio import plugins
from pyvfio.errors import Misuse
from pyvfio.network import Network
from pyvfio.uevent import UeventStream

__all__ = [
    "MAP_SHARED",
    "PROT_READ",
    "PROT_WRITE",
    "Backend",
    "Holder",
    "WritableBuffer",
    "backend_names",
    "beyond",
    "open_backend",
]

MAP_SHARED = _mmap.MAP_SHARED
PROT_READ = _mmap.PROT_READ
PROT_WRITE = _mmap.PROT_WRITE

_GROUP = "pyvfio.backends"

WritableBuffer = Any
"""An object with a writable buffer: `bytearray`, `array.array`, a ctypes structure, a writable `memoryview`."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a node open: `pid`, the program's `name` and its descriptor number `fd` (-1: a mapping)."""

    pid: int
    name: str
    fd: int

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}" + (f", fd {self.fd})" if self.fd >= 0 else ")")


@runtime_checkable
class Backend(Protocol):
    """A host.  See the module for what all verbs guarantee."""

    @property
    def name(self) -> str:
        """The name under which it was opened (``kernel``, ``software``)."""

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """As `os.open`: a new descriptor of the file at the absolute `path`.  The descriptor is close-on-exec."""

    def close(self, fd: int | None = None) -> None:
        """As `os.close`; without a descriptor: close the backend itself."""

    def read(self, fd: int, n: int) -> bytes:
        """As `os.read`: up to `n` bytes at the file's position."""

    def write(self, fd: int, data: bytes) -> int:
        """As `os.write`: the number of bytes taken."""

    def pread(self, fd: int, n: int, offset: int) -> bytes:
        """As `os.pread`."""

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """As `os.pwrite`."""

    @overload
    def ioctl(self, fd: int, request: int, arg: int | WritableBuffer = 0, mutate_flag: bool = True) -> int: ...
    @overload
    def ioctl(self, fd: int, request: int, arg: bytes, mutate_flag: bool = True) -> bytes: ...
    def ioctl(
        self, fd: int, request: int, arg: int | bytes | WritableBuffer = 0, mutate_flag: bool = True
    ) -> int | bytes:
        """As `fcntl.ioctl`: `arg` is an integer (a value or an address of this process) or a buffer, which is changed
        in place when it is writable and `mutate_flag` is true.
        """

    def mmap(
        self,
        fd: int,
        length: int,
        flags: int = _mmap.MAP_SHARED,
        prot: int = _mmap.PROT_READ | _mmap.PROT_WRITE,
        offset: int = 0,
    ) -> _mmap.mmap:
        """As `mmap.mmap`: a mapping object; the caller closes it."""

    def listdir(self, path: str) -> list[str]:
        """As `os.listdir`."""

    def readlink(self, path: str) -> str:
        """As `os.readlink`."""

    def stat(self, path: str) -> os.stat_result:
        """As `os.stat` (follows links)."""

    def lstat(self, path: str) -> os.stat_result:
        """As `os.lstat`."""

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """As `os.mkdir`."""

    def rmdir(self, path: str) -> None:
        """As `os.rmdir`."""

    def rename(self, source: str, target: str) -> None:
        """As `os.rename`: replaces `target` at once."""

    def unlink(self, path: str) -> None:
        """As `os.unlink`."""

    def fsync(self, fd: int) -> None:
        """As `os.fsync`: what was written survives a crash; of a directory, its names do."""

    def chmod(self, path: str, mode: int) -> None:
        """As `os.chmod`."""

    def chown(self, path: str, uid: int, gid: int) -> None:
        """As `os.chown`: -1 leaves one as it is."""

    def network(self) -> Network:
        """The network interfaces, their addresses and routes, and where the caller's own session comes from."""

    def uevents(self, subsystems: Sequence[str] = ()) -> UeventStream:
        """The kernel's uevents from now on; `subsystems` keeps only those (empty: all)."""

    def holders(self, path: str) -> list[Holder]:
        """The processes that have the node at `path` open, as far as this user may see them."""

    def sysconf(self, name: str) -> int:
        """As `os.sysconf`; also ``RLIMIT_MEMLOCK`` (bytes of the soft limit, -1 when unlimited)."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def beyond(backend: Backend, name: str) -> Callable[..., Any] | None:
    """A call that a backend has beyond those of a host, as a software machine's has; None without it.

    A backend that stands before another one names that as `behind`.
    """
    found: Callable[..., Any] | None = getattr(backend, name, None)
    behind: Backend | None = getattr(backend, "behind", None)
    return found if found is not None or behind is None else beyond(behind, name)


def backend_names() -> list[str]:
    """The names of the installed backends."""
    return plugins.names(_GROUP)


def open_backend(name: str, **options: Any) -> Backend:
    """Open the backend called `name`; the options are its own.

    Raise `Misuse` when no such backend is installed or it does not take an option.

    >>> with open_backend("software", machine="z15-lpar") as host:  # doctest: +SKIP
    ...     host.listdir("/sys/bus")
    """
    try:
        factory = plugins.load(_GROUP, name)
    except KeyError:
        raise Misuse(
            "open backend",
            name,
            cause="no backend of this name is installed",
            next_step=f"one of: {', '.join(backend_names())}",
        ) from None
    try:
        backend: Backend = factory(**options)
    except TypeError as error:
        if "unexpected keyword" in str(error):
            raise Misuse(f"open backend: {error}", name) from error
        raise
    return backend
