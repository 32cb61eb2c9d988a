"""Memory of a function as dma-bufs (``drivers/vfio/pci/vfio_pci_dmabuf.c``, Linux 6.19), which iommufd maps for others.

A dma-buf is *revoked* while the program's view of the function has no memory: decoding is off, the function sleeps or
is being reset; and for good when the device is closed.  Who has it mapped is told then.
"""

from __future__ import annotations

import errno
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from pyvfio.abi import vfio as abi
from pyvfio.abi.layout import native_struct
from pyvfio.abi.vfio_later import DeviceFeatureDmaBuf, RegionDmaRange
from pyvfio.errors import NotModelled
from pyvfio_backends.software.linux.file import File
from pyvfio_backends.software.linux.resource import ResourceFlag
from pyvfio_backends.software.linux.uaccess import Argument
from pyvfio_backends.software.linux.vfio_core import FEATURE_DATA, check_feature
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.pci_device import PciDevice
    from pyvfio_backends.software.linux.vfio_pci import VfioPciDevice

__all__ = ["DmaBuf", "DmaBufs", "Importer", "Piece"]

_HEAD, _RANGE = native_struct(DeviceFeatureDmaBuf), native_struct(RegionDmaRange)
_WORDS: Final = 1 << 64
_LARGEST: Final = 1 << 63
"""``DMA_IOVA_USE_SWIOTLB``, which a length may not reach."""
_MOST_BYTES: Final = 1 << 22
"""What the kernel allocates at once (``KMALLOC_MAX_SIZE``): the ranges must fit."""


class Piece(NamedTuple):
    """Bytes of a BAR."""

    bar: int
    offset: int
    length: int


class Importer(Protocol):
    """Who has a dma-buf mapped."""

    def revoked(self) -> None:
        """The memory is gone (``dma_buf_attach_ops.invalidate_mappings``)."""


class DmaBuf(File):
    """An open dma-buf: `pieces` of the memory of `pdev`, one behind the other; `size` bytes in all."""

    def __init__(self, pdev: PciDevice, pieces: list[Piece], *, revoked: bool) -> None:
        self.pdev = pdev
        self.pieces = pieces
        self.size = sum(piece.length for piece in pieces)
        self._revoked = revoked
        self._importers: weakref.WeakSet[Importer] = weakref.WeakSet()

    @property
    def revoked(self) -> bool:
        """Whether nobody reaches the memory by it now."""
        return self._revoked

    def move(self, revoked: bool) -> None:
        """The memory goes or comes back; whoever mapped it has to map it anew then."""
        if self._revoked == revoked:
            return
        self._revoked = revoked
        importers, self._importers = self._importers, weakref.WeakSet()
        for importer in importers:
            importer.revoked()

    def attach(self, importer: Importer) -> Piece:
        """Somebody maps it: the one piece that it has (``vfio_pci_dma_buf_iommufd_map``).

        Raise OSError ENODEV for one that is revoked, EOPNOTSUPP for several pieces.
        """
        if self._revoked:
            raise fail(errno.ENODEV)
        if len(self.pieces) != 1:
            raise fail(errno.EOPNOTSUPP)
        self._importers.add(importer)
        return self.pieces[0]

    def ioctl(self, request: int, argument: Argument) -> int:
        raise NotModelled("ioctl of a dma-buf")


class DmaBufs:
    """The dma-bufs of `vdev`."""

    def __init__(self, vdev: VfioPciDevice) -> None:
        self._vdev = vdev
        self._buffers: weakref.WeakSet[DmaBuf] = weakref.WeakSet()

    def feature(self, flags: int, argument: Argument, size: int) -> int:
        """VFIO_DEVICE_FEATURE_DMA_BUF: the descriptor, 0 for a probe.

        Raise OSError EOPNOTSUPP (the driver gives no memory to others), EINVAL (no ranges, a flag, no pages, beyond the
        region, or one that is no memory), ENODEV (no BAR), EOVERFLOW, ENOMEM, EFAULT.
        """
        vdev = self._vdev
        if not vdev.exports_memory:
            raise fail(errno.EOPNOTSUPP)
        if not check_feature(flags, size, abi.VFIO_DEVICE_FEATURE_GET, _HEAD.size):
            return 0
        bar, open_flags, more, count = _HEAD.unpack(argument.read(FEATURE_DATA, _HEAD.size))
        if not count or more:
            raise fail(errno.EINVAL)
        if bar >= abi.VFIO_PCI_ROM_REGION_INDEX:
            raise fail(errno.ENODEV)
        if count * _RANGE.size > _MOST_BYTES:
            raise fail(errno.ENOMEM)
        ranges = list(_RANGE.iter_unpack(argument.read(FEATURE_DATA + _HEAD.size, count * _RANGE.size)))
        pieces = self._pieces(bar, ranges)
        buffer = DmaBuf(vdev.pdev, pieces, revoked=not vdev.config.memory_enabled)
        number = vdev.kernel.fds.install(buffer, "/dmabuf:", open_flags)
        self._buffers.add(buffer)
        return number

    def _pieces(self, bar: int, ranges: list[tuple[int, int]]) -> list[Piece]:
        page = self._vdev.kernel.page_size
        total = 0
        for offset, length in ranges:
            total += length
            if not length or offset % page or length % page or total >= _WORDS:
                raise fail(errno.EINVAL)
        resource = self._vdev.pdev.resources[bar]
        if total & _LARGEST or not resource.flags & ResourceFlag.MEM:
            raise fail(errno.EINVAL)
        for offset, length in ranges:
            if resource.start + offset + length >= _WORDS:
                raise fail(errno.EOVERFLOW)
            if offset + length > resource.size:
                raise fail(errno.EINVAL)
        return [Piece(bar, offset, length) for offset, length in ranges]

    def move(self, revoked: bool) -> None:
        """The memory of the function goes, or may come back: it does if the program's view has it."""
        if not revoked and not self._vdev.config.memory_enabled:
            return
        for buffer in tuple(self._buffers):
            buffer.move(revoked)

    def close(self) -> None:
        """The device is closed (``vfio_pci_dma_buf_cleanup``)."""
        for buffer in tuple(self._buffers):
            buffer.move(True)
        self._buffers = weakref.WeakSet()
