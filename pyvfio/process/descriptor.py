"""Real descriptor numbers that stand for files of a software machine."""

from __future__ import annotations

import os

__all__ = ["Reservation", "identity", "reservations"]

_PREFIX = "/memfd:pyvfio:"


def identity(fd: int) -> tuple[int, int] | None:
    """Device and inode of an open descriptor, or None when it is closed.  Equal for duplicates of one reservation.

    A number beyond those that descriptors have is closed, too.
    """
    try:
        status = os.fstat(fd)
    except (OSError, OverflowError):
        return None
    return status.st_dev, status.st_ino


class Reservation:
    """An open descriptor with an inode of its own (a memfd), so that ``dup`` and inheritance can be recognised.

    `label` shows in ``/proc/PID/fd``, so other processes can see what is held (``/memfd:pyvfio:/dev/vfio/0``).
    """

    __slots__ = ("fd", "identity")

    def __init__(self, label: str) -> None:
        self.fd = os.memfd_create(f"pyvfio:{label}"[:240], os.MFD_CLOEXEC)
        key = identity(self.fd)
        self.identity = key if key is not None else (0, 0)

    def close(self) -> None:
        """Free the number if it is still ours (the caller may have closed it with `os.close`)."""
        fd, self.fd = self.fd, -1
        if fd >= 0 and identity(fd) == self.identity:
            os.close(fd)


def reservations(pid: int) -> dict[int, str]:
    """The labels of the reservations that another process has, by number, as far as this user may see."""
    folder = f"/proc/{pid}/fd"
    found: dict[int, str] = {}
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names:
        try:
            target = os.readlink(f"{folder}/{name}")
        except OSError:
            continue
        if target.startswith(_PREFIX):
            found[int(name)] = target[len(_PREFIX) :].removesuffix(" (deleted)")
    return found
