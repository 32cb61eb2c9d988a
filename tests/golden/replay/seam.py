"""Raw verbs of the seam in the recordings' notation: a value, or the name of an errno."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterable
from typing import Any

from pyvfio.abi import vfio, vfio_type1
from pyvfio.abi.layout import AbiStructure, native_struct
from pyvfio.address import SubchannelId
from pyvfio.backend import open_backend
from pyvfio.process import AnonymousMemory, EventFd
from pyvfio_backends.software import MachineSpec, SoftwareBackend
from pyvfio_backends.software.clock import Clock
from pyvfio_backends.software.description import FunctionSpec

__all__ = ["Blocked", "Seam", "errno_name", "unmapped_address"]

INFO_SIZE = 1024  # what the recordings gave as argsz where the words do not say


def errno_name(error: OSError) -> str:
    """``EINVAL``."""
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def unmapped_address() -> int:
    """An address of this process at which nothing is mapped (it was, and is not any more)."""
    memory = AnonymousMemory(mmap.PAGESIZE)
    address = memory.address
    memory.close()
    return address


class Blocked:
    """A call on a thread of its own, which may block in the kernel.  `results` has (value, errno name) at its end."""

    def __init__(self, clock: Clock, work: Callable[[], Any]) -> None:
        self._clock = clock
        self.results: list[tuple[Any, str | None]] = []
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.settle()

    def _run(self) -> None:
        try:
            self.results.append((self._work(), None))
        except OSError as error:
            self.results.append((None, errno_name(error)))

    def settle(self) -> None:
        """Give the call time to end or to block."""
        while self.blocked and not self._clock.holds(self._thread):
            self._thread.join(0.01)

    @property
    def blocked(self) -> bool:
        """Whether the call has not returned."""
        return self._thread.is_alive()

    def outcome(self, seconds: float = 0.0) -> str:
        """As the recordings print it: a list of ((value, errno), seconds)."""
        self.settle()
        return "[" + ", ".join(f"(({value}, {error!r}), {seconds})" for value, error in self.results) + "]"


class Seam:
    """One machine behind the seam, with the calls that all recordings use."""

    def __init__(self, spec: MachineSpec) -> None:
        backend = open_backend("software", machine=spec)
        assert isinstance(backend, SoftwareBackend)
        self.host = backend
        self.machine = backend.machine
        self.events = backend.uevents()
        self.memories: list[AnonymousMemory] = []
        self.eventfds: list[EventFd] = []

    def close(self) -> None:
        """End the machine and free what the replay made."""
        self.events.close()
        self.host.close()
        for eventfd in self.eventfds:
            eventfd.close()
        for memory in self.memories:
            memory.close()

    # results

    @staticmethod
    def attempt(work: Callable[[], Any]) -> dict[str, Any]:
        """``{"value": ...}`` or ``{"error": "EINVAL"}``."""
        try:
            return {"value": work()}
        except OSError as error:
            return {"error": errno_name(error)}

    @staticmethod
    def pair(work: Callable[[], Any]) -> list[Any]:
        """``[value, null]`` or ``[null, "EINVAL"]``."""
        try:
            return [work(), None]
        except OSError as error:
            return [None, errno_name(error)]

    @staticmethod
    def quiet(work: Callable[[], Any]) -> Any:
        """The value, or None when it failed."""
        try:
            return work()
        except OSError:
            return None

    # files

    def read(self, path: str, n: int = 1 << 16) -> bytes:
        """The content of an attribute."""
        fd = self.host.open(path, os.O_RDONLY)
        try:
            return self.host.read(fd, n)
        finally:
            self.host.close(fd)

    def text(self, path: str) -> str:
        """The text of an attribute without the blanks around it."""
        return self.read(path).decode().strip()

    def write(self, path: str, data: str | bytes) -> int:
        """Write an attribute."""
        fd = self.host.open(path, os.O_WRONLY)
        try:
            return self.host.write(fd, data.encode() if isinstance(data, str) else data)
        finally:
            self.host.close(fd)

    def link(self, path: str) -> str | None:
        """The last part of a link's target, None where there is no link."""
        try:
            return os.path.basename(self.host.readlink(path))
        except OSError:
            return None

    def exists(self, path: str) -> bool:
        """Whether the path resolves."""
        return self.quiet(lambda: self.host.stat(path)) is not None

    def listing(self, path: str) -> list[str]:
        """A directory's names, sorted; empty where there is none."""
        return sorted(self.quiet(lambda: self.host.listdir(path)) or [])

    # ioctls

    def call(self, fd: int, request: int, argument: AbiStructure) -> AbiStructure:
        """An ioctl on a structure, which is changed in place."""
        self.host.ioctl(fd, request, argument)
        return argument

    def info(self, fd: int, request: int, size: int, argsz: int, *words: int) -> bytes:
        """An info ioctl: `size` bytes of zeros with `argsz` and then `words` (32 bits each) at the front."""
        room = bytearray(max(size, argsz))
        struct.pack_into(f"={1 + len(words)}I", room, 0, argsz, *words)
        self.host.ioctl(fd, request, room)
        return bytes(room)

    def descriptor(self, fd: int, request: int, value: int) -> int:
        """An ioctl that takes a pointer to a descriptor number."""
        return self.host.ioctl(fd, request, bytearray(struct.pack("=i", value)))

    def device_fd(self, group: int, name: str) -> int:
        """``VFIO_GROUP_GET_DEVICE_FD``."""
        return self.host.ioctl(group, vfio.VFIO_GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))

    def set_irqs(
        self,
        fd: int,
        index: int,
        flags: int,
        start: int,
        count: int,
        data: bytes = b"",
        argsz: int | None = None,
    ) -> int:
        """``VFIO_DEVICE_SET_IRQS``."""
        head = native_struct(vfio.IrqSet)
        size = head.size + len(data) if argsz is None else argsz
        room = bytearray(head.pack(size, flags, index, start, count) + data)
        return self.host.ioctl(fd, vfio.VFIO_DEVICE_SET_IRQS, room)

    def map_dma(self, container: int, iova: int, size: int, vaddr: int, flags: int = 3, argsz: int = 0) -> int:
        """``VFIO_IOMMU_MAP_DMA``."""
        argument = vfio_type1.IommuType1DmaMap(
            argsz=argsz or ctypes.sizeof(vfio_type1.IommuType1DmaMap), flags=flags, vaddr=vaddr, iova=iova, size=size
        )
        return self.host.ioctl(container, vfio_type1.VFIO_IOMMU_MAP_DMA, argument)

    def unmap_dma(self, container: int, iova: int, size: int, flags: int = 0, argsz: int = 0) -> tuple[str | None, int]:
        """``VFIO_IOMMU_UNMAP_DMA``: the errno's name or None, and `size` as the call left it."""
        argument = vfio_type1.IommuType1DmaUnmap(
            argsz=argsz or ctypes.sizeof(vfio_type1.IommuType1DmaUnmap), flags=flags, iova=iova, size=size
        )
        error = self.pair(lambda: self.host.ioctl(container, vfio_type1.VFIO_IOMMU_UNMAP_DMA, argument))[1]
        return error, argument.size

    # the process and the machine

    def memory(self, length: int) -> AnonymousMemory:
        """Memory for DMA, freed at the end."""
        made = AnonymousMemory(length)
        self.memories.append(made)
        return made

    def eventfd(self) -> EventFd:
        """An eventfd, closed at the end."""
        made = EventFd()
        self.eventfds.append(made)
        return made

    def advance(self, seconds: float) -> None:
        """Let machine time pass."""
        self.machine.clock.advance(seconds)
        self.settle()

    def close_all(self, fds: Iterable[int]) -> None:
        """Close descriptors; what is closed already is passed over."""
        for fd in fds:
            self.quiet(lambda fd=fd: self.host.close(fd))  # type: ignore[misc]

    def unplug(self, schid: SubchannelId) -> None:
        """Take a subchannel out of the machine, as pulling a device does."""
        with self.machine.lock:
            self.machine.css.remove_subchannel(schid)
            self.machine.clock.settle()
        self.settle()

    def plug_function(self, spec: FunctionSpec) -> None:
        """Put a PCI function into the machine."""
        with self.machine.lock:
            self.machine.zpci.plug(spec)
            self.machine.clock.settle()

    def unplug_function(self, fid: int) -> None:
        """Ask for a PCI function, as pulling a device does."""
        with self.machine.lock:
            self.machine.zpci.unplug(fid)
            self.machine.clock.settle()

    def settle(self) -> None:
        """Do what is due now."""
        self.machine.clock.advance(0.0)

    def new_events(self) -> list[list[str]]:
        """The lines of each uevent since the last look."""
        return [event.lines() for event in self.events]
