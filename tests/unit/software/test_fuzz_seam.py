"""Wild arguments through the seam of the software machine: an answer or an errno, never another exception.

The same few hundred calls each time (the seed is fixed), over every kind of descriptor.  Memory for wild addresses is
fenced with pages without access, so that what the machine writes past it is an EFAULT and not an accident.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import random
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyvfio.abi import iommufd as ifd
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.backend import open_backend
from pyvfio.errors import NotModelled
from pyvfio.process import EventFd
from pyvfio.testing.devices import MDEV_UUID, BoundFunction, BoundSubchannel
from pyvfio_backends.software.backend import SoftwareBackend

FUNCTION, DEVICE = "0011:00:00.0", "0.0.1001"
ROOM = 1 << 20
FENCE = 1 << 24
IOVA = 1 << 32
BLOCKING = ("unbind", "remove", "power", "recover")
"""Writes here wait for the programs that have the device, as in a kernel."""

_LIBC = ctypes.CDLL(None)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Fenced:
    """Memory between pages without access; `read_only` is a page of the fence that can be read."""

    def __init__(self) -> None:
        self._at = _LIBC.mmap(None, ROOM + 2 * FENCE, 0, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS, -1, 0)
        self.address = self._at + FENCE
        self.fence = self.address + ROOM
        self.read_only = self._at + FENCE // 2
        assert _LIBC.mprotect(self.address, ROOM, mmap.PROT_READ | mmap.PROT_WRITE) == 0
        assert _LIBC.mprotect(self.read_only, mmap.PAGESIZE, mmap.PROT_READ) == 0
        self.view = memoryview((ctypes.c_char * ROOM).from_address(self.address)).cast("B")

    def put(self, offset: int, data: bytes) -> None:
        self.view[offset : offset + len(data)] = data

    def close(self) -> None:
        self.view.release()
        _LIBC.munmap(self._at, ROOM + 2 * FENCE)


class Rig:
    """A machine with everything open: a function by its group, a channel device by its node or the other way round."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        gc.collect()  # what earlier tests left is not this one's
        self.descriptors = len(os.listdir("/proc/self/fd"))
        backend = open_backend("software", machine="lab-s390x")
        assert isinstance(backend, SoftwareBackend)
        self.host = backend
        self.memory = Fenced()
        self.event = EventFd()
        self.ends = 0
        function, subchannel = BoundFunction(backend, FUNCTION), BoundSubchannel(backend, DEVICE)
        function.take("vfio-pci")
        subchannel.set_offline()
        subchannel.take("vfio_ccw")
        mdev = subchannel.create()
        self.fds: dict[str, int] = {}
        self.by_group = [(function, FUNCTION), (mdev, MDEV_UUID)]
        if seed % 2:
            self.by_group.reverse()
        self.open()

    def open(self) -> None:
        """Close what is open, and open one of each kind."""
        for fd in self.fds.values():
            self.quiet(self.host.close, fd)
        host = self.host
        (grouped, name), (other, _) = self.by_group
        container, iommu = host.open("/dev/vfio/vfio", os.O_RDWR), host.open("/dev/iommu", os.O_RDWR)
        group = host.open(grouped.group, os.O_RDWR)
        host.ioctl(group, abi.VFIO_GROUP_SET_CONTAINER, bytearray(struct.pack("=i", container)))
        host.ioctl(container, abi.VFIO_SET_IOMMU, abi.VFIO_TYPE1v2_IOMMU)
        device = host.ioctl(group, abi.VFIO_GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))
        cdev = host.open(other.cdev, os.O_RDWR)
        answer = bytearray(12)
        struct.pack_into("=I", answer, 0, 12)
        host.ioctl(iommu, ifd.IOMMU_IOAS_ALLOC, answer)
        self.ioas = struct.unpack("=III", answer)[2]
        host.ioctl(cdev, abi.VFIO_DEVICE_BIND_IOMMUFD, bytearray(struct.pack("=IIiI", 16, 0, iommu, 0)))
        host.ioctl(cdev, abi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, bytearray(struct.pack("=III", 12, 0, self.ioas)))
        for iova in (0, IOVA):
            words = struct.pack("=QQQ", self.memory.address, iova, ROOM)
            self.quiet(host.ioctl, container, t1.VFIO_IOMMU_MAP_DMA, bytearray(struct.pack("=II", 32, 3) + words))
        self.fds = {"container": container, "iommu": iommu, "group": group, "device": device, "cdev": cdev}
        self.fds["config"] = host.open(f"/sys/bus/pci/devices/{FUNCTION}/config", os.O_RDONLY)
        self.fds["directory"] = host.open("/sys/bus", os.O_RDONLY)

    def quiet(self, verb: Callable[..., object], *arguments: object) -> object:
        """Call a verb; an errno of the kernel's table, or what `fcntl` and `os` raise for wrong Python arguments."""
        try:
            return verb(*arguments)
        except NotModelled:
            return None
        except (OSError, ValueError) as error:
            refused: Exception = error
        except Exception as error:
            raise AssertionError(f"{verb!r}{arguments!r}"[:400]) from error
        if isinstance(refused, OSError):
            assert refused.errno in errno.errorcode, (verb, arguments)
        else:
            assert str(refused) in ("ioctl string arg too long", "embedded null byte")
        return None

    # words that make trouble

    def word(self, bits: int) -> int:
        one, memory = self.random, self.memory
        small = (0, 0, 1, 2, 3, 4, 5, 8, 16, 24, 32, 48, self.ioas, self.event.fileno(), *self.fds.values())
        big = (
            memory.address,
            memory.read_only,
            memory.fence,
            IOVA,
            IOVA + 0x1000,
            0x1000,
            ROOM,
            1 << (bits - 1),
            -1,
            -4096,
        )
        chosen = one.choice(
            one.choice((small, big, (one.getrandbits(bits), one.getrandbits(8), 1 << one.randrange(bits))))
        )
        return chosen & (1 << bits) - 1

    def body(self) -> bytes:
        """A structure with a size in front, more or less as it should be."""
        one = self.random
        size = one.choice((0, 3, 4, 8, 12, 16, 20, 24, 32, 40, 48, 64, 200, 1024, 1025))
        data = struct.pack("=I", one.choice((size, size, size, 8, 24, 0, 0xFFFFFFFF)))
        while len(data) < size:
            bits = 64 if len(data) % 8 == 0 and one.random() < 0.5 else 32
            data += self.word(bits).to_bytes(bits // 8, "little")
        return data[:size]

    def argument(self) -> object:
        one, memory, data = self.random, self.memory, self.body()
        at = one.choice((0, 0x100, max(ROOM - len(data), 0), ROOM - 4))
        memory.put(at, data[: ROOM - at])
        wild = one.choice((0, 1, -1, (1 << 64) - 1, 1 << 70, memory.read_only, memory.fence, one.getrandbits(62) << 1))
        return one.choice((memory.address + at, wild, data, memoryview(data), bytearray(data), bytearray(data)))

    def request(self) -> int:
        one = self.random
        return one.choice(
            (0x3B64 + one.randrange(22), 0x3B80 + one.randrange(17), one.getrandbits(32), -one.getrandbits(31))
        )

    def program(self) -> bytes:
        """An I/O region that starts a random program with random indirect addresses."""
        one = self.random
        at = one.choice((0, 0x1000, 0x1FF8, 0xFF800, one.randrange(ROOM) & ~7))
        for index in range(one.choice((1, 2, 5, 40, 257))):
            command = one.choice((2, 3, 4, 8, 8, 1, 0xE4, one.randrange(256)))
            address = one.choice((0x10000, at, at + 8, at - 8, 0xFFFFF, ROOM, one.getrandbits(31))) & 0x7FFFFFFF
            ccw = struct.pack(">BBHI", command, one.choice((0x40, 0x60, 0x80, 0x24, 0, one.randrange(256))), 8, address)
            self.memory.put(min(at + 8 * index, ROOM - 8), ccw)
        self.memory.put(0x10000, b"".join(struct.pack(">Q", one.choice((0x30000, 0x30800, 1 << 40))) for _ in range(9)))
        flags = one.choice((0x00C0FF00, 0x00C2FF00, 0x0040FF00, 0x00E0FF00, one.getrandbits(32)))
        return struct.pack(">III20xI", one.getrandbits(32), flags, at, one.choice((0x4000, 0x4000, 0x2000, 0))).ljust(
            124, b"\0"
        )

    def close(self) -> None:
        self.host.close()
        self.event.close()
        self.memory.close()
        assert len(os.listdir("/proc/self/fd")) == self.descriptors, "a descriptor is left"
        assert not [thread for thread in threading.enumerate() if "pyvfio" in thread.name], "a thread is left"


@pytest.fixture(params=(1, 2))
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = Rig(request.param)
    yield made
    made.close()


def test_ioctl(rig: Rig) -> None:
    for number in range(4000):
        if number % 200 == 199:
            rig.open()
        result = rig.quiet(rig.host.ioctl, rig.random.choice(list(rig.fds.values())), rig.request(), rig.argument())
        assert result is None or isinstance(result, bytes) or (isinstance(result, int) and result >= 0)


def test_regions(rig: Rig) -> None:
    one = rig.random
    for number in range(2500):
        if number % 500 == 499:
            rig.open()
        fd = rig.fds[one.choice(("device", "cdev"))]
        offset = one.choice((0, 1024, 2048, 3072, *(index << 40 for index in range(10)))) + one.choice(
            (0, 4, 8, 0x14, 0x1C, 124, 255, 256, 4095, 4096, one.randrange(128), -1, 1 << 64)
        )
        match one.randrange(5):
            case 0:
                rig.quiet(rig.host.pread, fd, one.choice((0, 1, 4, 8, 256, 4096, 1 << 40, -1)), offset)
            case 1:
                rig.quiet(rig.host.read, fd, one.choice((0, 4, 1 << 62, -1)))
            case 2:
                rig.quiet(rig.host.pwrite, fd, one.randbytes(one.choice((0, 1, 2, 4, 8, 124, 4096))), offset)
            case 3:
                rig.quiet(rig.host.pwrite, fd, struct.pack("<I", one.choice((1, 2, 3, 4, 0x1000, 6))), offset)
            case _:
                rig.quiet(rig.host.pwrite, fd, rig.program()[: one.choice((124, 124, 124, 24, 123))], 0)


def test_sysfs(rig: Rig) -> None:
    host, one = rig.host, rig.random
    files = sorted(path for path in _files(host, "/sys") if path.rsplit("/", 1)[-1] not in BLOCKING)
    words = (
        b"",
        b"\n",
        b"0",
        b"1\n",
        b"-1",
        b"\xff\xfe",
        b"\0",
        b"x" * 5000,
        b"99999999999999999999",
        MDEV_UUID.encode(),
    )
    for path in one.sample(files, 400):
        fd = rig.quiet(host.open, path, one.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR, one.getrandbits(20))))
        if not isinstance(fd, int):
            continue
        for _ in range(2):
            offset = one.choice((0, 0, 1, 4095, 4096, (1 << 63) - 1, 1 << 63, -1))
            rig.quiet(host.pread, fd, one.choice((0, 1, 4096, 1 << 31, 1 << 63, -1)), offset)
            rig.quiet(host.read, fd, one.choice((0, 1, 4096, 1 << 63, -1)))
            rig.quiet(host.pwrite, fd, one.choice(words), offset)
            rig.quiet(host.write, fd, one.choice(words))
            rig.quiet(host.mmap, fd, one.choice((0, 1, 4096, 1 << 62)), one.randrange(4), one.randrange(8), offset)
        host.close(fd)
        for verb in (host.listdir, host.readlink, host.stat, host.lstat):
            rig.quiet(verb, path + one.choice(("", "/", "/..", "/x", "\0", "/../..", "é", "\udcff")))


