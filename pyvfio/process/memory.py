"""Memory of processes, named by address, such that a bad address is an error and not a crash.

``process_vm_readv(2)`` and ``process_vm_writev(2)`` copy between two processes, or within one, and answer EFAULT for a
page that is not mapped or not permitted.  A kernel pins the pages of a DMA mapping when it is made; here
``madvise(MADV_POPULATE_READ or _WRITE)`` asks the same question of the whole range in one call (Linux 5.14).

A kernel without CONFIG_CROSS_MEMORY_ATTACH, or a sandbox that forbids those calls, leaves ``/proc/PID/mem``.  That file
writes to read-only pages too, so writes to this process are asked for with `populate` first.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import sys
from collections.abc import Callable, Iterator
from typing import Self, TypeVar

__all__ = ["AnonymousMemory", "ProcessMemory", "populate"]


_Result = TypeVar("_Result")


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


_LIBC = ctypes.CDLL(None, use_errno=True)
_MADV_POPULATE_READ = 22
_MADV_POPULATE_WRITE = 23
_ADDRESS_LIMIT = 1 << 64


def _prototype(name: str) -> Callable[..., int]:
    function = _LIBC[name]
    function.restype = ctypes.c_ssize_t
    function.argtypes = [
        ctypes.c_int,
        ctypes.POINTER(_Iovec),
        ctypes.c_ulong,
        ctypes.POINTER(_Iovec),
        ctypes.c_ulong,
        ctypes.c_ulong,
    ]
    return function


_READV = _prototype("process_vm_readv")
_WRITEV = _prototype("process_vm_writev")
_MADVISE = _LIBC.madvise
_MADVISE.restype = ctypes.c_int
_MADVISE.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def _fault() -> OSError:
    return OSError(errno.EFAULT, os.strerror(errno.EFAULT))


def populate(address: int, length: int, *, write: bool) -> None:
    """Ask the kernel for every page of a range of this process, as a pin does.  Raise OSError EFAULT."""
    if address < 0 or address + length > _ADDRESS_LIMIT:
        raise _fault()
    if _MADVISE(address, length, _MADV_POPULATE_WRITE if write else _MADV_POPULATE_READ) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:
        raise _fault()
    # A kernel before 5.14, or a mapping of device memory: touch one byte of each page instead.
    memory = ProcessMemory()
    page = mmap.PAGESIZE
    for at in range(address, address + length, page):
        byte = memory.read(at, 1)
        if write:
            memory.write(at, byte)


_attach_missing = False


class _AttachMissing(Exception):
    """``process_vm_readv`` is not to be had here."""


def _note_attach_missing() -> None:
    global _attach_missing
    _attach_missing = True


def _mem_read(pid: int, address: int, count: int) -> bytes:
    with _mem(pid, os.O_RDONLY) as fd:
        parts: list[bytes] = []
        while count:
            part = _mem_call(functools.partial(os.pread, fd, count, address))
            if not part:
                raise _fault()
            parts.append(part)
            address, count = address + len(part), count - len(part)
        return b"".join(parts)


def _mem_write(pid: int, address: int, data: bytes) -> None:
    if pid == os.getpid():
        first = address - address % mmap.PAGESIZE
        length = address + len(data) - first
        if _MADVISE(first, length, _MADV_POPULATE_WRITE) and (
            ctypes.get_errno() != errno.EINVAL or not _is_writable(first, length)
        ):
            raise _fault()
    with _mem(pid, os.O_RDWR) as fd:
        view = memoryview(data)
        while view:
            done = _mem_call(functools.partial(os.pwrite, fd, view, address))
            if not done:
                raise _fault()
            address, view = address + done, view[done:]


def _is_writable(address: int, length: int) -> bool:
    """Whether a range lies in writable mappings of this process (for a kernel before 5.14)."""
    end = address + length
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            span, permissions = line.split(None, 2)[:2]
            low, high = (int(part, 16) for part in span.split("-"))
            if low <= address < high and permissions[1] == "w":
                address = high
            if address >= end:
                return True
    return False


@contextlib.contextmanager
def _mem(pid: int, flags: int) -> Iterator[int]:
    fd = os.open(f"/proc/{pid}/mem", flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _mem_call(call: Callable[[], _Result]) -> _Result:
    """A page that is not there is EIO in this file; an address beyond a signed offset cannot even be asked for."""
    try:
        return call()
    except OverflowError:
        raise _fault() from None
    except OSError as error:
        if error.errno == errno.EIO:
            raise _fault() from None
        raise


class ProcessMemory:
    """The memory of process `pid` (default: the process that asks, which after a fork is the child)."""

    __slots__ = ("_pid",)

    def __init__(self, pid: int | None = None) -> None:
        self._pid = pid

    @property
    def pid(self) -> int:
        """The process's number."""
        return os.getpid() if self._pid is None else self._pid

    def read(self, address: int, count: int) -> bytes:
        """Copy `count` bytes from `address`.  Raise OSError EFAULT when any of them cannot be read."""
        if count == 0:
            return b""
        if address < 0 or address + count > _ADDRESS_LIMIT or count < 0:
            raise _fault()
        if count > _PROBE and not self._readable(address, count):
            raise _fault()  # before a buffer is made for a wild length
        if _attach_missing:
            return _mem_read(self.pid, address, count)
        buffer = ctypes.create_string_buffer(count)
        try:
            self._copy(_READV, ctypes.addressof(buffer), address, count)
        except _AttachMissing:
            return _mem_read(self.pid, address, count)
        return buffer.raw

    def write(self, address: int, data: bytes | bytearray | memoryview) -> None:
        """Copy `data` to `address`.  Raise OSError EFAULT; bytes before the bad page may have been written."""
        count = len(data)
        if count == 0:
            return
        if address < 0 or address + count > _ADDRESS_LIMIT:
            raise _fault()
        source = bytes(data)
        if not _attach_missing:
            try:
                self._copy(_WRITEV, ctypes.cast(ctypes.c_char_p(source), ctypes.c_void_p).value or 0, address, count)
            except _AttachMissing:
                pass
            else:
                return
        _mem_write(self.pid, address, source)

    def copy_within(self, target: int, source: int, count: int) -> None:
        """Copy `count` bytes between two places of this very process in one call.  Raise OSError EFAULT."""
        if count:
            if min(target, source) < 0 or max(target, source) + count > _ADDRESS_LIMIT:
                raise _fault()
            if not _attach_missing:
                try:
                    self._copy(_READV, target, source, count)
                except _AttachMissing:
                    pass
                else:
                    return
            self.write(target, self.read(source, count))

    def _readable(self, address: int, count: int) -> bool:
        if _attach_missing:
            try:
                return len(_mem_read(self.pid, address + count - 1, 1)) == 1
            except OSError:
                return False
        last = ctypes.create_string_buffer(1)
        remote = _Iovec(address + count - 1, 1)
        return (
            int(_READV(self.pid, ctypes.byref(_Iovec(ctypes.addressof(last), 1)), 1, ctypes.byref(remote), 1, 0)) == 1
        )

    def _copy(self, call: Callable[..., int], local: int, remote: int, count: int) -> None:
        done = 0
        while done < count:
            step = call(
                self.pid,
                ctypes.byref(_Iovec(local + done, count - done)),
                1,
                ctypes.byref(_Iovec(remote + done, count - done)),
                1,
                0,
            )
            if step <= 0:
                code = ctypes.get_errno() if step < 0 else errno.EFAULT
                if code == errno.ENOSYS or (code == errno.EPERM and self.pid == os.getpid()):
                    _note_attach_missing()
                    raise _AttachMissing
                raise OSError(code, os.strerror(code))
            done += step

    def string(self, address: int, limit: int) -> bytes:
        """Read a zero-ended string of at most `limit` bytes, as ``strndup_user``.  Raise OSError EFAULT or EINVAL."""
        text = bytearray()
        page = mmap.PAGESIZE
        while len(text) <= limit:
            chunk = self.read(address + len(text), min(page - (address + len(text)) % page, limit + 1 - len(text)))
            end = chunk.find(b"\0")
            if end >= 0:
                return bytes(text + chunk[:end])
            text += chunk
            if len(text) > limit:
                break
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


