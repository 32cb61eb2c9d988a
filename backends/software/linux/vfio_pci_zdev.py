"""What vfio-pci tells of a zPCI function besides (``drivers/vfio/pci/vfio_pci_zdev.c``, 6.12)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_zdev as zdev_abi
from pyvfio.abi.layout import Capability, InfoCapHeader, native_struct

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.zpci import ZpciDev

__all__ = ["zpci_capabilities"]

_HEADER_SIZE = native_struct(InfoCapHeader).size
_MAX_WRITE = 128  # ZPCI_MAX_WRITE_SIZE
_BASE = native_struct(zdev_abi.DeviceInfoCapZpciBase)
_GROUP = native_struct(zdev_abi.DeviceInfoCapZpciGroup)
_SIZED = native_struct(zdev_abi.DeviceInfoCapZpciUtil)


def zpci_capabilities(zdev: ZpciDev) -> Iterator[Capability]:
    """The capabilities for VFIO_DEVICE_GET_INFO (``vfio_pci_info_zdev_add_caps``)."""
    function = zdev.function
    facts, group = function.facts, function.group

    def capability(number: int, version: int, packed: bytes) -> Capability:
        return Capability(number, version, packed[_HEADER_SIZE:])

    yield capability(
        abi.VFIO_DEVICE_INFO_CAP_ZPCI_BASE,
        2,
        _BASE.pack(
            0,
            0,
            0,
            zdev.iommu.first,
            zdev.iommu.last,
            facts.pchid,
            facts.vfn,
            facts.fmb_words * 4,
            facts.pft,
            facts.pfgid,
            function.fh,
        ),
    )
    yield capability(
        abi.VFIO_DEVICE_INFO_CAP_ZPCI_GROUP,
        2,
        _GROUP.pack(
            0,
            0,
            0,
            group.dma_mask,
            group.msi_address,
            zdev_abi.VFIO_DEVICE_INFO_ZPCI_FLAG_REFRESH,  # whatever the group says
            group.frame_update,
            group.max_interrupts,
            _MAX_WRITE,
            group.version,
            0,
            group.max_store,
        ),
    )
    if facts.util_str:
        text = facts.util_str
        yield capability(abi.VFIO_DEVICE_INFO_CAP_ZPCI_UTIL, 1, _SIZED.pack(0, 0, 0, len(text)) + text)
    pfip = facts.pfip
    yield capability(abi.VFIO_DEVICE_INFO_CAP_ZPCI_PFIP, 1, _SIZED.pack(0, 0, 0, len(pfip)) + pfip)
