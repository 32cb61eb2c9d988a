"""VFIO's and iommufd's requests, one function each, with every field in the caller's hand.

The contract needs to send wrong sizes, flags and indexes, so nothing is checked here and nothing is corrected.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from pyvfio.abi import iommufd, vfio, vfio_type1
from pyvfio.abi.layout import AbiStructure, Capability, parse_capability_chain
from pyvfio.backend import Backend

__all__ = [
    "ALL_ADDRESSES",
    "READ_WRITE",
    "attach_iommufd",
    "bind_iommufd",
    "check_extension",
    "destroy",
    "detach_iommufd",
    "device_fd",
    "device_info",
    "dirty_pages",
    "feature",
    "group_flags",
    "ioas_alloc",
    "ioas_flags",
    "ioas_map",
    "ioas_ranges",
    "ioas_unmap",
    "iommu_info",
    "iova_ranges",
    "irq_info",
    "map_dma",
    "map_flags",
    "opened_file",
    "raw_info",
    "region_info",
    "set_container",
    "set_irqs",
    "unmap_dma",
]

_S = TypeVar("_S", bound=AbiStructure)
_ROOM = 1024
READ_WRITE = vfio_type1.VFIO_DMA_MAP_FLAG_READ | vfio_type1.VFIO_DMA_MAP_FLAG_WRITE
ALL_ADDRESSES = (0, (1 << 64) - 1)
"""What an address space without a device allows."""


def raw_info(
    backend: Backend, fd: int, request: int, cls: type[_S], argsz: int = _ROOM, **fields: int
) -> tuple[_S, list[Capability], bytes]:
    """Ask an info request with `argsz`; the structure, the capabilities behind it and all bytes of the buffer."""
    buffer = bytearray(max(argsz, ctypes.sizeof(cls)))
    view = cls.from_buffer(buffer)
    view.argsz = argsz
    for name, value in fields.items():
        setattr(view, name, value)
    del view
    backend.ioctl(fd, request, buffer)
    answer = cls.from_buffer_copy(buffer)
    chain = parse_capability_chain(buffer, answer.cap_offset, cls.__name__) if hasattr(answer, "cap_offset") else []
    return answer, chain, bytes(buffer)


def device_info(backend: Backend, fd: int, argsz: int = _ROOM) -> tuple[vfio.DeviceInfo, list[Capability]]:
    """``VFIO_DEVICE_GET_INFO``."""
    return raw_info(backend, fd, vfio.VFIO_DEVICE_GET_INFO, vfio.DeviceInfo, argsz)[:2]


def region_info(backend: Backend, fd: int, index: int, argsz: int = _ROOM) -> tuple[vfio.RegionInfo, list[Capability]]:
    """``VFIO_DEVICE_GET_REGION_INFO``."""
    return raw_info(backend, fd, vfio.VFIO_DEVICE_GET_REGION_INFO, vfio.RegionInfo, argsz, index=index)[:2]


def irq_info(backend: Backend, fd: int, index: int, argsz: int = ctypes.sizeof(vfio.IrqInfo)) -> vfio.IrqInfo:
    """``VFIO_DEVICE_GET_IRQ_INFO``."""
    return raw_info(backend, fd, vfio.VFIO_DEVICE_GET_IRQ_INFO, vfio.IrqInfo, argsz, index=index)[0]


def set_irqs(
    backend: Backend,
    fd: int,
    index: int,
    flags: int,
    data: Sequence[int] | bytes = (),
    *,
    start: int = 0,
    count: int | None = None,
    argsz: int | None = None,
) -> None:
    """``VFIO_DEVICE_SET_IRQS``; `data` are descriptors (or bytes for DATA_BOOL), `count` defaults to how many."""
    tail = data if isinstance(data, bytes) else struct.pack(f"={len(data)}i", *data)
    size = ctypes.sizeof(vfio.IrqSet) + len(tail)
    head = vfio.IrqSet(
        argsz=size if argsz is None else argsz,
        flags=flags,
        index=index,
        start=start,
        count=len(data) if count is None else count,
    )
    backend.ioctl(fd, vfio.VFIO_DEVICE_SET_IRQS, bytearray(bytes(head) + tail))


def feature(backend: Backend, fd: int, flags: int, payload: bytes = b"", argsz: int | None = None) -> bytes:
    """``VFIO_DEVICE_FEATURE``; the payload afterwards."""
    size = ctypes.sizeof(vfio.DeviceFeature)
    head = vfio.DeviceFeature(argsz=size + len(payload) if argsz is None else argsz, flags=flags)
    buffer = bytearray(bytes(head) + payload)
    backend.ioctl(fd, vfio.VFIO_DEVICE_FEATURE, buffer)
    return bytes(buffer[size:])


def group_flags(backend: Backend, fd: int, argsz: int = ctypes.sizeof(vfio.GroupStatus)) -> vfio.GroupFlags:
    """``VFIO_GROUP_GET_STATUS``."""
    status = vfio.GroupStatus(argsz=argsz)
    backend.ioctl(fd, vfio.VFIO_GROUP_GET_STATUS, status)
    return vfio.GroupFlags(status.flags)


def set_container(backend: Backend, group: int, container: int) -> None:
    """``VFIO_GROUP_SET_CONTAINER``, which takes the descriptor by reference."""
    backend.ioctl(group, vfio.VFIO_GROUP_SET_CONTAINER, bytearray(struct.pack("=i", container)))


def device_fd(backend: Backend, group: int, name: str) -> int:
    """``VFIO_GROUP_GET_DEVICE_FD``."""
    return backend.ioctl(group, vfio.VFIO_GROUP_GET_DEVICE_FD, bytearray(name.encode() + b"\0"))


def check_extension(backend: Backend, container: int, extension: int) -> int:
    """``VFIO_CHECK_EXTENSION``."""
    return backend.ioctl(container, vfio.VFIO_CHECK_EXTENSION, extension)


def iommu_info(
    backend: Backend, container: int, argsz: int = _ROOM
) -> tuple[vfio_type1.IommuType1Info, list[Capability]]:
    """``VFIO_IOMMU_GET_INFO``."""
    return raw_info(backend, container, vfio_type1.VFIO_IOMMU_GET_INFO, vfio_type1.IommuType1Info, argsz)[:2]


def iova_ranges(backend: Backend, container: int) -> list[tuple[int, int]]:
    """The IOVA-range capability of ``VFIO_IOMMU_GET_INFO``; `ALL_ADDRESSES` where there is none."""
    for capability in iommu_info(backend, container)[1]:
        if capability.id == vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
            cls = vfio_type1.IommuType1InfoCapIovaRange
            found = capability.trailer(cls, vfio_type1.IovaRange, capability.read(cls).nr_iovas)
            return [(item.start, item.end) for item in found]
    return [ALL_ADDRESSES]


def map_flags(read: bool, write: bool) -> int:
    """``VFIO_DMA_MAP_FLAG_*`` for these permissions."""
    return read * vfio_type1.VFIO_DMA_MAP_FLAG_READ | write * vfio_type1.VFIO_DMA_MAP_FLAG_WRITE


def ioas_flags(*, read: bool, write: bool, fixed: bool = True) -> int:
    """``IOMMU_IOAS_MAP_*`` for these permissions."""
    return (
        fixed * iommufd.IOMMU_IOAS_MAP_FIXED_IOVA
        | read * iommufd.IOMMU_IOAS_MAP_READABLE
        | write * iommufd.IOMMU_IOAS_MAP_WRITEABLE
    )


def map_dma(
    backend: Backend,
    container: int,
    iova: int,
    vaddr: int,
    size: int,
    flags: int = READ_WRITE,
    argsz: int = ctypes.sizeof(vfio_type1.IommuType1DmaMap),
) -> None:
    """``VFIO_IOMMU_MAP_DMA``."""
    argument = vfio_type1.IommuType1DmaMap(argsz=argsz, flags=flags, vaddr=vaddr, iova=iova, size=size)
    backend.ioctl(container, vfio_type1.VFIO_IOMMU_MAP_DMA, argument)


def unmap_dma(
    backend: Backend,
    container: int,
    iova: int,
    size: int,
    flags: int = 0,
    argsz: int = ctypes.sizeof(vfio_type1.IommuType1DmaUnmap),
) -> int:
    """``VFIO_IOMMU_UNMAP_DMA``; the bytes that were unmapped."""
    argument = vfio_type1.IommuType1DmaUnmap(argsz=argsz, flags=flags, iova=iova, size=size)
    backend.ioctl(container, vfio_type1.VFIO_IOMMU_UNMAP_DMA, argument)
    return int(argument.size)


def dirty_pages(backend: Backend, container: int, flags: int, data: bytes = b"", argsz: int | None = None) -> None:
    """``VFIO_IOMMU_DIRTY_PAGES``."""
    size = ctypes.sizeof(vfio_type1.IommuType1DirtyBitmap) + len(data)
    head = vfio_type1.IommuType1DirtyBitmap(argsz=size if argsz is None else argsz, flags=flags)
    backend.ioctl(container, vfio_type1.VFIO_IOMMU_DIRTY_PAGES, bytearray(bytes(head) + data))


def bind_iommufd(backend: Backend, device: int, iommu: int, argsz: int = ctypes.sizeof(vfio.DeviceBindIommufd)) -> int:
    """``VFIO_DEVICE_BIND_IOMMUFD``; the device's object number."""
    argument = vfio.DeviceBindIommufd(argsz=argsz, iommufd=iommu)
    backend.ioctl(device, vfio.VFIO_DEVICE_BIND_IOMMUFD, argument)
    return int(argument.out_devid)