def _files(host: SoftwareBackend, root: str) -> Iterator[str]:
    for name in host.listdir(root):
        path = f"{root}/{name}"
        mode = host.lstat(path).st_mode
        if mode & 0o170000 == 0o040000:
            yield from _files(host, path)
        elif mode & 0o170000 == 0o100000:
            yield path


@pytest.mark.parametrize("path", [None, 5, b"/sys", object()])
def test_a_path_is_a_text(rig: Rig, path: object) -> None:
    host = rig.host
    for verb in (host.listdir, host.readlink, host.stat, host.lstat, host.holders):
        with pytest.raises(TypeError):
            verb(path)
    assert host.listdir(Path("/sys/bus")) == host.listdir("/sys/bus")  # type: ignore[arg-type]


def test_what_is_written_is_bytes(rig: Rig) -> None:
    for verb in (rig.host.write, lambda fd, data: rig.host.pwrite(fd, data, 0)):
        for data in (5, None, "text"):
            with pytest.raises(TypeError):
                verb(rig.fds["device"], data)  # type: ignore[arg-type]


def test_duplicates_are_closed_with_the_machine(rig: Rig) -> None:
    """Numbers that the machine never saw keep no file open behind its end."""
    numbers = [os.dup(fd) for fd in rig.fds.values()]
    rig.host.close()
    for number in numbers:
        with pytest.raises(OSError):
            os.fstat(number)


def test_threads(rig: Rig) -> None:
    """Six threads at once, while the machine is closed under them."""
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        one = random.Random(seed)
        try:
            for _ in range(150):
                fd = one.choice(list(rig.fds.values()))
                rig.quiet(rig.host.ioctl, fd, 0x3B64 + one.randrange(22), bytearray(rig.body()))
                rig.quiet(rig.host.pread, fd, 4, one.choice((0, 7 << 40)))
                rig.quiet(rig.host.open, "/dev/vfio/vfio", os.O_RDWR)
                rig.quiet(rig.host.listdir, "/sys/bus/pci/devices")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    threads[0].join(0.05)
    rig.host.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not failures, failures[0]