_PROBE = 1 << 20


_ANONYMOUS = mmap.MAP_SHARED | mmap.MAP_ANONYMOUS


def _huge_map(length: int, page: int) -> mmap.mmap:
    """By a file in memory: which pages it has is said by the flags of ``memfd_create``, on every architecture alike."""
    if length > sys.maxsize:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    flags = os.MFD_CLOEXEC | os.MFD_HUGETLB | page.bit_length() - 1 << os.MFD_HUGE_SHIFT
    fd = os.memfd_create("pyvfio-dma", flags)
    try:
        os.ftruncate(fd, length)
        return mmap.mmap(fd, length, flags=mmap.MAP_SHARED)
    finally:
        os.close(fd)


class AnonymousMemory:
    """Page-aligned zeroed memory of this process, for DMA.  A context manager; `address` is valid until `close`.

    With `huge` it is made of huge pages of so many bytes (a power of two that this kernel has), and `length` is a
    multiple of that; they are set aside at once, so that using the memory cannot fail.  Raise OSError: ENOMEM when too
    few huge pages are free, ENODEV, ENOENT or EINVAL when the kernel has none of this size, ENOSYS without any.
    """

    def __init__(self, length: int, *, huge: int = 0) -> None:
        self._map = _huge_map(length, huge) if huge else mmap.mmap(-1, length, flags=_ANONYMOUS)
        self.length = length
        self.page_size = huge or mmap.PAGESIZE
        anchor = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(anchor)
        del anchor  # the export would keep the mapping from being closed
        self._view: memoryview | None = memoryview(self._map)

    @property
    def view(self) -> memoryview:
        """The bytes, writable.  Raise `ValueError` after `close`."""
        if self._view is None:
            raise ValueError("the memory was closed")
        return self._view

    def close(self) -> None:
        """Unmap; a second call does nothing.  Raise `BufferError` while a slice of `view` is alive."""
        if self._view is not None:
            self._view.release()
            self._view = None
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