def attach_iommufd(
    backend: Backend, device: int, pt_id: int, argsz: int = ctypes.sizeof(vfio.DeviceAttachIommufdPt)
) -> int:
    """``VFIO_DEVICE_ATTACH_IOMMUFD_PT``; the page table's object number."""
    argument = vfio.DeviceAttachIommufdPt(argsz=argsz, pt_id=pt_id)
    backend.ioctl(device, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument)
    return int(argument.pt_id)


def detach_iommufd(backend: Backend, device: int) -> None:
    """``VFIO_DEVICE_DETACH_IOMMUFD_PT``."""
    backend.ioctl(device, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.DeviceDetachIommufdPt.sized())


def ioas_alloc(backend: Backend, iommu: int) -> int:
    """``IOMMU_IOAS_ALLOC``; the address space's object number."""
    argument = iommufd.IoasAlloc.sized()
    backend.ioctl(iommu, iommufd.IOMMU_IOAS_ALLOC, argument)
    return int(argument.out_ioas_id)


def destroy(backend: Backend, iommu: int, number: int) -> None:
    """``IOMMU_DESTROY``."""
    backend.ioctl(iommu, iommufd.IOMMU_DESTROY, iommufd.Destroy.sized(id=number))


def ioas_map(
    backend: Backend, iommu: int, ioas: int, vaddr: int, length: int, iova: int | None = None, flags: int | None = None
) -> int:
    """``IOMMU_IOAS_MAP``; the IOVA.  Without `iova` the kernel chooses; `flags` replaces all flags."""
    chosen = iommufd.IOMMU_IOAS_MAP_READABLE | iommufd.IOMMU_IOAS_MAP_WRITEABLE
    if iova is not None:
        chosen |= iommufd.IOMMU_IOAS_MAP_FIXED_IOVA
    argument = iommufd.IoasMap.sized(
        flags=chosen if flags is None else flags, ioas_id=ioas, user_va=vaddr, length=length, iova=iova or 0
    )
    backend.ioctl(iommu, iommufd.IOMMU_IOAS_MAP, argument)
    return int(argument.iova)


