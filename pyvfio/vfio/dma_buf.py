"""Memory of a region as a dma-buf (``VFIO_DEVICE_FEATURE_DMA_BUF``, Linux 6.19)."""

from __future__ import annotations

import errno
import os

from pyvfio.abi.vfio_later import VFIO_DEVICE_FEATURE_DMA_BUF, DeviceFeatureDmaBuf, RegionDmaRange
from pyvfio.errors import KernelRefused, Misuse, NotAvailable, PyvfioError
from pyvfio.vfio.feature import Features

__all__ = ["export"]

_WORDS = 1 << 64


def export(feature: Features, name: str, region: int, pieces: list[tuple[int, int]]) -> int:
    """The descriptor of a dma-buf of these pieces (offset, length) of a region.  Errors: `Device.export_dma_buf`."""
    for offset, length in pieces:
        if not (0 <= offset < _WORDS and 0 <= length < _WORDS):
            cause = f"a piece of {length:#x} bytes at {offset:#x} is none: these are numbers of 64 bits"
            raise Misuse("export dma-buf", name, cause=cause)
    head = DeviceFeatureDmaBuf(region_index=region, open_flags=os.O_RDWR | os.O_CLOEXEC, nr_ranges=len(pieces))
    ranges = b"".join(bytes(RegionDmaRange(offset=offset, length=length)) for offset, length in pieces)
    try:
        return feature.make(VFIO_DEVICE_FEATURE_DMA_BUF, bytes(head) + ranges)
    except PyvfioError as error:
        if error.errno == errno.EINVAL:
            cause = "the region is no memory, or a piece is not of whole pages within it" if pieces else "no pieces"
            raise KernelRefused("export dma-buf", name, errno=error.errno, cause=cause) from error
        causes = {
            errno.ENOTTY: "this kernel makes no dma-bufs of a device's memory (Linux 6.19 does)",
            errno.EOPNOTSUPP: "other devices cannot reach this device's memory",
        }
        if error.errno not in causes:
            raise
        cause = causes[error.errno]
        raise NotAvailable("export dma-buf", name, errno=error.errno, cause=cause) from error
