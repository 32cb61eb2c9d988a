"""A machine with two kinds of fake VFIO devices, and the container requests as Python calls."""

from __future__ import annotations

import os
import struct

import pytest

from pyvfio.abi import iommufd as ifd
from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as t1
from pyvfio.abi.layout import AbiStructure, Capability, parse_capability_chain
from pyvfio.process import AnonymousMemory
from pyvfio_backends.software.backend import SoftwareBackend
from pyvfio_backends.software.description import MachineSpec
from pyvfio_backends.software.hardware.dma import DmaSpace
from pyvfio_backends.software.linux import vfio_core
from pyvfio_backends.software.linux.device import Device
from pyvfio_backends.software.linux.driver_core import Bus, Driver
from pyvfio_backends.software.linux.iommu_group import Region
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.machine import Machine

PAGE = 0x1000
FIRST, LAST = 0x1_0000_0000, 0x1_1FFF_FFFF
"""The aperture of a zPCI function in the recorded answers."""
RESERVED = ((0, FIRST - 1), (LAST + 1, 0x3FF_FFFF_FFFF))
ECHO = 0x1234


class FakeBus(Bus):
    """A bus on which every driver suits every device."""

    def match(self, device: Device, driver: Driver) -> bool:
        return True


class FakeDevice(vfio_core.VfioDevice):
    """A device that notes what the core asks of it."""

    def __init__(self, kernel: vfio_core.Kernel, device: Device, *, emulated: bool = False) -> None:
        super().__init__(kernel, device, emulated=emulated)
        self.calls: list[str] = []
        self.requests: list[int] = []
        self.unmaps: list[tuple[int, int]] = []
        self.held: dict[int, int] = {}
        self.dma: DmaSpace | None = None
        self.refuse: OSError | None = None

    def open_device(self) -> None:
        self.calls.append("open")
        if self.refuse is not None:
            raise self.refuse

    def close_device(self) -> None:
        self.calls.append("close")
        for iova, count in self.held.items():
            self.unpin_pages(iova, count)
        self.held.clear()

    def ioctl(self, request: int, argument: Argument) -> int:
        if request != ECHO:
            raise OSError(25, "not this")
        return argument.value + 1

    def read(self, n: int, offset: int) -> bytes:
        return bytes((offset + i) & 0xFF for i in range(n))

    def write(self, data: bytes, offset: int) -> int:
        return len(data)

    def request(self, count: int) -> None:
        self.requests.append(count)

    def dma_unmap(self, iova: int, length: int) -> None:
        self.unmaps.append((iova, length))
        for start in [start for start in self.held if iova <= start <= iova + length - 1]:
            self.unpin_pages(start, self.held.pop(start))

    def set_dma(self, space: DmaSpace | None) -> None:
        self.dma = space

    def pin(self, iova: int, count: int = 1, write: bool = True) -> list[int]:
        pages = self.pin_pages(iova, count, write)
        self.held[iova] = count
        return pages


class FakeDriver(Driver):
    """Registers a `FakeDevice` for what it binds."""

    driver_managed_dma = True

    def __init__(self, bus: Bus, name: str, *, emulated: bool) -> None:
        super().__init__(bus, name)
        self.emulated = emulated
        self.bound: dict[str, FakeDevice] = {}

    def probe(self, device: Device) -> None:
        fake = FakeDevice(self.kernel, device, emulated=self.emulated)
        fake.register()
        self.bound[device.name] = fake

    def remove(self, device: Device) -> None:
        self.bound[device.name].unregister()
        del self.bound[device.name]


class RealDevice(Device):
    """A device whose IOMMU reserves `regions`."""

    regions: tuple[Region, ...] = tuple(Region(*one) for one in RESERVED)

    def reserved_regions(self) -> tuple[Region, ...]:
        return self.regions if self.bus is not None and self.bus.name == "phys" else ()


