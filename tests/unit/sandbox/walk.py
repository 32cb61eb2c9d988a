"""The whole state of a machine as a program sees it through the seam."""

from __future__ import annotations

import os
import stat

from pyvfio.backend import Backend

ROOTS = ("/dev", "/etc", "/run", "/sys", "/tmp", "/var")


def walk(backend: Backend, *roots: str) -> dict[str, tuple[object, ...]]:
    """Every path with its mode, owner, size and content."""
    found: dict[str, tuple[object, ...]] = {}
    waiting = list(roots or ROOTS)
    while waiting:
        path = waiting.pop()
        status = backend.lstat(path)
        fact: tuple[object, ...] = (oct(status.st_mode), status.st_uid, status.st_gid, status.st_size, status.st_ino)
        if stat.S_ISDIR(status.st_mode):
            waiting += [f"{path}/{name}" for name in backend.listdir(path)]
        elif stat.S_ISLNK(status.st_mode):
            fact += (backend.readlink(path),)
        elif stat.S_ISREG(status.st_mode):
            fact += (content(backend, path),)
        found[path] = fact
    return found


def content(backend: Backend, path: str) -> object:
    """What a file says, or the errno of asking it."""
    try:
        fd = backend.open(path, os.O_RDONLY)
    except OSError as error:
        return error.errno
    try:
        return backend.pread(fd, 1 << 16, 0)
    except OSError as error:
        return error.errno
    finally:
        backend.close(fd)


def differences(one: dict[str, tuple[object, ...]], other: dict[str, tuple[object, ...]]) -> list[str]:
    """The first few paths that differ."""
    paths = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
    return [f"{path}: {one.get(path)} and {other.get(path)}" for path in paths[:6]]
