"""Decoders of the info structures, in the notation of the recordings.

The recordings were made on s390x, so a payload of native-endian words is written there with the most significant byte
first; the same words of this process are turned into that order field by field, as the structure has them.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from pyvfio.abi import iommufd, vfio, vfio_type1, vfio_zdev
from pyvfio.abi.layout import AbiStructure, InfoCapHeader, native_struct, parse_capability_chain

__all__ = ["big_endian", "device_info", "hot_reset_info", "iommu_info", "irq_info", "region_info"]

_DEVICE_CAPS: dict[int, type[AbiStructure]] = {
    vfio.VFIO_DEVICE_INFO_CAP_ZPCI_BASE: vfio_zdev.DeviceInfoCapZpciBase,
    vfio.VFIO_DEVICE_INFO_CAP_ZPCI_GROUP: vfio_zdev.DeviceInfoCapZpciGroup,
    vfio.VFIO_DEVICE_INFO_CAP_ZPCI_UTIL: vfio_zdev.DeviceInfoCapZpciUtil,
    vfio.VFIO_DEVICE_INFO_CAP_ZPCI_PFIP: vfio_zdev.DeviceInfoCapZpciPfip,
}
_REGION_CAPS: dict[int, type[AbiStructure]] = {vfio.VFIO_REGION_INFO_CAP_TYPE: vfio.RegionInfoCapType}
_IOMMU_CAPS: dict[int, type[AbiStructure]] = {
    vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: vfio_type1.IommuType1InfoCapIovaRange,
    vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION: vfio_type1.IommuType1InfoCapMigration,
    vfio_type1.VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL: vfio_type1.IommuType1InfoDmaAvail,
}
_HEADER = ctypes.sizeof(InfoCapHeader)


def big_endian(raw: bytes, cls: type[AbiStructure], trailer: str = "") -> bytes:
    """`raw` begins with a `cls`, then come elements of the `struct` format `trailer`; each word turned around."""
    head = native_struct(cls)
    out = struct.pack(">" + head.format.lstrip("="), *head.unpack_from(raw))
    rest = raw[head.size :]
    if trailer:
        size = struct.calcsize("=" + trailer)
        whole = len(rest) // size * size
        for at in range(0, whole, size):
            out += struct.pack(">" + trailer, *struct.unpack_from("=" + trailer, rest, at))
        rest = rest[whole:]
    return out + rest


def _caps(raw: bytes, first: int, known: dict[int, type[AbiStructure]], trailers: dict[int, str]) -> list[Any]:
    found = parse_capability_chain(raw, first, "golden")
    listing = []
    for number, cap in enumerate(found):
        head = struct.pack("=HHI", cap.id, cap.version, 0)
        payload = cap.payload
        if cap.id in known:
            payload = big_endian(head + payload, known[cap.id], trailers.get(cap.id, ""))[_HEADER:]
        listing.append(
            {
                "id": cap.id,
                "version": cap.version,
                "offset": cap.offset,
                "next": found[number + 1].offset if number + 1 < len(found) else 0,
                "payload": payload.hex(),
            }
        )
    return listing


def device_info(raw: bytes) -> dict[str, Any]:
    """``VFIO_DEVICE_GET_INFO``."""
    info = vfio.DeviceInfo.from_buffer_copy(raw.ljust(ctypes.sizeof(vfio.DeviceInfo), b"\0"))
    return {
        "argsz": info.argsz,
        "flags": info.flags,
        "num_regions": info.num_regions,
        "num_irqs": info.num_irqs,
        "cap_offset": info.cap_offset,
        "caps": _caps(raw, info.cap_offset, _DEVICE_CAPS, {}),
    }


def region_info(raw: bytes) -> dict[str, Any]:
    """``VFIO_DEVICE_GET_REGION_INFO``."""
    info = vfio.RegionInfo.from_buffer_copy(raw)
    return {
        "argsz": info.argsz,
        "flags": info.flags,
        "index": info.index,
        "cap_offset": info.cap_offset,
        "size": info.size,
        "offset": hex(info.offset),
        "caps": _caps(raw, info.cap_offset, _REGION_CAPS, {}),
    }


def irq_info(raw: bytes) -> dict[str, Any]:
    """``VFIO_DEVICE_GET_IRQ_INFO``."""
    info = vfio.IrqInfo.from_buffer_copy(raw)
    return {"argsz": info.argsz, "flags": info.flags, "index": info.index, "count": info.count}


def iommu_info(raw: bytes) -> dict[str, Any]:
    """``VFIO_IOMMU_GET_INFO``."""
    info = vfio_type1.IommuType1Info.from_buffer_copy(raw.ljust(ctypes.sizeof(vfio_type1.IommuType1Info), b"\0"))
    ranges = {vfio_type1.VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE: "QQ"}
    return {
        "argsz": info.argsz,
        "flags": info.flags,
        "iova_pgsizes": hex(info.iova_pgsizes),
        "cap_offset": info.cap_offset,
        "caps": _caps(raw, info.cap_offset, _IOMMU_CAPS, ranges),
    }


def hot_reset_info(raw: bytes) -> str:
    """The buffer of ``VFIO_DEVICE_GET_PCI_HOT_RESET_INFO``, as the recording has it."""
    return big_endian(raw, vfio.PciHotResetInfo, "IHBB").hex()


def hw_info(raw: bytes) -> str:
    """The buffer of ``IOMMU_GET_HW_INFO``, as the recording has it."""
    return big_endian(raw, iommufd.HwInfo).hex()
