"""The verbs of the seam as system calls; nothing is added and nothing is hidden."""

from __future__ import annotations

import ctypes
import fcntl
import mmap as _mmap
import os
import resource
from collections.abc import Sequence
from typing import Any, Self, overload

from pyvfio.backend import Holder
from pyvfio.errors import Misuse
from pyvfio.network import Network
from pyvfio.uevent import UeventStream
from pyvfio_backends.kernel.holders import holders
from pyvfio_backends.kernel.uevents import open_stream

__all__ = ["KernelBackend"]

_C_INT = 1 << 31
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_size_t]


class KernelBackend:
    """A `pyvfio.backend.Backend` for the running kernel.

    Descriptors are the caller's, as those of `os.open` are; closing the backend ends its uevent streams.
    """

    name = "kernel"

    # The hot verbs are Python's own functions: not even a frame is added.
    read = staticmethod(os.read)
    write = staticmethod(os.write)
    pread = staticmethod(os.pread)
    pwrite = staticmethod(os.pwrite)
    fsync = staticmethod(os.fsync)

    def __init__(self, *, sysfs: str = "", devfs: str = "", root: str = "/", uevents: str = "auto") -> None:
        if uevents not in ("auto", "udev", "netlink"):
            raise Misuse("open backend", "kernel", cause=f"uevents={uevents!r}: it is auto, udev or netlink")
        above = root.rstrip("/")
        places = (("/sys", sysfs or f"{above}/sys"), ("/dev", devfs or f"{above}/dev"), ("", above))
        # the first that fits; under another root a place that is where it always is must still be named
        self._roots = [(virtual, real.rstrip("/")) for virtual, real in places if above or virtual != real]
        self._uevents = uevents
        self._streams: list[UeventStream] = []

    def __repr__(self) -> str:
        return f"<KernelBackend {os.uname().release} {os.uname().machine}>"

    def _path(self, path: str) -> str:
        for virtual, real in self._roots:
            if path == virtual or path.startswith(virtual + "/"):
                return real + path[len(virtual) :]
        return path

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """See `Backend.open`."""
        return os.open(self._path(path), flags, mode)

    def close(self, fd: int | None = None) -> None:
        """See `Backend.close`."""
        if fd is not None:
            os.close(fd)
            return
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    @overload
    def ioctl(self, fd: int, request: int, arg: int | Any = 0, mutate_flag: bool = True) -> int: ...
    @overload
    def ioctl(self, fd: int, request: int, arg: bytes, mutate_flag: bool = True) -> bytes: ...
    def ioctl(self, fd: int, request: int, arg: Any = 0, mutate_flag: bool = True) -> int | bytes:
        """See `Backend.ioctl`."""
        if isinstance(arg, int) and not -_C_INT <= arg < _C_INT:  # an address; fcntl takes a C int
            done: int = _LIBC.ioctl(fd, request, arg)
            if done < 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
            return done
        result: int | bytes = fcntl.ioctl(fd, request, arg, mutate_flag)
        return result

    def mmap(
        self,
        fd: int,
        length: int,
        flags: int = _mmap.MAP_SHARED,
        prot: int = _mmap.PROT_READ | _mmap.PROT_WRITE,
        offset: int = 0,
    ) -> _mmap.mmap:
        """See `Backend.mmap`."""
        return _mmap.mmap(fd, length, flags, prot, offset=offset)

    def listdir(self, path: str) -> list[str]:
        """See `Backend.listdir`."""
        return os.listdir(self._path(path))

    def readlink(self, path: str) -> str:
        """See `Backend.readlink`."""
        return os.readlink(self._path(path))

    def stat(self, path: str) -> os.stat_result:
        """See `Backend.stat`."""
        return os.stat(self._path(path))

    def lstat(self, path: str) -> os.stat_result:
        """See `Backend.lstat`."""
        return os.lstat(self._path(path))

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """See `Backend.mkdir`."""
        os.mkdir(self._path(path), mode)

    def rmdir(self, path: str) -> None:
        """See `Backend.rmdir`."""
        os.rmdir(self._path(path))

    def rename(self, source: str, target: str) -> None:
        """See `Backend.rename`."""
        os.rename(self._path(source), self._path(target))

    def unlink(self, path: str) -> None:
        """See `Backend.unlink`."""
        os.unlink(self._path(path))

    def chmod(self, path: str, mode: int) -> None:
        """See `Backend.chmod`."""
        os.chmod(self._path(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """See `Backend.chown`."""
        os.chown(self._path(path), uid, gid)

    def network(self) -> Network:
        """See `Backend.network`."""
        from pyvfio_backends.kernel.network import network  # pyroute2 is slow to import, and only needed here

        return network()

    def uevents(self, subsystems: Sequence[str] = ()) -> UeventStream:
        """See `Backend.uevents`."""
        stream = open_stream(self._uevents, subsystems)
        self._streams.append(stream)
        return stream

    def holders(self, path: str) -> list[Holder]:
        """See `Backend.holders`."""
        return holders(self._path(path))

    def sysconf(self, name: str) -> int:
        """See `Backend.sysconf`."""
        if name == "RLIMIT_MEMLOCK":
            soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
            return -1 if soft == resource.RLIM_INFINITY else soft
        return os.sysconf(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
