"""The lab's channel-attached devices on a software machine, and the words of people who use them."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_ccw as ccw_abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.css import Ccw, Irb, Orb, Program
from pyvfio.process import AnonymousMemory, EventFd
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import ChannelPathSpec, MachineSpec, SubchannelSpec
from pyvfio_backends.software.machine import Machine

UUID = "66826a94-72c4-557f-beca-d135a70628e9"
CSS = "/sys/bus/css"
CCW = "/sys/bus/ccw"
DEVICES = "/sys/devices/css0"
BASE = 0x10000
ROOM = 0x80000
PROGRAM = BASE + 0x1000
DATA = BASE + 0x10000
IO, ASYNC, SCHIB, CRW = (index << 10 for index in range(4))
IO_SIZE = 124
START = struct.pack(">I", 0x4000) + bytes(8)
"""A status word that asks for the start function."""


def lab_spec(**changes: object) -> MachineSpec:
    """The subchannels of the recorded guest; a 3990 and an echo unit follow in set 1."""
    online = {"driver": "virtio_ccw", "online": True}
    row = SubchannelSpec
    subchannels = [
        row("0.0.0000", "0.0.f000", "virtio-console", options={"port": "qmp"}, **online),  # type: ignore[arg-type]
        row("0.0.0004", "0.0.1000", "virtio-rng", **online),  # type: ignore[arg-type]
        row("0.0.0005", "0.0.1001", "virtio-blk", options={"serial": "LABBLK"}, **online),  # type: ignore[arg-type]
        row("0.0.0006", "0.0.000a", "3270", driver="3270", chpids=(1,)),
        row("0.1.0000", "0.1.0e00", "echo", chpids=(1,)),
        row("0.1.0001", "0.1.013f", "dasd-3390", driver="dasd-eckd", online=True, chpids=(2, 3), pim=0xC0, pam=0xC0),
        row("0.1.0002", "0.1.1700", "fcp", driver="zfcp", chpids=(2,)),
        row("0.1.0003", "0.1.1220", "osa", driver="qeth", chpids=(2,), count=3),
    ]
    paths = [ChannelPathSpec(0, 0x32), ChannelPathSpec(1, 0x1A), ChannelPathSpec(2), ChannelPathSpec(3)]
    return MachineSpec("lab", seqnum=262, paths=paths, subchannels=subchannels, **changes)  # type: ignore[arg-type]


@contextmanager
def refused(code: int) -> Iterator[None]:
    """The block must end with this errno."""
    try:
        yield
    except OSError as error:
        if error.errno != code:
            raise AssertionError(f"{errno.errorcode[error.errno or 0]} instead of {errno.errorcode[code]}") from error
    else:
        raise AssertionError(f"not refused; {errno.errorcode[code]} was due")


class CcwHost:
    """A booted machine; paths without a leading slash are below ``/sys/devices/css0``."""

    def __init__(self, spec: MachineSpec | None = None, *, paced: bool = False) -> None:
        self.host = SoftwareBackend(Machine(spec if spec is not None else lab_spec(), paced=paced))
        self.machine = self.host.machine
        self.events = self.host.uevents()

    def __enter__(self) -> CcwHost:
        return self

    def __exit__(self, *exc: object) -> None:
        self.host.close()

    @staticmethod
    def path(path: str) -> str:
        return path if path.startswith("/") else f"{DEVICES}/{path}"

    def read(self, path: str) -> str:
        fd = self.host.open(self.path(path), os.O_RDONLY)
        try:
            return self.host.read(fd, 1 << 12).decode()
        finally:
            self.host.close(fd)

    def write(self, path: str, text: str) -> int:
        fd = self.host.open(self.path(path), os.O_WRONLY)
        try:
            return self.host.write(fd, text.encode())
        finally:
            self.host.close(fd)

    def names(self, path: str) -> list[str]:
        return sorted(self.host.listdir(self.path(path)))

    def exists(self, path: str) -> bool:
        try:
            self.host.lstat(self.path(path))
        except OSError:
            return False
        return True

    def driver(self, path: str) -> str | None:
        try:
            return self.host.readlink(self.path(path) + "/driver").rsplit("/", 1)[-1]
        except OSError:
            return None

    def heard(self) -> list[str]:
        """The events since the last call: ``add css0/0.0.0005/0.0.1001``."""
        return [f"{event.action} {event.devpath.removeprefix('/devices/')}" for event in self.events]

    def settle(self) -> None:
        with self.machine.lock:
            self.machine.clock.settle()

    # vfio_ccw

    def take(self, subchannel: str = "0.0.0005") -> None:
        self.write(f"{subchannel}/driver_override", "vfio_ccw")
        self.write(f"{CSS}/drivers/io_subchannel/unbind", subchannel)
        self.write(f"{CSS}/drivers/vfio_ccw/bind", subchannel)

    def create(self, subchannel: str = "0.0.0005", uuid: str = UUID) -> None:
        self.write(f"{subchannel}/mdev_supported_types/vfio_ccw-io/create", uuid)

    def open_channel(self, subchannel: str = "0.0.0005") -> Channel:
        self.take(subchannel)
        self.create(subchannel)
        return Channel(self.host)


class Channel:
    """An open vfio-ccw device with memory for programs at `BASE` and an eventfd for each interrupt."""

    def __init__(self, host: SoftwareBackend, name: str = UUID) -> None:
        self.host = host
        self.memory = AnonymousMemory(ROOM)
        self.container = host.open("/dev/vfio/vfio", os.O_RDWR)
        self.group = host.open("/dev/vfio/0", os.O_RDWR)
        host.ioctl(self.group, abi.VFIO_GROUP_SET_CONTAINER, bytearray(struct.pack("=i", self.container)))
        host.ioctl(self.container, abi.VFIO_SET_IOMMU, abi.VFIO_TYPE1v2_IOMMU)
        self.fd = host.ioctl(self.group, abi.VFIO_GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))
        self.map(self.memory.address, BASE, ROOM)
        self.io, self.crw, self.request = (EventFd() for _ in range(3))
        for index, event in enumerate((self.io, self.crw, self.request)):
            self.set_irq(index, event.fileno())

    def map(self, address: int, iova: int, size: int, flags: int = 3) -> None:
        self.host.ioctl(
            self.container, t1.VFIO_IOMMU_MAP_DMA, bytearray(struct.pack("=IIQQQ", 32, flags, address, iova, size))
        )

    def unmap(self, iova: int, size: int) -> int:
        buffer = bytearray(struct.pack("=IIQQ", 24, 0, iova, size))
        self.host.ioctl(self.container, t1.VFIO_IOMMU_UNMAP_DMA, buffer)
        return int(struct.unpack("=IIQQ", buffer)[3])

    def set_irq(self, index: int, fd: int, flags: int = 0x24, count: int = 1) -> None:
        self.host.ioctl(
            self.fd, abi.VFIO_DEVICE_SET_IRQS, bytearray(struct.pack("=IIIIIi", 24, flags, index, 0, count, fd))
        )

    def put(self, iova: int, data: bytes) -> None:
        self.memory.view[iova - BASE : iova - BASE + len(data)] = data

    def get(self, iova: int, count: int) -> bytes:
        return bytes(self.memory.view[iova - BASE : iova - BASE + count])

    def start(self, *ccws: Ccw, orb: Orb | None = None, at: int = PROGRAM) -> int:
        """Write a program of these CCWs, chained as they say, and start it; what the write returns."""
        for index, ccw in enumerate(ccws):
            self.put(at + 8 * index, ccw.to_bytes())
        request = (orb if orb is not None else Orb(cpa=at, pfch=True)).to_bytes() + START
        return self.host.pwrite(self.fd, request.ljust(IO_SIZE, b"\0"), IO)

    def run(self, program: Program) -> Irb:
        """Start a program and take its end."""
        self.put(program.address, program.to_bytes())
        self.io.read()
        self.host.pwrite(self.fd, (program.orb().to_bytes() + START).ljust(IO_SIZE, b"\0"), IO)
        assert self.io.read() == 1
        return self.irb()

    def irb(self) -> Irb:
        return Irb.from_bytes(self.host.pread(self.fd, 96, IO + 24))

    def ret_code(self) -> int:
        return int(struct.unpack("=i", self.host.pread(self.fd, 4, IO + 120))[0])

    def command(self, command: int) -> int:
        return self.host.pwrite(self.fd, struct.pack("=II", command, 0), ASYNC)

    def halt(self) -> int:
        return self.command(ccw_abi.VFIO_CCW_ASYNC_CMD_HSCH)

    def clear(self) -> int:
        return self.command(ccw_abi.VFIO_CCW_ASYNC_CMD_CSCH)

    def close_device(self) -> None:
        self.host.close(self.fd)

    def close(self) -> None:
        for fd in (self.group, self.container):
            self.host.close(fd)
        for event in (self.io, self.crw, self.request):
            event.close()
        self.memory.close()
