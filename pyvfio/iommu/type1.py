"""The type 1 IOMMU of a container, versions 1 and 2.

They differ in unmapping: version 2 refuses to cut a mapping in two (EINVAL), version 1 removes the whole mapping, or
nothing, and reports success with the number of bytes (``drivers/vfio/vfio_iommu_type1.c``).
"""

from __future__ import annotations

import ctypes
import errno

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_type1 as type1
from pyvfio.abi.layout import Capability
from pyvfio.call import Call, read_info
from pyvfio.errors import NotAvailable, PyvfioError
from pyvfio.iommu.address_space import IovaRange, Mapping
from pyvfio.iommu.dirty import DirtyBitmap

__all__ = ["PREFERENCE", "Type1Table"]

_EVERYTHING = IovaRange(0, (1 << 64) - 1)


class Type1Table:
    """An `IommuTable` of a container whose IOMMU is set.  `version` is 1 or 2; `unmaps_all` if UNMAP_FLAG_ALL works."""

    def __init__(self, call: Call, version: int, *, unmaps_all: bool) -> None:
        self._call = call
        self.version = version
        self._unmaps_all = unmaps_all

    @property
    def kind(self) -> str:
        """``type1`` or ``type1v2``."""
        return "type1v2" if self.version > 1 else "type1"

    @property
    def name(self) -> str:
        """The words for errors."""
        return self._call.obj

    def map(self, mapping: Mapping) -> None:
        """See `IommuTable.map`."""
        flags = mapping.read * type1.VFIO_DMA_MAP_FLAG_READ | mapping.write * type1.VFIO_DMA_MAP_FLAG_WRITE
        size = type1.PACK_DMA_MAP.size
        argument = bytearray(type1.PACK_DMA_MAP.pack(size, flags, mapping.address, mapping.iova, mapping.length))
        self._call("map DMA", type1.VFIO_IOMMU_MAP_DMA, argument)

    def unmap(self, iova: int, length: int) -> int:
        """See `IommuTable.unmap`."""
        return self._unmap(iova, length, 0)

    def unmap_all(self) -> int | None:
        """See `IommuTable.unmap_all`."""
        return self._unmap(0, 0, type1.VFIO_DMA_UNMAP_FLAG_ALL) if self._unmaps_all else None

    def _unmap(self, iova: int, length: int, flags: int) -> int:
        argument = bytearray(type1.PACK_DMA_UNMAP.pack(type1.PACK_DMA_UNMAP.size, flags, iova, length))
        self._call("unmap DMA", type1.VFIO_IOMMU_UNMAP_DMA, argument)
        return int(type1.PACK_DMA_UNMAP.unpack_from(argument)[3])

    def ranges(self) -> list[IovaRange]:
        """See `IommuTable.ranges`.

        A kernel that gives capabilities but no list of ranges has nothing to restrict (all devices are mediated); one
        that gives no capability at all, before Linux 5.4, does not know its ranges, and none are invented here.
        """
        info, capabilities = self._info()
        for capability in capabilities:
            if capability.id == type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE:
                head = capability.read(type1.IommuType1InfoCapIovaRange)
                found = capability.trailer(type1.IommuType1InfoCapIovaRange, type1.IovaRange, head.nr_iovas)
                return [IovaRange(int(one.start), int(one.end)) for one in found]
        if not info.flags & type1.VFIO_IOMMU_INFO_CAPS:
            raise NotAvailable(
                "read IOVA ranges",
                self.name,
                cause="this kernel does not say which IOVAs can be mapped",
                next_step="choose the IOVAs yourself (iova=)",
            )
        return [_EVERYTHING]

    def page_sizes(self) -> int:
        """See `IommuTable.page_sizes`."""
        info, _ = self._info()
        if not info.flags & type1.VFIO_IOMMU_INFO_PGSIZES:
            return self._call.backend.sysconf("SC_PAGE_SIZE")
        return int(info.iova_pgsizes)

    def available(self) -> int | None:
        """See `IommuTable.available`."""
        for capability in self._info()[1]:
            if capability.id == type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL:
                return int(capability.read(type1.IommuType1InfoDmaAvail).avail)
        return None

    # dirty pages (`pyvfio.iommu.dirty_log.DirtyTable`)

    def start_dirty(self) -> None:
        """See `DirtyTable.start_dirty`: version 1 has none (EACCES)."""
        self._dirty("start dirty log", type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_START)

    def stop_dirty(self) -> None:
        """See `DirtyTable.stop_dirty`."""
        self._dirty("stop dirty log", type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP)

    def take_dirty(self, bitmap: DirtyBitmap) -> None:
        """See `DirtyTable.take_dirty`."""
        asked = type1.IommuType1DirtyBitmapGet(iova=bitmap.iova, size=bitmap.length, bitmap=_place(bitmap))
        self._dirty("read dirty log", type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP, bytes(asked))

    def unmap_dirty(self, bitmap: DirtyBitmap) -> int:
        """See `DirtyTable.unmap_dirty`."""
        data = bytes(_place(bitmap))
        flags = type1.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP
        size = type1.PACK_DMA_UNMAP.size + len(data)
        argument = bytearray(type1.PACK_DMA_UNMAP.pack(size, flags, bitmap.iova, bitmap.length) + data)
        self._call("unmap DMA with dirty log", type1.VFIO_IOMMU_UNMAP_DMA, argument)
        return int(type1.PACK_DMA_UNMAP.unpack_from(argument)[3])

    def _dirty(self, operation: str, flag: int, data: bytes = b"") -> None:
        head = type1.IommuType1DirtyBitmap(flags=flag)
        head.argsz = ctypes.sizeof(type1.IommuType1DirtyBitmap) + len(data)
        try:
            self._call(operation, type1.VFIO_IOMMU_DIRTY_PAGES, bytearray(bytes(head) + data))
        except PyvfioError as error:
            if flag == type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_START and error.errno in (errno.EACCES, errno.ENOTTY):
                cause = f"{self.kind} keeps no log"  # iommufd in the container's place has none at all
                step = 'open with way="type1v2"'
                raise NotAvailable(operation, self.name, errno=error.errno, cause=cause, next_step=step) from error
            raise

    def close(self) -> None:
        """Nothing to do: the container owns the descriptor."""

    def _info(self) -> tuple[type1.IommuType1Info, list[Capability]]:
        return read_info(self._call, "read IOMMU info", type1.VFIO_IOMMU_GET_INFO, type1.IommuType1Info, "IOMMU info")


def _place(bitmap: DirtyBitmap) -> type1.Bitmap:
    return type1.Bitmap(pgsize=bitmap.page_size, size=bitmap.size, data=bitmap.buffer.buffer_info()[0])


PREFERENCE = ((abi.VFIO_TYPE1v2_IOMMU, 2), (abi.VFIO_TYPE1_IOMMU, 1))
"""The IOMMU types this table can drive, with their version, the better one first."""
