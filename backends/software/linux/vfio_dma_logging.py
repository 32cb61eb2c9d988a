"""The log of a VFIO device's DMA: pages that it has written (``VFIO_DEVICE_FEATURE_DMA_LOGGING_*``).

The model is ``vfio_ioctl_device_feature_logging_*()`` in ``drivers/vfio/vfio_main.c`` and ``iova_bitmap_set()`` in
``drivers/iommu/iommufd/iova_bitmap.c`` (6.12).
"""

from __future__ import annotations

import contextlib
import errno
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyvfio.abi import vfio as abi
from pyvfio.abi import vfio_feature
from pyvfio.abi.layout import native_struct
from pyvfio_backends.software.linux.vfio_core import FEATURE_DATA, check_feature
from pyvfio_backends.software.linux.vfs import fail

if TYPE_CHECKING:
    from pyvfio_backends.software.linux.uaccess import Argument

__all__ = ["DmaLog", "feature"]

_CONTROL = native_struct(vfio_feature.DeviceFeatureDmaLoggingControl)
_RANGE = native_struct(vfio_feature.DeviceFeatureDmaLoggingRange)
_REPORT = native_struct(vfio_feature.DeviceFeatureDmaLoggingReport)
_SMALLEST = 1 << 12  # SZ_4K, whatever the kernel's page
_LAST = (1 << 64) - 1
_WORD = 8


class DmaLog(ABC):
    """What a driver does for logging (``struct vfio_log_ops``); in `VfioDevice.dma_log`."""

    @property
    @abstractmethod
    def page_size(self) -> int:
        """The kernel's page: all ranges of a request fit into one."""

    @abstractmethod
    def start(self, ranges: list[tuple[int, int]], page_size: int) -> int:
        """Log writes to these addresses (first, last); the page size that is used.  Raise OSError."""

    @abstractmethod
    def stop(self) -> None:
        """Log no more.  Raise OSError."""

    @abstractmethod
    def take(self, iova: int, length: int) -> Iterable[tuple[int, int]]:
        """Forget what was written in a range; the pieces (address, length).  Raise OSError."""


def feature(log: DmaLog, flags: int, argument: Argument, size: int) -> int:
    """Answer one of the three features; `size` is that of the data.  Raise OSError."""
    number = flags & abi.VFIO_DEVICE_FEATURE_MASK
    if number == vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
        if check_feature(flags, size, abi.VFIO_DEVICE_FEATURE_SET, _CONTROL.size):
            _start(log, argument)
    elif number == vfio_feature.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
        if check_feature(flags, size, abi.VFIO_DEVICE_FEATURE_SET, 0):
            log.stop()
    elif check_feature(flags, size, abi.VFIO_DEVICE_FEATURE_GET, _REPORT.size):
        _report(log, argument)
    return 0


def _start(log: DmaLog, argument: Argument) -> None:
    page, count, reserved, address = _CONTROL.unpack(argument.read(FEATURE_DATA, _CONTROL.size))
    if not count:
        raise fail(errno.EINVAL)
    if count > log.page_size // _RANGE.size:
        raise fail(errno.E2BIG)
    ranges: list[tuple[int, int]] = []
    for index in range(count):
        iova, length = _RANGE.unpack(argument.caller.read(address + index * _RANGE.size, _RANGE.size))
        if (iova | length) & (page - 1):
            raise fail(errno.EINVAL)
        if iova + length > _LAST:
            raise fail(errno.EOVERFLOW)
        last = iova + length - 1
        if any(first <= last and iova <= end for first, end in ranges):
            raise fail(errno.EINVAL)
        ranges.append((iova, last))
    used = log.start(sorted(ranges), page)
    try:
        argument.write(FEATURE_DATA, _CONTROL.pack(used, count, reserved, address))
    except OSError:
        log.stop()
        raise


def _report(log: DmaLog, argument: Argument) -> None:
    iova, length, page, bitmap = _REPORT.unpack(argument.read(FEATURE_DATA, _REPORT.size))
    if page < _SMALLEST or page & (page - 1):
        raise fail(errno.EINVAL)
    if iova + length > _LAST:
        raise fail(errno.EOVERFLOW)
    words: dict[int, int] = {}
    for start, size in log.take(iova, length):
        first, last = (start - iova) // page, (start + size - 1 - iova) // page
        for bit in range(first, last + 1):
            words[bit // (8 * _WORD)] = words.get(bit // (8 * _WORD), 0) | 1 << bit % (8 * _WORD)
    for word, bits in sorted(words.items()):
        at = bitmap + word * _WORD
        with contextlib.suppress(OSError):  # iova_bitmap_set() does not tell that there is no memory
            before = int.from_bytes(argument.caller.read(at, _WORD), sys.byteorder)
            argument.caller.write(at, (before | bits).to_bytes(_WORD, sys.byteorder))
