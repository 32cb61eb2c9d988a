"""The software backend: the verbs of the seam, answered by a machine in this process."""

from __future__ import annotations

import errno
import mmap as _mmap
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast, overload

from pyvfio.abi.request import Request, as_here, same_requests
from pyvfio.backend import Holder
from pyvfio.network import Network
from pyvfio.process import ProcessMemory, SharedMapping, umask
from pyvfio_backends.software.linux.file import File, PathFile
from pyvfio_backends.software.linux.uaccess import AddressArgument, BufferArgument
from pyvfio_backends.software.linux.uevents import UeventQueue
from pyvfio_backends.software.linux.vfs import fail
from pyvfio_backends.software.machine import Machine
from pyvfio_backends.software.register_mapping import RegisterMapping
from pyvfio_backends.software.slot_events import SlotEvents, machine_slots

if TYPE_CHECKING:
    from pyvfio.passthrough.interpretation import Areas
    from pyvfio_backends.software.call_log import CallLog
    from pyvfio_backends.software.interpretation import SoftwareInterpretation

__all__ = ["SoftwareBackend"]

_MAX_OFFSET = (1 << 63) - 1
_MAX_TRANSFER = (1 << 31) - 1
"""``read`` moves no more in one call (fs/read_write.c: MAX_RW_COUNT, which is a page less)."""


def _bytes(data: Any) -> bytes:
    """What was written.  Raise TypeError for what has no bytes (``bytes(5)`` would make five)."""
    return data if type(data) is bytes else bytes(memoryview(data))


def _path(verb: str, path: Any) -> str:
    path = os.fspath(path)
    if not isinstance(path, str):
        raise TypeError(f"{verb}: path should be str, not {type(path).__name__}")
    return path