class Lab:
    """A machine with VFIO, three devices behind an IOMMU (``p0`` to ``p2``) and two mediated ones (``m0``, ``m1``).

    ``p0`` and ``p1`` have groups of their own, 0 and 1; ``p2`` has none until somebody gives it one.
    """

    def __init__(self, *, memlock: int = -1, page_size: int = PAGE) -> None:
        self.machine = Machine(MachineSpec(name="lab", memlock=memlock, ipc_lock=False, page_size=page_size))
        self.kernel = self.machine.kernel
        if "vfio" not in self.kernel.modules.table:
            vfio_core.boot(self.machine)
        self.host = SoftwareBackend(self.machine)
        self.page = page_size
        root = Device(self.kernel, "fake", None)
        self.kernel.add_root(root)
        self.buses = {}
        self.drivers = {}
        for kind, names in (("phys", ("p0", "p1")), ("medi", ("m0", "m1"))):
            bus = self.buses[kind] = FakeBus(self.kernel, kind)
            self.kernel.add_bus(bus)
            driver = self.drivers[kind] = FakeDriver(bus, f"{kind}-vfio", emulated=kind == "medi")
            bus.register(driver)
            for name in names:
                device = RealDevice(self.kernel, name, root, bus=bus)
                if kind == "phys":
                    group = self.kernel.groups.create()
                    group.aperture, group.page_sizes = (FIRST, LAST), page_size
                    self.kernel.groups.join(group, device)
                bus.add(device)

    def fake(self, name: str) -> FakeDevice:
        return self.drivers["phys" if name[0] == "p" else "medi"].bound[name]

    def number(self, name: str) -> int:
        group = self.fake(name).group
        assert group is not None
        return group.iommu_group.number

    # files

    def open(self, path: str) -> int:
        return self.host.open(path, os.O_RDWR)

    def container(self) -> int:
        return self.open("/dev/vfio/vfio")

    def group(self, name: str) -> int:
        return self.open(f"/dev/vfio/{self.number(name)}")

    def cdev(self, name: str) -> int:
        return self.open(f"/dev/vfio/devices/vfio{self.fake(name).index}")

    def set_container(self, group: int, container: int) -> int:
        return self.host.ioctl(group, abi.VFIO_GROUP_SET_CONTAINER, bytearray(struct.pack("=i", container)))

    def device_fd(self, group: int, name: str) -> int:
        return self.host.ioctl(group, abi.VFIO_GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))

    def status(self, group: int) -> int:
        status = abi.GroupStatus.sized()
        self.host.ioctl(group, abi.VFIO_GROUP_GET_STATUS, status)
        return int(status.flags)

    def ready(self, name: str, kind: int = abi.VFIO_TYPE1v2_IOMMU) -> tuple[int, int]:
        """Container and group of a device, with the IOMMU set."""
        container, group = self.container(), self.group(name)
        self.set_container(group, container)
        self.host.ioctl(container, abi.VFIO_SET_IOMMU, kind)
        return container, group

    # type 1

    def map(self, fd: int, iova: int, size: int, vaddr: int, flags: int = 3, argsz: int | None = None) -> None:
        request = t1.IommuType1DmaMap.sized(flags=flags, vaddr=vaddr, iova=iova, size=size)
        if argsz is not None:
            request.argsz = argsz
        assert self.host.ioctl(fd, t1.VFIO_IOMMU_MAP_DMA, request) == 0

    def unmap(self, fd: int, iova: int, size: int, flags: int = 0) -> int:
        request = t1.IommuType1DmaUnmap.sized(flags=flags, iova=iova, size=size)
        try:
            self.host.ioctl(fd, t1.VFIO_IOMMU_UNMAP_DMA, request)
        except OSError:
            assert request.size == size  # an error changes nothing
            raise
        return int(request.size)

    def info(self, fd: int, argsz: int = 1024) -> tuple[t1.IommuType1Info, dict[int, Capability]]:
        buffer = bytearray(max(argsz, 1024))
        buffer[:4] = struct.pack("=I", argsz)
        self.host.ioctl(fd, t1.VFIO_IOMMU_GET_INFO, buffer)
        info = t1.IommuType1Info.from_buffer_copy(buffer)
        chain = parse_capability_chain(bytes(buffer[: info.argsz]), info.cap_offset, "iommu info")
        return info, {capability.id: capability for capability in chain}

    def available(self, fd: int) -> int:
        return int(self.info(fd)[1][t1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL].read(t1.IommuType1InfoDmaAvail).avail)

    # iommufd

    def iommufd(self) -> int:
        return self.open("/dev/iommu")

    def bind(self, cdev: int, iommufd: int) -> int:
        request = abi.DeviceBindIommufd.sized(iommufd=iommufd)
        self.host.ioctl(cdev, abi.VFIO_DEVICE_BIND_IOMMUFD, request)
        return int(request.out_devid)

    def attach(self, cdev: int, id_: int) -> int:
        request = abi.DeviceAttachIommufdPt.sized(pt_id=id_)
        self.host.ioctl(cdev, abi.VFIO_DEVICE_ATTACH_IOMMUFD_PT, request)
        return int(request.pt_id)

    def detach(self, cdev: int) -> None:
        self.host.ioctl(cdev, abi.VFIO_DEVICE_DETACH_IOMMUFD_PT, abi.DeviceDetachIommufdPt.sized())

    def call(self, fd: int, request: int, argument: AbiStructure) -> AbiStructure:
        self.host.ioctl(fd, request, argument)
        return argument

    def ioas(self, fd: int) -> int:
        request = ifd.IoasAlloc.sized()
        self.host.ioctl(fd, ifd.IOMMU_IOAS_ALLOC, request)
        return int(request.out_ioas_id)

    def ioas_map(self, fd: int, ioas: int, vaddr: int, length: int, iova: int | None = None, flags: int = 6) -> int:
        request = ifd.IoasMap.sized(ioas_id=ioas, user_va=vaddr, length=length, iova=iova or 0, flags=flags)
        if iova is not None:
            request.flags |= ifd.IOMMU_IOAS_MAP_FIXED_IOVA
        self.host.ioctl(fd, ifd.IOMMU_IOAS_MAP, request)
        return int(request.iova)

    def ioas_unmap(self, fd: int, ioas: int, iova: int, length: int) -> int:
        request = ifd.IoasUnmap.sized(ioas_id=ioas, iova=iova, length=length)
        self.host.ioctl(fd, ifd.IOMMU_IOAS_UNMAP, request)
        return int(request.length)

    def ranges(self, fd: int, ioas: int) -> tuple[list[tuple[int, int]], int]:
        with AnonymousMemory(PAGE) as memory:
            request = ifd.IoasIovaRanges.sized(ioas_id=ioas, num_iovas=64, allowed_iovas=memory.address)
            self.host.ioctl(fd, ifd.IOMMU_IOAS_IOVA_RANGES, request)
            raw = bytes(memory.view[: 16 * request.num_iovas])
        pairs = struct.iter_unpack("=QQ", raw)
        return [(start, last) for start, last in pairs], int(request.out_iova_alignment)


def errno_of(call: object, *arguments: object) -> int:
    """The errno of a call that must fail."""
    with pytest.raises(OSError) as caught:
        call(*arguments)  # type: ignore[operator]
    assert caught.value.errno is not None
    return caught.value.errno
