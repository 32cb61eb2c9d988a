"""``include/uapi/linux/vfio.h``: the type 1 IOMMU (versions 1 and 2) of a container.

All integers are in native byte order; addresses, sizes and page sizes are bytes.  As of Linux 6.12.
"""

import ctypes
from enum import IntFlag
from typing import Annotated

from .layout import U32, U64, AbiStructure, ByteTail, InfoCapHeader, UserPointer, native_struct, structure
from .request import VFIO_BASE, VFIO_TYPE, request

VFIO_IOMMU_GET_INFO = request(VFIO_TYPE, VFIO_BASE + 12)
VFIO_IOMMU_MAP_DMA = request(VFIO_TYPE, VFIO_BASE + 13)
VFIO_IOMMU_UNMAP_DMA = request(VFIO_TYPE, VFIO_BASE + 14)
VFIO_IOMMU_ENABLE = request(VFIO_TYPE, VFIO_BASE + 15)
VFIO_IOMMU_DISABLE = request(VFIO_TYPE, VFIO_BASE + 16)
VFIO_IOMMU_DIRTY_PAGES = request(VFIO_TYPE, VFIO_BASE + 17)

VFIO_IOMMU_INFO_PGSIZES = 1 << 0
VFIO_IOMMU_INFO_CAPS = 1 << 1


@structure("vfio_iommu_type1_info")
class IommuType1Info(AbiStructure):
    """Answer of ``VFIO_IOMMU_GET_INFO``; `iova_pgsizes` has one bit per supported page size."""

    argsz: U32
    flags: U32
    iova_pgsizes: U64
    cap_offset: U32
    pad: U32


VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1
VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2
VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3


@structure("vfio_iova_range")
class IovaRange(AbiStructure):
    """Addresses that may be mapped, `start` and `end` both included."""

    start: U64
    end: U64


@structure("vfio_iommu_type1_info_cap_iova_range")
class IommuType1InfoCapIovaRange(AbiStructure):
    """Capability of `IommuType1Info`: `nr_iovas` ranges behind it; outside of them MAP_DMA is refused."""

    header: InfoCapHeader
    nr_iovas: U32
    reserved: U32
    iova_ranges: Annotated[ctypes.Array[IovaRange], IovaRange * 0]


@structure("vfio_iommu_type1_info_cap_migration")
class IommuType1InfoCapMigration(AbiStructure):
    """Capability of `IommuType1Info`: dirty pages can be logged, with these page sizes and bytes of bitmap."""

    header: InfoCapHeader
    flags: U32
    pgsize_bitmap: U64
    max_dirty_bitmap_size: U64


@structure("vfio_iommu_type1_info_dma_avail")
class IommuType1InfoDmaAvail(AbiStructure):
    """Capability of `IommuType1Info`: how many more mappings the container may have."""

    header: InfoCapHeader
    avail: U32


VFIO_DMA_MAP_FLAG_READ = 1 << 0
VFIO_DMA_MAP_FLAG_WRITE = 1 << 1
VFIO_DMA_MAP_FLAG_VADDR = 1 << 2


class DmaMapFlags(IntFlag):
    """``VFIO_DMA_MAP_FLAG_*``: what the device may do (READ: it reads memory)."""

    READ = VFIO_DMA_MAP_FLAG_READ
    WRITE = VFIO_DMA_MAP_FLAG_WRITE
    VADDR = VFIO_DMA_MAP_FLAG_VADDR


@structure("vfio_iommu_type1_dma_map")
class IommuType1DmaMap(AbiStructure):
    """Argument of ``VFIO_IOMMU_MAP_DMA``: `size` bytes of process memory at `vaddr` appear to the device at `iova`."""

    argsz: U32
    flags: U32
    vaddr: U64
    iova: U64
    size: U64


VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1 << 0
VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1
VFIO_DMA_UNMAP_FLAG_VADDR = 1 << 2


class DmaUnmapFlags(IntFlag):
    """``VFIO_DMA_UNMAP_FLAG_*``."""

    GET_DIRTY_BITMAP = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
    ALL = VFIO_DMA_UNMAP_FLAG_ALL
    VADDR = VFIO_DMA_UNMAP_FLAG_VADDR


@structure("vfio_bitmap")
class Bitmap(AbiStructure):
    """Where a dirty bitmap goes: `size` bytes at `data`, in native 64-bit words, one bit per page of `pgsize` bytes."""

    pgsize: U64
    size: U64
    data: UserPointer


@structure("vfio_iommu_type1_dma_unmap")
class IommuType1DmaUnmap(AbiStructure):
    """Argument of ``VFIO_IOMMU_UNMAP_DMA``; on return `size` is what was unmapped.

    `data` is one `Bitmap` with GET_DIRTY_BITMAP, else nothing.
    """

    argsz: U32
    flags: U32
    iova: U64
    size: U64
    data: ByteTail


VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1 << 0
VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 1 << 1
VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 1 << 2


@structure("vfio_iommu_type1_dirty_bitmap")
class IommuType1DirtyBitmap(AbiStructure):
    """Argument of ``VFIO_IOMMU_DIRTY_PAGES``; `data` is an `IommuType1DirtyBitmapGet` with GET_BITMAP, else empty."""

    argsz: U32
    flags: U32
    data: ByteTail


@structure("vfio_iommu_type1_dirty_bitmap_get")
class IommuType1DirtyBitmapGet(AbiStructure):
    """The IOVA range whose dirty pages are asked, and where the answer goes."""

    iova: U64
    size: U64
    bitmap: Bitmap


# ---- packing without ctypes, for what is called a hundred thousand times -----------------------------------------

PACK_DMA_MAP = native_struct(IommuType1DmaMap)
"""argsz, flags, vaddr, iova, size"""
PACK_DMA_UNMAP = native_struct(IommuType1DmaUnmap)
"""argsz, flags, iova, size; the bitmap follows"""
