"""A machine with zPCI functions, the files of its bus, and vfio-pci requests as Python calls."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from typing import Any

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.abi.layout import AbiStructure, Capability, parse_capability_chain
from pyvfio.uevent import Uevent
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import FunctionSpec, MachineSpec
from pyvfio_backends.software.machine import Machine

NET, BLK, RNG, BELL = "0011:00:00.0", "0020:00:00.0", "0030:00:00.0", "0060:00:00.0"
BUS = "/sys/bus/pci"
VFIO = f"{BUS}/drivers/vfio-pci"
VIRTIO = f"{BUS}/drivers/virtio-pci"
CONFIG = abi.VFIO_PCI_CONFIG_REGION_INDEX
TRIGGER = abi.VFIO_IRQ_SET_ACTION_TRIGGER
NONE, BOOL, EVENTFD = abi.VFIO_IRQ_SET_DATA_NONE, abi.VFIO_IRQ_SET_DATA_BOOL, abi.VFIO_IRQ_SET_DATA_EVENTFD
MSIX, REQ = abi.VFIO_PCI_MSIX_IRQ_INDEX, abi.VFIO_PCI_REQ_IRQ_INDEX
APERTURE = 0x1_0000_0000


def functions() -> list[FunctionSpec]:
    return [
        FunctionSpec(0x11, 0x10, "virtio-net", "virtio-pci"),
        FunctionSpec(0x20, 0x1000, "virtio-blk", "virtio-pci"),
        FunctionSpec(0x30, 0x21, "virtio-rng", "virtio-pci"),
        FunctionSpec(0x60, 0x60, "virtio-bell"),
    ]


def errno_of(call: Callable[..., Any], *arguments: Any, **options: Any) -> str:
    """The name of the errno of a failing call; what a good one returned otherwise, as text."""
    try:
        return repr(call(*arguments, **options))
    except OSError as error:
        return errno.errorcode[error.errno or 0]


class Device:
    """An open vfio-pci device with its group and container; `fd` is -1 with `get` false."""

    def __init__(self, lab: Pci, name: str, *, iommu: int = abi.VFIO_TYPE1_IOMMU, get: bool = True) -> None:
        self.host, self.name = lab.host, name
        number = lab.host.readlink(f"{BUS}/devices/{name}/iommu_group").rsplit("/", 1)[-1]
        self.container = lab.host.open("/dev/vfio/vfio", os.O_RDWR)
        self.group = lab.host.open(f"/dev/vfio/{number}", os.O_RDWR)
        lab.host.ioctl(self.group, abi.VFIO_GROUP_SET_CONTAINER, struct.pack("=i", self.container))
        lab.host.ioctl(self.container, abi.VFIO_SET_IOMMU, iommu)
        self.fd = self.get(name) if get else -1

    def get(self, name: str) -> int:
        return self.host.ioctl(self.group, abi.VFIO_GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))

    def close(self) -> None:
        for fd in (self.fd, self.group, self.container):
            self.host.close(fd)

    def read(self, count: int, offset: int, region: int = CONFIG) -> bytes:
        return self.host.pread(self.fd, count, region << 40 | offset)

    def write(self, data: bytes, offset: int, region: int = CONFIG) -> int:
        return self.host.pwrite(self.fd, data, region << 40 | offset)

    def set_irqs(self, flags: int, index: int, start: int, count: int, data: bytes = b"") -> int:
        head = struct.pack("=5I", 20 + len(data), flags, index, start, count)
        return self.host.ioctl(self.fd, abi.VFIO_DEVICE_SET_IRQS, bytearray(head + data))

    def eventfds(self, index: int, start: int, *descriptors: int) -> int:
        data = struct.pack(f"={len(descriptors)}i", *descriptors)
        return self.set_irqs(EVENTFD | TRIGGER, index, start, len(descriptors), data)

    def info(self, argsz: int = 1024) -> tuple[tuple[int, ...], list[Capability]]:
        buffer = bytearray(struct.pack("=I", argsz).ljust(max(argsz, 64), b"\0"))
        self.host.ioctl(self.fd, abi.VFIO_DEVICE_GET_INFO, buffer)
        fields = struct.unpack_from("=6I", buffer)
        return fields, parse_capability_chain(buffer, fields[4], "device info")

    def ask(self, request: int, argument: AbiStructure) -> int:
        return self.host.ioctl(self.fd, request, argument)

    def map(self, iova: int, vaddr: int, size: int) -> None:
        flags = t1.VFIO_DMA_MAP_FLAG_READ | t1.VFIO_DMA_MAP_FLAG_WRITE
        argument = t1.IommuType1DmaMap.sized(flags=flags, vaddr=vaddr, iova=iova, size=size)
        self.host.ioctl(self.container, t1.VFIO_IOMMU_MAP_DMA, argument)


class Pci:
    """The lab's three virtio functions, held by virtio-pci, and a bell that nobody holds."""

    def __init__(self, *extra: FunctionSpec, **machine: Any) -> None:
        self.machine = Machine(MachineSpec(name="pci", functions=[*functions(), *extra], memory=512 << 20, **machine))
        self.kernel = self.machine.kernel
        self.host = SoftwareBackend(self.machine)
        self.events = self.host.uevents()

    def text(self, path: str) -> str:
        fd = self.host.open(path, os.O_RDONLY)
        try:
            return self.host.read(fd, 1 << 16).decode()
        finally:
            self.host.close(fd)

    def bytes(self, path: str, count: int = 256, offset: int = 0) -> bytes:
        fd = self.host.open(path, os.O_RDONLY)
        try:
            return self.host.pread(fd, count, offset)
        finally:
            self.host.close(fd)

    def write(self, path: str, data: str | bytes) -> int:
        fd = self.host.open(path, os.O_WRONLY)
        try:
            return self.host.write(fd, data.encode() if isinstance(data, str) else data)
        finally:
            self.host.close(fd)

    def attr(self, name: str, attribute: str) -> str:
        return self.text(f"{BUS}/devices/{name}/{attribute}").removesuffix("\n")

    def config(self, name: str, offset: int, count: int) -> str:
        return self.bytes(f"{BUS}/devices/{name}/config", count, offset).hex()

    def irqs(self, name: str) -> list[str]:
        return sorted(self.host.listdir(f"{BUS}/devices/{name}/msi_irqs"), key=int)

    def driver(self, name: str) -> str | None:
        try:
            return self.host.readlink(f"{BUS}/devices/{name}/driver").rsplit("/", 1)[-1]
        except FileNotFoundError:
            return None

    def seen(self) -> list[Uevent]:
        return list(self.events)

    def headers(self) -> list[str]:
        return [event.lines()[0] for event in self.seen()]

    def take(self, name: str) -> None:
        """Give a function to vfio-pci by its override."""
        self.write(f"{BUS}/devices/{name}/driver_override", "vfio-pci\n")
        driver = self.driver(name)
        if driver is not None:
            self.write(f"{BUS}/drivers/{driver}/unbind", name)
        self.write(f"{BUS}/drivers_probe", name)

    def open(self, name: str, **options: int) -> Device:
        self.take(name)
        return Device(self, name, **options)
