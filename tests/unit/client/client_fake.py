"""A host whose answers are written down by the test: for what no machine of ours answers."""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

from pyvfio.backend import Holder
from pyvfio.uevent import UeventStream

__all__ = ["PAGE", "FakeHost"]

PAGE = 1 << 12
Answer = Callable[[bytearray], int]


def refusal(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class FakeHost:
    """A `Backend`.  `files` are texts by path, `links` targets by path; directories are what lies above them.

    `answers` are called with the buffer of an ioctl by its request number; `memory` is what every descriptor shows to
    pread, pwrite and mmap.  `calls` records what was asked, in order.
    """

    name = "fake"

    def __init__(self, memory: int = 4 * PAGE) -> None:
        self.files: dict[str, str] = {}
        self.links: dict[str, str] = {}
        self.answers: dict[int, Answer] = {}
        self.errors: dict[tuple[str, str], int] = {}
        self.written: list[tuple[str, str]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.memory = mmap.mmap(-1, memory)
        self.mappable = True
        self.limit = -1
        self.page = PAGE
        self.held: list[Holder] = []
        self.fds: dict[int, str] = {}

    def _check(self, verb: str, path: str) -> None:
        number = self.errors.get((verb, path))
        if number:
            raise refusal(number)

    def _find(self, path: str) -> str:
        for _ in range(10):
            for link, target in self.links.items():
                if path == link or path.startswith(link + "/"):
                    path = os.path.normpath(os.path.join(os.path.dirname(link), target)) + path[len(link) :]
                    break
            else:
                return path
        raise refusal(errno.ELOOP)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        self._check("open", path)
        path = self._find(path)
        if path not in self.files:
            raise refusal(errno.ENOENT)
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self.fds[fd] = path
        self.calls.append(("open", path))
        return fd

    def close(self, fd: int | None = None) -> None:
        if fd is not None:
            self.calls.append(("close", self.fds.pop(fd)))
            os.close(fd)

    def read(self, fd: int, n: int) -> bytes:
        path = self.fds[fd]
        if ("read", path) in self.calls[-1:]:
            return b""
        self._check("read", path)
        self.calls.append(("read", path))
        return self.files[path].encode()[:n]

    def write(self, fd: int, data: bytes) -> int:
        self._check("write", self.fds[fd])
        self.written.append((self.fds[fd], data.decode()))
        return len(data)

    def pread(self, fd: int, n: int, offset: int) -> bytes:
        self.calls.append(("pread", n, offset))
        return self.memory[offset : offset + n]

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        self.calls.append(("pwrite", bytes(data), offset))
        self.memory[offset : offset + len(data)] = data
        return len(data)

    def ioctl(self, fd: int, request: int, arg: Any = 0, mutate_flag: bool = True) -> Any:
        raw = bytearray() if isinstance(arg, int) else bytearray(memoryview(arg).cast("B"))
        self.calls.append(("ioctl", request, bytes(raw)))
        if request not in self.answers:
            raise refusal(errno.ENOTTY)
        result = self.answers[request](raw)
        if not isinstance(arg, int):
            memoryview(arg).cast("B")[:] = raw
        return result

    def mmap(self, fd: int, length: int, flags: int = 0, prot: int = 0, offset: int = 0) -> mmap.mmap:
        self.calls.append(("mmap", length, prot, offset))
        if not self.mappable:
            raise refusal(errno.EINVAL)
        mapped = mmap.mmap(-1, length)
        mapped[:] = self.memory[offset : offset + length]
        return mapped

    def listdir(self, path: str) -> list[str]:
        self._check("listdir", path)
        above = self._find(path) + "/"
        names = {one[len(above) :].split("/")[0] for one in [*self.files, *self.links] if one.startswith(above)}
        if not names:
            raise refusal(errno.ENOENT)
        return list(names)

    def readlink(self, path: str) -> str:
        self._check("readlink", path)
        parent, name = os.path.split(path)
        path = os.path.join(self._find(parent), name)
        if path not in self.links:
            raise refusal(errno.EINVAL if path in self.files else errno.ENOENT)
        return self.links[path]

    def stat(self, path: str) -> os.stat_result:
        self._check("stat", path)
        found = self._find(path)
        if found not in self.files:
            self.listdir(found)
        return os.stat_result((0o20600, 0, 0, 1, 1000, 1001, 0, 0, 0, 0))

    lstat = stat

    def uevents(self, subsystems: Sequence[str] = ()) -> UeventStream:
        raise refusal(errno.EPERM)

    def holders(self, path: str) -> list[Holder]:
        return list(self.held)

    def sysconf(self, name: str) -> int:
        return self.limit if name == "RLIMIT_MEMLOCK" else self.page

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
