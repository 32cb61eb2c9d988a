"""A device that logs its own writes (``VFIO_DEVICE_FEATURE_DMA_LOGGING_*``): made by `Device.log_dma`."""

from __future__ import annotations

import contextlib
import ctypes
import errno
from collections.abc import Iterable
from typing import Self

from pyvfio.abi import vfio_feature as abi
from pyvfio.errors import Misuse, NotAvailable, PyvfioError
from pyvfio.iommu.dirty import DirtyBitmap
from pyvfio.vfio.feature import Features

__all__ = ["DmaLog"]


class DmaLog:
    """What a device has written in `ranges` (address and length each).  A context manager; `close` ends it.

    `page_size` is what the device logs by, which the kernel may have made another than what was asked for.  One log at
    a time, of all ranges that are of interest.  Raise `NotAvailable` when the device or its driver cannot log (ENOTTY),
    `Misuse` for no range, else the class for the errno (EINVAL: ranges that overlap, or are no pages; E2BIG: too many).
    """

    def __init__(self, feature: Features, name: str, ranges: Iterable[tuple[int, int]], page_size: int) -> None:
        wanted = list(ranges)
        if not wanted:
            raise Misuse("log DMA", name, cause="there is no range")
        self._feature = feature
        self._name = name
        table = (abi.DeviceFeatureDmaLoggingRange * len(wanted))(
            *(abi.DeviceFeatureDmaLoggingRange(iova=iova, length=length) for iova, length in wanted)
        )
        control = abi.DeviceFeatureDmaLoggingControl(
            page_size=page_size, num_ranges=len(wanted), ranges=ctypes.addressof(table)
        )
        try:
            answer = feature.set(abi.VFIO_DEVICE_FEATURE_DMA_LOGGING_START, bytes(control))
        except PyvfioError as error:
            if error.errno == errno.ENOTTY:
                cause = "the driver that has it cannot log what the device writes"
                step = "use the IOMMU's log (AddressSpace.dirty_log), or take all memory for written"
                raise NotAvailable("log DMA", name, errno=error.errno, cause=cause, next_step=step) from error
            raise
        self.page_size = int(abi.DeviceFeatureDmaLoggingControl.from_buffer_copy(answer).page_size)
        self._closed = False

    def take(self, iova: int, length: int, *, page_size: int | None = None) -> DirtyBitmap:
        """What was written in a range since the last time it was taken; it is forgotten.

        `page_size` is that of the answer's bits, a power of two from 4 KiB on (None: that of the log).  Raise `Misuse`
        when the log was closed, `NotAvailable` on a kernel that cannot tell (Linux 6.12 on s390), else the class for
        the errno.
        """
        if self._closed:
            raise Misuse("read DMA log", self._name, cause="it was closed")
        bitmap = DirtyBitmap(iova, length, page_size or self.page_size)
        report = abi.DeviceFeatureDmaLoggingReport(
            iova=iova, length=length, page_size=bitmap.page_size, bitmap=bitmap.buffer.buffer_info()[0]
        )
        try:
            self._feature.ask(abi.VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, bytes(report))
        except PyvfioError as error:
            if error.errno == errno.EOPNOTSUPP:
                cause = "this kernel has no bitmaps for it (CONFIG_IOMMUFD_DRIVER), so that logs cannot be read"
                raise NotAvailable("read DMA log", self._name, errno=error.errno, cause=cause) from error
            raise
        return bitmap

    def close(self) -> None:
        """Log no more; a second call does nothing."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(Misuse):  # the device was closed, which ended its log
                self._feature.set(abi.VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
