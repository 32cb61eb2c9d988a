"""The mappings of a process (what a kernel calls VMAs), by address: where they end, and the size of their pages.

Asked for with ``PROCMAP_QUERY`` of ``/proc/PID/maps`` (Linux 6.11); before that, page sizes are those of ``smaps``.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Vma", "covering", "query"]

# include/uapi/linux/fs.h: struct procmap_query
_QUERY: Final = struct.Struct("=9Q4I2Q")
_PROCMAP_QUERY: Final = 0xC0686611
_KIB: Final = 1 << 10


class Vma(NamedTuple):
    """A mapping: its first address and the one behind it, bytes of a page, number of its device, its name."""

    start: int
    end: int
    page_size: int
    device: tuple[int, int] = (0, 0)
    name: bytes = b""


def query(address: int, pid: int | None = None, *, room: int = 0) -> Vma | None:
    """The mapping of an address in a process (default: this one), with its name if that has `room`.

    None when nothing is mapped there, the name is longer, or this kernel does not tell.
    """
    try:
        return _ask(address, pid, room)
    except OSError:
        return None


def _ask(address: int, pid: int | None, room: int) -> Vma:
    name = ctypes.create_string_buffer(max(room, 1))
    where = ctypes.addressof(name) if room else 0
    request = bytearray(_QUERY.pack(_QUERY.size, 0, address, 0, 0, 0, 0, 0, 0, 0, 0, room, 0, where, 0))
    try:
        maps = os.open(f"/proc/{'self' if pid is None else pid}/maps", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:  # which is not that nothing is mapped
        raise OSError(errno.ESRCH, os.strerror(errno.ESRCH)) from error
    try:
        fcntl.ioctl(maps, _PROCMAP_QUERY, request)
    finally:
        os.close(maps)
    answer = _QUERY.unpack(request)
    return Vma(answer[3], answer[4], answer[6], (answer[9], answer[10]), name.value)


def covering(address: int, length: int, pid: int | None = None) -> list[Vma]:
    """The mappings that a range has some of, by address, as far as it is mapped without a hole.

    One with pages of `mmap.PAGESIZE` where this kernel tells nothing.
    """
    found: list[Vma] = []
    at, end = address, address + length
    while at < end:
        try:
            vma = _ask(at, pid, 0)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return found
            return [one for one in _smaps(pid) if one.start < end and one.end > address] or [
                Vma(address, end, mmap.PAGESIZE)
            ]
        found.append(vma)
        at = vma.end
    return found


def _smaps(pid: int | None) -> Iterator[Vma]:
    start = end = 0
    try:
        with open(f"/proc/{'self' if pid is None else pid}/smaps", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                first, _, rest = line.partition(" ")
                if first == "KernelPageSize:":
                    yield Vma(start, end, int(rest.split()[0]) * _KIB)
                elif not first.endswith(":"):
                    start, end = (int(part, 16) for part in first.split("-"))
    except OSError:
        return
