"""An open function of the lab: its descriptors, and the calls on it in the recorder's notation."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

from pyvfio.abi import vfio
from pyvfio.abi.layout import parse_capability_chain
from replay.seam import Seam

if TYPE_CHECKING:
    from .lab import Lab

__all__ = ["REGION_SHIFT", "Opened", "device_info", "irq_info", "region_info"]

REGION_SHIFT = 40  # VFIO_PCI_OFFSET_SHIFT
_BIG = 256  # an argsz with room for capabilities
_CONTAINER = "/dev/vfio/vfio"


def device_info(seam: Seam, fd: int) -> dict[str, int]:
    """``VFIO_DEVICE_GET_INFO``."""
    size = ctypes.sizeof(vfio.DeviceInfo)
    info = vfio.DeviceInfo.from_buffer_copy(seam.info(fd, vfio.VFIO_DEVICE_GET_INFO, size, size))
    return {"flags": info.flags, "nreg": info.num_regions, "nirq": info.num_irqs}


def region_info(seam: Seam, fd: int, index: int, argsz: int | None = None) -> dict[str, Any]:
    """``VFIO_DEVICE_GET_REGION_INFO``, with its capabilities where there is room for them."""
    size = ctypes.sizeof(vfio.RegionInfo) if argsz is None else argsz
    raw = seam.info(fd, vfio.VFIO_DEVICE_GET_REGION_INFO, _BIG, size, 0, index)
    info = vfio.RegionInfo.from_buffer_copy(raw)
    answer = {name: getattr(info, name) for name in ("argsz", "flags", "cap_offset", "size", "offset")}
    if info.cap_offset:
        caps = parse_capability_chain(raw, info.cap_offset, "golden")
        following = [cap.offset for cap in caps[1:]] + [0]
        answer["caps"] = [
            {"id": cap.id, "version": cap.version, "next": after} for cap, after in zip(caps, following, strict=True)
        ]
    return answer


def irq_info(seam: Seam, fd: int, index: int, argsz: int | None = None) -> dict[str, int]:
    """``VFIO_DEVICE_GET_IRQ_INFO``."""
    size = ctypes.sizeof(vfio.IrqInfo)
    raw = seam.info(fd, vfio.VFIO_DEVICE_GET_IRQ_INFO, size, size if argsz is None else argsz, 0, index)
    info = vfio.IrqInfo.from_buffer_copy(raw)
    return {name: getattr(info, name) for name in ("argsz", "flags", "index", "count")}


class Opened:
    """An open function: `container`, `group` and `fd`."""

    def __init__(self, lab: Lab, address: str, version: int = vfio.VFIO_TYPE1v2_IOMMU) -> None:
        self.lab = lab
        self.address = address
        self.container = self.group = self.fd = -1
        try:
            self.container = lab.open(_CONTAINER)
            self.group = lab.open_group(address)
            lab.set_container(self.group, self.container)
            lab.host.ioctl(self.container, vfio.VFIO_SET_IOMMU, version)
            self.fd = lab.seam.device_fd(self.group, address)
        except Exception:
            self.close()
            raise

    def close(self) -> None:
        """Close all three; what is closed already is passed over."""
        self.lab.seam.close_all(fd for fd in (self.fd, self.group, self.container) if fd >= 0)
        self.fd = self.group = self.container = -1

    # regions

    def read(self, region: int, offset: int, count: int) -> bytes:
        """Read a region."""
        return self.lab.host.pread(self.fd, count, (region << REGION_SHIFT) + offset)

    def write(self, region: int, offset: int, data: bytes) -> int:
        """Write a region."""
        return self.lab.host.pwrite(self.fd, data, (region << REGION_SHIFT) + offset)

    def config(self, offset: int, count: int) -> bytes:
        """Read configuration space as vfio-pci shows it."""
        return self.read(vfio.VFIO_PCI_CONFIG_REGION_INDEX, offset, count)

    def set_config(self, offset: int, data: bytes) -> int:
        """Write configuration space."""
        return self.write(vfio.VFIO_PCI_CONFIG_REGION_INDEX, offset, data)

    def physical(self, offset: int, count: int) -> bytes:
        """Read configuration space as the hardware has it."""
        fd = self.lab.host.open(f"/sys/bus/pci/devices/{self.address}/config", os.O_RDONLY)
        try:
            return self.lab.host.pread(fd, count, offset)
        finally:
            self.lab.host.close(fd)

    # infos

    def info(self) -> dict[str, int]:
        """See `device_info`."""
        return device_info(self.lab.seam, self.fd)

    def region(self, index: int, argsz: int | None = None) -> dict[str, Any]:
        """See `region_info`."""
        return region_info(self.lab.seam, self.fd, index, argsz)

    def irq(self, index: int, argsz: int | None = None) -> dict[str, int]:
        """See `irq_info`."""
        return irq_info(self.lab.seam, self.fd, index, argsz)

    def reset(self) -> int:
        """``VFIO_DEVICE_RESET``."""
        return self.lab.host.ioctl(self.fd, vfio.VFIO_DEVICE_RESET)
