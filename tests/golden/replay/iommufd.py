"""``/dev/iommu`` calls that both iommufd recordings use."""

from __future__ import annotations

import ctypes
from typing import Any

from pyvfio.abi import iommufd, vfio

from .seam import Seam

__all__ = ["Iommufd"]

_WANTED_RANGES = 16


class Iommufd:
    """An open ``/dev/iommu`` with one address space, number `ioas`."""

    def __init__(self, seam: Seam, fd: int) -> None:
        self.seam = seam
        self.fd = fd
        self.ioas = 0

    def alloc(self) -> int:
        """Make the address space."""
        argument = iommufd.IoasAlloc.sized()
        self.seam.call(self.fd, iommufd.IOMMU_IOAS_ALLOC, argument)
        self.ioas = argument.out_ioas_id
        return self.ioas

    def ranges(self) -> dict[str, Any]:
        """The allowed ranges, as the recordings have them."""
        found = (iommufd.IovaRange * _WANTED_RANGES)()
        argument = iommufd.IoasIovaRanges.sized(
            ioas_id=self.ioas, num_iovas=_WANTED_RANGES, allowed_iovas=ctypes.addressof(found)
        )
        self.seam.call(self.fd, iommufd.IOMMU_IOAS_IOVA_RANGES, argument)
        count = argument.num_iovas
        return {
            "num": count,
            "alignment": argument.out_iova_alignment,
            "ranges": [[hex(one.start), hex(one.last)] for one in found[:count]],
        }

    def map(self, iova: int | None, length: int, vaddr: int, access: int | None = None) -> int:
        """Map at `iova`, or where the kernel likes; the address it got."""
        flags = iommufd.IOMMU_IOAS_MAP_READABLE | iommufd.IOMMU_IOAS_MAP_WRITEABLE if access is None else access
        if iova is not None:
            flags |= iommufd.IOMMU_IOAS_MAP_FIXED_IOVA
        argument = iommufd.IoasMap.sized(flags=flags, ioas_id=self.ioas, user_va=vaddr, length=length, iova=iova or 0)
        self.seam.call(self.fd, iommufd.IOMMU_IOAS_MAP, argument)
        return argument.iova

    def unmap(self, iova: int, length: int) -> int:
        """Unmap; the bytes that were."""
        argument = iommufd.IoasUnmap.sized(ioas_id=self.ioas, iova=iova, length=length)
        self.seam.call(self.fd, iommufd.IOMMU_IOAS_UNMAP, argument)
        return argument.length

    def attach(self, cdev: int, number: int) -> int:
        """Attach a device to an IOAS; the number that comes back."""
        argument = vfio.DeviceAttachIommufdPt.sized(pt_id=number)
        self.seam.call(cdev, vfio.VFIO_DEVICE_ATTACH_IOMMUFD_PT, argument)
        return argument.pt_id

    def detach(self, cdev: int) -> int:
        """Detach a device."""
        return self.seam.host.ioctl(cdev, vfio.VFIO_DEVICE_DETACH_IOMMUFD_PT, vfio.DeviceDetachIommufdPt.sized())

    def destroy(self) -> int:
        """Destroy the address space."""
        return self.seam.host.ioctl(self.fd, iommufd.IOMMU_DESTROY, iommufd.Destroy.sized(id=self.ioas))
