"""Memory of a region as a dma-buf (``VFIO_DEVICE_FEATURE_DMA_BUF``, Linux 6.19)."""

from __future__ import annotations

import errno
import os

from pyvfio.abi.vfio_later import VFIO_DEVICE_FEATURE_DMA_BUF, DeviceFeatureDmaBuf, RegionDmaRange
from pyvfio.errors import NotAvailable, PyvfioError
from pyvfio.vfio.feature import Features

__all__ = ["export"]


def export(feature: Features, name: str, region: int, pieces: list[tuple[int, int]]) -> int:
    """The descriptor of a dma-buf of these pieces (offset, length) of a region.  Errors: `Device.export_dma_buf`."""
    head = DeviceFeatureDmaBuf(region_index=region, open_flags=os.O_RDWR | os.O_CLOEXEC, nr_ranges=len(pieces))
    ranges = b"".join(bytes(RegionDmaRange(offset=offset, length=length)) for offset, length in pieces)
    try:
        return feature.make(VFIO_DEVICE_FEATURE_DMA_BUF, bytes(head) + ranges)
    except PyvfioError as error:
        causes = {
            errno.ENOTTY: "this kernel makes no dma-bufs of a device's memory (Linux 6.19 does)",
            errno.EOPNOTSUPP: "other devices cannot reach this device's memory",
        }
        if error.errno not in causes:
            raise
        cause = causes[error.errno]
        raise NotAvailable("export dma-buf", name, errno=error.errno, cause=cause) from error