def ioas_unmap(backend: Backend, iommu: int, ioas: int, iova: int, length: int) -> int:
    """``IOMMU_IOAS_UNMAP``; the bytes that were unmapped."""
    argument = iommufd.IoasUnmap.sized(ioas_id=ioas, iova=iova, length=length)
    backend.ioctl(iommu, iommufd.IOMMU_IOAS_UNMAP, argument)
    return int(argument.length)


def ioas_ranges(backend: Backend, iommu: int, ioas: int, room: int = 8) -> tuple[list[tuple[int, int]], int]:
    """``IOMMU_IOAS_IOVA_RANGES`` with room for `room` ranges; (start, last) of each, and the alignment."""
    ranges = (iommufd.IovaRange * max(room, 1))()
    argument = iommufd.IoasIovaRanges.sized(ioas_id=ioas, num_iovas=room, allowed_iovas=ctypes.addressof(ranges))
    backend.ioctl(iommu, iommufd.IOMMU_IOAS_IOVA_RANGES, argument)
    return [(item.start, item.last) for item in ranges[: argument.num_iovas]], int(argument.out_iova_alignment)


@contextmanager
def opened_file(backend: Backend, path: str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """Open a file for the ``with`` block."""
    fd = backend.open(path, flags)
    try:
        yield fd
    finally:
        backend.close(fd)