class SoftwareBackend:
    """A `pyvfio.backend.Backend` over `machine`.

    Every verb runs under the machine's lock and ends with `Clock.settle`, so that the work it caused is done when it
    returns (unless the machine is paced).  With a log of `calls` other programs work with the same machine.
    """

    name = "software"

    def __init__(self, machine: Machine, calls: CallLog | None = None) -> None:
        self.machine = machine
        self._calls = calls
        # the machine whose programs say other numbers than those of this one
        self._foreign = "" if same_requests(machine.spec.architecture) else machine.spec.architecture
        self.faults = machine.faults
        self._lock = machine.lock
        self._clock = machine.clock
        self._vfs = machine.kernel.vfs
        self._kernel = machine.kernel
        self._table = machine.kernel.fds
        self._memory = ProcessMemory()
        self._closed = False

    def __repr__(self) -> str:
        return f"<SoftwareBackend {self.machine.name}>"

    def _check(self, verb: str, path: str) -> str:
        path = _path(verb, path)
        if self._closed:
            raise fail(errno.EBADF, path)
        if self.faults.active:
            self.faults.check(verb, path)
            if self._closed:  # while it hung
                raise fail(errno.EBADF, path)
        if self._calls is not None:
            self._calls.follow()
        return path

    def _note(self, verb: str, *arguments: str | int) -> None:
        if self._calls is not None:
            self._calls.note(verb, *arguments)

    def _file(self, verb: str, fd: int) -> File:
        if self._calls is not None:
            self._calls.follow()
        if self._kernel.event_watch is not None:
            self._kernel.event_watch.look()
        file = self._table.get(fd)
        if self.faults.active:
            self.faults.check(verb, self._table.path(fd))
            return self._table.get(fd)  # it may have been closed while the call hung
        return file

    def _readable(self, verb: str, fd: int) -> File:
        if self._calls is not None:
            self._calls.follow()
        if self._kernel.event_watch is not None:
            self._kernel.event_watch.look()
        description = self._table.description(fd)
        if not description.readable:
            raise fail(errno.EBADF)
        if self.faults.active:
            self.faults.check(verb, description.path)
            return self._table.get(fd)
        return description.file

    # what a machine has beyond a host: `slot_events`

    def press_button(self, slot: str) -> None:
        """Press the attention button of the slot of a port (its address).  Raise `NotAvailable`, `Misuse`."""
        with self._lock:
            self._check("press_button", slot)
            machine_slots(self.machine).find(slot)
            self._note("press_button", slot)
            machine_slots(self.machine).press(slot)

    def let_pass(self, seconds: float) -> None:
        """Let the machine's time pass."""
        with self._lock:
            self._check("let_pass", "")
            self._note("let_pass", round(seconds * 1_000_000))
            self._clock.advance(seconds)

    def slot_events(self, *, drives: bool = False) -> SlotEvents:
        """What happens at the slots from now on.

        Reading lets the machine's time pass, but not where others work with it, too, unless this program `drives` it.
        """
        return SlotEvents(self, passes=drives or self._calls is None, drives=drives)

    def offer_devices(self, begun: str) -> list[tuple[str, str]]:
        """What the words of a further PCI device may be (`PciDevices.offer`)."""
        return self.machine.pci_devices.offer(begun)

    # files

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """See `Backend.open`."""
        with self._lock:
            path = self._check("open", path)
            self._table.reap()
            mode = mode & ~umask() if flags & os.O_CREAT else mode
            if self._calls is not None:
                self._calls.note_open(path, flags, mode)
            file, canonical = self._vfs.open(path, flags, mode)
            fd = self._table.install(file, canonical, flags)
            self._clock.settle()
            return fd

    def close(self, fd: int | None = None) -> None:
        """See `Backend.close`."""
        if fd is None:
            self._close_all()
            return
        with self._lock:
            path = self._table.path(fd)
            self._table.close(fd)
            self._clock.settle()
            if self.faults.active:
                self.faults.check("close", path)  # close(2) frees the number also when it fails

    def _close_all(self) -> None:
        self.faults.release_all()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._table.close_all()
        # Not under the lock: the threads need it to come to their end.
        if self._calls is not None:
            self._calls.close()
        self.machine.close()

    def read(self, fd: int, n: int) -> bytes:
        """See `Backend.read`."""
        with self._lock:
            if n < 0:
                raise fail(errno.EINVAL)
            data = self._readable("read", fd).read(min(n, _MAX_TRANSFER))
            self._clock.settle()
            return data

    def write(self, fd: int, data: bytes) -> int:
        """See `Backend.write`."""
        with self._lock:
            file = self._file("write", fd)
            if not self._table.description(fd).writable:
                raise fail(errno.EBADF)
            if self._calls is not None:
                self._calls.note_write(file, self._table.path(fd), _bytes(data), None)
            taken = file.write(_bytes(data))
            self._clock.settle()
            return taken

    def pread(self, fd: int, n: int, offset: int) -> bytes:
        """See `Backend.pread`."""
        with self._lock:
            if n < 0 or not 0 <= offset <= _MAX_OFFSET:
                raise fail(errno.EINVAL)
            data = self._readable("pread", fd).pread(min(n, _MAX_TRANSFER), offset)
            self._clock.settle()
            return data

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """See `Backend.pwrite`."""
        with self._lock:
            if not 0 <= offset <= _MAX_OFFSET:
                raise fail(errno.EINVAL)
            file = self._file("pwrite", fd)
            if not self._table.description(fd).writable:
                raise fail(file.pwrite_when_read_only)
            if self._calls is not None:
                self._calls.note_write(file, self._table.path(fd), _bytes(data), offset)
            taken = file.pwrite(_bytes(data), offset)
            self._clock.settle()
            return taken

    @overload
    def ioctl(self, fd: int, request: int, arg: int | Any = 0, mutate_flag: bool = True) -> int: ...
    @overload
    def ioctl(self, fd: int, request: int, arg: bytes, mutate_flag: bool = True) -> bytes: ...
    def ioctl(self, fd: int, request: int, arg: Any = 0, mutate_flag: bool = True) -> int | bytes:
        """See `Backend.ioctl`.  A bare number is one of the machine's, a `Request` is known by its type."""
        if self._foreign and not isinstance(request, Request):
            request = as_here(request, self._foreign)
        if isinstance(arg, int):
            with self._lock:
                result = self._file("ioctl", fd).ioctl(request & 0xFFFFFFFF, AddressArgument(self._memory, arg))
                self._clock.settle()
                return result
        view = memoryview(arg).cast("B")
        if not view.readonly and mutate_flag:
            with self._lock:
                result = self._file("ioctl", fd).ioctl(request & 0xFFFFFFFF, BufferArgument(self._memory, view))
                self._clock.settle()
                return result
        copy = bytearray(view)
        if len(copy) > 1024:
            raise ValueError("ioctl string arg too long")  # as `fcntl.ioctl`
        with self._lock:
            self._file("ioctl", fd).ioctl(request & 0xFFFFFFFF, BufferArgument(self._memory, memoryview(copy)))
            self._clock.settle()
        return bytes(copy)

    def mmap(
        self,
        fd: int,
        length: int,
        flags: int = _mmap.MAP_SHARED,
        prot: int = _mmap.PROT_READ | _mmap.PROT_WRITE,
        offset: int = 0,
    ) -> _mmap.mmap:
        """See `Backend.mmap`."""
        with self._lock:
            if length <= 0 or offset % self.machine.page_size:
                raise fail(errno.EINVAL)
            file, description = self._file("mmap", fd), self._table.description(fd)
            writes = prot & _mmap.PROT_WRITE and flags & _mmap.MAP_SHARED
            if not isinstance(file, PathFile) and (not description.readable or (writes and not description.writable)):
                raise fail(errno.EACCES)  # do_mmap looks at the descriptor before it asks the file
            mapped: object = file.mmap(length, flags, prot, offset)
            if isinstance(mapped, SharedMapping | RegisterMapping):
                mapped.keep(fd, self._unmapped)
            return cast("_mmap.mmap", mapped)

    def _unmapped(self) -> None:
        """A mapping ended, which may have been the last to hold its file."""
        with self._lock:
            self._table.reap()
            self._clock.settle()

    # names

    def listdir(self, path: str) -> list[str]:
        """See `Backend.listdir`."""
        with self._lock:
            path = self._check("listdir", path)
            return self._vfs.listdir(path)

    def readlink(self, path: str) -> str:
        """See `Backend.readlink`."""
        with self._lock:
            path = self._check("readlink", path)
            return self._vfs.readlink(path)

    def stat(self, path: str) -> os.stat_result:
        """See `Backend.stat`."""
        with self._lock:
            path = self._check("stat", path)
            return self._vfs.stat(path, follow=True)

    def lstat(self, path: str) -> os.stat_result:
        """See `Backend.lstat`."""
        with self._lock:
            path = self._check("lstat", path)
            return self._vfs.stat(path, follow=False)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        """See `Backend.mkdir`."""
        with self._lock:
            path = self._check("mkdir", path)
            mode &= ~umask()
            self._note("mkdir", path, mode)
            self._vfs.mkdir(path, mode)

    def rmdir(self, path: str) -> None:
        """See `Backend.rmdir`."""
        with self._lock:
            path = self._check("rmdir", path)
            self._note("rmdir", path)
            self._vfs.rmdir(path)

    def rename(self, source: str, target: str) -> None:
        """See `Backend.rename`; planned faults look at `source`."""
        with self._lock:
            source, target = self._check("rename", source), _path("rename", target)
            self._note("rename", source, target)
            self._vfs.rename(source, target)

    def unlink(self, path: str) -> None:
        """See `Backend.unlink`."""
        with self._lock:
            path = self._check("unlink", path)
            self._note("unlink", path)
            self._vfs.unlink(path)

    def fsync(self, fd: int) -> None:
        """See `Backend.fsync`."""
        with self._lock:
            self._file("fsync", fd).fsync()

    def chmod(self, path: str, mode: int) -> None:
        """See `Backend.chmod`."""
        with self._lock:
            path = self._check("chmod", path)
            self._note("chmod", path, mode)
            self._vfs.chmod(path, mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """See `Backend.chown`."""
        with self._lock:
            path = self._check("chown", path)
            self._note("chown", path, uid, gid)
            self._vfs.chown(path, uid, gid)

    # the rest

    def network(self) -> Network:
        """See `Backend.network`."""
        with self._lock:
            self._check("network", "")
            return self.machine.kernel.network

    def uevents(self, subsystems: Sequence[str] = ()) -> UeventQueue:
        """See `Backend.uevents`."""
        with self._lock:
            self._check("uevents", "")
            if self._calls is not None:
                self._calls.keep_following()
            return self.machine.kernel.uevents.listen(subsystems)

    def holders(self, path: str) -> list[Holder]:
        """See `Backend.holders`."""
        with self._lock:
            path = self._check("holders", path)
            _, canonical = self._vfs.resolve(path)
            found = [holder for holder in self._modelled() if self._leads_to(holder[1], canonical)]
            if self._calls is not None:
                found += [(holder, path) for holder in self._calls.holders(canonical)]
            own = list(self._table.holders(canonical))
            if not own:
                return [holder for holder, _ in found]
            import psutil  # slow to import, and only needed here

            name = psutil.Process().name()
            return [*(holder for holder, _ in found), *(Holder(os.getpid(), name, fd) for fd in own)]

    def _modelled(self) -> Iterator[tuple[Holder, str]]:
        """What the programs of the machine file have open, after the three standard streams."""
        for process in self.machine.kernel.processes:
            for fd, path in enumerate(process.open, 3):
                yield Holder(process.pid, process.name, fd), path

    def _leads_to(self, path: str, canonical: str) -> bool:
        try:
            return self._vfs.resolve(path)[1] == canonical
        except OSError:
            return False

    def sysconf(self, name: str) -> int:
        """See `Backend.sysconf`: the machine's page size and locked-memory limit, else this process's values."""
        if name in ("SC_PAGE_SIZE", "SC_PAGESIZE"):
            return self.machine.page_size
        if name == "RLIMIT_MEMLOCK":
            return self.machine.kernel.memlock
        return os.sysconf(name)

    def interpretation(self, areas: Areas, interrupt: Callable[[int], None]) -> SoftwareInterpretation | None:
        """See `pyvfio.passthrough.interpretation.InterpretingBackend`."""
        if not self.machine.spec.interpretation:
            return None
        from pyvfio_backends.software.interpretation import SoftwareInterpretation

        return SoftwareInterpretation(self.machine, areas, interrupt)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
